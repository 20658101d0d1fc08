"""What `pretrain ctal` may be asked, and what --recipe decides."""

from pathlib import Path

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.pretraining.ctal.settings import CtalSettings


def settings(**changes) -> CtalSettings:
    return CtalSettings(**{"cache": "mels", "out": Path("run"), **changes})


def test_the_recipe_decides_what_is_auto():
    paper, released = settings(), settings(recipe="repository")
    names = ("deltas", "spans", "fates")
    assert [paper.chosen(n) for n in names] == ["clean", "partition", "segment"]
    assert [released.chosen(n) for n in names] == ["paper", "scattered", "frame"]
    assert settings(recipe="repository", deltas="none").chosen("deltas") == "none"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shortest_ms": 300.0, "longest_ms": 200.0}, "--longest-ms 200 is less"),
        ({"mlm_weight": 0.0, "mcam_weight": 0.0}, "trains nothing"),
        ({"mlm_weight": 0.0, "cross": "off"}, "trains no text"),
        ({"width": 100, "heads": 12}, "do not divide --width 100"),
        ({"measure_every": 15}, "not a multiple"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(SpeechkdError, match=message):
        settings(**changes)


def test_what_a_text_encoder_to_go_on_from_decides_is_without_effect():
    assert settings(text="runs/crd", width=256).set_in_vain() == ["--width"]
    assert settings(width=252).set_in_vain() == []
    assert {"layers", "width", "learning_rate", "batch"} <= set(settings().stated_in_paper())
    assert {"normalisation", "warmup_fraction", "epochs"} <= set(settings().assumed())
