"""Pictures grow with what they hold, and show a control as one."""

import io

import matplotlib.image
import pytest

from pipeline.reports import figures
from pipeline.reports.comparison import Difference
from tests.helpers.finished import cell, checkpoint


def size(png):
    return matplotlib.image.imread(io.BytesIO(png)).shape[:2]


def test_a_control_has_its_objectives_colour_and_a_broken_line():
    looks = figures.looks(
        {
            "none": checkpoint("none", "none"),
            "crd": checkpoint("crd", "crd", "real"),
            "mixed": checkpoint("mixed", "crd", "shuffled"),
            "MiniLM": checkpoint("MiniLM"),
        }
    )
    assert looks["crd"].colour == looks["mixed"].colour
    assert (looks["crd"].line, looks["mixed"].line) == ("-", "--")
    assert len({looks[name].colour for name in ("none", "crd", "MiniLM")}) == 3


def test_pictures_grow_with_what_they_hold():
    one = figures.confusions({"a": [[1, 0], [0, 1]]}, ("x", "y"))
    many = figures.confusions({str(i): [[1, 0], [0, 1]] for i in range(5)}, ("x", "y"))
    assert size(many)[0] > 1.5 * size(one)[0]
    look = figures.looks({"a$b": checkpoint("a$b", "crd")})["a$b"]
    few = {"t": [("a$b", Difference(0.1, 0.0, 0.2, 1, 100), look)]}
    assert size(figures.gains(few, "none"))[0] > 0


@pytest.mark.filterwarnings("error")
def test_long_names_leave_room_for_the_matrix():
    label, names = (
        "an encoder of a long name " * 4,
        ("what it is " * 5 + "0", "what it is " * 5 + "1"),
    )
    long = size(figures.confusions({label: [[1, 0], [0, 1]]}, names))
    short = size(figures.confusions({"a": [[1, 0], [0, 1]]}, ("0", "1")))
    assert short[0] < long[0] < 3 * short[0]
    assert short[1] < long[1] < 3 * short[1]


@pytest.mark.parametrize("kinds", [(), ("no", "yes")])
def test_planes_share_one_scale(kinds):
    points = {"a": ([[0.0, 0.0], [1.0, 1.0]], [0.0, 1.0], 0.5), "b": ([[0.0, 1.0]], [1.0], 0.2)}
    assert size(figures.planes(points, kinds))[1] > 600


def test_losses_of_cells_that_were_cut_at_other_steps_are_drawn():
    encoder = checkpoint("a")
    cells = [
        cell(encoder=encoder, curve=[{"step": i, "loss": 1.0} for i in range(n)]) for n in (2, 3)
    ]
    assert size(figures.losses(cells, figures.looks({"a": encoder})))[0] > 0
