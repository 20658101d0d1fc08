"""`finetune table --kind words`: from a table with a label per word to a report."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import read_results, read_sets
from pipeline.reports.projections import read_projection
from stages import report
from stages.finetune_table import TableSettings, run
from tests.helpers.encoders import save_encoder

FILLERS = ["they", "had", "all", "been", "there", "once"]


def lines(count=160):
    """Texts in which three words are a yes beside `loud`, which the word alone does not tell."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        words = [str(word) for word in rng.choice(FILLERS, 5)]
        marks = ["1" if i % 2 and word in FILLERS[:3] else "0" for word in words]
        at = int(rng.integers(0, 5))
        words[at], marks[at] = "loud" if i % 2 else "soft", "-"
        rows.append({"id": f"r{i}", "text": " ".join(words), "y": " ".join(marks), "talk": i // 4})
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    rows = lines()
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    save_encoder(folder / "encoder", [row["text"] for row in rows])
    return folder / "t.jsonl"


def settings(data, out, **changes):
    given = {
        "data": [str(data)],
        "checkpoint": [str(data.parent / "encoder")],
        "kind": "words",
        "label_column": "y",
        "id_column": "id",
        "group_column": "talk",
        "folds": 2,
        "seeds": "0",
        "epochs": 8,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "device": "cpu",
        "out": out,
    }
    return TableSettings(**{**given, **changes})


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "r"
    run(settings(data, out))
    return out


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_encoder_learns_what_the_word_alone_does_not_tell(results):
    (whole,) = read_sets([results])
    (cell,) = whole.cells
    figures = cell.metrics
    assert figures["average_precision"] > 0.9 > 0.6 > figures["prior"]["average_precision"]
    assert figures["f1"] > 0.9 > 0.7 > figures["prior"]["f1"]
    assert cell.splits["test"] == 160


def test_each_figure_follows_from_the_predictions(results, data):
    cells = read_results(results)
    assert [cell.title for cell in cells] == ["y, fold 1 of 2", "y, fold 2 of 2"]
    tested = []
    for cell in cells:
        rows = read(results / cell.predictions)
        tested.append({row["group"] for row in rows})
        labels = [int(row["label"]) for row in rows]
        margins = np.array([float(row["score:yes"]) - float(row["score:no"]) for row in rows])
        answers = [int(row["prediction"]) for row in rows]
        assert answers == (margins > 0).astype(int).tolist()
        wanted = average_precision_score(labels, margins)
        assert cell.metrics["average_precision"] == pytest.approx(wanted)
        assert cell.metrics["f1"] == pytest.approx(f1_score(labels, answers))
        prior = [float(row["prior"]) for row in rows]
        wanted = average_precision_score(labels, prior)
        assert cell.metrics["prior"]["average_precision"] == pytest.approx(wanted)
        assert cell.metrics["chance"]["average_precision"] == pytest.approx(np.mean(labels))
        by_id = {row["id"]: row for row in lines()}
        for row in rows[:40]:
            text, place = row["id"].split(":")
            assert row["text"] == text
            assert by_id[text]["text"].split()[int(place) - 1] == row["word"] in FILLERS
            assert by_id[text]["y"].split()[int(place) - 1] == row["label"]
    assert not tested[0] & tested[1]
    assert read_projection(next((results / "projections").glob("*.csv")))[0].shape == (640, 2)


def test_the_report_shows_chance_and_the_word_alone(results, tmp_path, capsys):
    report.run(report.ReportSettings(results=[results], out=tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    (cell,) = read_sets([results])[0].cells
    prior = cell.metrics["prior"]
    row = [f"{100 * prior[name]:.2f}" for name in ("average_precision", "f1", "top1")]
    assert f"| the word alone | {' | '.join(row)} |" in text
    chance = [f"{100 * cell.metrics['chance'][n]:.2f}" for n in ("average_precision", "f1", "top1")]
    assert f"| best constant answer | {' | '.join(chance)} |" in text
    assert "| encoder | " in text
    assert "y: average precision" in text
    assert "encoder compared with the word alone: better beyond the noise" in text
    assert "## y: fold by fold" in text
    assert "the word alone" in capsys.readouterr().out


def test_changed_scores_are_refused(results, tmp_path):
    changed = tmp_path / "r"
    changed.mkdir()
    for path in results.rglob("*"):
        if path.is_file():
            (changed / path.relative_to(results)).parent.mkdir(parents=True, exist_ok=True)
            (changed / path.relative_to(results)).write_bytes(path.read_bytes())
    file = next((changed / "predictions").glob("*.csv"))
    rows = read(file)
    for change, told in (
        ({"prediction": "1"}, "an answer is not that of its scores"),
        ({"prior": "nan"}, "not every score is a finite number"),
        ({"score:yes": "99", "prediction": "1"}, "does not give a figure of its cell"),
    ):
        place = next(i for i, row in enumerate(rows) if row["prediction"] == row["label"] == "0")
        some = [row | change if i == place else row for i, row in enumerate(rows)]
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, rows[0])
            writer.writeheader()
            writer.writerows(some)
        with pytest.raises(SpeechkdError, match=told):
            read_sets([changed])


def test_the_best_epoch_goes_by_average_precision(data, tmp_path):
    run(
        settings(
            data, tmp_path / "r", folds=0, selection="best-valid", epochs=2, pooling="mean",
            class_weights="balanced",
        )
    )  # fmt: skip
    (cell,) = read_results(tmp_path / "r")
    assert max(e["valid_score"] for e in cell.epochs) == pytest.approx(
        cell.valid_metrics["average_precision"]
    )


def test_texts_and_words_do_not_share_a_folder(results, data):
    with pytest.raises(SpeechkdError, match="another recipe or data set"):
        run(settings(data, results, kind="classes", dry_run=True))


def test_a_cache_of_clips_says_nothing_of_words(data, tmp_path):
    with pytest.raises(SpeechkdError, match="--kind words asks of single words"):
        settings(data, tmp_path, teacher_cache="cache")
