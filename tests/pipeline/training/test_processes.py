"""What is different in the processes beside the first; real groups are tested through the stage."""

import pytest

from pipeline.foundation.progress import say
from pipeline.training import processes
from pipeline.training.run_folder import RunFolder


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_process_speaks_and_writes(tmp_path, monkeypatch, capsys, rank):
    monkeypatch.setattr(processes, "rank", lambda: rank)
    with processes.joined("cpu"), RunFolder(tmp_path / "run", "model") as folder:
        say("a word")
        assert folder.prepare({}, "auto") is None
        folder.claim()
        folder.write_record({"identity": {}, "status": "running"})
    assert (capsys.readouterr().err == "a word\n") == (rank == 0)
    assert (tmp_path / "run").exists() == (rank == 0)
    say("and again")
    assert capsys.readouterr().err == "and again\n"


def test_a_function_of_the_main_process_gives_none_elsewhere(monkeypatch):
    double = processes.on_main(lambda value: 2 * value)
    assert double(4) == 8
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert double(4) is None
