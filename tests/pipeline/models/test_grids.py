"""Attention of packed sequences to themselves and to others, against sequence by sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.models.grids import attend, attention, between, within
from pipeline.models.lengths import Lengths

HEADS, WIDTH = 2, 4


def values(places: int, seed: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randn(places, HEADS, WIDTH, generator=source, dtype=torch.float64)
    return drawn.requires_grad_()


def one_by_one(query, key, value, queries, keys, partners):
    """Each sequence by itself, by the formula."""
    query_parts = query.split(queries)
    key_parts, value_parts = key.split(keys), value.split(keys)
    mixed = []
    for q_NHE, partner in zip(query_parts, partners, strict=True):
        score_HNM = torch.einsum("nhe,mhe->hnm", q_NHE, key_parts[partner]) / WIDTH**0.5
        mixed.append(torch.einsum("hnm,mhe->nhe", score_HNM.softmax(-1), value_parts[partner]))
    return torch.cat(mixed)


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(lengths, st.randoms(use_true_random=False))
def test_each_sequence_attends_to_its_partner_alone(queries, random):
    keys = [random.randint(1, 30) for _ in queries]
    partners = random.sample(range(len(queries)), len(queries))
    query, key, value = values(sum(queries), 0), values(sum(keys), 1), values(sum(keys), 2)
    meeting = between(
        Lengths.of(torch.tensor(queries)), Lengths.of(torch.tensor(keys)), torch.tensor(partners)
    )
    mixed = attend(query, key, value, meeting)
    expected = one_by_one(query, key, value, queries, keys, partners)
    torch.testing.assert_close(mixed, expected)
    weight = values(sum(queries), 3).detach()
    got = torch.autograd.grad((mixed * weight).sum(), (query, key, value))
    wanted = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    torch.testing.assert_close(got, wanted)


def test_a_sequence_attends_to_itself():
    counts = [3, 700, 20]
    query, key, value = (values(sum(counts), seed) for seed in range(3))
    mixed = attend(query, key, value, within(Lengths.of(torch.tensor(counts))))
    torch.testing.assert_close(mixed, one_by_one(query, key, value, counts, counts, range(3)))


def test_without_a_partner_it_is_the_sequence_of_the_same_number():
    queries, keys = [40, 2, 17], [3, 9, 1]
    query, key, value = values(59, 0), values(13, 1), values(13, 2)
    meeting = between(Lengths.of(torch.tensor(queries)), Lengths.of(torch.tensor(keys)))
    torch.testing.assert_close(
        attend(query, key, value, meeting), one_by_one(query, key, value, queries, keys, range(3))
    )


def test_sequences_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 sequences of queries, 1"):
        between(Lengths.of(torch.tensor([4, 2])), Lengths.of(torch.tensor([1])))


def test_bf16_is_trained_in_float32_attention_on_a_cpu():
    source = torch.Generator().manual_seed(3)
    random = torch.randn(3, 2, HEADS, 9, WIDTH, generator=source).bfloat16()
    allowed = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    allowed[1, ..., 5:] = False
    query, key, value = exact = [x.double().requires_grad_() for x in random]
    scores = (query @ key.transpose(-1, -2) / WIDTH**0.5).masked_fill(~allowed, -torch.inf)
    (scores.softmax(-1) @ value).sum().backward()

    ours = [x.clone().requires_grad_() for x in random]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = attention(*ours, allowed)
    mixed.sum().backward()

    assert mixed.dtype == torch.bfloat16
    rounded = (scores.softmax(-1) @ value).bfloat16()
    assert (mixed == rounded).float().mean() > 0.99  # one rounding, at the end
    for one, other in zip(ours, exact, strict=True):
        assert (one.grad == other.grad.bfloat16()).float().mean() > 0.99
