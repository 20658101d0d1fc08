"""Draws are whole numbers that any machine computes alike, checked by Python's own arithmetic."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import read_corpus
from pipeline.corpus.draws import PLACES, below, random_bits, random_order
from pipeline.corpus.masking import Masking
from pipeline.foundation.memory import Room
from pipeline.foundation.splitmix import mixed
from tests.helpers.caches import make_cache, wordpiece
from tests.helpers.splitmix import BITS, splitmix64


def bits_of(counter, *name):
    seed = (
        int.from_bytes(hashlib.sha256("/".join(map(str, name)).encode()).digest()[:8], "big") // 2
    )
    return splitmix64((counter + seed) % BITS)


def signed(bits):
    return bits - BITS if bits >= BITS // 2 else bits


def test_mixing_is_splitmix64():
    numbers = [0, 1, 2, 12345, 2**62 + 99]
    assert [int(x) % BITS for x in mixed(torch.tensor(numbers))] == [splitmix64(n) for n in numbers]
    # the generator of Vigna's splitmix64.c with state 0 gives this first
    assert splitmix64(1) == 0xE220A8397B1DCDAF


def test_bits_and_numbers_are_those_of_whole_number_arithmetic():
    counters = [0, 1, 7, 2**40, 2**62 + 5]
    bits = random_bits(torch.tensor(counters), 3, "masks train", 1, 2, "fate")
    wanted = [bits_of(c, 3, "masks train", 1, 2, "fate") for c in counters]
    assert [int(x) % BITS for x in bits] == wanted
    assert below(bits, 10).tolist() == [(w >> 1) % 10 for w in wanted]
    assert bits[0].item() == -5150484652420656316, "the same on every machine, for ever"


def test_an_order_has_no_ties_and_is_that_of_the_bits():
    order = random_order(500, 7, "order", 2)
    assert order.tolist() == sorted(range(500), key=lambda c: signed(bits_of(c, 7, "order", 2)))
    assert random_order(8, 0, "order", 0).tolist() == [5, 2, 4, 3, 0, 6, 7, 1]
    assert len(random_bits(torch.arange(1_000_000), 0, "order", 0).unique()) == 1_000_000


def test_every_place_of_an_order_is_as_likely():
    orders = torch.stack([random_order(6, seed, "order", 0) for seed in range(3000)])
    for place in range(6):
        assert stats.chisquare(orders[:, place].bincount(minlength=6)).pvalue > 1e-4
    both = orders[:, 0] * 6 + orders[:, 1]
    pairs = both.bincount(minlength=36)[[a * 6 + b for a in range(6) for b in range(6) if a != b]]
    assert stats.chisquare(pairs).pvalue > 1e-4


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("draws") / "cache", [40, 60])


@pytest.fixture(scope="module")
def tokenizer(cache):
    return wordpiece(cache)


def batches_of(cache, tokenizer, room=None, **changes):
    corpus = read_corpus(cache, tokenizer, max_tokens=32, held_out_share=0.1, seed=0, room=room)
    settings = {"clips_per_batch": 16, "seed": 3, "extra_negatives": 5, **changes}
    return Batches(corpus, Masking.of(tokenizer, 0.15), **settings)


def by_hand(batches, epoch, step):
    """Clips, masks and negatives of a batch, one token after the other."""
    corpus, masking, seed = batches.corpus, batches.masking, batches.seed
    train = corpus.train.tolist()
    order = sorted(range(len(train)), key=lambda c: signed(bits_of(c, seed, "order", epoch)))
    size = batches.clips_per_batch
    clips = [train[c] for c in order[step * size : (step + 1) * size]]
    tokens = []
    for clip in clips:
        start, length = int(corpus.starts_C[clip]), int(corpus.lengths_C[clip])
        ids = corpus.ids_N[start : start + length].tolist()
        tokens += [(clip * PLACES + place, token) for place, token in enumerate(ids)]
    name = (seed, "masks train", epoch, step)
    ordinary = [i for i, (_, token) in enumerate(tokens) if not masking.special_V[token]]
    ordinary.sort(key=lambda i: signed(bits_of(tokens[i][0], *name, "chosen")))
    chosen = sorted(ordinary[: round(0.15 * len(ordinary))])
    masked = [token for _, token in tokens]
    for i in chosen:
        fate = (bits_of(tokens[i][0], *name, "fate") >> 1) % 10
        if fate < 8:
            masked[i] = masking.mask_id
        elif fate == 8:
            other = bits_of(tokens[i][0], *name, "other") >> 1
            masked[i] = other % len(masking.special_V)
    draws = [bits_of(k, seed, "negatives train", epoch, step) >> 1 for k in range(5)]
    return clips, chosen, masked, [int(corpus.row_C[train[d % len(train)]]) for d in draws]


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (2, 3)])
def test_a_batch_is_what_whole_number_arithmetic_gives(cache, tokenizer, epoch, step):
    batches = batches_of(cache, tokenizer)
    batch = batches.epoch(epoch)(step)
    clips, chosen, masked, negatives = by_hand(batches, epoch, step)
    assert batch.clip_B.tolist() == clips
    assert batch.chosen_K.tolist() == chosen
    assert batch.masked_N.tolist() == masked
    assert batch.whole.negative_row_K.tolist() == negatives


@pytest.mark.parametrize("processes", [1, 3])
def test_where_the_corpus_lies_changes_no_batch(cache, tokenizer, processes):
    shared = {"processes": processes, "process": processes - 1}
    loaded = batches_of(cache, tokenizer, Room(0, 10**9), **shared)
    mapped = batches_of(cache, tokenizer, Room(0, 0), **shared)
    assert "mapped" in mapped.corpus.where
    for step in range(3):
        here, there = loaded.epoch(1)(step), mapped.epoch(1)(step)
        for name in ("clip_B", "chosen_K", "masked_N", "clip_N", "lengths_B"):
            assert getattr(here, name).equal(getattr(there, name)), name
        assert here.whole.negative_row_K.equal(there.whole.negative_row_K)
        assert here.whole.negative_KE.equal(there.whole.negative_KE)


def test_batches_need_no_generator(cache, tokenizer, monkeypatch):
    """A generator's numbers would be those of its device."""
    batches = batches_of(cache, tokenizer)
    monkeypatch.setattr(torch, "Generator", None)
    before = torch.get_rng_state()
    batches.epoch(0)(1)
    assert torch.get_rng_state().equal(before)


def test_masks_of_many_steps_have_berts_shares(cache, tokenizer):
    """Each ordinary token is chosen 15 % of the time; of ten chosen eight are masked, one is
    replaced, one is left. All counts against the binomial distribution."""
    batches = replace(batches_of(cache, tokenizer), extra_negatives=0)
    clips = batches.corpus.train[:40]
    steps = 1500
    packed = batches.corpus.tokens_of(clips)
    ordinary_N = ~batches.masking.special_V[packed.ids_N]
    ordinary = int(ordinary_N.sum())
    times_N = torch.zeros(len(ordinary_N), dtype=torch.int64)
    masked = replaced = total = 0
    words = torch.zeros(len(batches.masking.special_V), dtype=torch.int64)
    number_N = clips[packed.sequence_N] * PLACES + packed.offset_N
    for step in range(steps):
        chosen_K, masked_N = batches.masking.choose(packed.ids_N, number_N, 0, "test", step)
        assert len(chosen_K) == round(0.15 * ordinary)
        times_N[chosen_K] += 1
        seen_K, true_K = masked_N[chosen_K], packed.ids_N[chosen_K]
        masked += int((seen_K == batches.masking.mask_id).sum())
        changed = (seen_K != true_K) & (seen_K != batches.masking.mask_id)
        replaced += int(changed.sum())
        words += seen_K[changed].bincount(minlength=len(words))
        total += len(chosen_K)
    assert not times_N[~ordinary_N].any()
    share = round(0.15 * ordinary) / ordinary
    # whole test: the counts of all tokens together; then the worst single one of them
    spread = ((times_N[ordinary_N] - steps * share) ** 2).sum() / (steps * share * (1 - share))
    assert 1e-4 < stats.chi2.sf(float(spread), ordinary - 1) < 1 - 1e-4
    worst = min(stats.binomtest(int(n), steps, share).pvalue for n in times_N[ordinary_N].unique())
    assert worst > 1e-4 / ordinary
    vocabulary = len(words)
    for count, wanted in (
        (masked, 0.8 + 0.1 / vocabulary),
        (replaced, 0.1 * (1 - 2 / vocabulary)),
        (total - masked - replaced, 0.1 + 0.1 / vocabulary),
    ):
        assert stats.binomtest(count, total, wanted).pvalue > 1e-4
    drawn = np.delete(words.numpy(), batches.masking.mask_id)
    assert stats.chisquare(drawn).pvalue > 1e-4, "every piece is as likely"
