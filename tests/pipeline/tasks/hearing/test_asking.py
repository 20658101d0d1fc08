"""What is fitted on one half and judged on the other, by hand with scikit-learn, view by view."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from pipeline.tasks.hearing.asking import Features, ask, tell, without_means
from pipeline.tasks.hearing.ridge import PENALTIES

CPU = torch.device("cpu")


def made(seed=0, n=160, groups=5):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    y = x @ rng.standard_normal((4, 2)) + 0.5 * rng.standard_normal((n, 2))
    group = rng.integers(0, groups, n)
    half = np.arange(n) % 2
    return x.astype(np.float32), y + 5 * group[:, None], group, half, np.arange(n) // 2 % 4


@given(seed=st.integers(0, 1000), groups=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_means_are_taken_away_group_by_group(seed, groups):
    rng = np.random.default_rng(seed)
    value, group = rng.standard_normal((40, 3)), rng.integers(0, groups, 40)
    left = without_means(torch.from_numpy(value), torch.from_numpy(group)).numpy()
    for one in np.unique(group):
        mine = group == one
        np.testing.assert_allclose(left[mine], value[mine] - value[mine].mean(0), atol=1e-12)


def test_predictions_are_those_of_ridge_on_what_groups_have_not_in_common():
    x, y, group, half, fold = made()
    asked = ask(("vector",), "within speaker", y, group, half, fold)
    told = tell(asked, Features.of_states(x), together=True, device=CPU)
    x, y = x.astype(np.float64), y.copy()
    for one in (0, 1):
        for speaker in np.unique(group):
            mine = (half == one) & (group == speaker)
            x[mine] -= x[mine].mean(0)
            y[mine] -= y[mine].mean(0)
    for one in (0, 1):
        fitted, judged = half == one, half != one
        scale, spread = x[fitted].std(0), y[fitted].std(0)
        candidates = []
        for penalty in PENALTIES:  # the one that was chosen is among them
            alpha = penalty * np.square(x[fitted] / scale).sum(0).mean()
            model = Ridge(alpha).fit(x[fitted] / scale, y[fitted] / spread)
            predicted = model.predict(x[judged] / scale)
            for speaker in np.unique(group):
                mine = group[judged] == speaker
                predicted[mine] -= predicted[mine].mean(0)
            candidates.append(predicted)
        gaps = [np.abs(one - told[judged]).max() for one in candidates]
        assert min(gaps) < 1e-6
        np.testing.assert_allclose(asked.heard_mE[judged], y[judged] / spread)


def test_what_follows_from_the_group_alone_is_nothing_within_it():
    """An encoder that knows the speaker and nothing else explains what is raw, and no more."""
    _, _, group, half, fold = made(groups=4)
    noise = np.random.default_rng(1).standard_normal((160, 2))
    y = 5 * group[:, None] + noise
    x = np.eye(4, dtype=np.float32)[group]
    shares = {}
    for view, groups in (("raw", np.zeros(160, int)), ("within speaker", group)):
        asked = ask(("vector",), view, y, groups, half, fold)
        told = tell(asked, Features.of_states(x), together=True, device=CPU)
        left = np.square(told - asked.heard_mE).sum()
        shares[view] = 1 - left / np.square(asked.heard_mE).sum()
    assert shares["raw"] > 0.9
    assert abs(shares["within speaker"]) < 0.05


def test_no_half_learns_from_itself():
    """Features that name each item explain all of it where it was fitted, and nothing elsewhere."""
    _, _, _, half, fold = made()
    y = np.random.default_rng(2).standard_normal((160, 1))
    asked = ask(("vector",), "raw", y, np.zeros(160, int), half, fold)
    told = tell(asked, Features.of_states(np.eye(160, dtype=np.float32)), together=True, device=CPU)
    assert np.square(told - asked.heard_mE).sum() >= 0.999 * np.square(asked.heard_mE).sum()


def test_items_alone_in_their_group_are_left_out_and_counted():
    _, y, group, half, fold = made()
    group[:3] = [100, 101, 102]
    group[3] = -1
    asked = ask(("vector",), "within word", y, group, half, fold)
    assert asked.alone == 3
    assert set(asked.item_m) == set(range(160)) - {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"value_nE": np.full((160, 2), np.nan)}, "none is known"),
        ({"group_n": np.full(160, -1)}, "none is known"),
        ({"group_n": np.arange(160)}, "one half has 0 with others that are spelled alike"),
        ({"value_nE": np.full((160, 2), 0.1)}, "do not differ"),
        ({"value_nE": 0.1 + 1e-17 * np.arange(320).reshape(160, 2)}, "do not differ"),
        ({"half_n": np.arange(160) < 10}, "one half has"),
        ({"fold_n": np.zeros(160, int)}, "one half has"),
    ],
)
def test_where_there_is_nothing_to_tell_it_is_said_why(change, why):
    _, y, group, half, fold = made()
    values = {"value_nE": y, "group_n": group, "half_n": half, "fold_n": fold, **change}
    assert why in ask(("vector",), "within word", **values)


def test_a_value_that_differs_in_one_dimension_only_is_told_in_that():
    x, y, _, half, fold = made()
    y[:, 1] = 7.7
    asked = ask(("vector",), "raw", y, np.zeros(160, int), half, fold)
    assert not asked.value_mE[:, 1].any()
    assert np.isfinite(tell(asked, Features.of_states(x), together=True, device=CPU)).all()


def test_a_feature_that_is_constant_but_for_rounding_is_not_blown_up():
    x, y, _, half, fold = made()
    noisy = np.concatenate([x, 1e-8 * np.random.default_rng(0).standard_normal((160, 1))], axis=1)
    asked = ask(("vector",), "raw", y, np.zeros(160, int), half, fold)
    with_it, without = (
        tell(asked, Features.of_states(f.astype(np.float32)), together=True, device=CPU)
        for f in (noisy, np.concatenate([x, np.zeros((160, 1))], axis=1))
    )
    np.testing.assert_allclose(with_it, without, atol=1e-6)
