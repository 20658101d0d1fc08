"""Ridge regression against scikit-learn: weights, predictions, and the penalty folds choose."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as Reference

from pipeline.tasks.hearing.ridge import PENALTIES, Moments, fit


def made(seed, n=60, features=5, targets=3, noise=1.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features)) * rng.uniform(0.1, 10, features) + 3
    y = x @ rng.standard_normal((features, targets)) + noise * rng.standard_normal((n, targets)) - 7
    return torch.from_numpy(x), torch.from_numpy(y), np.arange(n) % 4


def alpha_of(x, penalty):
    """scikit-learn's penalty, which is in units of the features."""
    centred = x - x.mean(0)
    return penalty * np.square(centred).sum(0).mean()


def by_hand(x, y, folds, together):
    """The penalty of least squared error, offsets left out, with scikit-learn fold by fold."""
    errors = []
    for penalty in PENALTIES:
        error = np.zeros(y.shape[1])
        for fold in np.unique(folds):
            inner, outer = folds != fold, folds == fold
            model = Reference(alpha_of(x[inner], penalty), solver="cholesky").fit(
                x[inner], y[inner]
            )
            off = y[outer] - model.predict(x[outer]).reshape(y[outer].shape)
            error += np.square(off - off.mean(0)).sum(0)
        errors.append(error)
    errors = np.array(errors)
    if together:
        return [PENALTIES[int(errors.sum(1).argmin())]] * y.shape[1]
    return [PENALTIES[place] for place in errors.argmin(0)]


@given(
    seed=st.integers(0, 10_000), noise=st.sampled_from([0.01, 5.0, 100.0]), together=st.booleans()
)
@settings(max_examples=15, deadline=None)
def test_the_penalty_and_the_predictions_are_those_of_scikit_learn(seed, noise, together):
    x, y, folds = made(seed, noise=noise)
    model = fit(x, y, folds, together=together)
    assert list(model.penalties) == by_hand(x.numpy(), y.numpy(), folds, together)
    new = made(seed + 1)[0]
    for target, penalty in enumerate(model.penalties):
        reference = Reference(alpha_of(x.numpy(), penalty), solver="cholesky")
        wanted = reference.fit(x.numpy(), y.numpy()[:, target]).predict(new.numpy())
        np.testing.assert_allclose(model.predictions(new)[:, target], wanted, rtol=1e-8, atol=1e-8)


def test_more_features_than_examples_are_fitted_too():
    x, y, folds = made(3, n=12, features=40)
    model = fit(x, y, folds, together=True)
    reference = Reference(alpha_of(x.numpy(), model.penalties[0]), solver="svd").fit(x, y)
    np.testing.assert_allclose(model.predictions(x), reference.predict(x), rtol=1e-7, atol=1e-7)


def test_targets_that_features_say_nothing_of_get_the_largest_penalty():
    """Otherwise an encoder that knows nothing would be far below zero, and not near it."""
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.standard_normal((80, width))) for width in (30, 1))
    assert fit(x, y, np.arange(80) % 4, together=False).penalties[0] >= 10


def test_features_that_do_not_differ_tell_the_mean():
    y = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 2)))
    model = fit(torch.full((20, 3), 4.0, dtype=torch.float64), y, np.arange(20) % 4, together=True)
    expected = y.mean(0).expand(5, 2)
    torch.testing.assert_close(model.predictions(torch.rand(5, 3).double()), expected)


def test_sums_over_parts_are_those_of_the_whole():
    x, y, _ = made(5)
    whole, first, rest = Moments.of(x, y), Moments.of(x[:17], y[:17]), Moments.of(x[17:], y[17:])
    for one, other in ((first.plus(rest), whole), (whole.plus(rest, -1), first)):
        assert one.count == other.count
        for name in ("x_D", "y_E", "xx_DD", "xy_DE", "yy_E"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_one_fold_alone_is_refused():
    x, y, _ = made(1)
    with pytest.raises(ValueError, match="two folds"):
        fit(x, y, np.zeros(len(x)), together=True)
