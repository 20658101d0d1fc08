"""The parts of the step loop; the loop itself is tested through the stage."""

import pytest
import torch
from torch import nn

from pipeline.foundation.errors import SpeechkdError
from pipeline.training.loop import explained_memory_errors, seed_dropout


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
