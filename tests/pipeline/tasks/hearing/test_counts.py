"""Word counts against counting by hand."""

import numpy as np

from pipeline.corpus.word_spans import owners
from pipeline.tasks.hearing import counts
from pipeline.tasks.hearing.words import Spoken, asked_words


def words_of(texts):
    said = []
    for text in texts:
        words, times = text.split(), np.arange(len(text.split()), dtype=float)
        trusted = np.ones(len(words), bool)
        said.append(Spoken(words, times, times + 1, trusted, 0, owners(text, words)))
    return asked_words(said, [[set(range(99))] * len(texts)], "CACHE"), [one.texts for one in said]


def test_a_clip_has_its_words_and_its_length():
    features, is_quantity = counts.of_clips(["The cat, the CAT!", "a cat - the", "once"])
    # the cat and the are in two clips, a and once in one, a dash is no word
    np.testing.assert_array_equal(features[:, ~is_quantity], [[2, 2], [1, 1], [0, 0]])
    np.testing.assert_array_equal(features[:, is_quantity][:, :2], [[4, 12], [3, 7], [1, 4]])
    np.testing.assert_allclose(features[:, is_quantity][:, 2:], np.log1p([[4, 12], [3, 7], [1, 4]]))


def test_a_word_has_itself_its_neighbours_and_its_clip():
    words, texts = words_of(["the cat the dog", "the cat"])
    features, is_quantity = counts.of_words(words, texts)
    itself, before, after, around = (
        {"the": [1, 0, 1, 0, 1, 0], "cat": [0, 1, 0, 0, 0, 1]},
        {"the": [0, 1, 0, 1, 0, 1]},
        {"cat": [1, 0, 0, 0, 1, 0]},
        {"the": [2, 2, 2, 2, 1, 1], "cat": [1, 1, 1, 1, 1, 1]},
    )
    columns = sorted(map(tuple, features[:, ~is_quantity].T.tolist()))
    wanted = [tuple(map(float, c)) for one in (itself, before, after, around) for c in one.values()]
    assert columns == sorted(wanted)
    place = features[:, is_quantity]
    np.testing.assert_allclose(place[:, 0], np.log1p([0, 1, 2, 3, 0, 1]), rtol=1e-6)
    np.testing.assert_allclose(place[:, 1], np.log1p([3, 2, 1, 0, 1, 0]), rtol=1e-6)
    np.testing.assert_allclose(place[:, 2], np.log1p([4, 4, 4, 4, 2, 2]), rtol=1e-6)
    assert place[:, 3].tolist() == [1, 0, 0, 0, 1, 0]
    assert place[:, 4].tolist() == [0, 0, 0, 1, 0, 1]
    assert place[:, 5].tolist() == [3, 3, 3, 3, 3, 3]


def test_only_the_commonest_words_have_a_feature(monkeypatch):
    monkeypatch.setattr(counts, "MOST_OF_CLIP", 1)
    features, is_quantity = counts.of_clips(["a b", "a b", "a", "c"])
    assert features[:, ~is_quantity].ravel().tolist() == [1, 1, 1, 0]
