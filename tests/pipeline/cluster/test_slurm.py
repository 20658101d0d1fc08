"""What Slurm's commands answer becomes what the queue holds, or an error of its kind."""

import subprocess

import pytest

from pipeline.cluster.slurm import Queued, queue
from pipeline.foundation.errors import NotThere, SpeechkdError, Unreachable


def answering(monkeypatch, status, out="", err=""):
    done = subprocess.CompletedProcess([], status, out, err)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: done)


def test_the_queue_by_job_and_index(monkeypatch):
    answering(monkeypatch, 0, "7|0|RUNNING|None\n7|12|PENDING|Resources\n8|N/A|PENDING|Priority\n")
    assert queue(["7", "8"]) == {
        ("7", 0): Queued("RUNNING", "None"),
        ("7", 12): Queued("PENDING", "Resources"),
        ("8", 0): Queued("PENDING", "Priority"),
    }


def test_jobs_that_ended_long_ago_are_an_empty_queue(monkeypatch):
    answering(monkeypatch, 1, err="slurm_load_jobs error: Invalid job id specified\n")
    assert queue(["7"]) == {}


def test_a_refusal_is_passed_on_and_not_an_empty_queue(monkeypatch):
    answering(monkeypatch, 1, err="slurm_load_jobs error: Unable to contact slurm controller\n")
    with pytest.raises(SpeechkdError, match="Unable to contact") as caught:
        queue(["7"])
    assert not isinstance(caught.value, NotThere)


def test_no_slurm_and_no_answer_are_out_of_reach(monkeypatch):
    for error in (FileNotFoundError(), subprocess.TimeoutExpired("squeue", 60)):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("subprocess.run", fail)
        with pytest.raises(Unreachable):
            queue(["7"])
