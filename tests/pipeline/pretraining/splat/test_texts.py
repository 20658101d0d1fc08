"""Vectors of texts and weights of tokens, against counts by hand and numpy."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cache.writing import ShardWriter
from pipeline.corpus.rows import Sequences, control_rows
from pipeline.models.lengths import Lengths
from pipeline.pretraining.splat.texts import (
    TokenWeights,
    cut_texts,
    text_numbers,
    text_vectors,
)
from tests.helpers.caches import make_sequence_cache, manifest, sequence_identity, shard_result

CLS, SEP = 101, 102
TEXTS = [[7, 8], [7, 9, 9], [8], [], [7]]
"""Token ids between [CLS] and [SEP]."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of text states whose ids are those above; the last text was cut."""
    identity = sequence_identity("text", width=3, most_rows=9, dtype="float32", settings={})
    made = TeacherCache.create_or_open(
        tmp_path_factory.mktemp("text") / "cache", manifest([len(TEXTS)]), identity, {}
    )
    result, rng, writer = shard_result(len(TEXTS), 1, 0), np.random.default_rng(0), None
    writer = ShardWriter(made, 0)
    for sample, own in zip(result.samples, TEXTS, strict=True):
        ids = np.array([CLS, *own, SEP])
        rows = rng.standard_normal((len(ids), 3)).astype(np.float32)
        record = {"cut": True} if sample["position"] == 4 else {}
        writer.append([sample["position"]], rows, [len(ids)], records=[record], ids_N=ids)
    assert writer.finish(result.samples, [], result.input_sha256, result.input_bytes, {}).sound
    return made


@pytest.fixture
def part(cache):
    reader = SequenceReader(cache)
    return Sequences(reader, torch.arange(len(TEXTS)), cache.statistics())


ALL = torch.arange(len(TEXTS))


def test_idf_is_that_of_counts_by_hand(part):
    weights = TokenWeights.of(part, ALL, "idf")
    documents = [{CLS, SEP, *text} for text in TEXTS]
    frequency = Counter(token for document in documents for token in document)
    for token, count in frequency.items():
        wanted = math.log((len(TEXTS) + 1) / (count + 1))
        assert float(weights.raw(torch.tensor([token]))) == pytest.approx(wanted, abs=1e-12)
    assert weights.raw(torch.tensor([CLS, SEP])).tolist() == [0, 0]
    unseen = float(weights.raw(torch.tensor([30_000])))
    assert unseen == pytest.approx(math.log(len(TEXTS) + 1))
    assert weights.documents == 5
    assert weights.even == 1  # [CLS] [SEP] alone


@pytest.mark.parametrize("weighing", ["idf", "uniform"])
def test_weights_add_up_to_one_per_text_and_special_tokens_count_for_nothing(part, weighing):
    weights = TokenWeights.of(part, ALL, weighing)
    rows = part.of(ALL)
    texts = Lengths.of(rows.lengths_B)
    of_texts = weights.weights(rows.ids_N, texts).split(rows.lengths_B.tolist())
    for text, own in zip(TEXTS, of_texts, strict=True):
        assert float(own.sum()) == pytest.approx(1)
        if text:
            assert float(own[0]) == float(own[-1]) == 0
        else:
            assert own.tolist() == [0.5, 0.5]
    if weighing == "uniform":
        assert of_texts[1].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0])


def test_only_texts_to_train_on_are_counted(part):
    weights = TokenWeights.of(part, ALL[:2], "idf")
    assert float(weights.raw(torch.tensor([8]))) == pytest.approx(math.log(3 / 2))
    assert weights.sha256() != TokenWeights.of(part, ALL, "idf").sha256()


def rows_of(part, clip):
    return part.of(torch.tensor([clip])).values_NW.numpy().astype(np.float64)


@pytest.mark.parametrize("kind", ["cls", "mean"])
def test_vectors_are_the_first_state_or_the_mean_standardised_over_training(cache, part, kind):
    train = torch.tensor([0, 1, 3])
    vectors = text_vectors(cache, part, train, kind, standardize=True, folder=None)
    raw = np.stack(
        [rows_of(part, i)[0] if kind == "cls" else rows_of(part, i).mean(0) for i in range(5)]
    )
    of_train = raw[train.numpy()]
    wanted = (raw - of_train.mean(0)) / of_train.std(0)
    np.testing.assert_allclose(vectors.of(ALL), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        vectors.median_E, np.median(wanted[train.numpy()], axis=0), rtol=1e-4, atol=1e-5
    )
    plain = text_vectors(cache, part, train, kind, standardize=False, folder=None)
    np.testing.assert_allclose(plain.of(ALL), raw, rtol=1e-5, atol=1e-6)


def test_a_dimension_that_never_varies_becomes_zero_and_not_infinite(tmp_path):
    made = make_sequence_cache(tmp_path / "text", [6], "text", width=2, dtype="float32")
    part = Sequences(SequenceReader(made), torch.arange(6), made.statistics())
    vectors = text_vectors(made, part, torch.tensor([2, 2]), "cls", standardize=True, folder=None)
    assert vectors.of(torch.arange(6)).isfinite().all()


@pytest.mark.parametrize("control", ["shuffled", "relabelled"])
def test_controls_give_another_text_s_vector(cache, part, control):
    texts = part.reader.clips.text
    other = control_rows(part, control, 0, texts)
    mine, theirs = (
        text_vectors(cache, p, ALL, "cls", standardize=False, folder=None).of(ALL)
        for p in (part, other)
    )
    assert (mine != theirs).any(1).all()
    assert theirs.sort(0).values.equal(mine.sort(0).values)


def test_noise_has_nothing_of_the_texts(cache, part):
    noise = control_rows(part, "random", 0, part.reader.clips.text)
    vectors = text_vectors(cache, noise, ALL, "cls", standardize=False, folder=None)
    assert vectors.of(ALL).equal(vectors.of(ALL))
    assert not torch.isclose(vectors.of(ALL), vectors.stored_SE).any()


def test_cut_texts_are_told(cache):
    assert cut_texts(cache).tolist() == [False] * 4 + [True]


def test_texts_that_are_spelled_alike_have_one_number():
    assert text_numbers(["a b", "c", "a b"]).tolist() == [0, 1, 0]
