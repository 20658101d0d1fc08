"""A clip has its own vector; each control gives another one, and the same one each time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.cache.statistics import Statistics
from pipeline.corpus.vectors import Vectors, apply_control, normal, without_vectors

WIDTH = 5


def made_up(stored=200, clips=120):
    source = torch.Generator().manual_seed(0)
    stored_SE = torch.randn(stored, WIDTH, generator=source).half()
    place_C = torch.randperm(stored, generator=source)[:clips]
    wide = stored_SE.double()
    statistics = Statistics(
        stored, (3 + wide.mean(0)).numpy(), (7 * wide.std(0, correction=0)).numpy()
    )
    return Vectors(stored_SE, place_C, statistics)


def test_a_clip_has_its_own_vector():
    vectors = made_up()
    some = torch.tensor([7, 0, 119, 7])
    assert vectors.of(some).equal(vectors.stored_SE[vectors.place_C[some]])


def test_shuffled_is_one_cycle_through_the_clips():
    vectors = made_up()
    shuffled = apply_control(vectors, "shuffled", seed=4)
    assert sorted(shuffled.place_C.tolist()) == sorted(vectors.place_C.tolist())
    follows = dict(zip(vectors.place_C.tolist(), shuffled.place_C.tolist(), strict=True))
    here, steps = int(vectors.place_C[0]), 0
    while steps == 0 or here != int(vectors.place_C[0]):
        here, steps = follows[here], steps + 1
    assert steps == 120
    assert not shuffled.place_C.equal(apply_control(vectors, "shuffled", seed=5).place_C)


def test_random_has_the_teachers_mean_and_spread_and_repeats():
    vectors = made_up(stored=20_000, clips=20_000)
    random = apply_control(vectors, "random", seed=4)
    every = torch.arange(20_000)
    found = random.of(every)
    assert found.dtype == vectors.stored_SE.dtype
    np.testing.assert_allclose(found.double().mean(0), random.statistics.mean_E, atol=0.2)
    np.testing.assert_allclose(found.double().std(0), random.statistics.std_E, rtol=0.02)
    assert random.of(torch.tensor([9, 3])).equal(found[[9, 3]])
    assert not apply_control(vectors, "random", seed=5).of(every).equal(found)


def test_noise_is_normal_and_without_any_pattern():
    noise = normal(torch.arange(4000), 50, seed=2**63 - 7)
    assert noise.isfinite().all()
    flat = noise.flatten().numpy()
    assert stats.kstest(flat, "norm").pvalue > 0.01
    for other in (
        normal(torch.arange(4000), 50, seed=2**63 - 8).flatten().numpy(),
        np.roll(flat, 1),
        np.roll(flat, 50),
    ):
        assert abs(np.corrcoef(flat, other)[0, 1]) < 0.01


def test_without_vectors_there_is_nothing():
    assert without_vectors(torch.arange(9)).of(torch.tensor([1, 8])).shape == (2, 0)


@pytest.mark.parametrize("control", ["real", "shuffled", "random"])
def test_vectors_of_a_device_are_had_without_asking_it(control):
    """Tensors of `meta` have no values, so whatever would be read back cannot be."""
    meta = torch.device("meta")
    of_host = made_up()
    on_device = replace(of_host, stored_SE=of_host.stored_SE.to(meta), device=meta)
    for vectors in (on_device, replace(of_host, device=meta)):
        got = apply_control(vectors, control, seed=4).of(torch.tensor([7, 0, 7]))
        assert (got.device, got.shape, got.dtype) == (meta, (3, WIDTH), torch.float16)
