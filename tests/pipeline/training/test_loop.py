"""The parts of the step loop; the loop itself is tested through the stage."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from pipeline.foundation.errors import SpeechkdError
from pipeline.training.checkpoint import Progress
from pipeline.training.loop import Workload, explained_memory_errors, seed_dropout, validate


def ask_for_too_much():
    return torch.empty(2**60, dtype=torch.float32)


def run_out():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize("failure", [ask_for_too_much, run_out])
def test_running_out_of_memory_says_what_to_lower(failure):
    with (
        pytest.raises(SpeechkdError, match=r"out of memory in a training step\. Sell something"),
        explained_memory_errors("Sell something."),
    ):
        failure()


def test_other_failures_pass_unchanged():
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        explained_memory_errors("Sell something."),
    ):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_dropout_is_a_function_of_seed_and_step():
    layer, ones = nn.Dropout(0.5), torch.ones(1000)

    def draw(seed, step):
        seed_dropout(seed, step)
        return layer(ones)

    assert draw(1, 7).equal(draw(1, 7))
    assert not draw(1, 7).equal(draw(1, 8))
    assert not draw(1, 7).equal(draw(2, 7))


def test_a_loss_that_some_held_out_batches_lack_is_the_mean_over_those_that_have_it():
    batches = [{"loss": 1.0, "deep": 4.0}, {"loss": 3.0}, {"loss": 5.0, "deep": 6.0}]

    class Log:
        def validation(self, _progress, _epoch, values):
            self.values = values

    log, progress = Log(), Progress(step=7)
    workload = Workload(
        label="",
        module=nn.Linear(1, 1),
        losses=lambda batch, _: {name: torch.tensor(value) for name, value in batch.items()},
        epoch=lambda _: lambda _: None,
        held_out=lambda: iter(batches),
        tokens=lambda _: 1,
        less_memory="",
    )
    validate(workload, log, progress, 0, nullcontext())
    assert log.values == {"loss": 3.0, "deep": 5.0}
    assert progress.validation == [{"epoch": 1, "step": 7, "loss": 3.0, "deep": 5.0}]
