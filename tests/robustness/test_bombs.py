"""Bombs: small files that claim to be enormous do no harm."""

import pytest

from tests.robustness.bombs import BOMBS, Site

MEASURED_ONLY = ("a tar of 1,000,000 empty members",)  # by `python -m tests.robustness.bombs`
FAST = (  # one of each kind
    "2 h of constant FLAC as a sample",
    "a manifest with nested brackets",
    "16 members of 64 MB under one key",
    "a pickle of tuples in tuples, 10^30 items",
)


@pytest.fixture(scope="module")
def site():
    with Site() as site:
        yield site


def check(site, name):
    found = site.cost(name)
    assert found.seconds <= BOMBS[name].seconds, found
    assert found.megabytes <= BOMBS[name].megabytes, found


@pytest.mark.parametrize("name", FAST)
def test_a_bomb_does_no_harm(site, name):
    check(site, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BOMBS if name not in (*FAST, *MEASURED_ONLY)])
def test_no_bomb_does_harm(site, name):
    if "Parquet" in name:
        pytest.importorskip("pyarrow")
    check(site, name)
