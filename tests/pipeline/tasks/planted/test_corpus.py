"""A planted corpus: only the voice tells the affect, and a seed gives one corpus."""

import numpy as np
import pytest

from pipeline.tasks.planted.corpus import CARRIERS, invent_words, plant


def test_text_says_nothing_about_affect():
    utterances = plant(words=20, carriers=CARRIERS[:6], seed=3)
    contexts = {
        affect: sorted(u.text.replace(u.word, "{}") for u in utterances if u.affect == affect)
        for affect in (1, -1)
    }
    assert contexts[1] == contexts[-1]
    assert len({u.word for u in utterances}) == 20
    assert len({u.key for u in utterances}) == 120
    assert all(
        {u.affect for u in utterances if u.word == word} != {1, -1} for word in invent_words(20, 3)
    )


def test_the_voice_tells_affect_but_the_two_overlap():
    utterances = plant(words=60, carriers=CARRIERS, seed=0)
    for quantity in ("pitch", "range", "rate_wpm", "volume"):
        bright, flat = (
            np.array([getattr(u, quantity) for u in utterances if u.affect == affect])
            for affect in (1, -1)
        )
        assert bright.mean() > flat.mean() + bright.std()
        assert bright.min() < flat.max()


def test_a_neighbour_says_nothing_of_a_clip():
    utterances = plant(words=24, carriers=CARRIERS[:8], seed=1)
    for shift in (1, -1, 8, 24):
        others = np.roll(np.array([u.affect for u in utterances]), shift)
        agreement = {}
        for u, other in zip(utterances, others.tolist(), strict=True):
            agreement[u.word] = agreement.get(u.word, 0) + other
        assert np.mean([abs(total) == 8 for total in agreement.values()]) < 0.2


def test_a_seed_gives_one_corpus():
    assert plant(8, CARRIERS[:4], seed=1) == plant(8, CARRIERS[:4], seed=1)
    assert plant(8, CARRIERS[:4], seed=1) != plant(8, CARRIERS[:4], seed=2)


@pytest.mark.parametrize("count", [1, 500])
def test_invented_words_differ(count):
    assert len(set(invent_words(count, seed=0))) == count
