"""`finetune table`: any table of texts and labels, with the same results folder."""

import csv
import json

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import read_results
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
