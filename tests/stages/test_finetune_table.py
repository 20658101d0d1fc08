"""`finetune table`: any table of texts and labels, with the same results folder."""

import csv
import json

import numpy as np
import pytest

from pipeline.finetuning.results import read_asked
from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import read_results, read_sets
from pipeline.reports.projections import read_projection
from stages.finetune_table import TableSettings, run
from tests.helpers.encoders import save_encoder
from tests.helpers.mosei import sentences


@pytest.fixture
def data(tmp_path):
    rows = [
        {"text": text, "label": "good" if value > 0 else "bad", "who": i // 2}
        for i, (text, value) in enumerate(sentences(40))
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    save_encoder(tmp_path / "encoder", [row["text"] for row in rows])
    return path


def settings(data, **changes):
    given = {
        "data": [str(data)],
        "checkpoint": [str(data.parent / "encoder")],
        "group_column": "who",
        "seeds": "0-1",
        "epochs": 1,
        "device": "cpu",
        "out": data.parent / "r",
    }
    return TableSettings(**{**given, **changes})


def test_any_table_gives_cells_predictions_and_a_table(data, capsys):
    run(settings(data))
    cells = read_results(data.parent / "r")
    assert [cell.seed for cell in cells] == [0, 1]
    assert cells[0].splits == {"train": 28, "valid": 4, "test": 8}
    assert cells[0].outputs == ("bad", "good")
    with (data.parent / "r" / cells[0].predictions).open() as file:
        assert {row["raw"] for row in csv.DictReader(file)} <= {"good", "bad"}
    assert "label: one of bad, good" in capsys.readouterr().out


def test_another_split_is_another_results_folder(data):
    run(settings(data))
    with pytest.raises(SpeechkdError, match=r"data\.split\.seed: 0 there, 1 now"):
        run(settings(data, split_seed=1))


def test_names_of_columns_are_asked_for(data):
    with pytest.raises(SpeechkdError, match="--label-column"):
        run(settings(data, label_column="sarcasm"))


def test_each_group_is_left_out_in_turn_and_all_are_one_test(data, capsys):
    run(settings(data, group_column="", fold_column="who", folds=4, seeds="0-1"))
    cells = read_results(data.parent / "r")
    assert [cell.title for cell in cells][::2] == [f"label, fold {i} of 4" for i in range(1, 5)]
    assert {cell.splits["test"] for cell in cells} == {10}
    shown = capsys.readouterr().out
    (results,) = read_sets([data.parent / "r"])
    assert [(cell.seed, cell.splits["test"]) for cell in results.cells] == [(0, 40), (1, 40)]
    predictions = results.predictions["encoder", "label", 0]
    assert sorted(map(int, predictions.ids)) == list(range(1, 41))
    right = [cell.metrics["accuracy"] for cell in results.cells]
    mean, sigma = 100 * np.mean(right), 100 * np.std(right, ddof=1)
    assert f"{mean:.2f} ± {sigma:.2f}" in shown
    assert read_asked(data.parent / "r")[0] == ("encoder", "label, fold 1 of 4", 0)
    points = read_projection(results.projections["encoder"])[0]
    assert len(points) == 40


def test_folds_that_are_not_finished_show_no_figure(data, capsys):
    run(settings(data, group_column="", fold_column="who", folds=4, seeds="0", array_task="0/2"))
    assert "encoder" not in capsys.readouterr().out


def test_repeated_texts_are_said_and_recorded(data, capsys):
    rows = [json.loads(line) for line in data.read_text().splitlines()] * 2
    data.write_text("\n".join(map(json.dumps, rows)))
    run(settings(data, group_column="", seeds="0"))
    (cell,) = read_results(data.parent / "r")
    assert cell.repeated_texts > 5
    assert f"WARNING: label: {cell.repeated_texts} of 16 test texts" in capsys.readouterr().err
    run(settings(data, group_column="", seeds="0", drop_duplicates=True, out=data.parent / "d"))
    (cell,) = read_results(data.parent / "d")
    assert cell.repeated_texts == 0


def test_one_group_in_the_test_is_said(data, capsys):
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for i, row in enumerate(rows):
        row |= {"who": "me" if i < 10 else f"w{i}", "part": "test" if i < 10 else "train"}
    data.write_text("\n".join(map(json.dumps, rows)))
    run(settings(data, split_column="part", dry_run=True))
    assert "all test examples are of one group (me)" in capsys.readouterr().err


def test_validation_needs_folds_or_a_split(data):
    with pytest.raises(SpeechkdError, match="needs --fold-column or --folds"):
        settings(data, fold_validation="next")
    with pytest.raises(SpeechkdError, match="add --fold-validation next"):
        run(settings(data, group_column="", folds=4, selection="best-valid"))
