"""Projection, the teacher's side, and L1 and cosine against scipy."""

import pytest
import scipy.spatial.distance as distance
import torch

from pipeline.distillation.objectives import OBJECTIVES, Context, Options
from pipeline.foundation.errors import SpeechkdError
from tests.helpers.kd_batches import make_batch, make_objective, statistics


def pairs(batch):
    return zip(batch.states_ND, batch.whole.teacher_BE[batch.clip_N], strict=True)


def test_l1_is_the_mean_city_block_distance():
    batch = make_batch()
    wanted = sum(distance.cityblock(s, t) / 6 for s, t in pairs(batch)) / len(batch.clip_N)
    assert float(make_objective("l1")(batch)) == pytest.approx(wanted)


def test_cosine_is_scipys_cosine_distance():
    batch = make_batch()
    wanted = sum(distance.cosine(s, t) for s, t in pairs(batch)) / len(batch.clip_N)
    assert float(make_objective("cosine")(batch)) == pytest.approx(wanted)


def test_teacher_side_centres_and_standardises_with_the_caches_statistics():
    batch = make_batch()
    mean_E = torch.from_numpy(statistics().mean_E)
    std_E = torch.from_numpy(statistics().std_E)
    for side, wanted_BE in {
        "none": batch.whole.teacher_BE,
        "center": batch.whole.teacher_BE - mean_E,
        "standardize": (batch.whole.teacher_BE - mean_E) / std_E,
    }.items():
        got_BE = make_objective("l1", teacher_side=side).teacher(batch.whole.teacher_BE)
        torch.testing.assert_close(got_BE, wanted_BE, rtol=1e-6, atol=1e-6)


def test_a_dimension_that_never_varies_becomes_zero():
    found = statistics()
    found.std_E[2] = 0
    standard = OBJECTIVES["crd"](Context(6, found, Options(projection="none")))
    vectors_BE = standard.teacher(make_batch().whole.teacher_BE)
    assert vectors_BE.isfinite().all()
    assert not vectors_BE[:, 2].any()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_teacher_width_with_a_projection(name):
    for projection in ("mlp", "linear"):
        for teacher_width in (384, 512, 768, 1024, 1280):
            objective = make_objective(name, 6, teacher_width, projection=projection)
            loss = objective(make_batch(teacher_width=teacher_width))
            loss.backward()
            assert loss.isfinite()


@pytest.mark.parametrize("name", ["crd", "infonce", "l1", "cosine", "nst"])
def test_widths_that_differ_without_projection_are_refused(name):
    with pytest.raises(SpeechkdError, match="6 wide and the teacher 9"):
        make_objective(name, 6, 9, nst_pattern="vector")


def test_patterns_may_differ_in_width_without_projection():
    for pattern in ("batch", "token", "sequence"):
        assert make_objective("nst", 6, 9, nst_pattern=pattern)(make_batch(teacher_width=9)) >= 0
