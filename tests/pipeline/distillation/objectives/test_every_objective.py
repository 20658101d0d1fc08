"""What must hold for every objective, in every form."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.kd_batches import (
    add_padding,
    changed,
    make_batch,
    make_objective,
    make_word_batch,
    run_in_lockstep,
)

FORMS = {
    "nst vector": ("nst", {"nst_pattern": "vector"}),
    "nst vector raw": ("nst", {"nst_pattern": "vector", "nst_normalize": False}),
    "nst batch": ("nst", {"nst_pattern": "batch"}),
    "nst batch raw": ("nst", {"nst_pattern": "batch", "nst_normalize": False}),
    "nst token": ("nst", {"nst_pattern": "token"}),
    "nst sequence": ("nst", {"nst_pattern": "sequence"}),
    "nst sequence raw": ("nst", {"nst_pattern": "sequence", "nst_normalize": False}),
    "crd": ("crd", {}),
    "crd paper": ("crd", {"crd_bias": "paper"}),
    "crd learned": ("crd", {"crd_bias": "learned"}),
    "crd both ways": ("crd", {"crd_symmetric": True}),
    "infonce": ("infonce", {}),
    "l1": ("l1", {}),
    "cosine": ("cosine", {}),
}
BLIND = {"nst token", "nst sequence", "nst sequence raw"}
FORMS |= {
    f"words: {form}": (name, {**options, "level": "word"})
    for form, (name, options) in FORMS.items()
    if form != "nst token"
}


def build(form, **changes):
    name, options = FORMS[form]
    return make_objective(name, **{**options, **changes})


def batch_for(form, **changes):
    """A batch of clips, or of words with some of the same recording and some spelled alike."""
    return (make_word_batch if form.startswith("words") else make_batch)(**changes)


def value_and_gradient(objective, batch):
    states_ND = batch.states_ND.clone().requires_grad_()
    loss = objective(changed(batch, states_ND=states_ND))
    loss.backward()
    return loss.detach(), states_ND.grad


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_that_of_the_value(form):
    objective = build(form, temperature=0.5).eval()
    batch = batch_for(form, negatives=7)
    if "crd" in form:
        objective.train()
        objective(batch)  # fixes the calibrated bias, which is no function of the states after
        objective.eval()
    torch.autograd.gradcheck(
        lambda states_ND: objective(changed(batch, states_ND=states_ND)),
        batch.states_ND.clone().requires_grad_(),
    )


@pytest.mark.parametrize("form", sorted(set(FORMS) - BLIND))
def test_exchanging_the_clips_vectors_changes_value_and_gradient(form):
    batch = batch_for(form)
    exchanged = changed(batch, teacher_BE=batch.whole.teacher_BE.roll(-1, 0))
    loss, gradient = value_and_gradient(build(form, temperature=0.5), batch)
    other_loss, other_gradient = value_and_gradient(build(form, temperature=0.5), exchanged)
    assert (loss - other_loss).abs() > 1e-3 * loss.abs()
    assert (gradient - other_gradient).abs().max() > 1e-3 * gradient.abs().max()


@pytest.mark.parametrize("form", sorted(BLIND))
def test_blind_forms_see_no_direction_of_the_teacher(form):
    """Any vectors of the same mean square a clip give the same loss and gradient."""
    batch = make_batch()
    other_BE = torch.randn(5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    other_BE *= batch.whole.teacher_BE.norm(dim=1, keepdim=True) / other_BE.norm(
        dim=1, keepdim=True
    )
    loss, gradient = value_and_gradient(build(form), batch)
    other_loss, other_gradient = value_and_gradient(
        build(form), changed(batch, teacher_BE=other_BE)
    )
    torch.testing.assert_close(loss, other_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, other_gradient, rtol=1e-12, atol=1e-15)
    assert build(form).notices(), "the start-up line says what it reduces to"


def test_normalised_sequence_sees_nothing_of_the_teacher():
    batch = make_batch()
    random = changed(batch, teacher_BE=100 * torch.randn(5, 6, dtype=torch.float64))
    loss, gradient = value_and_gradient(build("nst sequence"), batch)
    other_loss, other_gradient = value_and_gradient(build("nst sequence"), random)
    torch.testing.assert_close(loss, other_loss, rtol=0, atol=0)
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=0)
    assert "does not depend on the teacher" in build("nst sequence").notices()[0]


@pytest.mark.parametrize("form", FORMS)
def test_padding_never_counts(form):
    batch = batch_for(form, negatives=3)
    loss, gradient = value_and_gradient(build(form), batch)
    padded_loss, padded_gradient = value_and_gradient(build(form), add_padding(batch))
    torch.testing.assert_close(padded_loss, loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(padded_gradient[: len(gradient)], gradient, rtol=1e-8, atol=1e-12)
    assert not padded_gradient[len(gradient) :].any()


def in_order(batch, order_B):
    """What a batch of words has beside what one of clips has."""
    if batch.sentences is None:
        return {}
    sentences = replace(
        batch.sentences,
        clip_W=batch.sentences.clip_W[order_B],
        place_W=batch.sentences.place_W[order_B],
    )
    return {"type_B": batch.whole.type_B[order_B], "sentences": sentences}


@pytest.mark.parametrize("form", FORMS)
def test_order_of_clips_does_not_matter(form):
    batch = batch_for(form, negatives=3)
    clips = len(batch.whole.row_B)
    order_B = torch.randperm(clips, generator=torch.Generator().manual_seed(2))
    order_N = torch.cat([torch.where(batch.clip_N == b)[0] for b in order_B])
    shuffled = changed(
        batch,
        states_ND=batch.states_ND[order_N],
        clip_N=order_B.argsort()[batch.clip_N[order_N]],
        place_N=batch.place_N[order_N],
        teacher_BE=batch.whole.teacher_BE[order_B],
        row_B=batch.whole.row_B[order_B],
        recording_B=batch.whole.recording_B[order_B],
        **in_order(batch, order_B),
    )
    loss, _ = value_and_gradient(build(form), batch)
    shuffled_loss, _ = value_and_gradient(build(form), shuffled)
    torch.testing.assert_close(shuffled_loss, loss, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", [f for f in FORMS if set(f.split()) & {"nst", "l1", "cosine"}])
def test_zero_and_no_gradient_where_student_equals_teacher(form):
    batch = batch_for(form)
    batch = changed(batch, states_ND=batch.whole.teacher_BE[batch.clip_N])
    loss, gradient = value_and_gradient(build(form), batch)
    assert 0 <= loss + 1e-12 < 1e-10
    if not form.endswith("l1"):  # its gradient has no limit at zero
        assert gradient.abs().max() < 1e-10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sign", [1, -1])
def test_finite_at_cosine_one_and_temperature_of_the_paper(form, sign):
    batch = batch_for(form, negatives=3)
    batch = changed(batch, states_ND=sign * batch.whole.teacher_BE[batch.clip_N])
    batch = changed(
        batch,
        states_ND=batch.states_ND.float(),
        teacher_BE=batch.whole.teacher_BE.float(),
        negative_KE=batch.whole.negative_KE.float(),
    )
    loss, gradient = value_and_gradient(build(form, temperature=0.01).float(), batch)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_autocast_stays_near_float32(form):
    """Only the projection runs in bfloat16: 8 bits of its output are what can be lost."""
    torch.manual_seed(1)
    batch = batch_for(form, width=64, teacher_width=32, lengths=(6, 9, 4, 12))
    batch = changed(
        batch, states_ND=batch.states_ND.float(), teacher_BE=batch.whole.teacher_BE.float()
    )
    name, options = FORMS[form]
    objective = make_objective(
        name, 64, 32, **{**options, "projection": "mlp", "temperature": 0.1}
    ).float()
    objective(batch)
    objective.eval()
    exact = objective(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = objective(batch)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_several_processes_average_to_the_whole(form):
    """Two shares of a batch: the mean of their losses and gradients is that of the whole."""
    batch = batch_for(form, negatives=3)
    whole = build(form)
    loss, gradient = value_and_gradient(whole, batch)
    states_ND = batch.states_ND.clone().requires_grad_()
    clip_N = batch.clip_N if batch.sentences is None else batch.sentences.clip_W[batch.clip_N]
    halves = [clip_N < 2, clip_N >= 2]

    # what the other process would add, obtained by running both in lockstep
    objectives = [build(form) for _ in halves]
    parts = [
        changed(
            batch,
            states_ND=states_ND[half],
            clip_N=batch.clip_N[half],
            place_N=batch.place_N[half],
            weight_N=batch.weight_N[half],
            processes=2,
        )
        for half in halves
    ]
    losses = run_in_lockstep(objectives, parts)
    mean = sum(losses) / 2
    mean.backward()
    torch.testing.assert_close(mean.detach(), loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(states_ND.grad, gradient, rtol=1e-8, atol=1e-12)
