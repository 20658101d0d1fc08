"""CRD against Eqs. 4 and 5 written out with exponentials, pair by pair."""

import math

import pytest
import torch
from torch.nn import functional

from pipeline.distillation.objectives.crd import CHUNK, negative_sum
from tests.helpers.kd_batches import changed, make_batch, make_objective, make_word_batch


def naive(batch, temperature, bias_of):
    """−log φ⁺ − Σ log(1 − φ⁻) with φ = e^{u} / (e^{u} + e^{−bias}), averaged over tokens."""
    teachers = [
        (v, int(r), int(g))
        for v, r, g in zip(
            batch.whole.teacher_BE, batch.whole.row_B, batch.whole.recording_B, strict=True
        )
    ]
    extra = []
    if batch.whole.negative_KE is not None:
        extra = [
            (v, int(r), int(g))
            for v, r, g in zip(
                batch.whole.negative_KE,
                batch.whole.negative_row_K,
                batch.whole.negative_recording_K,
                strict=True,
            )
        ]
    total = 0.0
    for state_D, clip in zip(batch.states_ND, batch.clip_N, strict=True):
        own, row, recording = teachers[clip]
        negatives = [
            v
            for v, r, g in teachers + extra
            if r != row and not (g == recording and recording >= 0)
        ]
        bias = bias_of(len(negatives))

        def phi(vector, state_D=state_D, bias=bias):
            u = float(functional.cosine_similarity(state_D, vector, dim=0)) / temperature
            return math.exp(u) / (math.exp(u) + math.exp(-bias))

        total -= math.log(phi(own)) + sum(math.log(1 - phi(v)) for v in negatives)
    return total / len(batch.clip_N)


@pytest.mark.parametrize("negatives", [0, 7])
def test_paper_bias_is_equations_4_and_5(negatives):
    batch = make_batch(negatives=negatives)
    got = make_objective("crd", crd_bias="paper", temperature=0.3)(batch)
    wanted = naive(batch, 0.3, lambda count: math.log(1000 / count))
    assert float(got) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("negatives", [0, 7])
def test_calibrated_bias_is_the_prior_over_the_mean_of_chance_pairs(negatives):
    batch = make_batch(negatives=negatives)
    scores = [
        math.exp(float(functional.cosine_similarity(s, t, dim=0)) / 0.3)
        for s, clip in zip(batch.states_ND, batch.clip_N, strict=True)
        for b, t in enumerate(batch.whole.teacher_BE)
        if b != clip
    ]
    log_mean = math.log(sum(scores) / len(scores))
    got = make_objective("crd", temperature=0.3)(batch)
    wanted = naive(batch, 0.3, lambda count: -math.log(count) - log_mean)
    assert float(got) == pytest.approx(wanted, rel=1e-6)


def test_calibration_is_that_of_the_first_training_batch_and_is_saved():
    first, second = make_batch(seed=0), make_batch(seed=1)
    objective = make_objective("crd", temperature=0.3)
    objective.eval()
    objective(second)
    assert objective.log_mean.isnan().all(), "evaluating must not calibrate"
    objective.train()
    objective(first)
    kept = objective.log_mean.clone()
    objective(second)
    assert objective.log_mean.equal(kept)
    assert "log_mean" in objective.state_dict()


def test_clips_of_one_recording_and_repeated_clips_are_no_negatives():
    batch = make_batch(negatives=4)
    batch = changed(
        batch,
        recording_B=torch.tensor([7, 7, 8, -1, -1]),
        row_B=torch.tensor([0, 1, 2, 3, 3]),
        negative_row_K=torch.tensor([2, 50, 51, 52]),
        negative_recording_K=torch.tensor([8, 7, -1, 9]),
    )
    got = make_objective("crd", crd_bias="paper", temperature=0.3)(batch)
    wanted = naive(batch, 0.3, lambda count: math.log(1000 / count))
    assert float(got) == pytest.approx(wanted, rel=1e-10)
    assert batch.whole.rivals_BB().tolist()[0] == [False, False, True, True, True]
    assert batch.whole.rivals_BB().tolist()[3] == [True, True, True, False, False]


def test_symmetric_adds_the_teachers_choice_among_clip_means():
    batch = make_batch()
    one_way = make_objective("crd", crd_bias="paper", temperature=0.3)(batch)
    both = make_objective("crd", crd_bias="paper", temperature=0.3, crd_symmetric=True)(batch)
    unit_ND = functional.normalize(batch.states_ND, dim=-1)
    mean_BD = torch.stack([unit_ND[batch.clip_N == b].mean(0) for b in range(5)])
    turned = changed(
        batch,
        states_ND=batch.whole.teacher_BE,
        teacher_BE=mean_BD,
        clip_N=torch.arange(5),
        weight_N=torch.ones(5),
    )
    wanted = naive(turned, 0.3, lambda count: math.log(1000 / count))
    assert float(both - one_way) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("of_teacher", [False, True])
@pytest.mark.parametrize("count", [1, 5, CHUNK + 3])
def test_sum_over_negatives_and_its_gradients(count, of_teacher):
    generator = torch.Generator().manual_seed(0)
    student_NR = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    bias_N = torch.randn(9, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher_KR = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    teacher_KR.requires_grad_(of_teacher)
    rival_BK = torch.rand(3, count, generator=generator) < 0.7
    clip_N = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    weight_N = torch.rand(9, generator=generator, dtype=torch.float64)

    def plain():
        logit_NK = student_NR @ teacher_KR.T + bias_N[:, None]
        return (functional.softplus(logit_NK) * rival_BK[clip_N]).sum(1) @ weight_N

    def ours():
        return negative_sum(student_NR, bias_N, teacher_KR, rival_BK, clip_N, weight_N)

    torch.testing.assert_close(ours(), plain(), rtol=1e-12, atol=1e-12)
    asked = [student_NR, bias_N, *([teacher_KR] if of_teacher else [])]
    for ours_gradient, plain_gradient in zip(
        torch.autograd.grad(3 * ours(), asked), torch.autograd.grad(3 * plain(), asked), strict=True
    ):
        torch.testing.assert_close(ours_gradient, plain_gradient, rtol=1e-10, atol=1e-12)


def test_what_is_calibrated_is_not_estimated_again(monkeypatch):
    """Pairs of the first batch alone decide, so those of later ones need not be computed."""
    for batch, level in ((make_batch(), "clip"), (make_word_batch(), "word")):
        objective = make_objective("crd", level=level, crd_symmetric=True, temperature=0.3)
        first = objective(batch)
        monkeypatch.setattr(objective, "_estimate", lambda *_, **__: pytest.fail("estimated"))
        torch.testing.assert_close(objective(batch), first, rtol=0, atol=0)


def test_a_batch_of_one_clip_has_no_negatives_and_stays_finite():
    batch = make_batch(lengths=(4,))
    for bias in ("calibrated", "paper", "learned"):
        loss = make_objective("crd", crd_bias=bias)(batch)
        assert loss.isfinite()


def test_learned_bias_is_trained_and_the_others_are_not():
    assert make_objective("crd", crd_bias="learned").learned.requires_grad
    assert not make_objective("crd").learned.requires_grad


def test_paper_bias_warns():
    assert "WARNING" in make_objective("crd", crd_bias="paper").notices()[0]
    assert make_objective("crd").notices() == []


def rivals_of(batch):
    """Whether each word of the batch, then each extra one, is a negative of each word."""
    parts = [batch.whole.rivals_BB()]
    if batch.whole.negative_KE is not None:
        parts.append(batch.whole.rivals_BK())
    return torch.cat(parts, dim=1).tolist()


def naive_words(batch, temperature, bias_of):
    """The loss of each word over its rivals, pair by pair, with exponentials."""
    extra = () if batch.whole.negative_KE is None else batch.whole.negative_KE
    vectors = [*batch.whole.teacher_BE, *extra]
    total = 0.0
    for word, rivals in enumerate(rivals_of(batch)):
        cosines = [functional.cosine_similarity(batch.states_ND[word], v, dim=0) for v in vectors]
        scores = [math.exp(float(cosine) / temperature) for cosine in cosines]
        chance = math.exp(-bias_of(sum(rivals)))
        total -= math.log(scores[word] / (scores[word] + chance))
        total -= sum(
            math.log(chance / (score + chance))
            for score, rival in zip(scores, rivals, strict=True)
            if rival
        )
    return total / len(batch.clip_N)


@pytest.mark.parametrize("negatives", [0, 7])
def test_words_are_compared_as_equations_4_and_5_say(negatives):
    batch = make_word_batch(negatives=negatives)
    got = make_objective("crd", level="word", crd_bias="paper", temperature=0.3)(batch)
    wanted = naive_words(batch, 0.3, lambda count: math.log(1000 / count))
    assert float(got) == pytest.approx(wanted, rel=1e-10)


def test_words_that_are_spelled_alike_are_rivals_only_if_asked():
    batch = make_word_batch(lengths=(2, 2), recording_B=torch.tensor([1, 1, 2, 2]), negatives=3)
    batch = changed(
        batch,
        type_B=torch.tensor([5, 6, 5, 7]),
        negative_type_K=torch.tensor([5, 7, 8]),
        negative_recording_K=torch.tensor([9, 9, 1]),
    )
    assert batch.whole.rivals_BB().long().tolist() == [
        [0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 0]
    ]  # fmt: skip
    assert batch.whole.rivals_BK().long().tolist() == [
        [0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1]
    ]  # fmt: skip
    asked = changed(batch, type_B=None, negative_type_K=None)
    assert bool(asked.whole.rivals_BB()[0, 2])
    assert bool(asked.whole.rivals_BK()[0, 0])


@pytest.mark.parametrize("bias", ["calibrated", "learned"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_one_vector_per_unit_gives_the_same_at_both_levels(bias, symmetric):
    """In chunks and in bounded memory it is the loss that clips have, and so is its gradient."""
    batch = make_word_batch(negatives=7)
    results = []
    for level in ("clip", "word"):
        states_ND = batch.states_ND.clone().requires_grad_()
        objective = make_objective(
            "crd", level=level, crd_bias=bias, crd_symmetric=symmetric, temperature=0.3
        )
        loss = objective(changed(batch, states_ND=states_ND))
        loss.backward()
        results.append((loss.detach(), states_ND.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_the_mean_over_chance_pairs_comes_from_words_evenly_spread(monkeypatch):
    monkeypatch.setattr("pipeline.distillation.objectives.crd.ESTIMATED_FROM", 6)
    batch = make_word_batch()
    objective = make_objective("crd", level="word", temperature=0.3)
    objective(batch)
    rivals, spread = batch.whole.rivals_BB(), range(0, 15, 3)
    cosine_WW = functional.cosine_similarity(
        batch.states_ND[:, None], batch.whole.teacher_BE[None], dim=2
    )
    pairs = [(i, j) for i in spread for j in spread if rivals[i, j]]
    scores = [math.exp(float(cosine_WW[pair]) / 0.3) for pair in pairs]
    wanted = math.log(sum(scores) / len(scores))
    assert float(objective.log_mean[0]) == pytest.approx(wanted, rel=1e-6)
