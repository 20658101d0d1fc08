"""Files and folders are whole or absent, whoever is killed; locks hold, or say that they cannot."""

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.foundation import atomic
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.processes import PATIENCE_SECONDS, wait_for


def test_content_arrives_and_nothing_else_stays(tmp_path):
    atomic.write_json(tmp_path / "new" / "a.json", {"π": [1, None]})
    assert (
        tmp_path / "new" / "a.json"
    ).read_text() == '{\n  "\\u03c0": [\n    1,\n    null\n  ]\n}\n'
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.json"]


def test_a_failure_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "a"
    atomic.write_text(path, "old")

    def fail_half_way():
        with atomic.replaced(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_not_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "a", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_a_torn_file_while_writers_are_killed(tmp_path):
    path = tmp_path / "a"
    size = 3_000_000
    code = (
        "import sys; from pathlib import Path; from pipeline.foundation.atomic import write_bytes\n"
        f"while True:\n  for c in b'xyz': write_bytes(Path(sys.argv[1]), bytes([c]) * {size})\n"
    )
    for delay in (0.15, 0.25, 0.4):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        wait_for(path.exists, "the file to be written")
        end = time.monotonic() + delay
        while time.monotonic() < end:
            content = path.read_bytes()
            assert len(content) == size
            assert len(set(content)) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    content = path.read_bytes()
    assert len(content) == size
    assert len(set(content)) == 1


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    atomic.write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_new_folder_is_whole_or_absent(tmp_path):
    def fail_half_way():
        with atomic.new_folder(tmp_path / "it") as folder:
            (folder / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []
    with atomic.new_folder(tmp_path / "it") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("whole")
        assert not (tmp_path / "it").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    assert (tmp_path / "it" / "inner" / "a").read_text() == "whole"
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o755


def test_every_file_of_a_new_folder_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    synced, rename = [], Path.rename
    monkeypatch.setattr(atomic, "sync", lambda path: synced.append(path.name))
    monkeypatch.setattr(Path, "rename", lambda *a: (synced.append("rename"), rename(*a))[1])
    with atomic.new_folder(tmp_path / "it") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("x")
    assert sorted(synced[:3]) == sorted(["a", "inner", folder.name])
    assert synced[3:] == ["rename", tmp_path.name]


def test_a_new_folder_takes_another_ones_place_only_if_asked(tmp_path):
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "old").write_text("old")

    def make(replace):
        with atomic.new_folder(tmp_path / "it", replace=replace) as folder:
            (folder / "new").write_text("new")

    with pytest.raises(OSError, match="not empty"):
        make(replace=False)
    assert [path.name for path in (tmp_path / "it").iterdir()] == ["old"]
    make(replace=True)
    assert [path.name for path in (tmp_path / "it").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_lock_is_of_a_folder_or_of_a_file(tmp_path):
    for path in (tmp_path, tmp_path / "file"):
        with (
            atomic.locked(path, busy="busy"),
            pytest.raises(SpeechkdError, match="busy"),
            atomic.locked(path, busy="busy"),
        ):
            pass
        with atomic.locked(path, busy="busy") as held:
            assert held
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_who_may_wait_waits_and_says_so(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(atomic, "say", order.append)

    def second():
        with atomic.locked(tmp_path, waiting="another one writes; waiting"):
            order.append("second")

    with atomic.locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        wait_for(lambda: order, "the second one to say that it waits")
        time.sleep(0.1)  # without a lock it would not wait
        order.append("first")
    thread.join()
    assert order == ["another one writes; waiting", "first", "second"]


def test_without_locks_the_work_goes_on_and_that_is_said_once(tmp_path, monkeypatch, capsys):
    def no_locks(*_):
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", no_locks)
    for _ in range(3):
        with atomic.locked(tmp_path, busy="busy") as held:
            assert not held
    assert capsys.readouterr().err.count("this file system has no locks") == 1


def slow_fill(aside: Path) -> None:
    with (aside.parent / "makers").open("a") as file:
        file.write("x")
    time.sleep(0.3)
    (aside / "content").write_text("whole")


def make(folder):
    atomic.made_once(folder, slow_fill, "it")


def test_several_processes_make_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=make, args=(tmp_path / "it",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "it" / "content").read_text() == "whole"
    assert (tmp_path / "makers").read_text() == "x"


def test_without_locks_the_first_is_kept(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", no_locks)
    all_at_work = threading.Barrier(3)

    def fill(aside: Path) -> None:
        all_at_work.wait(PATIENCE_SECONDS)
        slow_fill(aside)

    args = (tmp_path / "it", fill, "it")
    threads = [threading.Thread(target=atomic.made_once, args=args) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "makers").read_text() == "xxx"
    assert not list(tmp_path.glob(".it.*.partial"))
    assert (tmp_path / "it" / "content").read_text() == "whole"


def test_a_failure_leaves_nothing_and_what_was_killed_is_swept(tmp_path):
    def failing(aside):
        (aside / "content").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        atomic.made_once(tmp_path / "it", failing, "it")
    assert [p.name for p in tmp_path.iterdir()] == [".it.lock"]
    (tmp_path / ".it.killed.partial").mkdir()
    (tmp_path / ".it.killed.partial" / "content").write_text("half")
    make(tmp_path / "it")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".it.lock", "it", "makers"]
