"""Schedule and parameter groups, against Hugging Face's."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_linear_schedule_with_warmup

from pipeline.training.optimizer import (
    SCHEDULES,
    cosine_schedule,
    linear_schedule,
    parameter_groups,
)


@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (3, 10), (1, 2), (9, 10)])
def test_decay_equals_hugging_faces_and_warm_up_is_a_step_ahead(warmup, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, total)
    for step in range(total):
        reference = schedule.get_last_lr()[0]
        if step < warmup:  # Hugging Face's first step has rate 0 and so does nothing
            reference = (step + 1) / warmup
        assert linear_schedule(step, warmup, total) == pytest.approx(reference)
        optimizer.step()
        schedule.step()


@given(st.integers(0, 50), st.integers(1, 100), st.integers(0, 200))
def test_factor_stays_between_0_and_1(warmup, total, step):
    assert 0 <= linear_schedule(step, warmup, max(total, warmup)) <= 1


def test_vectors_are_not_decayed_and_nothing_is_lost():
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2)
    )
    module[2].weight.requires_grad_(False)
    decayed, plain = parameter_groups(module, 0.01)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3)]
    assert sorted(tuple(p.shape) for p in plain["params"]) == [(2,), (4,), (4,), (4,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)


def test_a_cosine_falls_from_the_peak_to_nothing_and_never_rises_again():
    factors = [cosine_schedule(step, 4, 24) for step in range(24)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[14] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in pairwise(factors[4:]))
    assert cosine_schedule(24, 4, 24) == pytest.approx(0)
    assert SCHEDULES["cosine"] is cosine_schedule
