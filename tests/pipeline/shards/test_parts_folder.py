"""A corpus in parts: the same tars whoever writes them, carried on within a part, one manifest."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.decoding import decode, read_clip
from pipeline.shards.manifest import read_manifest
from pipeline.shards.settings import ShardSettings
from pipeline.shards.writing import claim
from stages import shard
from tests.helpers.audio_tables import rows, save_to_disk, write_parquet
from tests.helpers.hub import Hub
from tests.stages.test_shard import files, members

pytest.importorskip("pyarrow")


@pytest.fixture
def corpus(tmp_path):
    for part, first in enumerate((0, 7, 10)):
        count = (7, 3, 1)[part]
        write_parquet(tmp_path / "in" / f"train-{part:05d}-of-00003.parquet", rows(count, first))
    return tmp_path / "in"


def run(source, out, **options):
    settings = {"samples_per_shard": 3, "workers": 0, **options}
    shard.run(ShardSettings(source=str(source), out=out, **settings))
    return members(out) if (out / "manifest.jsonl").exists() else None


def test_every_row_becomes_the_sample_that_a_file_of_it_would(corpus, tmp_path, capsys):
    found = run(corpus, tmp_path / "out", recording_pattern=r"(talk_\d+)")
    assert "11 clips" in capsys.readouterr().out
    names = [name for name, _ in found]
    assert names == [
        f"talk_{i // 4}_{i:03d}.{kind}" for i in range(11) for kind in ("flac", "json")
    ]
    manifest = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert [s.samples for s in manifest] == [3, 3, 1, 3, 1]
    assert len({Path(s.url).name for s in manifest}) == 5
    for i, row in enumerate(rows(11)):
        (tmp_path / "clip.flac").write_bytes(row["audio"]["bytes"])
        assert (decode(found[2 * i][1]) == read_clip(tmp_path / "clip.flac")).all()
        described = json.loads(found[2 * i + 1][1])
        assert described["text"] == row["text"]
        assert described["recording"] == f"talk_{i // 4}"
    before = files(tmp_path / "out")
    run(corpus, tmp_path / "out", recording_pattern=r"(talk_\d+)")
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_give_the_same_bytes_by_parts_and_within_one(corpus, tmp_path, workers):
    run(corpus, tmp_path / "one")
    run(corpus, tmp_path / "many", workers=workers)
    assert files(tmp_path / "one") == files(tmp_path / "many")


def test_array_tasks_share_the_parts_and_the_last_writes_the_manifest(corpus, tmp_path):
    run(corpus, tmp_path / "one")
    for task in ("1/2", "0/2"):
        assert not (tmp_path / "shared" / "manifest.jsonl").exists()
        run(corpus, tmp_path / "shared", array_task=task)
    assert files(tmp_path / "one") == files(tmp_path / "shared")


def test_it_carries_on_within_a_part_and_reads_only_the_rows_that_are_missing(corpus, tmp_path):
    run(corpus, tmp_path / "out")
    before = files(tmp_path / "out")
    part = tmp_path / "out" / "parts" / "00000"
    for path in ("manifest.jsonl", "done.json", "speech-00000-000002.tar"):
        (part / path).unlink()
    (part / "receipts" / "speech-00000-000002.json").unlink()
    (tmp_path / "out" / "manifest.jsonl").unlink()
    first = (part / "speech-00000-000000.tar").stat().st_mtime_ns
    run(corpus, tmp_path / "out")
    assert files(tmp_path / "out") == before
    assert (part / "speech-00000-000000.tar").stat().st_mtime_ns == first


def test_another_corpus_or_plan_in_the_same_folder_is_refused(corpus, tmp_path):
    run(corpus, tmp_path / "out")
    with pytest.raises(SpeechkdError, match="--samples-per-shard"):
        run(corpus, tmp_path / "out", samples_per_shard=5)
    table = rows(1, 10)
    table[0]["text"] = "other words"
    write_parquet(corpus / "train-00002-of-00003.parquet", table)
    with pytest.raises(SpeechkdError, match="begun with other entries"):
        run(corpus, tmp_path / "out")


def test_refusals_are_counted_over_all_parts_and_a_part_of_nothing_else_is_no_tar(corpus, tmp_path):
    write_parquet(
        corpus / "train-00001-of-00003.parquet", [{**row, "text": ""} for row in rows(3, 7)]
    )
    with pytest.raises(SpeechkdError, match=r"3 .*11.*missing text|missing text.*"):
        run(corpus, tmp_path / "out")
    found = run(corpus, tmp_path / "out", max_refused=0.5)
    assert len(found) == 16
    lines = (tmp_path / "out" / "refused.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [
        f"talk_{i // 4}_{i:03d}" for i in (7, 8, 9)
    ]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["entries"], summary["samples"], summary["refused"]) == (
        11,
        8,
        {"missing text": 3},
    )
    before = files(tmp_path / "out")
    run(corpus, tmp_path / "out", max_refused=0.5)
    assert files(tmp_path / "out") == before
    for path in corpus.iterdir():
        write_parquet(path, [{**row, "text": ""} for row in rows(2, hash(path.name) % 1000)])
    with pytest.raises(SpeechkdError, match="every entry was refused"):
        run(corpus, tmp_path / "none", max_refused=1)


def test_a_dry_run_is_a_bill_and_writes_nothing(corpus, tmp_path, capsys):
    run(corpus, tmp_path / "out", dry_run=True)
    out = capsys.readouterr().out
    assert "about 11 clips" in out
    assert not (tmp_path / "out").exists()


def test_a_saved_folder_gives_what_parquet_gives(corpus, tmp_path):
    saved = save_to_disk(tmp_path / "saved", [rows(7), rows(3, 7), rows(1, 10)])
    assert run(saved, tmp_path / "a") == run(corpus, tmp_path / "b")


def test_a_data_set_of_the_hub_gives_what_a_disk_gives(corpus, tmp_path):
    wanted = run(corpus, tmp_path / "here")
    command = ["shard", "hf://datasets/me/speech", f"--out={tmp_path / 'there'}"]
    with Hub(corpus) as hub:
        done = subprocess.run(
            [sys.executable, "-m", "stages.cli", *command, "--samples-per-shard=3", "--workers=0"],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub")},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert members(tmp_path / "there") == wanted


def test_a_killed_command_carries_on_to_the_same_bytes(corpus, tmp_path):
    run(corpus, tmp_path / "one")
    out = tmp_path / "killed"
    run(corpus, out)
    for leftover in (".speech-00000-000001.tar.x.partial", ".done.json.x.partial"):
        (out / "parts" / "00000" / leftover).write_bytes(b"half")
    (out / "parts" / "00000" / "done.json").unlink()
    (out / "parts" / "00002" / "speech-00002-000000.tar").write_bytes(b"torn")
    (out / "parts" / "00001" / "done.json").write_text("{")
    run(corpus, out)
    assert files(out) == files(tmp_path / "one")


def test_a_flag_for_parts_is_refused_elsewhere(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.txt").write_text("hello")
    for flag in ({"split": "train"}, {"array_task": "0/2"}, {"recording_pattern": "(.)"}):
        with pytest.raises(SpeechkdError, match=r"[Ll]eave .+ out"):
            run(tmp_path, tmp_path / "out", **flag)


def test_another_number_of_files_is_called_so(tmp_path):
    claim(tmp_path, tmp_path / "begun.json", {"parts": 2})
    with pytest.raises(SpeechkdError, match="begun with another number of files: 2, now 1"):
        claim(tmp_path, tmp_path / "begun.json", {"parts": 1})
