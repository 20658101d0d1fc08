"""A short soak; the hour's is `python tests/faults/soak.py`."""

import pytest

from tests.faults.soak import soak


@pytest.mark.slow
def test_some_seconds_of_kills(tmp_path_factory, capsys):
    # a short name, because sockets of processes of work lie below it, and theirs are limited
    failed = soak(tmp_path_factory.mktemp("soak"), seed=0, seconds=6, stops=3)
    told = capsys.readouterr().out
    assert failed == 0, told
    stops = int(told.splitlines()[-1].split()[0].replace(",", ""))
    assert stops >= 3
