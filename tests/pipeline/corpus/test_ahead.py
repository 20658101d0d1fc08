"""The batch that is made ahead is the one that is asked for, whatever is asked for."""

import threading

import pytest
import torch

from pipeline.corpus.ahead import Ahead
from tests.helpers.processes import wait_for


class Recorder:
    """Batches that say where they were made, and in what order."""

    def __init__(self, make=lambda: None):
        self.make, self.made, self.threads = make, [], set()

    def epoch(self, epoch):
        def at(place):
            self.make()
            self.threads.add(threading.current_thread())
            self.made.append((epoch, place))
            return f"{epoch}.{place}"

        return at

    def wait_for(self, batch):
        """As a step that takes longer than the batch beside it."""
        wait_for(lambda: self.made[-1:] == [batch], f"batch {batch} to be made beside the step")


def test_what_is_asked_for_is_what_is_given():
    ahead = Ahead(Recorder().epoch, per_epoch=3)
    first = ahead.epoch(0)
    assert [first(0), first(1), first(2)] == ["0.0", "0.1", "0.2"]
    assert ahead.epoch(5)(2) == "5.2", "nobody foresaw this"
    assert ahead.epoch(1)(1) == "1.1"
    assert ahead.epoch(1)(2) == "1.2"
    ahead.close()


def test_each_batch_is_made_once_and_the_next_one_while_the_step_runs():
    recorder = Recorder()
    ahead = Ahead(recorder.epoch, per_epoch=2)
    for epoch in range(3):
        batch_at = ahead.epoch(epoch)
        for place in range(2):
            assert batch_at(place) == f"{epoch}.{place}"
            recorder.wait_for((epoch, 1) if place == 0 else (epoch + 1, 0))
    ahead.close()
    assert recorder.made == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert len(recorder.threads) == 1
    assert threading.main_thread() not in recorder.threads


def test_waiting_is_measured_and_told_once(monkeypatch):
    """By a clock that goes on by 5 s with each batch that is made."""
    now = [100.0]
    monkeypatch.setattr("pipeline.corpus.ahead.time.perf_counter", lambda: now[0])
    recorder = Recorder(lambda: now.__setitem__(0, now[0] + 5))
    ahead = Ahead(recorder.epoch, per_epoch=9)
    batch_at = ahead.epoch(0)
    batch_at(0)
    recorder.wait_for((0, 1))
    assert ahead.waited() == 5
    assert ahead.waited() == 0
    batch_at(1)
    assert ahead.waited() == 0, "it was made beside the step"
    ahead.close()


def test_an_error_comes_where_its_batch_is_asked_for():
    def epoch(_):
        def at(place):
            if place == 1:
                raise ValueError("a damaged row")
            return place

        return at

    ahead = Ahead(epoch, per_epoch=3)
    batch_at = ahead.epoch(0)
    assert batch_at(0) == 0
    with pytest.raises(ValueError, match="a damaged row"):
        batch_at(1)
    assert batch_at(2) == 2
    ahead.close()


def test_one_batch_per_epoch_is_followed_by_the_next_epoch():
    recorder = Recorder()
    ahead = Ahead(recorder.epoch, per_epoch=1)
    assert [ahead.epoch(e)(0) for e in range(3)] == ["0.0", "1.0", "2.0"]
    ahead.close()
    assert recorder.made[:3] == [(0, 0), (1, 0), (2, 0)]


def test_a_batch_is_made_by_one_thread():
    """Two threads that made a batch on busy cores took fifty times as long."""
    ahead = Ahead(lambda _: lambda _: torch.get_num_threads(), 3)
    before = torch.get_num_threads()
    assert [ahead.epoch(0)(place) for place in range(3)] == [1, 1, 1]
    ahead.close()
    assert torch.get_num_threads() == before
