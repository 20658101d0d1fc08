"""Controls of rows: nobody keeps its own, and noise is noise."""

import numpy as np
import pytest
import torch

from pipeline.cache.sequences import SequenceReader
from pipeline.corpus.row_corpus import read_rows
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.caches import make_sequence_cache

CLIPS = 120


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return make_sequence_cache(tmp_path_factory.mktemp("rows") / "cache", [80, 40], width=4)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Texts of one word, so that many clips have the same one."""
    return make_sequence_cache(
        tmp_path_factory.mktemp("rows") / "text", [80, 40], "text", width=4, words=3
    )


def part(cache, control="real", seed=0):
    corpus = read_rows({"rows": cache}, held_out_share=0, seed=seed, controls={"rows": control})
    return corpus, corpus.parts["rows"].of(torch.arange(len(corpus)))


def pieces(rows):
    return [piece.numpy() for piece in rows.values_NW.split(rows.lengths_B.tolist())]


def test_shuffled_rows_are_another_clips_and_each_is_taken_once(frames):
    own, other = (pieces(part(frames, control)[1]) for control in ("real", "shuffled"))
    whose = [
        next(c for c, mine in enumerate(own) if np.array_equal(mine, piece)) for piece in other
    ]
    assert sorted(whose) == list(range(CLIPS))
    assert all(c != giver for c, giver in enumerate(whose))
    assert not all(
        np.array_equal(a, b)
        for a, b in zip(other, pieces(part(frames, "shuffled", 1)[1]), strict=True)
    )


def test_relabelled_texts_have_one_other_text_each_always(text):
    corpus, own = part(text)
    _, other = part(text, "relabelled")
    owns = pieces(own)
    given = {}
    for label, piece in zip(corpus.texts, pieces(other), strict=True):
        giver = next(c for c, mine in enumerate(owns) if np.array_equal(mine, piece))
        assert corpus.texts[giver] != label
        assert given.setdefault(label, giver) == giver
    assert len({corpus.texts[giver] for giver in given.values()}) == len(given), "one each"
    assert len(given) < CLIPS, "some texts are there twice"


def test_only_texts_are_relabelled(frames):
    with pytest.raises(SpeechkdError, match=r"relabelled exchanges texts.*whisper-mel"):
        part(frames, "relabelled")


def test_random_rows_are_noise_of_the_same_mean_and_spread(frames):
    corpus, rows = part(frames, "random")
    _, own = part(frames)
    assert rows.lengths_B.equal(own.lengths_B)
    values = rows.values_NW.double()
    statistics = frames.statistics()
    error = statistics.std_E / len(values) ** 0.5
    assert np.all(abs(values.mean(0).numpy() - statistics.mean_E) < 5 * error)
    np.testing.assert_allclose(values.std(0).numpy(), statistics.std_E, rtol=0.1)
    few = corpus.parts["rows"].of(torch.tensor([7, 3]))
    lengths = rows.lengths_B.tolist()
    begin = sum(lengths[:7])
    assert few.values_NW[: lengths[7]].equal(rows.values_NW[begin : begin + lengths[7]])
    assert not part(frames, "random", 1)[1].values_NW.equal(rows.values_NW)


def test_bytes_are_read_as_the_values_that_they_stand_for(tmp_path):
    cache = make_sequence_cache(tmp_path / "cache", [12], dtype="uint8", rows_per_object=16)
    _, rows = part(cache)
    clips = SequenceReader(cache).clips
    assert rows.values_NW.dtype == torch.float32
    wanted = SequenceReader(cache).values(np.arange(12))
    assert rows.values_NW.equal(wanted)
    assert float(rows.values_NW.min()) == pytest.approx(float(clips.low.min()))


def test_one_clip_has_nobody_to_exchange_with(tmp_path):
    cache = make_sequence_cache(tmp_path / "cache", [1])
    with pytest.raises(SpeechkdError, match="there is one clip or text"):
        part(cache, "shuffled")
