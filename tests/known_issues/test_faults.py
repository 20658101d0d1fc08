"""What an hour of kills, and calls that failed one after the other, brought to light."""

import os
import sys
import time

import pytest
import torch

from pipeline.cache.export import export
from pipeline.finetuning.results import Results
from pipeline.foundation import atomic
from pipeline.foundation.atomic import locked
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.loading import load_tokenizer
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.run_folder import RunFolder
from stages import cli
from tests.helpers.caches import identity, make_cache, manifest
from tests.helpers.encoders import save_encoder
from tests.helpers.mosei import sentences

DAY = 86_400


def half_written(path, age_seconds=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_seconds,) * 2)
    return path


def test_a_kill_while_the_first_record_is_written_does_not_bar_the_run(tmp_path):
    half = half_written(tmp_path / "run" / ".run.json.abc.partial")
    with RunFolder(tmp_path / "run", "model") as folder:
        assert folder.prepare({}, "auto") is None
        folder.claim()
    assert not half.exists()


def test_only_one_distill_at_a_time_writes_a_run(tmp_path):
    (tmp_path / "run").mkdir()
    with (
        RunFolder(tmp_path / "run", "model") as first,
        RunFolder(tmp_path / "run", "model") as second,
    ):
        first.prepare({}, "auto")
        with pytest.raises(SpeechkdError, match="another process is writing there"):
            second.prepare({}, "auto")


def test_a_run_that_another_process_began_meanwhile_is_not_begun_again(tmp_path):
    with RunFolder(tmp_path / "run", "model") as slow:
        slow.prepare({}, "auto")
        with RunFolder(tmp_path / "run", "model") as quick:
            quick.claim()
            quick.write_record({"identity": {}, "status": "finished"})
        with pytest.raises(SpeechkdError, match="the same command carries on with it"):
            slow.claim()


def test_a_lock_ends_with_its_block(tmp_path):
    with locked(tmp_path, busy="busy") as first:
        assert first
        with pytest.raises(SpeechkdError, match="busy"), locked(tmp_path, busy="busy"):
            pass
    with locked(tmp_path, busy="busy"):
        pass


def test_a_tokenizer_that_was_kept_is_saved_as_it_was(tmp_path):
    """`is_local` and the like were added on loading, so a resumed run's student differed."""
    save_encoder(tmp_path / "a", [text for text, _ in sentences(9)])
    load_tokenizer(str(tmp_path / "a")).save_pretrained(tmp_path / "b")
    load_tokenizer(str(tmp_path / "b")).save_pretrained(tmp_path / "c")
    name = "tokenizer_config.json"
    assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_abandoned_files_go_from_every_folder_and_younger_ones_stay(tmp_path):
    make_cache(tmp_path / "cache", [2])
    places = ["cache/.a.json.x.partial", "cache/embedding/c/0/0.1x.partial", ".cache.x.partial/a",
              "results/.results.json.x.partial", "results/cells/.a.json.x.partial",
              ".out.x.partial/embedding.npy"]  # fmt: skip
    old = [half_written(tmp_path / place, DAY) for place in places]
    young = [half_written(tmp_path / place.replace("x.partial", "y.partial")) for place in places]
    for folder in (".cache.x.partial", ".out.x.partial"):
        os.utime(tmp_path / folder, (time.time() - DAY,) * 2)
    from pipeline.cache.store import TeacherCache

    cache = TeacherCache.create_or_open(tmp_path / "cache", manifest([2]), identity(), {})
    (tmp_path / "results" / "results.json").write_text('{"format": 1}')
    Results(tmp_path / "results", {}, {})
    assert list(export(cache, tmp_path / "out")) == [0]
    assert [path for path in old if path.exists()] == []
    assert [path for path in young if not path.exists()] == []


def test_a_folder_at_work_for_hours_is_not_abandoned(tmp_path):
    half_written(tmp_path / ".out.x.partial" / "embedding.npy")
    os.utime(tmp_path / ".out.x.partial", (1, 1))
    atomic.remove_leftovers(tmp_path)
    assert (tmp_path / ".out.x.partial" / "embedding.npy").exists()


def test_a_full_disk_under_a_library_of_another_language_is_one_message(tmp_path, monkeypatch):
    """safetensors, torch and tokenizers each raise something else than OSError."""
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters())

    def full(*_, **__):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 7616")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SpeechkdError, match=r"step-000000001 cannot be written.*Make room"):
        Checkpoints(tmp_path, 1).save(module, optimizer, Progress(step=1))
    assert Checkpoints(tmp_path, 1).latest() is None


def test_checkpoints_that_were_about_to_be_dropped_are_dropped_later(tmp_path):
    for step in range(4):
        (tmp_path / f"step-{step:09d}").mkdir()
    Checkpoints(tmp_path, 2).drop_old()
    assert [path.name for path in Checkpoints(tmp_path, 2).all()] == [
        "step-000000002",
        "step-000000003",
    ]


def test_ctrl_c_before_a_command_has_begun_is_no_traceback(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 130


def test_a_defect_is_still_a_traceback(monkeypatch):
    def defect():
        raise KeyError("a defect")

    monkeypatch.setattr(cli, "app", defect)
    with pytest.raises(KeyError):
        cli.main()


def memory_error():
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes")


def network_error():
    aiohttp = pytest.importorskip("aiohttp", reason="needs s3fs")
    raise aiohttp.ClientPayloadError("Response payload is not completed")


def nameless_error():
    raise PermissionError("made to fail")


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        (memory_error, "error: out of memory ([enforce fail] Default"),
        (network_error, "error: ClientPayloadError: Response payload is not completed. Check the"),
        (nameless_error, "error: made to fail. Check the path"),
    ],
)
def test_what_the_machine_does_is_one_message_with_a_remedy(monkeypatch, capsys, fails, told):
    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(told)
    assert error.endswith("the same command carries on.\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_events_that_cannot_be_written_are_told_at_once(tmp_path):
    from pipeline.training.log import EventFile

    events = EventFile(tmp_path, first_step=1)
    events._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115, PTH123
    events._writer._writer = events._file
    with pytest.raises(OSError, match="No space left"):
        events.add({"loss": 1.0}, 1)
