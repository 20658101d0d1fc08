"""Several rows per clip by command: exactly once and bit for bit, whatever happens on the way.

What holds of vectors (test_extract_teacher) holds of every kind; here storage objects are so small
that a shard fills several.
"""

import re
import signal

import pytest
import torch

from pipeline.cache import identity
from pipeline.cache.identity import KINDS
from pipeline.cache.store import TeacherCache
from pipeline.extraction.settings import ExtractSettings, FeatureSettings
from pipeline.foundation.errors import SpeechkdError
from stages.cache import (
    InfoSettings,
    MergeSettings,
    VerifySettings,
    info,
    merge,
    verify,
)
from tests.helpers.stage_one import (
    content,
    in_process,
    killed_at_random_instants,
    quick_runs,
    run_stage,
)
from tests.helpers.tars import write_corpus
from tests.helpers.whispers import save_random_whisper

COUNTS = [3, 1, 4, 2]
OBJECT_BYTES = 2**11  # 8 frames of 80 float16, or 32 of bytes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), COUNTS)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "random-whisper"
    save_random_whisper(folder, layers=1, heads=8)  # objects of 8 states
    return folder


@pytest.fixture(autouse=True, scope="module")
def small():
    """One thread, as in the processes that are killed, and small objects."""
    threads, usual = torch.get_num_threads(), identity.OBJECT_BYTES
    torch.set_num_threads(1)
    identity.OBJECT_BYTES = OBJECT_BYTES
    with quick_runs(__name__):
        yield
    torch.set_num_threads(threads)
    identity.OBJECT_BYTES = usual


@pytest.fixture(
    scope="module",
    params=["whisper-mel", *(pytest.param(k, marks=pytest.mark.slow) for k in ("states", "uint8"))],
)
def of(request, corpus, teacher):
    """Settings for a cache, by its place."""
    common = {"manifest": str(corpus), "batch_size": 2, "workers": 0, "devices": "cpu"}

    def configured(cache, **changes):
        values = {**common, "cache": str(cache), **changes}
        if request.param == "states":
            states = {"teacher": str(teacher), "keep": "states", "context": "15s", "stride": 2}
            return ExtractSettings(**states, **values)
        dtype = "float16" if request.param == "whisper-mel" else "uint8"
        return FeatureSettings(features="whisper-mel", dtype=dtype, **values)

    return configured


@pytest.fixture(scope="module")
def uninterrupted(of, tmp_path_factory):
    """What a cache of the corpus must be, byte for byte."""
    cache = tmp_path_factory.mktemp("reference") / "cache"
    run_stage(of(cache))
    return content(cache)


def opened(cache) -> TeacherCache:
    return TeacherCache.open(cache, kinds=KINDS)


def test_a_shard_fills_several_objects(uninterrupted):
    assert sum(name.startswith("rows/c/") for name in uninterrupted) > 2 * len(COUNTS)


def test_array_tasks_in_any_order_make_the_same_cache(of, tmp_path, uninterrupted):
    for index in (2, 0):
        run_stage(of(tmp_path / "c", array_task=f"{index}/3"))
    assert opened(tmp_path / "c").unfinished()
    for index in (1, 0):  # another number of tasks on the second try
        run_stage(of(tmp_path / "c", array_task=f"{index}/2"))
    assert content(tmp_path / "c") == uninterrupted


def test_a_second_run_does_nothing_and_says_so(of, tmp_path, capsys):
    run_stage(of(tmp_path / "c"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    run_stage(of(tmp_path / "c"))
    assert "nothing to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "crash_at", [9, 27, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 5, 12, 20, 23))]
)
def test_killed_at_any_sync_it_ends_the_same(of, tmp_path, uninterrupted, crash_at):
    process = in_process(of(tmp_path / "c"), crash_at, OBJECT_BYTES)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run_stage(of(tmp_path / "c"))
    assert content(tmp_path / "c") == uninterrupted


@pytest.mark.slow
def test_killed_at_ten_random_instants_it_ends_the_same(of, tmp_path, uninterrupted):
    for trial in killed_at_random_instants(lambda n: of(tmp_path / f"{n}"), 10, OBJECT_BYTES):
        run_stage(of(tmp_path / f"{trial}"))
        assert content(tmp_path / f"{trial}") == uninterrupted


@pytest.mark.slow
def test_processes_and_devices_change_nothing(of, tmp_path, uninterrupted):
    run_stage(of(tmp_path / "a", workers=2))
    assert content(tmp_path / "a") == uninterrupted


def test_two_tasks_at_the_same_shards_tear_nothing(of, tmp_path, uninterrupted):
    processes = [in_process(of(tmp_path / "c"), 0, OBJECT_BYTES) for _ in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert content(tmp_path / "c") == uninterrupted


def test_a_torn_receipt_is_no_receipt(of, tmp_path, uninterrupted):
    run_stage(of(tmp_path / "c"))
    receipt = tmp_path / "c" / "receipts" / "000002.json"
    receipt.write_bytes(receipt.read_bytes()[:300])
    assert opened(tmp_path / "c").unfinished() == [2]
    run_stage(of(tmp_path / "c"))
    assert content(tmp_path / "c") == uninterrupted


def test_every_damage_is_mended_by_extracting_again(of, tmp_path, uninterrupted, capsys):
    cache = tmp_path / "c"
    run_stage(of(cache))
    first = opened(cache).rows_of(2).start // opened(cache).identity.rows_per_object
    last = opened(cache).rows_of(3).start // opened(cache).identity.rows_per_object - 1
    (cache / "rows" / "c" / str(first) / "0").write_bytes(b"cut")
    (cache / "rows" / "c" / str(last)).mkdir()
    (cache / "rows" / "c" / str(last) / "0").write_bytes(b"surplus")
    with pytest.raises(SpeechkdError, match="2 problems"):
        verify(VerifySettings(cache=str(cache)))
    (cache / "receipts" / "000002.json").unlink()
    run_stage(of(cache))
    assert content(cache) == uninterrupted
    verify(VerifySettings(cache=str(cache)))


def test_info_tells_kind_rows_hours_and_bytes(of, tmp_path, capsys):
    run_stage(of(tmp_path / "c"))
    cache = opened(tmp_path / "c")
    capsys.readouterr()
    info(InfoSettings(cache=str(tmp_path / "c")))
    page = re.sub(r"\s+", " ", capsys.readouterr().out)
    size = sum(p.stat().st_size for p in (tmp_path / "c").rglob("*") if p.is_file())
    told = (
        "format 3", f"kind {cache.identity.kind}", "10 of 10 samples", f"rows {cache.rows:,}, ",
        f"{cache.identity.width} × {cache.identity.dtype}, {cache.identity.rows_per_second:g} per",
        f"size {size / 1e6:,.1f} MB", "0.00 h", "length of the mean row",
    )  # fmt: skip
    assert [part for part in told if part not in page] == []


def test_parts_of_one_manifest_merge_into_the_whole(of, tmp_path, uninterrupted):
    for index in (0, 1):
        run_stage(of(tmp_path / f"part{index}", array_task=f"{index}/2"))
    parts = [str(tmp_path / "part1"), str(tmp_path / "part0")]
    merge(MergeSettings(caches=parts, out=str(tmp_path / "all")))
    assert content(tmp_path / "all") == uninterrupted


def test_a_full_disk_is_said_and_resumed(of, tmp_path, uninterrupted, monkeypatch):
    from pipeline.foundation import atomic

    write, number = atomic.write_bytes, []

    def full(path, raw):
        if path.parent.parent.name == "c":
            number.append(path)
            if len(number) == 4:
                raise OSError(28, "No space left on device")
        write(path, raw)

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(SpeechkdError, match=r"No space left on device.*carries on"):
        run_stage(of(tmp_path / "c"))
    assert opened(tmp_path / "c").unfinished()
    monkeypatch.undo()
    run_stage(of(tmp_path / "c"))
    assert content(tmp_path / "c") == uninterrupted


# --- two kinds of hardware at one shard --------------------------------------------------------


class Rival:
    """Another task at shard 2, with other last bits: it overwrites an object in our midst.

    Args:
        finishes: whether it writes all of the shard before we look again, or is killed.
        times: how often it comes.
    """

    def __init__(self, monkeypatch, cache, finishes: bool, times: int = 1) -> None:
        from pipeline.cache import writing
        from pipeline.extraction import loop

        self.cache, self.finishes, self.left, self.pauses = cache, finishes, times, []
        self.is_sound = writing.is_sound
        monkeypatch.setattr(writing, "is_sound", self.come)
        monkeypatch.setattr(loop.time, "sleep", self.pause)

    def come(self, cache, receipt) -> bool:
        if receipt["shard"] == 2 and self.left:
            self.left -= 1
            first = cache.rows_of(2).start // cache.identity.rows_per_object
            path = cache.folder.path / "rows" / "c" / str(first) / "0"
            content = bytearray(path.read_bytes())
            content[0] ^= 1
            path.write_bytes(content)
            self.receipt = receipt
        return self.is_sound(cache, receipt)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.finishes:
            self.write()

    def write(self) -> None:
        import hashlib
        import json

        cache = opened(self.cache)
        first = cache.rows_of(2).start // cache.identity.rows_per_object
        path = cache.folder.path / "receipts" / "000002.json"
        assert not path.exists()  # ours would vouch for what is not ours
        content = (cache.folder.path / "rows" / "c" / str(first) / "0").read_bytes()
        self.receipt["objects"]["rows"][0] = hashlib.sha256(content).hexdigest()
        path.write_text(json.dumps(self.receipt))


def test_a_shard_that_another_task_finishes_is_taken_from_it(of, tmp_path, monkeypatch, capsys):
    rival = Rival(monkeypatch, tmp_path / "c", finishes=True)
    run_stage(of(tmp_path / "c"))
    assert len(rival.pauses) == 1
    assert 0 < rival.pauses[0] < 60
    assert "10 clips written, 0 samples refused, of 10" in capsys.readouterr().out
    assert opened(tmp_path / "c").unfinished() == []


def test_a_shard_that_another_task_left_torn_is_done_again(
    of, tmp_path, monkeypatch, uninterrupted
):
    Rival(monkeypatch, tmp_path / "c", finishes=False)
    run_stage(of(tmp_path / "c"))
    assert content(tmp_path / "c") == uninterrupted
    verify(VerifySettings(cache=str(tmp_path / "c")))


def test_storage_that_never_gives_back_what_was_written_is_said(of, tmp_path, monkeypatch):
    Rival(monkeypatch, tmp_path / "c", finishes=False, times=99)
    with pytest.raises(SpeechkdError, match=r"shard 2 does not read back .*after 5 attempts"):
        run_stage(of(tmp_path / "c"))
    assert opened(tmp_path / "c").unfinished() == [2]
