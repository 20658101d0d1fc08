"""Stage one: right vectors, exactly once, every sample accounted for, whatever happens to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.cache.store import TeacherCache
from pipeline.extraction import loop
from pipeline.foundation.errors import SpeechkdError
from pipeline.shards.manifest import read_manifest, write_manifest
from stages import cache as cache_stage
from stages.extract_teacher import ExtractSettings, run
from tests.helpers.caches import samples_of, vectors_of
from tests.helpers.instants import main_with
from tests.helpers.stage_one import content, in_process, killed_at_random_instants, quick_runs
from tests.helpers.tars import encoded, line, sample, tar_bytes, write_corpus
from tests.helpers.whispers import save_random_whisper, speechlike

COUNTS = [3, 1, 4, 2]
BATCH = 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), COUNTS)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "random-whisper"
    save_random_whisper(folder, layers=1, heads=1)
    return folder


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The same bits as in the processes that are killed, which have one thread each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")
def processes():
    with quick_runs(__name__):
        yield


def settings(manifest: Path | str, cache: Path | str, teacher: Path, **changes) -> ExtractSettings:
    values = {
        "dtype": "float32",
        "context": "15s",  # four times faster
        "batch_size": BATCH,
        "workers": 0,
        "devices": "cpu",
        **changes,
    }
    return ExtractSettings(manifest=str(manifest), cache=str(cache), teacher=str(teacher), **values)


def extract(manifest, cache, teacher, **changes) -> TeacherCache:
    run(settings(manifest, cache, teacher, **changes))
    return TeacherCache.open(cache)


@pytest.fixture(scope="module")
def uninterrupted(corpus, teacher, tmp_path_factory):
    """What a cache of the corpus must be, byte for byte."""
    cache = tmp_path_factory.mktemp("reference") / "cache"
    extract(corpus, cache, teacher)
    return content(cache)


# --- right vectors ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_those_of_hugging_face(corpus, teacher, tmp_path, dtype):
    import transformers

    cache = extract(corpus, tmp_path / "c", teacher, dtype=dtype, context="30s")
    model = transformers.WhisperModel.from_pretrained(teacher).eval()
    features = transformers.WhisperFeatureExtractor()
    samples, vectors_NE = samples_of(cache), vectors_of(cache)
    assert len(samples) == sum(COUNTS)
    for seed, (key, vector_D) in enumerate(zip(samples.keys, vectors_NE, strict=True)):
        wave_S = speechlike(4_000 + 97 * (seed % 13), seed)
        mel = features(wave_S, sampling_rate=16_000, return_tensors="pt")["input_features"]
        with torch.inference_mode():
            expected_D = model.encoder(mel).last_hidden_state[0, :750].mean(dim=0).numpy()
        error = np.linalg.norm(vector_D - expected_D) / np.linalg.norm(expected_D)
        assert error < 2e-3, key  # 16-bit FLAC is part of it


def test_keys_texts_and_durations_are_kept_in_order(corpus, teacher, tmp_path):
    samples = samples_of(extract(corpus, tmp_path / "c", teacher))
    expected = [f"clip-{n}-{place}" for n, count in enumerate(COUNTS) for place in range(count)]
    assert samples.keys == expected
    assert samples.texts == [f"this is clip {key}" for key in expected]
    lengths = [(4_000 + 97 * (seed % 13)) / 16_000 for seed in range(len(expected))]
    assert np.allclose(samples.durations_s, lengths)
    assert samples.speakers == [f"s{seed % 3}" for seed in range(len(expected))]


# --- exactly once ----------------------------------------------------------------------------


def test_reading_in_processes_changes_nothing(corpus, teacher, tmp_path, uninterrupted):
    extract(corpus, tmp_path / "c", teacher, workers=2)
    assert content(tmp_path / "c") == uninterrupted


@pytest.mark.slow
def test_several_devices_change_nothing(corpus, teacher, tmp_path, uninterrupted):
    """More of them than there are shards."""
    extract(corpus, tmp_path / "c", teacher, devices=",".join(["cpu"] * (len(COUNTS) + 1)))
    assert content(tmp_path / "c") == uninterrupted


def test_with_several_gpus_the_parent_opens_no_context(
    corpus, teacher, tmp_path, uninterrupted, monkeypatch
):
    """Each GPU has a process of its own, which may need it to itself."""
    gpus = [torch.device("cuda:0"), torch.device("cuda:1")]
    started = []

    def no_context(*_, **__):
        pytest.fail("the parent opened a context")

    def extract_on(devices, work, teacher_on, location, versions, **speed):
        started.append(devices)
        on_cpu = teacher_on(torch.device("cpu"))
        return loop.extract(work, on_cpu, TeacherCache.open(location), versions, **speed)

    monkeypatch.setattr("pipeline.foundation.devices.devices_named", lambda _: gpus)
    monkeypatch.setattr("pipeline.foundation.devices._open", no_context)
    for name in ("set_device", "current_device", "init", "mem_get_info"):
        monkeypatch.setattr(torch.cuda, name, no_context)
    monkeypatch.setattr(loop, "extract_on", extract_on)
    extract(corpus, tmp_path / "c", teacher, devices="all", precision="float32")
    assert started == [gpus]
    assert content(tmp_path / "c") == uninterrupted


def test_a_gpu_in_use_is_told_before_anything_is_written(corpus, teacher, tmp_path, monkeypatch):
    def busy(_):
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")

    gpu = torch.device("cuda:1")
    monkeypatch.setattr("pipeline.foundation.devices.devices_named", lambda _: [gpu])
    monkeypatch.setattr("pipeline.foundation.devices._open", busy)
    with pytest.raises(SpeechkdError, match=r"cuda:1 is there but cannot be used .*busy"):
        extract(corpus, tmp_path / "c", teacher, devices="1")
    assert not (tmp_path / "c").exists()


def test_bf16_is_refused_where_one_gpu_has_none(corpus, teacher, tmp_path, monkeypatch):
    gpus = [torch.device("cuda:0"), torch.device("cuda:1")]
    monkeypatch.setattr("pipeline.foundation.devices.devices_named", lambda _: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda one: (8 - one.index, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda one: f"card {one.index}")
    with pytest.raises(SpeechkdError, match="card 1 has no bf16 arithmetic"):
        extract(corpus, tmp_path / "c", teacher, devices="all", precision="bf16")


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_array_tasks_in_any_order_make_the_same_cache(
    corpus, teacher, tmp_path, uninterrupted, order
):
    for index in order[:2]:
        extract(corpus, tmp_path / "c", teacher, array_task=f"{index}/3")
    assert TeacherCache.open(tmp_path / "c").unfinished()
    for index in (1, 0):  # another number of tasks on the second try
        extract(corpus, tmp_path / "c", teacher, array_task=f"{index}/2")
    assert content(tmp_path / "c") == uninterrupted


def test_the_scheduler_tells_the_share(corpus, teacher, tmp_path, uninterrupted, monkeypatch):
    for index in range(2):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(index))
        monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
        monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "1")
        cache = extract(corpus, tmp_path / "c", teacher)
        assert bool(cache.unfinished()) == (index == 0)
    assert content(tmp_path / "c") == uninterrupted


def test_a_second_run_does_nothing_and_says_so(corpus, teacher, tmp_path, capsys):
    cache = tmp_path / "c"
    extract(corpus, cache, teacher)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    capsys.readouterr()
    extract(corpus, cache, teacher)
    assert "nothing to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


def test_killed_at_twenty_random_instants_it_ends_the_same(
    corpus, teacher, tmp_path, uninterrupted
):
    for trial in killed_at_random_instants(
        lambda n: settings(corpus, tmp_path / f"{n}", teacher), 20
    ):
        extract(corpus, tmp_path / f"{trial}", teacher)
        assert content(tmp_path / f"{trial}") == uninterrupted


@pytest.mark.parametrize("crash_at", [*range(1, 14), 20])
def test_killed_at_any_sync_it_ends_the_same(corpus, teacher, tmp_path, uninterrupted, crash_at):
    """Syncs enclose every rename, that of a receipt too: between them it is half-written."""
    cache = tmp_path / "c"
    process = in_process(settings(corpus, cache, teacher), crash_at)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    extract(corpus, cache, teacher)
    assert content(cache) == uninterrupted


@pytest.mark.parametrize("kept_bytes", [0, 1, 300])
def test_a_torn_receipt_is_no_receipt(corpus, teacher, tmp_path, uninterrupted, kept_bytes):
    cache = tmp_path / "c"
    extract(corpus, cache, teacher)
    receipt = cache / "receipts" / "000002.json"
    receipt.write_bytes(receipt.read_bytes()[:kept_bytes])
    assert TeacherCache.open(cache).unfinished() == [2]
    extract(corpus, cache, teacher)
    assert content(cache) == uninterrupted


def test_two_tasks_at_the_same_shards_tear_nothing(corpus, teacher, tmp_path, uninterrupted):
    cache = tmp_path / "c"
    processes = [in_process(settings(corpus, cache, teacher)) for _ in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert content(cache) == uninterrupted


def test_a_full_disk_is_said_and_resumed(corpus, teacher, tmp_path, uninterrupted, monkeypatch):
    from pipeline.foundation import atomic

    write = atomic.write_bytes

    def full(path: Path, text: bytes) -> None:
        if path.name == "000002.jsonl":
            raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(SpeechkdError, match=r"No space left on device.*carries on"):
        extract(corpus, tmp_path / "c", teacher)
    assert 2 in TeacherCache.open(tmp_path / "c").unfinished()
    monkeypatch.undo()
    extract(corpus, tmp_path / "c", teacher)
    assert content(tmp_path / "c") == uninterrupted


def test_sigterm_ends_with_a_line_and_status_143(teacher, tmp_path):
    manifest = write_corpus(tmp_path / "corpus", [4] + [30] * 3)
    signalled = main_with("os.rename", r"receipts/000001\.json$", 1, signal.SIGTERM)
    command = [sys.executable, "-c", signalled, "extract-teacher", str(manifest), "--workers=1"]
    done = subprocess.run(
        [*command, "--cache", str(tmp_path / "c"), "--teacher", str(teacher), "--devices=cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 143
    assert "received SIGTERM" in done.stderr
    assert "Traceback" not in done.stderr
    unfinished = TeacherCache.open(tmp_path / "c").unfinished()
    assert unfinished
    assert 0 not in unfinished


# --- every sample accounted for --------------------------------------------------------------


@pytest.fixture
def bad_corpus(tmp_path):
    """Three shards; the second is cut in its last sample and has one without a text."""
    manifest = write_corpus(tmp_path / "bad", [3, 3, 3])
    members = [*sample("m", 1), ("n.flac", b"noise"), ("n.txt", b"x"), *sample("o", 2)]
    whole = tar_bytes(members)
    cut = whole.index(b"o.json") + 100  # in the header of the last text
    (tmp_path / "bad" / "1.tar").write_bytes(whole[:cut])
    shards = list(read_manifest(manifest))
    shards[1] = line(whole, 3, "1.tar")
    write_manifest(manifest, shards)
    return manifest, whole


def test_rows_and_refusals_add_up_and_say_why(bad_corpus, teacher, tmp_path, capsys):
    manifest, _ = bad_corpus
    cache = extract(manifest, tmp_path / "c", teacher, max_refused=0.5)
    receipts = cache.receipts()
    assert cache.written == 7
    refused = receipts[1]["refused"]
    assert [(r["position"], r["key"], r["reason"]) for r in refused] == [
        (1, "n", "undecodable audio"),
        (2, "o", "truncated tar"),
    ]
    assert "7 rows written, 2 samples refused, of 9" in capsys.readouterr().out
    rows = cache.rows_of(1)
    block_RE = cache.block(1)
    assert np.isfinite(block_RE[0]).all()
    assert np.isnan(block_RE[1 : len(rows)]).all()

    cache_stage.info(cache_stage.InfoSettings(cache=str(tmp_path / "c"), refused=True))
    listed = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(r["shard"], r["key"]) for r in listed] == [("1.tar", "n"), ("1.tar", "o")]


def test_too_many_refusals_stop_the_run_and_name_the_reason(bad_corpus, teacher, tmp_path):
    manifest, _ = bad_corpus
    with pytest.raises(SpeechkdError, match=r"2 of 9 samples .* 0\.1 .*(undecodable|truncated)"):
        extract(manifest, tmp_path / "c", teacher, max_refused=0.1)
    with pytest.raises(SpeechkdError, match="2 of 9 samples"):  # nor does it go on by itself
        extract(manifest, tmp_path / "c", teacher, max_refused=0.1)
    extract(manifest, tmp_path / "c", teacher, max_refused=0.5)
    assert not TeacherCache.open(tmp_path / "c").unfinished()


def test_refused_samples_are_tried_again_on_demand(bad_corpus, teacher, tmp_path):
    manifest, whole = bad_corpus
    extract(manifest, tmp_path / "c", teacher, max_refused=0.5)
    (manifest.parent / "1.tar").write_bytes(whole)
    extract(manifest, tmp_path / "c", teacher, max_refused=0.5)
    assert TeacherCache.open(tmp_path / "c").written == 7
    again = extract(manifest, tmp_path / "c", teacher, max_refused=0.5, retry_refused=True)
    assert again.written == 8
    fresh = extract(manifest, tmp_path / "fresh", teacher, max_refused=0.5)
    assert content(tmp_path / "c") == content(tmp_path / "fresh")
    assert fresh.digest() == again.digest()


def test_a_vector_that_is_not_finite_as_stored_is_refused(corpus, tmp_path, monkeypatch):
    from pipeline.extraction.teacher import DummyTeacher

    encode = DummyTeacher.encode

    @torch.inference_mode()
    def too_large(self, waves_BS, lengths_B):
        vectors_BD = encode(self, waves_BS, lengths_B).clone()
        vectors_BD[0, 3] = 1e5  # finite as float32, not as float16
        return vectors_BD

    monkeypatch.setattr(DummyTeacher, "encode", too_large)
    options = {"encoder": "dummy", "max_refused": 1.0, "batch_size": 100}
    assert extract(corpus, tmp_path / "32", "unused", **options).written == sum(COUNTS)
    cache = extract(corpus, tmp_path / "16", "unused", dtype="float16", **options)
    assert cache.written == sum(COUNTS) - len(COUNTS)
    reasons = {r["reason"] for receipt in cache.receipts().values() for r in receipt["refused"]}
    assert reasons == {"non-finite vector"}


def test_a_changed_tar_fails_alone(tmp_path, teacher):
    manifest = write_corpus(tmp_path / "corpus", [2, 2, 2])
    tar = tmp_path / "corpus" / "1.tar"
    changed = bytearray(tar.read_bytes())
    changed[2000] ^= 1
    tar.write_bytes(changed)
    with pytest.raises(SpeechkdError, match=r"1 shard failed.*\n.*changed tar.*1\.tar"):
        extract(manifest, tmp_path / "c", teacher)
    assert TeacherCache.open(tmp_path / "c").unfinished() == [1]


def test_a_missing_tar_is_named_before_anything_is_made(tmp_path, teacher):
    manifest = write_corpus(tmp_path / "corpus", [2, 2])
    (tmp_path / "corpus" / "1.tar").unlink()
    with pytest.raises(SpeechkdError, match=r"lists 1\.tar, but there is no file"):
        extract(manifest, tmp_path / "c", teacher)
    assert not (tmp_path / "c").exists()


def test_a_tar_that_is_done_need_not_be_there_any_more(tmp_path, teacher, capsys):
    manifest = write_corpus(tmp_path / "corpus", [2, 2])
    extract(manifest, tmp_path / "c", teacher, array_task="0/2")
    done = next(iter(TeacherCache.open(tmp_path / "c").receipts()))
    (tmp_path / "corpus" / f"{done}.tar").unlink()
    extract(manifest, tmp_path / "c", teacher)  # the other one
    (tmp_path / "corpus" / f"{1 - done}.tar").unlink()
    extract(manifest, tmp_path / "c", teacher)
    assert "nothing to do" in capsys.readouterr().err


def test_a_copy_of_the_teachers_folder_is_the_same_teacher(tmp_path, teacher):
    manifest = write_corpus(tmp_path / "corpus", [2, 2])
    copy = tmp_path / "another-name"
    shutil.copytree(teacher, copy)
    extract(manifest, tmp_path / "c", teacher, array_task="0/2")
    cache = extract(manifest, tmp_path / "c", copy)
    assert cache.unfinished() == []
    assert cache.identity.text("teacher") == teacher.name


def test_another_list_of_tars_is_told_from_other_settings(tmp_path, teacher):
    manifest = write_corpus(tmp_path / "corpus", [2, 2])
    extract(manifest, tmp_path / "c", teacher)
    longer = write_corpus(tmp_path / "longer", [2, 2, 1])
    with pytest.raises(
        SpeechkdError, match=r"another list of tars: line 3 and on are new \(2\.tar .*cache merge"
    ):
        extract(longer, tmp_path / "c", teacher)


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"pooling": "length"}, "pooling: cache 'fixed750', now 'length'"),
        ({"dtype": "float16"}, "dtype: cache 'float32', now 'float16'"),
        ({"context": "30s"}, "context_seconds: cache 15, now 30"),
        ({"encoder": "dummy"}, "teacher: cache 'random-whisper', now 'dummy'"),
        ({"precision": "bf16"}, "precision: cache 'float32', now 'bfloat16'"),
    ],
)
def test_other_settings_on_a_cache_are_refused(corpus, teacher, tmp_path, change, shown):
    extract(corpus, tmp_path / "c", teacher)
    with pytest.raises(SpeechkdError, match=shown):
        extract(corpus, tmp_path / "c", teacher, **change)


def test_the_cache_records_the_precision_by_torchs_name(corpus, teacher, tmp_path):
    cache = extract(corpus, tmp_path / "c", teacher, precision="bf16")
    assert cache.identity.text("precision") == "bfloat16"
    with pytest.raises(SpeechkdError, match=r"--precision is 'bfloat16'.*float32, bf16, float16"):
        settings(corpus, tmp_path / "c", teacher, precision="bfloat16")


def test_another_teacher_of_the_same_name_is_refused(corpus, teacher, tmp_path):
    extract(corpus, tmp_path / "c", teacher)
    save_random_whisper(tmp_path / "random-whisper", seed=1, layers=1, heads=1)
    with pytest.raises(SpeechkdError, match="teacher_sha256: cache"):
        extract(corpus, tmp_path / "c", tmp_path / "random-whisper")


@pytest.mark.parametrize("devices", ["gpu", "cuda:99", "99", "cpu,", "-1"])
def test_devices_that_are_not_there_are_refused(corpus, teacher, tmp_path, devices):
    with pytest.raises(SpeechkdError, match="--devices"):
        extract(corpus, tmp_path / "c", teacher, devices=devices)


def test_a_dry_run_tells_the_plan_and_writes_nothing(corpus, teacher, tmp_path, capsys):
    run(settings(corpus, tmp_path / "c", teacher, dry_run=True))
    plan = capsys.readouterr().out
    assert "4 shards, 10 samples" in plan
    assert "to be created" in plan
    assert "time " in plan
    assert not (tmp_path / "c").exists()


def test_a_dry_run_finds_a_tar_of_another_size(teacher, tmp_path):
    manifest = write_corpus(tmp_path / "corpus", [2])
    with (tmp_path / "corpus" / "0.tar").open("ab") as tar:
        tar.write(bytes(512))
    with pytest.raises(SpeechkdError, match="the manifest says"):
        run(settings(manifest, tmp_path / "c", teacher, dry_run=True))


@pytest.mark.slow
def test_a_second_run_takes_two_milliseconds_of_work_per_shard_at_most(tmp_path, capsys):
    """Of the processor, because the clock's depend on what else the machine does."""
    shards = 300
    manifest = write_corpus(tmp_path / "corpus", [1] * shards, samples=400)
    configured = ExtractSettings(
        manifest=str(manifest),
        cache=str(tmp_path / "c"),
        encoder="dummy",
        workers=0,
        devices="cpu",
    )
    run(configured)
    capsys.readouterr()
    start = time.process_time()
    run(configured)
    assert "nothing to do" in capsys.readouterr().err
    assert time.process_time() - start < 0.002 * shards


def test_words_are_kept_by_the_times_that_tars_tell_and_by_the_teachers_own(
    tmp_path, capsys, monkeypatch
):
    from pipeline.cache.sequences import SequenceReader
    from tests.helpers.tars import audio, line, tar_bytes
    from tests.helpers.whispers import small_tokenizer

    # random heads follow no audio
    monkeypatch.setattr("pipeline.extraction.word_times.MOST_COST", float("inf"))
    save_random_whisper(tmp_path / "w", layers=1, heads=2, vocab_size=400)
    small_tokenizer().save(str(tmp_path / "w" / "tokenizer.json"))
    (tmp_path / "w" / "generation_config.json").write_text('{"alignment_heads": [[0, 0]]}')
    told = [
        {"text": "hello", "start_s": 0.1, "end_s": 0.2},
        {"text": "you", "start_s": None, "end_s": None},
    ]
    records = {
        "a": {"text": "hello you", "words": told},
        "b": {"text": "so it is, then"},
        "c": {"text": "hello", "words": [{"text": "goodbye", "start_s": 0, "end_s": 0.1}]},
        "d": {"text": "..."},
    }
    members = [
        member
        for key, record in records.items()
        for member in ((f"{key}.flac", audio(16_000)), (f"{key}.json", json.dumps(record).encode()))
    ]
    content = tar_bytes(members)
    (tmp_path / "a.tar").write_bytes(content)
    write_manifest(tmp_path / "manifest.jsonl", [line(content, 4)])
    settings = ExtractSettings(
        manifest=str(tmp_path / "manifest.jsonl"),
        cache=str(tmp_path / "cache"),
        teacher=str(tmp_path / "w"),
        keep="words",
        max_refused=0.5,
        devices="cpu",
    )
    run(settings)
    assert "unusable words: 1" in (out := capsys.readouterr().out)
    assert "no word: 1" in out
    cache = TeacherCache.open(tmp_path / "cache", kinds=("words",))
    clips = SequenceReader(cache).clips
    assert clips.words[0] == [
        {"text": "hello", "start_s": 0.1, "end_s": 0.2, "trusted": True},
        {"text": "you", "start_s": 0.2, "end_s": 1.0, "trusted": False},
    ]
    assert [word["text"] for word in clips.words[1]] == ["so", "it", "is,", "then"]
    assert len(clips.words) == 2
    untrusted = sum(not word["trusted"] for words in clips.words for word in words)
    assert cache.receipts()[0]["untrusted_words"] == untrusted > 0
    cache_stage.info(cache_stage.InfoSettings(cache=str(tmp_path / "cache")))
    assert f"{untrusted} words whose time is not trusted" in capsys.readouterr().out


def test_odd_sound_in_tars_of_others_is_counted_and_said(teacher, tmp_path, capsys):
    voice = speechlike(8_000, 1)
    sounds = {
        "quiet": np.zeros(8_000, np.float32),
        "turned": np.stack([voice, -voice], axis=1),
        "plain": voice,
    }
    archive = tar_bytes(
        member
        for key, wave in sounds.items()
        for member in ((f"{key}.wav", encoded(wave, kind="WAV")), (f"{key}.txt", b"some words"))
    )
    (tmp_path / "a.tar").write_bytes(archive)
    write_manifest(tmp_path / "manifest.jsonl", [line(archive, 3)])
    extract(tmp_path / "manifest.jsonl", tmp_path / "c", teacher)
    odd = [text.strip() for text in capsys.readouterr().out.splitlines() if "taken, but" in text]
    assert sorted(odd) == [
        "taken, but odd: channels of opposite phase: 1, such as turned "
        "(--channel 1 takes one channel in place of the average)",
        "taken, but odd: silent: 1, such as quiet (check the recordings and the times)",
    ]


def test_one_channel_of_a_tar_is_what_a_tar_of_it_alone_gives(teacher, tmp_path, capsys):
    voices = [speechlike(8_000, seed) for seed in (1, 2)]
    for name, wave in (("both", np.stack(voices, axis=1)), ("second", voices[1])):
        archive = tar_bytes([("a.wav", encoded(wave, kind="WAV")), ("a.txt", b"some words")])
        (tmp_path / f"{name}.tar").write_bytes(archive)
        write_manifest(tmp_path / f"{name}.jsonl", [line(archive, 1, f"{name}.tar")])
    alone = extract(tmp_path / "second.jsonl", tmp_path / "alone", teacher)
    chosen = extract(tmp_path / "both.jsonl", tmp_path / "chosen", teacher, channel=2)
    mean = extract(tmp_path / "both.jsonl", tmp_path / "mean", teacher)
    assert (chosen.block(0)[0] == alone.block(0)[0]).all()
    assert (chosen.block(0)[0] != mean.block(0)[0]).any()
    assert chosen.identity.settings["channel"] == 2
    assert "channel" not in mean.identity.record()
    cache_stage.info(cache_stage.InfoSettings(cache=str(tmp_path / "chosen")))
    assert "channel     2 of each clip" in capsys.readouterr().out
    with pytest.raises(SpeechkdError, match="channel"):
        extract(tmp_path / "both.jsonl", tmp_path / "chosen", teacher, channel=1)
    with pytest.raises(SpeechkdError, match=r"1 of 1 sample refused.*outside"):
        extract(tmp_path / "second.jsonl", tmp_path / "none", teacher, channel=2)
