"""Attention to costs and costs to a path, against Hugging Face, librosa, scipy and brute force."""

import itertools

import librosa
import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.whisper import generation_whisper as hugging_face

from pipeline.extraction.alignment import (
    MEDIAN_OF_SEVEN,
    attention_to_costs,
    cheapest_path,
    median_filtered,
)


def lengths(*values: int) -> torch.Tensor:
    return torch.tensor(values)


def brute_force(cost_NT: np.ndarray) -> float:
    """The least sum over every path, by its definition."""
    n, t = cost_NT.shape
    total = np.full((n, t), np.inf)
    for i, j in itertools.product(range(n), range(t)):
        ways = [total[i - a, j - b] for a, b in ((1, 1), (1, 0), (0, 1)) if i >= a and j >= b]
        total[i, j] = cost_NT[i, j] + (min(ways) if i or j else 0.0)
    return float(total[-1, -1])


def total_of(path, row: int, tokens: int) -> float:
    """What a path costs, from its rows alone, after checking that it is one."""
    first, last = path.first_BN[row, :tokens].tolist(), path.last_BN[row, :tokens].tolist()
    assert first[0] == 0
    assert all(a <= b for a, b in zip(first, last, strict=True))
    assert all(0 <= f - e <= 1 for e, f in zip(last, first[1:], strict=False))
    widths = np.array(last) - np.array(first) + 1
    return float((path.cost_BN[row, :tokens].numpy() * widths).sum())


@pytest.mark.parametrize(
    ("tokens", "positions"), [(1, 1), (1, 9), (9, 1), (5, 5), (7, 40), (40, 7)]
)
def test_the_path_is_that_of_librosa_and_hugging_face(tokens, positions):
    cost_NT = np.random.default_rng(tokens).standard_normal((tokens, positions))
    path = cheapest_path(torch.from_numpy(cost_NT)[None], lengths(tokens), lengths(positions))
    accumulated, steps = librosa.sequence.dtw(C=cost_NT)
    assert total_of(path, 0, tokens) == pytest.approx(accumulated[-1, -1])
    rows, columns = hugging_face._dynamic_time_warping(cost_NT)
    for token in range(tokens):
        mine = (int(path.first_BN[0, token]), int(path.last_BN[0, token]))
        assert mine == (columns[rows == token].min(), columns[rows == token].max())
        theirs = steps[steps[:, 0] == token, 1]
        assert mine == (theirs.min(), theirs.max())
    assert int(path.last_BN[0, -1]) == positions - 1


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=4), st.data())
def test_each_clip_of_a_batch_has_its_own_cheapest_path(sizes, data):
    n, t = max(a for a, _ in sizes), max(b for _, b in sizes)
    whole = st.lists(st.integers(-3, 3), min_size=n * t, max_size=n * t)
    costs = [np.array(data.draw(whole), float).reshape(n, t) for _ in sizes]
    tokens_B, positions_B = (torch.tensor(one) for one in zip(*sizes, strict=True))
    path = cheapest_path(torch.from_numpy(np.stack(costs)), tokens_B, positions_B)
    for row, (cost_NT, (tokens, positions)) in enumerate(zip(costs, sizes, strict=True)):
        assert total_of(path, row, tokens) == brute_force(cost_NT[:tokens, :positions])
        assert int(path.last_BN[row, tokens - 1]) == positions - 1


def test_the_network_of_comparisons_finds_the_median():
    for values in itertools.product((0, 1), repeat=7):  # enough, by the 0-1 principle
        lanes = list(values)
        for low, high in MEDIAN_OF_SEVEN:
            lanes[low], lanes[high] = sorted((lanes[low], lanes[high]))
        assert lanes[3] == sorted(values)[3]


def test_the_median_filter_mirrors_each_clip_at_its_own_end():
    x_BALT = torch.randn(5, 2, 3, 20, generator=torch.Generator().manual_seed(0))
    positions = [20, 13, 4, 3, 1]
    filtered = median_filtered(x_BALT, torch.tensor(positions))
    for row, count in enumerate(positions):
        mine, clip = filtered[row, ..., :count], x_BALT[row, ..., :count]
        assert torch.equal(mine, hugging_face._median_filter(clip, 7))
        if count > 3:
            expected = scipy.ndimage.median_filter(clip.numpy(), (1, 1, 7), mode="mirror")
            assert np.array_equal(mine.numpy(), expected)


def test_costs_of_a_padded_batch_are_those_of_each_clip_alone():
    scores_BALT = torch.randn(3, 4, 9, 30, generator=torch.Generator().manual_seed(1))
    tokens, positions = [9, 4, 6], [30, 30, 11]
    costs = attention_to_costs(scores_BALT, torch.tensor(tokens), torch.tensor(positions))
    for row, (n, t) in enumerate(zip(tokens, positions, strict=True)):
        weights = scores_BALT[row, :, :n, :t].double().softmax(-1)
        deviation = weights.std(-2, keepdim=True, unbiased=False)
        normalised = (weights - weights.mean(-2, keepdim=True)) / deviation
        expected = -hugging_face._median_filter(normalised, 7).mean(0)
        assert torch.allclose(costs[row, :n, :t].double(), expected, atol=1e-4)


def test_a_position_at_which_all_tokens_look_alike_says_nothing():
    scores = torch.zeros(1, 2, 3, 8)
    assert torch.equal(attention_to_costs(scores, lengths(3), lengths(8)), torch.zeros(1, 3, 8))
