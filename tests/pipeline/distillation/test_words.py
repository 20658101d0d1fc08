"""What is said of the losses while a student trains."""

import pytest

from pipeline.distillation.words import note, warnings


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"gradient/kd_over_mlm": 11.0}, "lower --gamma"),
        ({"gradient/kd_over_mlm": 0.05}, "raise --gamma"),
        ({"gradient/kd_over_mlm": 1.0}, None),
        ({"spread/crd": 1e-5}, "collapsed"),
        ({"spread/crd": 0.5}, None),
    ],
)
def test_losses_that_drown_each_other_and_a_collapsed_student_are_warned_of(values, told):
    warned = list(warnings({"loss/mlm": 1.0, **values}).values())
    assert len(warned) == (told is not None)
    assert all(told in warning for warning in warned)


def test_the_note_names_the_objectives_loss_where_there_is_one():
    assert note({"loss/mlm": 2.34567}, 3) == "mlm 2.346"
    assert note({"loss/mlm": 2.34567, "loss/kd": 1.0}, 4) == "mlm 2.3457, kd 1.0000"
