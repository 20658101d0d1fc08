"""Scores of frames against tokens: a triple loop in float64, gradients, ties, and the contrast."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pipeline.pretraining.splat.similarity import all_scores, contrast, directions, own_scores

FRAMES, TOKENS = [4, 1, 7], [3, 5, 1]


def draw(seed=0, width=6):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(sum(FRAMES), width, dtype=torch.float64, generator=generator)
    tokens = torch.randn(sum(TOKENS), width, dtype=torch.float64, generator=generator)
    raw = torch.rand(sum(TOKENS), dtype=torch.float64, generator=generator)
    weights = torch.cat([w / w.sum() for w in raw.split(TOKENS)])
    return frames, tokens, weights


def by_hand(frames, tokens, weights):
    """Σ_j w_j max_i cos(s_i, t_j) of one clip and one text, number by number."""
    total = 0.0
    for token, weight in zip(tokens.tolist(), weights.tolist(), strict=True):
        best = -2.0
        for frame in frames.tolist():
            dot = sum(a * b for a, b in zip(frame, token, strict=True))
            lengths = [math.sqrt(sum(a * a for a in x)) for x in (frame, token)]
            best = max(best, dot / (lengths[0] * lengths[1]))
        total += weight * best
    return total


def test_scores_are_those_of_three_loops():
    frames, tokens, weights = draw()
    own = own_scores(frames, FRAMES, tokens, TOKENS, weights)
    text_M = torch.arange(3).repeat_interleave(torch.tensor(TOKENS))
    every = all_scores(frames, FRAMES, tokens, text_M, 3, weights)
    for p, clip in enumerate(frames.split(FRAMES)):
        for q, (text, weight) in enumerate(
            zip(tokens.split(TOKENS), weights.split(TOKENS), strict=True)
        ):
            wanted = by_hand(clip, text, weight)
            assert float(every[p, q]) == pytest.approx(wanted, abs=1e-12)
            if p == q:
                assert float(own[p]) == pytest.approx(wanted, abs=1e-12)


def test_gradients_are_those_of_difference_quotients():
    frames, tokens, weights = draw(3)
    frames.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: own_scores(x, FRAMES, tokens, TOKENS, weights), frames, atol=1e-6
    )


def test_only_the_best_frame_of_a_token_is_drawn_and_a_tie_draws_one():
    frames = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    tokens = torch.tensor([[1.0, 1.0]])
    own_scores(frames, [3], tokens, [1], torch.ones(1)).sum().backward()
    moved = frames.grad.abs().sum(1) > 0
    assert moved.sum() == 1


def test_a_match_scores_one_and_any_cover_does():
    _, tokens, weights = draw()
    frames = torch.cat([tokens * 3, torch.randn(4, 6, dtype=torch.float64)])
    score = own_scores(frames, [len(frames)], tokens, [len(tokens)], weights / 3)
    assert float(score) == pytest.approx(1.0)


def test_padding_is_never_the_best():
    """Negative cosines stay negative: a frame of zeros is no place to hide in."""
    frames, tokens = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    both = torch.cat([frames, torch.tensor([[5.0, 0.0]])])
    assert float(own_scores(both, [1, 1], tokens.repeat(2, 1), [1, 1], torch.ones(2))[0]) == -1


def test_half_precision_is_compared_in_float32():
    """Near ties of bfloat16 values are told apart; products rounded to bfloat16 would tie."""
    frames, tokens = (torch.randn(n, 64).bfloat16() for n in (300, 5))
    frames[7:200] = frames[7] + torch.randn(193, 64).bfloat16() / 32
    tokens[:] = frames[7:12] + torch.randn(5, 64).bfloat16() / 64
    weights = torch.full((5,), 0.2)
    wanted = by_hand(frames.double(), tokens.double(), weights.double())
    text_M = torch.zeros(5, dtype=torch.int64)
    own = own_scores(frames, [300], tokens, [5], weights)
    assert float(own) == pytest.approx(wanted, abs=1e-6)
    every = all_scores(frames, [300], tokens, text_M, 1, weights)
    assert float(every) == pytest.approx(wanted, abs=1e-6)
    exact = functional.normalize(frames.double()) @ functional.normalize(tokens.double()).T
    coarse = functional.normalize(frames) @ functional.normalize(tokens).T
    assert (coarse == coarse.max(0).values).sum(0).max() > 1  # so these are near ties
    frames = frames.float().requires_grad_()
    own_scores(frames, [300], tokens, [5], weights).sum().backward()
    assert {*frames.grad.abs().sum(1).nonzero()[:, 0].tolist()} == {*exact.argmax(0).tolist()}
    assert directions(torch.zeros(1, 3)).equal(torch.zeros(1, 3))


@settings(deadline=None)  # a loaded machine may take long for the first of them
@given(st.integers(2, 6), st.integers(0, 1000))
def test_the_contrast_is_cross_entropy_where_all_texts_differ(count, seed):
    scores = torch.randn(count, count, generator=torch.Generator().manual_seed(seed)).double()
    same = torch.eye(count, dtype=torch.bool)
    wanted = torch.nn.functional.cross_entropy(scores / 0.1, torch.arange(count), reduction="none")
    torch.testing.assert_close(contrast(scores, same, 0.1), wanted)


def test_equal_texts_are_one_choice():
    scores = torch.tensor([[0.9, 0.9, -1.0]], dtype=torch.float64)
    same = torch.tensor([[True, True, False]])
    assert float(contrast(scores, same, 0.01)) == pytest.approx(0, abs=1e-12)
    chance = contrast(torch.zeros(1, 4).double(), torch.tensor([[True, False, False, False]]), 0.05)
    assert float(chance) == pytest.approx(math.log(4))
