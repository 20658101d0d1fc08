"""How large batches get, counted as they will come."""

import pytest

from pipeline.cache.store import TeacherCache
from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import read_rows
from pipeline.pretraining import sizes
from pipeline.pretraining.sizes import largest_share, most_places
from tests.helpers.caches import make_sequence_cache


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    make_sequence_cache(folder / "mels", [25, 25], "whisper-mel", width=4, most_rows=20)
    caches = {"frames": TeacherCache.open(str(folder / "mels"), kinds=("whisper-mel",))}
    return read_rows(caches, held_out_share=0.1, seed=0)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 5, 12])
def test_the_largest_share_is_that_of_the_batches_that_will_come(corpus, processes, steps):
    shares = [RowBatches(corpus, 8, 3, process=i, processes=processes) for i in range(processes)]
    per_epoch = shares[0].per_epoch
    wanted = max(
        len(batches.epoch(step // per_epoch)(step % per_epoch).rows("frames").values_NW)
        for batches in shares
        for step in range(steps)
    )
    assert largest_share(shares[0], "frames", steps) == wanted


def test_of_a_very_long_run_a_bound_is_taken(corpus, monkeypatch):
    batches = RowBatches(corpus, 8, 3)
    exact = largest_share(batches, "frames", 50)
    monkeypatch.setattr(sizes, "COUNTED_CLIPS", 100)
    bound = largest_share(batches, "frames", 50)
    assert bound == most_places(corpus, "frames", 8) >= exact
