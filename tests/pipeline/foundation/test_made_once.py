import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from pipeline.foundation.made_once import made_once


def slow_fill(aside: Path) -> None:
    with (aside.parent / "makers").open("a") as file:
        file.write("x")
    time.sleep(0.3)
    (aside / "content").write_text("whole")


def make(folder):
    made_once(folder, slow_fill, "it")


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
    threads = [threading.Thread(target=make, args=(tmp_path / "it",)) for _ in range(3)]
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
        made_once(tmp_path / "it", failing, "it")
    assert [p.name for p in tmp_path.iterdir()] == [".it.lock"]
    (tmp_path / ".it.killed.partial").mkdir()
    (tmp_path / ".it.killed.partial" / "content").write_text("half")
    make(tmp_path / "it")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".it.lock", "it", "makers"]
