"""Stopping at once, and stopping after the step in hand."""

import os
import signal

import pytest

from pipeline.foundation.signals import stop_after_step, stop_at_once


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_stop_unwinds_once_and_gives_its_status(capsys, number):
    before = signal.getsignal(number)
    unwound = []

    def be_stopped():
        with stop_at_once("the shard in hand is dropped"):
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)  # a second one must not stop the unwinding
                unwound.append(True)

    with pytest.raises(SystemExit) as stopped:
        be_stopped()
    assert unwound
    assert stopped.value.code == 143
    assert f"{number.name}: the shard in hand is dropped" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_signals_are_remembered_within_and_only_within(capsys):
    before = signal.getsignal(signal.SIGUSR2)
    with stop_after_step() as stopped:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped() == "terminated"
    assert signal.getsignal(signal.SIGUSR2) is before
    assert capsys.readouterr().err.count("saving after this step") == 1


def test_one_ctrl_c_asks_to_save_and_a_second_does_not_wait():
    with stop_after_step() as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        assert stopped() == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
