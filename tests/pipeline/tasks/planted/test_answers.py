"""Answers on a planted corpus: the interval covers the truth as often as it says."""

import numpy as np
import pytest

from pipeline.tasks.planted.answers import gain, linear_probe, picture, right_by_word, share


def drawn(rng, spread_of_corpora, spread_of_words, corpora=6, seeds=3, words=30):
    found = []
    for _ in range(corpora):
        middle = 0.5 + rng.normal(0, spread_of_corpora)
        by_word = rng.normal(0, spread_of_words, words)
        found.append(
            [
                {f"w{i:02d}": middle + by_word[i] + rng.normal(0, 0.02) for i in range(words)}
                for _ in range(seeds)
            ]
        )
    return found


@pytest.mark.parametrize(("corpora", "words"), [(0.0, 0.2), (0.1, 0.05)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(corpora, words):
    rng = np.random.default_rng(4)
    inside = [
        one.low <= 0.5 <= one.high
        for one in (share(drawn(rng, corpora, words)) for _ in range(100))
    ]
    assert 0.82 <= np.mean(inside) <= 1.0


def test_a_gain_is_judged_on_the_same_words():
    rng = np.random.default_rng(0)
    first = drawn(rng, 0.1, 0.3)
    second = [[{w: v - 0.1 for w, v in seed.items()} for seed in one] for one in first]
    found = gain(first, second)
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.low < 0.05  # words differ much, but by the same on both sides
    assert share(first).high - share(first).low > 0.1


def test_predictions_are_counted_by_word(tmp_path):
    lines = ["id,group,raw,label,prediction,score:a,score:b"]
    lines += ["0,zor,a,0,0,1,0", "1,zor,a,0,1,0,1", "2,bri,b,1,1,0,1"]
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    assert right_by_word(tmp_path.glob("*.csv")) == {"bri": 1.0, "zor": 0.5}


def test_a_probe_knows_what_is_linear_and_nothing_of_noise():
    rng = np.random.default_rng(0)
    labels = np.array(["flat", "bright"])[rng.integers(2, size=600)]
    told = rng.normal(size=(600, 20)) + 1.0 * (labels == "bright")[:, None]
    noise = rng.normal(size=(600, 20))
    for vectors, low, high in ((told, 0.95, 1.0), (noise, 0.4, 0.6)):
        found = linear_probe(vectors[:300], labels[:300].tolist(), vectors[300:])
        assert low <= np.mean(found == labels[300:]) <= high


def test_the_picture_is_a_png():
    rows = {"text only": {"zor": 0.5, "bri": 0.2}, "taught": {"zor": 1.0, "bri": 1.0}}
    assert picture(rows, {"zor": "flat", "bri": "bright"}).startswith(b"\x89PNG")
