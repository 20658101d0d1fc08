"""Pictures grow with what they hold, and show a control as one."""

import io
import time
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest

from pipeline.reports import figures, lettering
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


def test_students_of_other_weights_or_sizes_have_other_colours():
    crd = replace(checkpoint("crd", "crd", "real"), teaching={"γ of crd": 1.0})
    others = {
        "heavy": replace(crd, teaching={"γ of crd": 10.0}),
        "large": replace(crd, parameters=9),
        "seed1": replace(crd, pretraining_seed=1),
        "own control": replace(crd, control="shuffled"),
    }
    looks = figures.looks({"crd": crd, **others})
    same = {name: looks[name].colour == looks["crd"].colour for name in others}
    assert same == {"heavy": False, "large": False, "seed1": True, "own control": True}


def test_pictures_grow_with_what_they_hold():
    one = figures.confusions({"a": [[1, 0], [0, 1]]}, ("x", "y"))
    many = figures.confusions({str(i): [[1, 0], [0, 1]] for i in range(5)}, ("x", "y"))
    assert size(many)[0] > 1.5 * size(one)[0]
    look = figures.looks({"a$b": checkpoint("a$b", "crd")})["a$b"]
    few = {"t": [("a$b", Difference(0.1, 0.0, 0.2, 1, 100), look)]}
    assert size(figures.gains(few))[0] > 0


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


@pytest.mark.filterwarnings("error")
def test_a_hundred_classes_are_drawn_in_a_blink():
    """Each cell of a matrix had a text of its own: 10,000 of them took two minutes."""
    names = [f"class {i} with a very long name that goes on, and on" for i in range(100)]
    rng = np.random.default_rng(0)
    matrices = {f"encoder {i}": rng.integers(0, 9, (100, 100)) for i in range(3)}
    started = time.process_time()
    picture = figures.confusions(matrices, names, with_figures=False)
    assert time.process_time() - started < 5
    assert max(size(picture)) < 3000


@pytest.mark.filterwarnings("error")
def test_names_that_no_font_has_stand_as_numbers(monkeypatch):
    monkeypatch.setattr(lettering, "_family_with", lambda _: "")
    encoders = {label: checkpoint(label, "crd") for label in ("ok", "语音", "नमस्ते")}
    looks = figures.looks(encoders)
    interval = Difference(0.1, 0.0, 0.2, 1, 100)
    intervals = {"任务": [(label, interval, looks[label]) for label in encoders]}
    assert size(figures.gains(intervals))[0] > 0
    cells = [cell(encoder=encoder) for encoder in encoders.values()]
    assert size(figures.losses(cells, looks))[0] > 0
    matrix = [[1, 0], [0, 1]]
    assert size(figures.confusions(dict.fromkeys(encoders, matrix), ("高兴", "悲伤")))[0] > 0
    points = {label: ([[0.0, 0.0]], [0.0], 0.5) for label in encoders}
    assert size(figures.planes(points, ("高兴", "悲伤")))[0] > 0


@pytest.mark.filterwarnings("error")
def test_long_names_leave_the_pictures_their_size():
    names = {"short": "abc", "long": "an encoder whose name says all of its settings " * 6}
    widths = {}
    for kind, name in names.items():
        encoders = {f"{name} {i}": checkpoint(f"{name} {i}", "crd") for i in range(3)}
        looks = figures.looks(encoders)
        interval = Difference(0.1, 0.0, 0.2, 1, 100)
        gains = figures.gains({name: [(e, interval, looks[e]) for e in encoders]})
        losses = figures.losses([cell(encoder=e) for e in encoders.values()], looks)
        planes = figures.planes({e: ([[0.0, 0.0]], [0.0], 0.5) for e in encoders})
        widths[kind] = [size(picture) for picture in (gains, losses, planes)]
    for short, long in zip(widths["short"], widths["long"], strict=True):
        assert long[0] < 2 * short[0]
        assert long[1] < 1.6 * short[1]


@pytest.mark.filterwarnings("error")
def test_a_long_legend_leaves_the_curves_their_room():
    """A legend of 15 encoders lay over the panel, and matplotlib gave the layout up."""
    tall = {}
    for count in (1, 15):
        encoders = {f"student {i}": checkpoint(f"student {i}", "crd") for i in range(count)}
        cells = [cell(encoder=encoder) for encoder in encoders.values()]
        tall[count] = size(figures.losses(cells, figures.looks(encoders)))[0]
    lines = (tall[15] - tall[1]) / (figures.LINE_INCHES * figures.DOTS_PER_INCH)
    assert 14 / 3 - 1 <= lines <= 14
