"""Products in the student's width against those in the teacher's, written out."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from pipeline.distillation.objectives.contract import Objective, make_projection
from pipeline.distillation.objectives.crd import CRD
from pipeline.distillation.objectives.infonce import InfoNCE
from pipeline.distillation.objectives.narrow import SHORTEST, narrow
from pipeline.distillation.objectives.nst import NST
from tests.helpers.kd_batches import changed, make_objective, make_word_batch, run_in_lockstep

WIDTH, TEACHER_WIDTH = 5, 17


def projection_of(kind, width=WIDTH, teacher_width=TEACHER_WIDTH, dtype=torch.float64):
    torch.manual_seed(0)
    return make_projection(kind, width, teacher_width).to(dtype)


def states(count=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_products_with_unit_vectors_and_all_gradients(kind):
    projection = projection_of(kind)
    states_ND = states().requires_grad_()
    teacher_KE = torch.randn(4, TEACHER_WIDTH, dtype=torch.float64)
    asked = [states_ND, *projection.parameters()]
    few = narrow(projection, states_ND)
    assert few.unit_NR.shape == (7, WIDTH + 1)
    ours_NK = few.unit_NR @ few.meet(teacher_KE).T
    plain_NK = functional.normalize(projection(states_ND), dim=-1) @ teacher_KE.T
    torch.testing.assert_close(ours_NK, plain_NK, rtol=1e-12, atol=1e-12)
    weight_NK = torch.randn(7, 4, dtype=torch.float64)
    for ours, plain in zip(
        torch.autograd.grad((ours_NK * weight_NK).sum(), asked),
        torch.autograd.grad((plain_NK * weight_NK).sum(), asked),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("kind", "width", "teacher_width"), [("none", 17, 17), ("mlp", 6, 17), ("linear", 17, 17)]
)
def test_where_the_teacher_is_hardly_wider_there_is_nothing_to_gain(kind, width, teacher_width):
    projection = projection_of(kind, width, teacher_width)
    assert narrow(projection, torch.zeros(2, width, dtype=torch.float64)) is None


def test_length_in_float32_where_the_bias_all_but_cancels_the_rest():
    """Squares of lengths lose twice the digits that lengths lose: float32 would keep none here."""
    layer = nn.Linear(WIDTH, TEACHER_WIDTH)
    states_ND = states(3, torch.float32)
    with torch.no_grad():
        layer.bias.copy_(1e-4 * torch.randn(TEACHER_WIDTH) - layer.weight @ states_ND[0])
    exact_NE = states_ND.double() @ layer.weight.double().T + layer.bias.double()
    few = narrow(layer, states_ND)
    length_N = 1 / few.unit_NR[:, -1]  # the last coordinate of V [h; 1] is 1
    torch.testing.assert_close(length_N.double(), exact_NE.norm(dim=1), rtol=1e-5, atol=0)


def test_a_vector_of_no_length_stays_finite():
    layer = nn.Linear(WIDTH, TEACHER_WIDTH).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    states_ND = states().requires_grad_()
    few = narrow(layer, states_ND)
    product = (few.unit_NR @ few.meet(torch.ones(2, TEACHER_WIDTH, dtype=torch.float64)).T).sum()
    product.backward()
    assert float(product.detach()) == 0
    assert few.unit_NR[:, -1].tolist() == [1 / SHORTEST] * 7
    assert states_ND.grad.isfinite().all()
    assert layer.weight.grad.isfinite().all()


def value_and_gradients(call, objective, batch):
    states_ND = batch.states_ND.clone().requires_grad_()
    loss = call(objective, changed(batch, states_ND=states_ND))
    asked = [states_ND, *(p for p in objective.parameters() if p.requires_grad)]
    return loss.detach(), torch.autograd.grad(loss, asked)


@pytest.mark.parametrize("bias", ["calibrated", "paper", "learned"])
@pytest.mark.parametrize("negatives", [0, 7])
def test_words_of_a_narrow_student_have_the_loss_of_wide_products(bias, negatives):
    batch = make_word_batch(WIDTH, TEACHER_WIDTH, negatives=negatives)
    options = {"level": "word", "projection": "mlp", "crd_bias": bias, "temperature": 0.2}
    results = [
        value_and_gradients(call, make_objective("crd", WIDTH, TEACHER_WIDTH, **options), batch)
        for call in (CRD.forward, Objective.forward)  # the base's multiplies in the teacher's width
    ]
    (ours, our_gradients), (plain, plain_gradients) = results
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=0)
    for our_gradient, plain_gradient in zip(our_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(our_gradient, plain_gradient, rtol=1e-8, atol=1e-11)


def infonce_written_out(objective, batch):
    """Cross-entropies over the allowed words, one after the other, in the teacher's width."""
    student_NE = functional.normalize(objective.student(batch.states_ND), dim=-1)
    teacher_BE = functional.normalize(objective.teacher(batch.whole.teacher_BE), dim=-1)
    logit_BB = student_NE @ teacher_BE.T / objective.temperature
    rival_BB = batch.whole.rivals_BB()
    total = 0.0
    for word in range(len(logit_BB)):
        allowed = [n for n in range(len(logit_BB)) if n == word or rival_BB[word, n]]
        own = torch.tensor(allowed.index(word))
        total = total + functional.cross_entropy(logit_BB[word, allowed], own)
        total = total + functional.cross_entropy(logit_BB[allowed, word], own)
    return total / (2 * len(logit_BB))


@pytest.mark.parametrize("width", [WIDTH, TEACHER_WIDTH])
@pytest.mark.parametrize("temperature", [0.2, 1 / 30, 0.002])
def test_infonce_of_words_in_the_students_width_and_in_the_teachers(width, temperature):
    """At 0.002 e^(cos/τ - 1/τ) of unlike words is no number of float64, let alone of float32."""
    batch = make_word_batch(width, TEACHER_WIDTH)
    options = {"level": "word", "projection": "mlp", "temperature": temperature}
    results = [
        value_and_gradients(call, make_objective("infonce", width, TEACHER_WIDTH, **options), batch)
        for call in (InfoNCE.forward, infonce_written_out)
    ]
    (ours, our_gradients), (plain, plain_gradients) = results
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=0)
    for our_gradient, plain_gradient in zip(our_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(our_gradient, plain_gradient, rtol=1e-8, atol=1e-11)


def test_infonce_multiplies_for_no_gradient_that_nobody_asks_for():
    """In the teacher's width there are the products and the student's gradient, and no third."""
    batch = make_word_batch(TEACHER_WIDTH, TEACHER_WIDTH)
    objective = make_objective("infonce", TEACHER_WIDTH, TEACHER_WIDTH, level="word")
    with FlopCounterMode(display=False) as counter:
        objective(changed(batch, states_ND=batch.states_ND.requires_grad_())).backward()
    words = len(batch.whole.row_B)
    assert counter.get_total_flops() == 2 * (2 * words**2 * TEACHER_WIDTH)


@pytest.mark.parametrize("normalize", [True, False])
def test_nst_of_many_words_never_makes_the_students_vectors(normalize, monkeypatch):
    batch = make_word_batch(WIDTH, TEACHER_WIDTH)
    options = {"nst_pattern": "batch", "nst_normalize": normalize}
    objective = make_objective(
        "nst", WIDTH, TEACHER_WIDTH, level="word", projection="mlp", **options
    )
    plain, plain_gradients = value_and_gradients(Objective.forward, objective, batch)
    monkeypatch.delattr(Objective, "student")
    ours, our_gradients = value_and_gradients(NST.forward, objective, batch)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=0)
    for our_gradient, plain_gradient in zip(our_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(our_gradient, plain_gradient, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", ["mlp", "linear"])
@pytest.mark.parametrize("normalize", [True, False])
def test_nst_in_float32_where_the_bias_takes_away_what_all_states_share(kind, normalize):
    """An encoder's states are much alike; a student of centred vectors has learnt to undo that."""
    width, teacher_width, words = 16, 64, 200
    batch = make_word_batch(width, teacher_width, lengths=(10,) * (words // 10))
    options = {"level": "word", "nst_pattern": "batch", "nst_normalize": normalize}
    objective = make_objective("nst", width, teacher_width, projection=kind, **options)
    last = objective.projection if kind == "linear" else objective.projection[-1]
    with torch.no_grad():
        states_ND = batch.states_ND + 10 * torch.randn(width, dtype=torch.float64)
        states_ND = states_ND.float()
        last.bias -= objective.student(states_ND.double()).mean(0)
        for parameter in objective.parameters():  # exact in float32
            parameter.copy_(parameter.float())
        student_NE = objective.student(states_ND.double())
        teacher_BE = (student_NE + 0.2 * student_NE.std() * torch.randn_like(student_NE)).float()
    results = [
        value_and_gradients(
            call,
            wide(objective),
            changed(batch, states_ND=wide(states_ND), teacher_BE=wide(teacher_BE)),
        )
        for call, wide in (
            (Objective.forward, lambda x: x.double()),
            (NST.forward, lambda x: x.float()),
        )
    ]
    (exact, exact_gradients), (ours, our_gradients) = results
    torch.testing.assert_close(ours.double(), exact, rtol=1e-2, atol=0)
    errors = [
        float((our_gradient.double() - exact_gradient).norm() / exact_gradient.norm())
        for our_gradient, exact_gradient in zip(our_gradients, exact_gradients, strict=True)
    ]
    assert max(errors) < 5e-3  # without centring 8e-2 to 4e-1


def test_nst_of_words_without_length_stays_finite():
    batch = make_word_batch(WIDTH, TEACHER_WIDTH)
    options = {"nst_pattern": "batch", "projection": "linear"}
    objective = make_objective("nst", WIDTH, TEACHER_WIDTH, level="word", **options)
    for parameter in objective.projection.parameters():
        nn.init.zeros_(parameter)
    loss, gradients = value_and_gradients(NST.forward, objective, batch)
    plain, _ = value_and_gradients(Objective.forward, objective, batch)
    torch.testing.assert_close(loss, plain)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_shares_of_a_narrow_students_words_average_to_the_whole():
    batch = make_word_batch(WIDTH, TEACHER_WIDTH, negatives=3)
    objective = make_objective(
        "crd", WIDTH, TEACHER_WIDTH, level="word", projection="mlp", crd_bias="paper"
    )
    loss, gradients = value_and_gradients(CRD.forward, objective, batch)
    shares = [
        value_and_gradients(
            CRD.forward,
            objective,
            replace(
                changed(batch, processes=2),
                states_ND=batch.states_ND[mine],
                clip_N=batch.clip_N[mine],
                weight_N=batch.weight_N[mine],
            ),
        )
        for mine in (batch.clip_N % 2 == 0, batch.clip_N % 2 == 1)
    ]
    torch.testing.assert_close(sum(share[0] for share in shares) / 2, loss, rtol=1e-12, atol=0)
    for n in range(1, len(gradients)):  # of the projection; each share has states of its own
        mean = sum(share[1][n] for share in shares) / 2
        torch.testing.assert_close(mean, gradients[n], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["infonce", "nst"])
def test_a_narrow_student_of_two_processes_learns_as_one(name):
    """Each process has states of its own words, of which others enter its loss by their sum."""
    batch = make_word_batch(WIDTH, TEACHER_WIDTH)
    options = {"level": "word", "projection": "mlp", "temperature": 0.2}
    whole, *parts = (make_objective(name, WIDTH, TEACHER_WIDTH, **options) for _ in range(3))
    loss, (of_states, *of_projection) = value_and_gradients(type(whole).forward, whole, batch)
    states_ND = batch.states_ND.clone().requires_grad_()
    shares = [
        changed(
            batch,
            states_ND=states_ND[mine],
            clip_N=batch.clip_N[mine],
            place_N=batch.place_N[mine],
            weight_N=batch.weight_N[mine],
            processes=2,
        )
        for mine in (batch.clip_N < 4, batch.clip_N >= 4)
    ]
    mean = sum(run_in_lockstep(parts, shares)) / 2
    mean.backward()
    torch.testing.assert_close(mean.detach(), loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(states_ND.grad, of_states, rtol=1e-8, atol=1e-12)
    parameters = (part.projection.parameters() for part in parts)
    for one, two, wanted in zip(*parameters, of_projection, strict=True):
        torch.testing.assert_close(one.grad + two.grad, wanted, rtol=1e-8, atol=1e-12)


def test_autocast_reaches_what_comes_before_the_last_layer_alone():
    batch = make_word_batch(WIDTH, TEACHER_WIDTH)
    batch = changed(
        batch, states_ND=batch.states_ND.float(), teacher_BE=batch.whole.teacher_BE.float()
    )
    objective = make_objective(
        "crd", WIDTH, TEACHER_WIDTH, level="word", projection="linear", temperature=0.2
    ).float()
    exact = objective(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(objective(batch), exact, rtol=0, atol=0)
