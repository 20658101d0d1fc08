"""NST against the kernel sums of the paper's Eq. 3, written out neuron by neuron."""

import pytest
import torch

from pipeline.foundation.errors import SpeechkdError
from tests.helpers.kd_batches import changed, make_batch, make_objective, make_word_batch


def mmd_squared(student_PD, teacher_PE):
    """Eq. 3 with k(x, y) = (xᵀy)²; columns are the neurons' patterns."""

    def mean_kernel(left_PD, right_PE):
        total = 0.0
        for i in range(left_PD.shape[1]):
            for j in range(right_PE.shape[1]):
                total += float(left_PD[:, i] @ right_PE[:, j]) ** 2
        return total / (left_PD.shape[1] * right_PE.shape[1])

    return (
        mean_kernel(student_PD, student_PD)
        + mean_kernel(teacher_PE, teacher_PE)
        - 2 * mean_kernel(student_PD, teacher_PE)
    )


def unit(patterns_PD, dim):
    return patterns_PD / patterns_PD.norm(dim=dim, keepdim=True)


def tokens_of(batch, clip):
    return batch.states_ND[batch.clip_N == clip]


@pytest.mark.parametrize("teacher_width", [6, 9])
def test_token_is_equation_3_at_one_position(teacher_width):
    batch = make_batch(teacher_width=teacher_width)
    wanted = sum(
        mmd_squared(state_D[None], batch.whole.teacher_BE[clip][None])
        for state_D, clip in zip(batch.states_ND, batch.clip_N, strict=True)
    ) / len(batch.clip_N)
    got = make_objective("nst", 6, teacher_width, nst_pattern="token")(batch)
    assert float(got) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("teacher_width", [6, 9])
def test_sequence_is_equation_3_over_a_clips_tokens(normalize, teacher_width):
    batch = make_batch(teacher_width=teacher_width)
    wanted = 0.0
    for clip in range(5):
        student_LD = tokens_of(batch, clip)
        teacher_LE = batch.whole.teacher_BE[clip].expand(len(student_LD), -1)
        if normalize:
            student_LD, teacher_LE = unit(student_LD, 0), unit(teacher_LE, 0)
        wanted += mmd_squared(student_LD, teacher_LE) / 5
    got = make_objective("nst", 6, teacher_width, nst_pattern="sequence", nst_normalize=normalize)(
        batch
    )
    assert float(got) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("teacher_width", [6, 9])
def test_batch_is_equation_3_over_clips(normalize, teacher_width):
    batch = make_batch(teacher_width=teacher_width)
    student_BD = torch.stack([tokens_of(batch, clip).mean(0) for clip in range(5)])
    teacher_BE = batch.whole.teacher_BE
    if normalize:
        student_BD, teacher_BE = unit(student_BD, 0), unit(teacher_BE, 0)
    got = make_objective("nst", 6, teacher_width, nst_pattern="batch", nst_normalize=normalize)(
        batch
    )
    assert float(got) == pytest.approx(mmd_squared(student_BD, teacher_BE), rel=1e-10)


@pytest.mark.parametrize("normalize", [True, False])
def test_vector_is_the_discrepancy_of_two_single_samples(normalize):
    batch = make_batch()
    wanted = 0.0
    for state_D, clip in zip(batch.states_ND, batch.clip_N, strict=True):
        teacher_D = batch.whole.teacher_BE[clip]
        if normalize:
            state_D, teacher_D = unit(state_D, 0), unit(teacher_D, 0)
        # one sample a side: a "neuron" is the vector itself, a column of its own
        wanted += mmd_squared(state_D[:, None], teacher_D[:, None]) / len(batch.clip_N)
    got = make_objective("nst", nst_pattern="vector", nst_normalize=normalize)(batch)
    assert float(got) == pytest.approx(wanted, rel=1e-12)


def test_vector_is_blind_to_sign_and_says_so_when_that_hurts():
    batch = make_batch()
    objective = make_objective("nst", nst_pattern="vector")
    flipped = changed(batch, teacher_BE=-batch.whole.teacher_BE)
    torch.testing.assert_close(objective(flipped), objective(batch), rtol=0, atol=0)
    assert objective.notices() == []
    for side in ("center", "standardize"):
        notice = make_objective("nst", nst_pattern="vector", teacher_side=side).notices()[0]
        assert "WARNING" in notice
        assert "blind to sign" in notice


def test_token_is_invariant_to_rotating_the_teacher():
    batch = make_batch()
    rotation_EE, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    objective = make_objective("nst", nst_pattern="token")
    torch.testing.assert_close(
        objective(changed(batch, teacher_BE=batch.whole.teacher_BE @ rotation_EE)), objective(batch)
    )


@pytest.mark.parametrize(
    ("pattern", "side"),
    [("vector", "none"), ("batch", "standardize"), ("token", "none"), ("sequence", "none")],
)
def test_each_pattern_has_its_own_teacher_side(pattern, side):
    assert make_objective("nst", nst_pattern=pattern, teacher_side="auto").side == side


@pytest.mark.parametrize(
    ("pattern", "gamma"), [("vector", 100), ("batch", 10), ("token", 1), ("sequence", 1)]
)
def test_each_pattern_has_its_own_weight(pattern, gamma):
    assert make_objective("nst", nst_pattern=pattern).default_gamma == gamma


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("teacher_width", [6, 9])
def test_sequence_of_words_is_equation_3_over_a_clips_words(normalize, teacher_width):
    lengths = (3, 1, 5, 2, 4)
    batch = make_word_batch(teacher_width=teacher_width, lengths=lengths)
    wanted = 0.0
    for student_LD, teacher_LE in zip(
        batch.states_ND.split(lengths), batch.whole.teacher_BE.split(lengths), strict=True
    ):
        if normalize:
            student_LD, teacher_LE = unit(student_LD, 0), unit(teacher_LE, 0)
        wanted += mmd_squared(student_LD, teacher_LE) / 5
    got = make_objective(
        "nst", 6, teacher_width, level="word", nst_pattern="sequence", nst_normalize=normalize
    )(batch)
    assert float(got) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("lengths", [(2, 1, 3), (9, 4, 12)])
def test_batch_of_words_is_equation_3_over_words_few_or_many(normalize, lengths):
    """Many words go by way of columns, few by way of pairs: the sum is the same."""
    batch = make_word_batch(teacher_width=9, lengths=lengths)
    student_WD, teacher_WE = batch.states_ND, batch.whole.teacher_BE
    if normalize:
        student_WD, teacher_WE = unit(student_WD, 0), unit(teacher_WE, 0)
    options = {"nst_pattern": "batch", "nst_normalize": normalize}
    got = make_objective("nst", 6, 9, level="word", **options)(batch)
    assert float(got) == pytest.approx(mmd_squared(student_WD, teacher_WE), rel=1e-10)
    at_clips = make_objective("nst", 6, 9, **options)(batch)
    torch.testing.assert_close(got, at_clips, rtol=1e-10, atol=1e-12)


def test_token_is_no_pattern_of_words():
    with pytest.raises(SpeechkdError, match="token sees one number of the teacher per word"):
        make_objective("nst", level="word", nst_pattern="token")


def test_words_have_sides_and_weights_of_their_own():
    for pattern, side, gamma in (
        ("vector", "none", 100), ("batch", "standardize", 10), ("sequence", "standardize", 10)
    ):  # fmt: skip
        objective = make_objective("nst", level="word", nst_pattern=pattern, teacher_side="auto")
        assert (objective.side, objective.default_gamma) == (side, gamma)
        assert not objective.notices()
