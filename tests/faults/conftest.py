"""A process that forks commands, and the stages with their references, for all tests here."""

import pytest

from tests.faults import shim
from tests.faults.workshop import Workshop
from tests.helpers.warm import Warm


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """Starts commands; their calls to the file system can be made to fail."""
    folder = tmp_path_factory.mktemp("warm")
    library = shim.build(folder)
    if library is None:
        pytest.skip("needs a C compiler")
    with Warm(folder / "logs", library) as warm:
        yield warm


@pytest.fixture(scope="session")
def shop(warm, tmp_path_factory):
    """The stages."""

    def run(words: list[str]) -> None:
        running = warm.run(words)
        assert running.status == 0, running.said

    return Workshop(tmp_path_factory.mktemp("shop") / "reference", run)
