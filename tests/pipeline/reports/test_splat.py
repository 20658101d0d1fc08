"""SPLAT's figures in a report: beside equal tasks alone, and geometry as runs recorded it."""

import json
from dataclasses import replace

import pytest

from pipeline.foundation.errors import Damaged
from pipeline.reports.splat import GEOMETRY_HEADER, HEADER, geometry, published
from tests.helpers.finished import cell, checkpoint

FSC = {"train": 23_132, "valid": 3_118, "test": 3_793}
SWBD = {"train": 97_756, "valid": 8_591, "test": 2_507}


def asked(label="Seq", objective="splat-seq", classes=31, splits=FSC, **changes):
    encoder = replace(checkpoint(label, objective), parameters=22_400_000)
    for name in ("source", "parameters", "control"):
        if name in changes:
            encoder = replace(encoder, **{name: changes.pop(name)})
    data = {"name": "t.csv", "sha256": "a" * 64, "split": {"origin": "given", "seed": None}}
    fields = {
        "task": "intent", "kind": "classes", "outputs": tuple(map(str, range(classes))),
        "splits": splits, "data": data, "metrics": {"accuracy": 0.75, "majority_rate": 0.1},
    }  # fmt: skip
    return cell(encoder=encoder, **{**fields, **changes})


def test_equal_tasks_have_the_figure_of_their_variant_beside_them():
    cells = [
        asked("Scratch", None, source="fresh:base"), asked("Speech", "masked-audio"),
        asked("Seq"), asked("Seq", seed=1, metrics={"accuracy": 0.85, "majority_rate": 0.1}),
        asked("Tok", "splat-tok", 42, SWBD),
    ]  # fmt: skip
    (section,) = published(cells)
    assert section.grid == (
        HEADER,
        ("Scratch", "Fluent Speech Commands", "10.0 %", "75.0 % (1 of 2)", "Scratch 97.6"),
        ("Speech", "Fluent Speech Commands", "10.0 %", "75.0 % (1 of 2)", "Speech 99.5"),
        ("Seq", "Fluent Speech Commands", "10.0 ± 0.0 %", "80.0 ± 7.1 %", "Seq 99.5, Seq-MLM 99.5"),
        ("Tok", "Switchboard dialogue acts", "10.0 %", "75.0 %", "Tok 71.2, Tok-MLM 72.7"),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 30},
        {"splits": {**FSC, "test": 3_700}},
        {"splits": {**FSC, "train": 11_000}},
        {"parameters": 300_000},
        {"control": "relabelled"},
        {"objective": "crd"},
        {"kind": "value"},
        {"data": {"name": "t", "sha256": "a", "split": {"origin": "made", "seed": 0}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_figure_stands_beside_an_unequal_task(changes):
    assert published([asked(**changes)]) == []


def test_of_mosei_it_is_said_why_there_is_no_figure():
    data = {"name": "mosei-audio", "sha256": "a", "split": {"origin": "given", "seed": None}}
    (section,) = published([asked(task="sentiment7", classes=7, data=data)])
    assert section.grid == ()
    assert "74.7 % is called 7-class" in section.notes[0]


LIKE = {
    "average": 0.1, "nearest_text": 0.4, "average_other_text": 0.05, "nearest_other_text": 0.3,
}  # fmt: skip


def saved(folder, record):
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record))
    return replace(checkpoint("Seq", "splat-seq"), source=str(folder))


def test_geometry_is_told_with_the_difference_that_counts(tmp_path):
    encoder = saved(tmp_path / "a", {"geometry": {"speech, raw": LIKE, "text, raw": LIKE}})
    (section,) = geometry([checkpoint("bert"), encoder])
    assert section.grid == (
        GEOMETRY_HEADER,
        ("Seq", "speech, raw", "0.100", "0.400", "+0.300", "0.050", "0.300"),
        ("Seq", "text, raw", "0.100", "0.400", "+0.300", "0.050", "0.300"),
    )
    assert "none of its figures" in " ".join(section.notes)


def test_a_run_of_before_that_measured_something_else_has_dashes_and_a_word(tmp_path):
    """`closest` was the nearest in speech; under the header of Eq. 5 it would be a wrong figure."""
    old = {"average": 0.1, "closest": 0.9, "average_other_text": 0.05, "closest_other_text": 0.8}
    (section,) = geometry([saved(tmp_path / "a", {"geometry": {"speech, raw": old}})])
    assert section.grid[1] == ("Seq", "speech, raw", "0.100", "–", "–", "0.050", "–")
    assert section.notes[-1].startswith(
        "Seq: the run recorded S_closest of the clips whose vectors"
    )


def test_runs_without_geometry_give_no_section(tmp_path):
    assert geometry([saved(tmp_path / "a", {}), saved(tmp_path / "b", {"geometry": {}})]) == []


@pytest.mark.parametrize("figures", [{"average": 1}, [1], {**LIKE, "nearest_text": "x"}])
def test_geometry_of_another_form_is_told(tmp_path, figures):
    encoder = saved(tmp_path / "a", {"geometry": {"speech, raw": figures}})
    with pytest.raises(Damaged, match="its geometry is not of the form"):
        geometry([encoder])
