"""How the dots of encoders' vectors are coloured: by quantity, or by name."""

import csv

import pytest

from pipeline.reports import projections as module
from pipeline.reports.projections import projections


@pytest.mark.parametrize(
    ("labels", "classes", "kinds", "numbers"),
    [
        (["0.5", "-2"], None, [], [0.5, -2.0]),
        (["1", "0"], ("0", "1"), ["0", "1"], [1.0, 0.0]),
        (["0417", "0003"], (), ["0003", "0417"], [1.0, 0.0]),
        (["1.33", "-2"], ("-2", "2"), [], [1.33, -2.0]),  # finer than the classes made of it
        (["b", "1"], None, ["1", "b"], [1.0, 0.0]),
    ],
)
def test_digits_that_are_names_are_no_quantity(
    tmp_path, monkeypatch, labels, classes, kinds, numbers
):
    drawn = {}
    monkeypatch.setattr(module, "planes", lambda points, kinds: drawn.update(points, kinds=kinds))
    with (tmp_path / "p.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["x", "y", "raw", "variance_share"])
        writer.writeheader()
        writer.writerows({"x": 0, "y": 1, "raw": one, "variance_share": 0.5} for one in labels)
    projections({"encoder": tmp_path / "p.csv"}, classes)
    assert list(drawn["kinds"]) == kinds
    assert drawn["encoder"][1] == numbers
