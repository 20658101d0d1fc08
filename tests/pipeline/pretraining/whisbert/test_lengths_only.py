"""What lengths alone give, against scikit-learn, and on made-up lengths of which it is known."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

from pipeline.pretraining.whisbert.lengths_only import RIDGE, Line, length_only, logistic_regression
from tests.helpers.whisbert import mel_cache_of, parts_of


def test_the_regression_is_scikit_learns():
    rng = np.random.default_rng(0)
    features = np.c_[np.ones(400), rng.standard_normal((400, 4))]
    label = (features @ [0.3, 1, -2, 0, 0.5] + rng.logistic(size=400) > 0).astype(float)
    theirs = LogisticRegression(C=1 / RIDGE, fit_intercept=False, tol=1e-10, max_iter=2000)
    theirs.fit(features, label)
    assert logistic_regression(features, label) == pytest.approx(theirs.coef_[0], abs=1e-4)


def test_the_line_is_that_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(5, 150, (200,), generator=generator)
    tokens = (0.4 * patches + 3 + torch.randn(200, generator=generator)).round()
    line = Line.fit(patches, tokens)
    theirs = LinearRegression().fit(patches[:, None].numpy(), tokens.numpy())
    assert line.slope == pytest.approx(theirs.coef_[0], rel=1e-6)
    assert line.start == pytest.approx(theirs.intercept_, rel=1e-5)
    assert line.score(patches, tokens).diagonal().mean() == pytest.approx(-0.5, abs=1e-6)


def test_clips_of_one_length_tell_nothing():
    line = Line.fit(torch.full((9,), 7), torch.full((9,), 5))
    assert line.slope == 0
    assert (line.score(torch.full((3,), 7), torch.full((3,), 5)) == 0).all()


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    """Each word takes 20 frames: a text's length follows from the audio's."""
    location = tmp_path_factory.mktemp("lengths") / "mel"
    rng = np.random.default_rng(0)
    clips = []
    for i in range(160):
        words = int(rng.integers(2, 28))
        text = " ".join(rng.choice(["red", "blue", "cat", "dog"], words))
        clips.append((text, f"r{i // 4}", np.zeros((20 * words, 2), np.float32)))
    mel_cache_of(location, clips)
    return location


def baseline(location, tmp_path, **changes):
    _, parts = parts_of(location, tmp_path / "x", batch=32, **changes)
    parts.ahead.close()
    return length_only(
        parts.data.corpus, parts.batches.clips, 10, seed=0, matching=True, contrast=True
    )


def test_lengths_that_tell_all_find_texts_and_yet_match_little(telling, tmp_path):
    """Unmatched pairs are of like lengths, so that matching is hard where retrieval is easy."""
    told = baseline(telling, tmp_path)
    across = told["mmc"]["retrieval"]["audio to text, across recordings"]
    assert across["r10"] > 2 * across["chance_r10"]
    assert told["mmc"]["top1"] > 0.4
    assert told["atm"]["pairs"] == 64
    assert 0.5 <= told["atm"]["accuracy"] <= 1


def test_where_nothing_is_held_out_there_is_nothing_to_measure(telling, tmp_path):
    told = baseline(telling, tmp_path, held_out=0.0)
    assert told == {"atm": None, "mmc": None}
