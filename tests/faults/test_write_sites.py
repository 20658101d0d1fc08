"""Every call by which a stage changes files fails in turn: `tests.faults.sweep`, a part of it."""

import pytest

from tests.faults.shim import FAULTS
from tests.faults.sweep import calls_of, kinds_of_calls, strike

STAGES = (
    "shard",
    "extract-teacher",
    "cache merge",
    "cache export",
    "distill",
    "finetune",
    "report",
)
FAST = [
    ("shard", "disk full"),
    ("shard", "killed"),
    ("extract-teacher", "permission lost"),
]


def sweep(warm, shop, name, fault, folder, every):
    """Strike at every `every`-th kind of call; `every` and the first are coprime over stages."""
    stage = shop.need(name)
    calls = calls_of(warm, stage, fault, folder / "count")
    chosen = sorted(kinds_of_calls(calls).values())
    assert chosen, "the fault has nothing to strike"
    found = []
    for at in chosen[len(name) % every :: every]:
        found += strike(warm, shop, stage, fault, at, folder / "strike")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("stage", "fault"), FAST)
def test_the_next_run_is_right(warm, shop, tmp_path, stage, fault):
    sweep(warm, shop, stage, FAULTS[fault], tmp_path, every=9)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", STAGES)
def test_the_next_run_is_right_everywhere(warm, shop, tmp_path, stage, fault):
    sweep(warm, shop, stage, FAULTS[fault], tmp_path, every=12)
