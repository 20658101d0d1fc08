"""`shard`: every entry is written or refused, and an interrupted one ends with the same bytes."""

import errno
import fcntl
import io
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards import writing as shard_folder
from pipeline.shards.manifest import file_sha256, read_manifest
from pipeline.shards.reading import read_shard
from pipeline.shards.settings import ShardSettings
from stages import shard
from tests.helpers.processes import quick_processes

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "librispeech_test_other"


def run(source, out, **options):
    options = {"workers": 0, **options}
    shard.run(ShardSettings(source=source, out=out, **options))


def noise(seconds, rate=16_000, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


def corpus(folder, clips, rate=16_000, suffix="wav"):
    """A table of `clips` recordings of different lengths and contents, and their samples."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\ttext\tspeaker"]
    for i in range(clips):
        name = f"vid_{i}.0_2.5.{suffix}"
        soundfile.write(folder / name, noise(0.05 + 0.01 * i, rate, i), rate)
        lines.append(f"{name}\tsentence number {i}\ts{i % 3}")
    table = folder / "table.tsv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def members(out):
    """All members of all tars in order: name and content."""
    found = []
    for listed in read_manifest(out / "manifest.jsonl"):
        with tarfile.open(out / listed.url) as tar:
            found += [(member.name, tar.extractfile(member).read()) for member in tar]
    return found


def files(out):
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }


def refused(out):
    lines = (out / "refused.jsonl").read_text().splitlines()
    return [(record["key"], record["reason"]) for record in map(json.loads, lines)]


def test_what_goes_in_comes_out(tmp_path, capsys):
    table = corpus(tmp_path / "in", 7)
    run(table, tmp_path / "out", samples_per_shard=3)
    found = members(tmp_path / "out")
    assert [name for name, _ in found] == [
        f"vid_{i}.0_2.5.{suffix}" for i in range(7) for suffix in ("flac", "json")
    ]
    for i in range(7):
        audio, rate = soundfile.read(io.BytesIO(found[2 * i][1]), dtype="int16")
        source, _ = soundfile.read(tmp_path / "in" / f"vid_{i}.0_2.5.wav", dtype="int16")
        assert rate == 16_000
        assert np.array_equal(audio, source)
        assert json.loads(found[2 * i + 1][1]) == {
            "text": f"sentence number {i}",
            "duration_s": len(source) / 16_000,
            "speaker": f"s{i % 3}",
            "recording": f"vid_{i}.0_2.5",
        }
    manifest = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert [listed.url for listed in manifest] == [f"speech-{i:06d}.tar" for i in range(3)]
    assert [listed.samples for listed in manifest] == [3, 3, 1]
    for listed in manifest:
        tar = tmp_path / "out" / listed.url
        assert (listed.bytes, listed.sha256) == (tar.stat().st_size, file_sha256(tar))
    assert "7 clips" in capsys.readouterr().out


def test_webdataset_reads_the_tars(tmp_path):
    table = tmp_path / "t.csv"
    soundfile.write(tmp_path / "a.wav", noise(0.1), 16_000)
    table.write_text("path,text\na.wav,hé\n", encoding="utf-8")
    run(table, tmp_path / "out")
    url = str(tmp_path / "out" / "speech-000000.tar")
    (sample,) = webdataset.WebDataset(url, shardshuffle=False, empty_check=False)
    assert sample["__key__"] == "a"
    assert json.loads(sample["json"])["text"] == "hé"


def test_same_bytes_whatever_the_workers_and_the_day(tmp_path, monkeypatch):
    table = corpus(tmp_path / "in", 25, rate=22_050)
    run(table, tmp_path / "one", samples_per_shard=10, workers=0)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    run(table, tmp_path / "two", samples_per_shard=10, workers=3)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_segments_are_cut_to_the_sample(tmp_path):
    long = noise(40)
    soundfile.write(tmp_path / "talk.flac", long, 16_000)
    stored = soundfile.read(tmp_path / "talk.flac", dtype="int16")[0]
    rows = ["path,text,start,end", "talk.flac,one,1.0,2.5", "talk.flac,two,2.50001,17.50001"]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    run(tmp_path / "t.csv", tmp_path / "out")
    found = dict(members(tmp_path / "out"))
    first = soundfile.read(io.BytesIO(found["talk_1.000_2.500.flac"]), dtype="int16")[0]
    second = soundfile.read(io.BytesIO(found["talk_2.500_17.500.flac"]), dtype="int16")[0]
    assert np.array_equal(first, stored[16_000:40_000])
    assert np.array_equal(second, stored[40_000:280_000])
    assert json.loads(found["talk_1.000_2.500.json"])["recording"] == "talk"


def test_longer_clips_on_demand(tmp_path):
    table = corpus(tmp_path / "in", 3)
    soundfile.write(tmp_path / "in" / "vid_1.0_2.5.wav", noise(16), 16_000)
    run(table, tmp_path / "usual", max_refused=0.5)
    assert refused(tmp_path / "usual") == [("vid_1.0_2.5", "too long")]
    run(table, tmp_path / "longer", clip_seconds=20)
    manifest = read_manifest(tmp_path / "longer" / "manifest.jsonl")
    assert (manifest.clip_seconds, manifest.samples) == (20, 3)
    with (tmp_path / "longer" / "speech-000000.tar").open("rb") as tar:
        clips = list(read_shard(tar, manifest.shards[0], "tar"))[:3]
    assert [len(clip.wave_S) for clip in clips] == [800, 256_000, 1_120]


def test_another_longest_clip_in_an_output_is_refused(tmp_path):
    table = corpus(tmp_path / "in", 3)
    run(table, tmp_path / "usual")
    run(table, tmp_path / "longer", clip_seconds=20)
    with pytest.raises(SpeechkdError, match="another --clip-seconds: 'its default', now 20"):
        run(table, tmp_path / "usual", clip_seconds=20)
    with pytest.raises(SpeechkdError, match="another --clip-seconds: 20, now 'its default'"):
        run(table, tmp_path / "longer")


def test_every_refusal_is_recorded_with_its_reason(tmp_path, capsys):
    def wav(name, wave, **options):
        soundfile.write(tmp_path / name, wave, 16_000, **options)

    wav("good.wav", noise(1))
    wav("long.wav", noise(15.101))
    wav("none.wav", noise(0))
    nan = noise(1)
    nan[5] = np.nan
    wav("nan.wav", nan, subtype="FLOAT")
    (tmp_path / "bad.wav").write_bytes(b"this is not audio")
    rows = [
        {"id": "good.1", "path": "good.wav", "text": "  fine \n text "},
        {"id": "missing", "path": "nowhere.wav", "text": "x"},
        {"id": "bad", "path": "bad.wav", "text": "x"},
        {"id": "quiet", "path": "good.wav", "text": " \t "},
        {"id": "nan", "path": "nan.wav", "text": "x"},
        {"id": "none", "path": "none.wav", "text": "x"},
        {"id": "long", "path": "long.wav", "text": "x"},
        {"id": "good.1", "path": "good.wav", "text": "again"},
        {"id": "beyond", "path": "good.wav", "text": "x", "start": 0.5, "end": 1.5},
        {"id": "wide", "path": "long.wav", "text": "x", "start": 0, "end": 15.1009},
        {"id": "../../escape", "path": "good.wav", "text": "x"},
        {"id": "/etc/escape", "path": "good.wav", "text": "x"},
        {"id": "half", "path": "good.wav", "text": "\ud800"},
        {"id": "end", "path": "good.wav", "text": "x", "start": 0.25, "end": 0.75},
    ]
    table = tmp_path / "t.jsonl"
    columns = ("id", "path", "text", "start", "end")
    table.write_text("".join(json.dumps({c: r.get(c) for c in columns}) + "\n" for r in rows))
    out = tmp_path / "out"
    columns = {"start_column": "start", "end_column": "end"}
    run(table, out, max_refused=1.0, **columns)
    assert [name for name, _ in members(out)] == [
        "good.1.flac",
        "good.1.json",
        "end.flac",
        "end.json",
    ]
    assert json.loads(members(out)[1][1])["text"] == "fine text"
    assert refused(out) == [
        ("missing", "missing audio"),
        ("bad", "undecodable audio"),
        ("quiet", "missing text"),
        ("nan", "non-finite audio"),
        ("none", "empty audio"),
        ("long", "too long"),
        ("good.1", "duplicate key"),
        ("beyond", "segment outside the recording"),
        ("wide", "too long"),
        ("../../escape", "unusable key"),
        ("/etc/escape", "unusable key"),
        ("half", "unusable text"),
    ]
    first = json.loads((out / "refused.jsonl").read_text().splitlines()[0])
    assert first["where"] == f"{table}, line 2"
    assert "nowhere.wav" in first["detail"]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["entries"], summary["samples"]) == (14, 2)
    assert sum(summary["refused"].values()) == 12
    shown = capsys.readouterr().out
    assert "refused: 2 for too long" in shown
    run(table, out, max_refused=1.0, **columns)
    assert capsys.readouterr().out == shown


def texts(*texts):
    """A table of recordings with each of these texts, below the working folder."""
    for number in range(len(texts)):
        soundfile.write(f"{number}.wav", noise(0.1), 16_000)
    rows = ({"id": str(n), "path": f"{n}.wav", "text": text} for n, text in enumerate(texts))
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("t.jsonl")


def test_no_text_is_written_that_extract_teacher_would_refuse(tmp_path, monkeypatch, capsys):
    """One limit in bytes of the .json: letters of two bytes, and marks that JSON escapes."""
    monkeypatch.chdir(tmp_path)
    table = texts("é" * 520_000, "é" * 600_000, '"' * 520_000, '"' * 600_000, "a" * 2**20)
    out = tmp_path / "out"
    run(table, out, max_refused=1.0)
    assert refused(out) == [(key, "unusable text") for key in ("1", "3", "4")]
    with (out / "speech-000000.tar").open("rb") as file:
        clips = list(read_shard(file, next(iter(read_manifest(out / "manifest.jsonl"))), "t"))
    assert [clip.text for clip in clips[:-1]] == ["é" * 520_000, '"' * 520_000]
    capsys.readouterr()
    run(table, tmp_path / "dry", dry_run=True, max_refused=1.0)
    assert "would refuse: 3 for unusable text" in capsys.readouterr().out


def test_no_key_is_written_that_extract_teacher_would_refuse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = texts("x")
    long = "/".join(["a" * 240] * 18)
    table.write_text(table.read_text().replace('"id": "0"', f'"id": "{long}"'))
    with pytest.raises(SpeechkdError, match=r"unusable key.*longer than 4,096 bytes"):
        run(table, tmp_path / "out")


def test_half_a_character_in_a_speaker_is_one_refused_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = texts("x", "y")
    lines = table.read_text().splitlines()
    lines = [json.dumps({**json.loads(lines[0]), "speaker": "\ud800"}), lines[1]]
    table.write_text(lines[0] + "\n" + lines[1].replace("}", ', "speaker": "s"}') + "\n")
    run(table, tmp_path / "out", max_refused=1.0)
    assert refused(tmp_path / "out") == [("0", "unusable text")]


def test_too_many_refusals_stop_the_command_and_leave_nothing_finished(tmp_path):
    table = corpus(tmp_path / "in", 20)
    for i in range(5, 8):
        (tmp_path / "in" / f"vid_{i}.0_2.5.wav").unlink()
    out = tmp_path / "out"
    with pytest.raises(
        SpeechkdError, match=r"3 for 'missing audio'.*vid_5.*--max-refused"
    ) as caught:
        run(table, out, samples_per_shard=2)
    assert "table.tsv, line 7" in str(caught.value)
    assert not (out / "manifest.jsonl").exists()
    assert not list(out.rglob("*.partial"))
    assert len(refused(out)) == 3
    run(table, out, samples_per_shard=2, max_refused=0.15)  # exactly as many as are allowed
    run(table, tmp_path / "fresh", samples_per_shard=2, max_refused=0.15)
    assert files(out) == files(tmp_path / "fresh")


def test_nothing_left_is_an_error(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,text\nnone.wav,x\n")
    with pytest.raises(SpeechkdError, match="every entry was refused: 1 of"):
        run(table, tmp_path / "out", max_refused=1.0)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    table.write_text("path,text\n")
    with pytest.raises(SpeechkdError, match=r"^the table t\.csv .* lists no recording"):
        run(table, tmp_path / "out2")


def test_names_longer_than_a_tar_header_holds(tmp_path):
    key = "/".join(["é" * 60] * 3)
    soundfile.write(tmp_path / "a.wav", noise(0.1), 16_000)
    line = json.dumps({"id": key, "path": "a.wav", "text": "x"})
    (tmp_path / "t.jsonl").write_text(line + "\n")
    run(tmp_path / "t.jsonl", tmp_path / "out")
    assert [name for name, _ in members(tmp_path / "out")] == [f"{key}.flac", f"{key}.json"]


def test_a_finished_output_is_left_alone(tmp_path, capsys):
    table = corpus(tmp_path / "in", 4)
    out = tmp_path / "out"
    run(table, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run(table, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["tar", "cut", "receipt", "manifest", "foreign manifest"])
def test_damage_to_a_finished_output_is_mended(tmp_path, damage):
    table = corpus(tmp_path / "in", 9)
    out = tmp_path / "out"
    run(table, out, samples_per_shard=2)
    whole = files(out)
    tar = out / "speech-000002.tar"
    match damage:
        case "tar":
            tar.unlink()
        case "cut":
            os.truncate(tar, tar.stat().st_size - 1)
        case "receipt":
            (out / "receipts" / "speech-000001.json").write_text("{")
        case "manifest":
            (out / "manifest.jsonl").unlink()
        case _:
            (out / "manifest.jsonl").write_text("not a manifest\n")
    run(table, out, samples_per_shard=2)
    assert files(out) == whole


def test_another_corpus_or_other_settings_in_an_output_are_refused(tmp_path):
    table = corpus(tmp_path / "in", 4)
    out = tmp_path / "out"
    run(table, out)
    whole = files(out)
    with pytest.raises(SpeechkdError, match="another --samples-per-shard: 1000, now 2"):
        run(table, out, samples_per_shard=2)
    table.write_text(table.read_text().replace("number 3", "number three"))
    with pytest.raises(SpeechkdError, match=r"begun with other entries: .*digest"):
        run(table, out)
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "speech-000000.tar").touch()
    with pytest.raises(SpeechkdError, match=r"did not begin, such as speech-000000\.tar"):
        run(table, tmp_path / "strange")
    assert files(out) == whole


def test_two_commands_at_once_on_one_output(tmp_path):
    table = corpus(tmp_path / "in", 2)
    out = tmp_path / "out"
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(SpeechkdError, match="another `speechkd shard` is writing there"):
        run(table, out)
    os.close(handle)
    run(table, out)


def test_a_moved_corpus_carries_on(tmp_path):
    corpus(tmp_path / "in", 4)
    run(tmp_path / "in" / "table.tsv", tmp_path / "out", samples_per_shard=2)
    (tmp_path / "out" / "manifest.jsonl").unlink()
    (tmp_path / "in").rename(tmp_path / "moved")
    run(tmp_path / "moved" / "table.tsv", tmp_path / "out", samples_per_shard=2)
    assert len(members(tmp_path / "out")) == 8


def test_a_full_disk_is_told_and_survived(tmp_path, monkeypatch):
    table = corpus(tmp_path / "in", 9)
    run(table, tmp_path / "whole", samples_per_shard=2)
    real, count = shard_folder.write_json, 0

    def full(path, content):
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(shard_folder, "write_json", full)
    out = tmp_path / "out"
    with pytest.raises(SpeechkdError, match=r"No space left.*make room"):
        run(table, out, samples_per_shard=2)
    assert not (out / "manifest.jsonl").exists()
    run(table, out, samples_per_shard=2)
    assert files(out) == files(tmp_path / "whole")


INSTANTS = (
    ("before the rename", "corpus.json"),
    ("after the rename", "corpus.json"),
    ("before the rename", "speech-000000.tar"),
    ("after the rename", "speech-000000.tar"),
    ("before the rename", "speech-000001.json"),
    ("after the rename", "speech-000004.json"),
    ("half written", "speech-000006.tar"),
    ("after the rename", "speech-000011.json"),
    ("after the rename", "summary.json"),
    ("before the rename", "manifest.jsonl"),
    ("after the rename", "manifest.jsonl"),
)
"""When a command is killed, in the order of the work: where it stands with which file."""


def run_until_killed(moment, name, settings):
    """The body of a process that runs the command and is killed at one of `INSTANTS`."""
    rename, write_sample = Path.replace, webdataset.TarWriter.write

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def replace(path, target):
        if (moment, target.name) == ("before the rename", name):
            die()
        rename(path, target)
        if (moment, target.name) == ("after the rename", name):
            die()

    def write(tar, sample):
        write_sample(tar, sample)
        unfinished = settings.out.glob(f".{name}.*.partial")
        if moment == "half written" and any(path.stat().st_size for path in unfinished):
            die()

    Path.replace, webdataset.TarWriter.write = replace, write
    shard.run(settings)


@pytest.mark.slow
def test_killed_at_any_instant_the_same_command_ends_with_the_same_bytes(tmp_path):
    """A manifest says that all is there, even if the process that wrote it had no time to end."""
    table = corpus(tmp_path / "in", 60)
    (tmp_path / "in" / "vid_7.0_2.5.wav").unlink()
    run(table, tmp_path / "whole", samples_per_shard=5)
    whole, out = files(tmp_path / "whole"), tmp_path / "out"
    settings = ShardSettings(source=table, out=out, samples_per_shard=5, workers=2)
    with quick_processes(__name__):
        for moment, name in INSTANTS:
            killed = multiprocessing.get_context("forkserver").Process(
                target=run_until_killed, args=(moment, name, settings)
            )
            killed.start()
            killed.join()
            assert killed.exitcode == -signal.SIGKILL, (moment, name)
            after = moment == "after the rename"
            assert [path.name for path in out.rglob(f"*{name}")] == [name] * after
            assert after or any(path.stat().st_size for path in out.rglob(f".{name}.*.partial"))
            assert (out / "manifest.jsonl").exists() == (files(out) == whole)
    run(table, out, samples_per_shard=5, workers=2)
    assert files(out) == whole


def test_dry_run_tells_how_much_room_the_tars_take_at_most(tmp_path, capsys):
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", noise(6, seed=i), 16_000)
        (tmp_path / f"{i}.txt").write_text(f"clip {i}")
    run(tmp_path, tmp_path / "out", dry_run=True)
    (most,) = re.findall(r"at most about ([\d.]+) MB", capsys.readouterr().out)
    run(tmp_path, tmp_path / "out")
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert 1 < 1e6 * float(most) / size < 1.5


def test_dry_run_tells_what_would_come_out_and_writes_nothing(tmp_path, capsys):
    table = corpus(tmp_path / "in", 7)
    out = tmp_path / "out"
    run(table, out, samples_per_shard=3, dry_run=True)
    assert "would write 7 clips, 0.00 h, 3 tars, at most about" in capsys.readouterr().out
    soundfile.write(tmp_path / "in" / "vid_3.0_2.5.wav", noise(16), 16_000)
    with pytest.raises(SpeechkdError, match="1 of 7 entries would be refused"):
        run(table, out, samples_per_shard=3, dry_run=True)
    told = "would refuse: 1 for too long, such as 'vid_3.0_2.5' ("
    assert told in capsys.readouterr().out
    assert not out.exists()


def test_three_of_each_kind_of_refusal_are_named(tmp_path, capsys):
    table = corpus(tmp_path / "in", 9)
    for number in (1, 3, 5, 7):
        (tmp_path / "in" / f"vid_{number}.0_2.5.wav").unlink()
    run(table, tmp_path / "out", dry_run=True, max_refused=1.0)
    run(table, tmp_path / "out", max_refused=1.0)
    planned, written = capsys.readouterr().out.strip().split("5 clips, 0.00 h, 1 tar", 2)[1:]
    for shown in (planned, written):
        assert "4 for missing audio, such as 'vid_1" in shown
        assert all(f"'vid_{number}.0_2.5'" in shown for number in (1, 3, 5))
        assert "'vid_7" not in shown


def stereo(folder, *pairs):
    folder.mkdir()
    for number, channels in enumerate(pairs):
        wave = np.stack(channels, axis=1).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", wave, 16_000, subtype="FLOAT")
        (folder / f"{number}.txt").write_text("x")


def test_odd_channels_and_silence_are_counted_and_said(tmp_path, capsys):
    voice = noise(1)
    zero = np.zeros_like(voice)
    pairs = [(voice, -voice)] * 4 + [(voice, voice), (zero, zero)]
    stereo(tmp_path / "in", *pairs)
    out = tmp_path / "out"
    run(tmp_path / "in", out, samples_per_shard=2)
    shown = capsys.readouterr().out
    assert "kept, but channels of opposite phase: 4 clips, such as 0, 1, 2 (--channel 1" in shown
    assert "kept, but silent: 1 clip, such as 5 (" in shown
    summary = json.loads((out / "summary.json").read_text())
    assert summary["remarks"]["silent"] == {"clips": 1, "such_as": ["5"]}
    (out / "manifest.jsonl").unlink()
    (out / "speech-000001.tar").unlink()
    run(tmp_path / "in", out, samples_per_shard=2)
    assert json.loads((out / "summary.json").read_text()) == summary
    assert capsys.readouterr().out == shown


def test_one_channel_is_taken_in_place_of_the_mean(tmp_path, capsys):
    first, second = noise(1, seed=1), noise(1, seed=2)
    stereo(tmp_path / "in", (first, second))
    out = tmp_path / "out"
    run(tmp_path / "in", out, channel=2)
    audio, _ = soundfile.read(io.BytesIO(members(out)[0][1]), dtype="float32")
    assert np.abs(audio - second).max() < 1e-4
    for channel in (0, 1):
        with pytest.raises(SpeechkdError, match="begun with another --channel"):
            run(tmp_path / "in", out, channel=channel)
    with pytest.raises(SpeechkdError, match="channel 3 is wanted, and the recording has 2"):
        run(tmp_path / "in", tmp_path / "out3", channel=3)


def test_an_output_that_is_a_url_a_file_or_somebody_elses_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = corpus(Path("in"), 2)
    for url in ("s3://corpora/new", "gs://x", "hf://datasets/a/b"):
        with pytest.raises(SpeechkdError, match=rf"--out {url} is a URL, and this must be a path"):
            run(table, Path(url))
    with pytest.raises(SpeechkdError, match="is a file; name a folder"):
        run(table, table)
    with pytest.raises(
        SpeechkdError, match=r"did not begin, such as table\.tsv; name a new folder"
    ):
        run(table, table.parent)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["in", "table.tsv", "vid_0.0_2.5.wav", "vid_1.0_2.5.wav"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such file or folder"),
        (["t.csv", "--text-column", "words"], "no column 'words' (--text-column)"),
        (["t.csv", "--max-refused", "0"], "more entries were refused than --max-refused allows"),
    ],
)
def test_the_command_line_fails_with_one_message(tmp_path, arguments, message):
    (tmp_path / "t.csv").write_text("path,text\nnone.wav,x\n")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stages.cli import main; main()"
    command = [sys.executable, "-c", code, "shard", *arguments, "--out", "out", "--workers", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real LibriSpeech clips are not at hand")
def test_real_librispeech_clips(tmp_path):
    run(REAL, tmp_path / "out", workers=2)
    manifest = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert {reason for _, reason in refused(tmp_path / "out")} == {"too long"}
    table = (REAL / "manifest.tsv").read_text().splitlines()[1:]
    expected = [line.split("\t") for line in table if float(line.split("\t")[3]) <= 15.1]
    assert manifest.samples == len(expected) == 91
    found = members(tmp_path / "out")
    assert [name for name, _ in found[::2]] == [f"{row[0]}.flac" for row in expected]
    for row, (_, flac), (_, record) in zip(expected, found[::2], found[1::2], strict=True):
        source, _ = soundfile.read(REAL / row[1], dtype="int16")
        stored, _ = soundfile.read(io.BytesIO(flac), dtype="int16")
        assert np.array_equal(stored, source[: 15 * 16_000])  # what is 0.1 s longer is cut off
        assert json.loads(record)["text"] == row[4]
