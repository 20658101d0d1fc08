"""Two people who start the same command at the same time, and one who starts it again later."""

import pytest

from tests.faults.sweep import faults_of
from tests.faults.workshop import MOSTLY_SLOW, leftovers, make_old


@pytest.mark.parametrize("name", MOSTLY_SLOW)
def test_one_command_started_twice(warm, shop, tmp_path, name):
    stage = shop.need(name)
    out = tmp_path / "out"
    both = [warm.start(stage.command(out)) for _ in range(2)]
    for running in both:
        warm.wait(running)
    assert 0 in {running.status for running in both}
    assert not [fault for running in both for fault in faults_of(running, (0, 1))]
    again = warm.run(stage.command(out))
    assert not faults_of(again, (0,))
    make_old(leftovers(out))
    assert not shop.check(stage, out)
    assert not leftovers(out)
