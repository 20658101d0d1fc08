"""Progress on a terminal, in a log and on other ranks."""

import pytest

from pipeline.foundation import progress
from pipeline.foundation.progress import Meter, counted, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (42.4, "42 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_work_of_an_earlier_run_counts_as_done_but_not_for_the_rate(clock):
    with Meter("reading", 100, "clips", done=60) as meter:
        clock.now += 10
        meter.advance(20)
        assert meter.rate() == 2
        assert meter.status() == "80/100 clips, 2.0 clips/s"
        clock.now += 10
        meter.advance(10)
        assert meter.status() == "90/100 clips, 1.5 clips/s, 10 s left"
        meter.advance(10, note="loss 1.5")
        assert meter.status() == "100/100 clips, 2.0 clips/s, took 20 s, loss 1.5"


def test_the_time_left_waits_until_it_can_be_told_and_leaves_the_start_out(clock):
    with Meter("reading", 1_000, "clips") as meter:
        clock.now += 30  # processes start
        meter.advance(1)
        assert "left" not in meter.status()  # it would say 8 hours
        for _ in range(4):
            clock.now += 1
            meter.advance(1)
            assert "left" not in meter.status()
        clock.now += 1
        meter.advance(1)
        assert meter.status() == "6/1,000 clips, 0.2 clips/s, 16 min 34 s left"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 tars"), (1, "1 tar"), (2, "2 tars"), (1_500, "1,500 tars")]
)
def test_a_number_and_its_noun(count, text):
    assert counted(count, "tar") == text
    assert counted(2, "entry", "entries") == "2 entries"


def test_away_from_a_terminal_it_logs_a_line_a_while(clock, capsys):
    with Meter("reading", 100, "clips") as meter:
        for _ in range(40):
            clock.now += 1
            meter.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # at 15 s, at 30 s and at the end
    assert lines[0].startswith("reading: 15/100 clips, 1.0 clips/s, 1 min 25 s left")


def test_a_failure_prints_no_summary(clock, capsys):

    def fail_half_way():
        with Meter("reading", 10, "clips") as meter:
            meter.advance(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert capsys.readouterr().err == ""


def test_details_go_to_a_file_and_meters_stay_on_the_screen(clock, capsys, tmp_path):
    for message in ("first", "second"):
        with progress.details_to(tmp_path / "log"), Meter("reading", 10, "clips") as meter:
            progress.say(message)
            clock.now += 20
            meter.advance(10)
    progress.say("after")
    shown = capsys.readouterr().err
    assert "first" not in shown
    assert shown.count("reading: 10/10 clips") == 4
    assert shown.endswith("after\n")
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_who_is_silenced_says_nothing_and_afterwards_speaks_again(clock, capsys):
    with progress.silenced(True), Meter("reading", 10, "clips") as meter:
        progress.say("hello")
        with progress.silenced(False):  # an inner block does not give the word back
            progress.say("hello")
        clock.now += 100
        meter.advance(10)
    assert capsys.readouterr().err == ""
    with progress.silenced(False):
        progress.say("hello")
    assert capsys.readouterr().err == "hello\n"
