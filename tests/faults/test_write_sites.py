"""Calls by which a stage changes files fail in turn: a part of `tests.faults.sweep`."""

import random

import pytest

from tests.faults.shim import FAULTS, KIND_OF, READ
from tests.faults.sweep import calls_of, strike
from tests.faults.workshop import MOSTLY_SLOW

FAULTS_A_STAGE = 3


@pytest.mark.parametrize("name", MOSTLY_SLOW)
def test_the_next_run_is_right(warm, shop, tmp_path, name):
    """Some faults, each at a call, all drawn by the stage's name."""
    stage = shop.need(name)
    rng = random.Random(name)
    calls = calls_of(warm, stage, FAULTS["input/output error"], tmp_path / "count")
    kinds = [KIND_OF[call.split()[1]] for call in calls]
    found = []
    possible = [fault for fault in FAULTS.values() if not fault.kinds & READ]
    for fault in rng.sample(possible, FAULTS_A_STAGE):
        eligible = sum(1 for kind in kinds if kind & fault.kinds)
        at = rng.randint(1, eligible)
        found += strike(warm, shop, stage, fault, at, tmp_path / "strike")
    assert not found, "\n".join(found)
