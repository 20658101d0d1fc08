"""What CTAL says about its losses while it trains."""

from pipeline.pretraining.ctal.words import WORDS

LINES = {"line/zero": 0.8, "line/interpolation": 0.77, "line/held": 0.9}


def test_the_lines_that_need_no_model_stand_beside_the_loss():
    values = {"loss/mlm": 4.0, "loss/mcam": 0.75, "loss/mcam_middle": 0.8, **LINES}
    told = WORDS.note(values, 2)
    assert told == (
        "mlm 4.00, mcam 0.75, of it in the middle 0.80, zero 0.80, interpolation 0.77, held 0.90"
    )


def test_a_model_that_predicts_no_better_than_none_is_warned_of():
    assert "without any model with 0.770" in WORDS.warnings({"loss/mcam": 0.78, **LINES})["mcam"]
    assert WORDS.warnings({"loss/mcam": 0.76, **LINES}) == {}
    assert WORDS.warnings({"loss/mcam": 0.78}) == {}
