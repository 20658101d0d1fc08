"""What is taken away from vectors of clips, against the same written out clip by clip."""

import numpy as np
import pytest
import torch

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import ShardResult, write_vectors
from pipeline.corpus.corpus import read_corpus
from pipeline.corpus.prepared import Prepared
from pipeline.corpus.taking import take_from_clips, take_words_from_clips
from pipeline.corpus.word_corpus import read_words
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.caches import identity, manifest, wordpiece
from tests.helpers.word_caches import make_word_cache

WIDTH = 4
CLIPS = [
    ("the cat sat far away", None, "11011"), ("a dog ran", None, "111"),
    ("the blue dog sat under it", None, "111111"), ("cat and dog", None, "111"),
    ("far far away", None, "111"), ("it ran away", None, "000"), ("the cat", None, "11"),
    ("a blue mill", None, "111"),
]  # fmt: skip
SPEAKERS = ["a", "b", "a", "b", "a", "c", None, "b"]
WITHOUT = 2
"""Clips at the end of the cache of clips that the cache of words does not have."""


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taking")
    vectors = TeacherCache.create_or_open(
        folder / "vectors", manifest([len(CLIPS)]), identity(WIDTH, dtype="float32"), {}
    )
    samples = [
        {"position": i, "key": f"clip-{i}", "text": text, "duration_s": 2.0,
         "speaker": SPEAKERS[i], "recording": None}
        for i, (text, *_) in enumerate(CLIPS)
    ]  # fmt: skip
    noise = np.random.default_rng(3).standard_normal((len(CLIPS), WIDTH)).astype(np.float32) + 2
    write_vectors(vectors, 0, ShardResult(noise, samples, [], "0" * 64, 10_240), {})
    words = make_word_cache(
        folder / "words", CLIPS[:-WITHOUT], WIDTH, per_letter_s=0.1, dtype="float32"
    )
    return vectors, words, noise


def corpus_of(cache, tokenizer):
    return read_corpus(cache, tokenizer, max_tokens=32, held_out_share=0.0, seed=0)


def test_a_clip_loses_the_means_of_its_words_each_as_long_as_it_was_said(caches):
    vectors, words, noise = caches
    tokenizer = wordpiece(vectors)
    corpus = corpus_of(vectors, tokenizer)
    own = read_words(words, corpus, vectors, tokenizer, max_tokens=32, seed=0, take="within-word")
    taken, told = take_words_from_clips(
        corpus.vectors, Prepared(vectors, None), own.words, own.place_P
    )
    import zarr

    rows = zarr.open_group(str(words.folder.path), mode="r")["rows"][:]
    rows = rows[np.isfinite(rows).all(1)]  # the others are address space that nobody took
    trusted, row = {}, 0
    for clip, (text, _, marks) in enumerate(CLIPS[:-WITHOUT]):
        for word, mark in zip(text.split(), marks, strict=True):
            if mark == "1":
                trusted.setdefault(word, []).append((clip, rows[row]))
            row += 1
    every = rows.mean(0)  # of the whole cache, which its statistics are of
    mean = {
        word: np.mean([v for _, v in said], axis=0) if len(said) > 1 else every
        for word, said in trusted.items()
    }
    wanted = []
    for clip, (text, _, marks) in enumerate(CLIPS):
        known = [w for w, mark in zip(text.split(), marks, strict=True) if mark == "1"]
        known = known if clip < len(CLIPS) - WITHOUT else []
        common = (
            np.average([mean[w] for w in known], axis=0, weights=[len(w) for w in known])
            if known
            else every
        )
        wanted.append(noise[clip] - common)
    got = taken.of(torch.arange(len(CLIPS)))[corpus.place_C.argsort()]
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    np.testing.assert_allclose(taken.statistics.mean_E, np.mean(wanted, 0), atol=1e-5)
    np.testing.assert_allclose(taken.statistics.std_E, np.std(wanted, 0), rtol=1e-4)
    assert told.endswith("those without words, 2 clips, lose the mean over all words")


def test_a_clip_loses_the_mean_of_its_speaker(caches):
    vectors, _, noise = caches
    corpus = corpus_of(vectors, wordpiece(vectors))
    taken, told = take_from_clips(corpus.vectors, Prepared(vectors, None))
    wanted = []
    for clip, speaker in enumerate(SPEAKERS):
        same = [i for i, other in enumerate(SPEAKERS) if other == speaker and speaker]
        common = noise[same] if len(same) > 1 else noise
        wanted.append(noise[clip] - common.mean(0))
    got = taken.of(torch.arange(len(CLIPS)))[corpus.place_C.argsort()]
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert "the means of 3 speakers (or recordings) are taken away from clips; 1 of them" in told


def test_words_of_another_teachers_width_are_refused(caches, tmp_path):
    vectors, _, _ = caches
    tokenizer = wordpiece(vectors)
    corpus = corpus_of(vectors, tokenizer)
    other = make_word_cache(tmp_path / "words", CLIPS, WIDTH + 2)
    own = read_words(other, corpus, vectors, tokenizer, max_tokens=32, seed=0, take="within-word")
    with pytest.raises(SpeechkdError, match=r"words are 6 wide, those of clips 4.*one teacher"):
        take_words_from_clips(corpus.vectors, Prepared(vectors, None), own.words, own.place_P)
