"""SPLAT on real speech: commands that exist and stand in order, and who is never heard."""

import csv
import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench import splat_speech
from bench.splat_speech import SEEDS, SHARES, TASKS, cells, make_tables, table
from stages.cli import STAGES
from stages.options import parse

COMMANDS = {name: settings for stage in STAGES for name, (settings, _) in stage.COMMANDS.items()}


def test_commands_take_their_words_and_stand_behind_what_they_need():
    before: set[str] = set()
    for cell in cells(Path("data"), Path("out"), "minilm"):
        assert set(cell.needs) <= before, cell.name
        assert cell.name not in before
        before.add(cell.name)
        module, *words = cell.command
        if module == "stages.cli":
            name = next(n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS)
            parse(name, COMMANDS[name], words[len(name.split()) :])
    assert {f"run/Seq-relabelled-{seed}" for seed in SEEDS} < before
    judged = {
        f"judge/{task}-{share}-{seed}" for task in TASKS for share in SHARES for seed in SEEDS
    }
    assert judged < before


@pytest.fixture
def tables(tmp_path):
    """A folder of tables of a small copy of the corpora."""
    columns = ["utt_id", "path", "split", "speaker", "text"]
    said = {"wuw2": "I call the {} now", "speechocean762": "{} OLD MEN"}
    draw = random.Random(0)
    for corpus in splat_speech.CORPORA:
        rows = []
        for who in range(24):
            for number in range(12):
                words = draw.choice(("Operator", "Wildfire", "TWO", "SOME", "Voyager"))
                split = ("train", "test")[who % 2] if corpus == "speechocean762" else ""
                line = said.get(corpus, "{}").format(words)
                rows.append([f"{who}_{number}", f"{who}/{number}.opus", split, f"s{who}", line])
        folder = tmp_path / "data" / corpus
        folder.mkdir(parents=True)
        kept = [
            n for n, name in enumerate(columns) if name != "split" or corpus == "speechocean762"
        ]
        with (folder / "manifest.tsv").open("w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows(
                [[row[n] for n in kept] for row in (columns, *rows)]
            )
    make_tables(tmp_path / "data", tmp_path / "out")
    return tmp_path / "out"


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_who_is_judged_is_never_heard_in_training(tables):
    heard = {row["speaker"] for row in rows_of(tables / "train.csv")}
    assert len(heard) > 24
    for task in TASKS:
        rows = rows_of(tables / f"{task}-100.csv")
        by_split = {
            split: {row["speaker"] for row in rows if row["split"] == split}
            for split in ("train", "valid", "test")
        }
        assert all(by_split.values())
        assert not by_split["test"] & heard
        assert not by_split["test"] & by_split["train"]
        assert not by_split["valid"] & (by_split["train"] | by_split["test"])


def test_shares_hold_each_other_and_every_label(tables):
    for task in TASKS:
        rows = {share: rows_of(tables / f"{task}-{share}.csv") for share in SHARES}
        for smaller, larger in pairwise(SHARES):
            ids = [
                {row["id"] for row in rows[s] if row["split"] == "train"} for s in (smaller, larger)
            ]
            assert ids[0] <= ids[1]
            assert {row["id"] for row in rows[smaller]} - ids[0] == {
                row["id"] for row in rows[larger]
            } - ids[1]
        labels = {row[task] for row in rows[100]}
        assert {row[task] for row in rows[1] if row["split"] == "train"} == labels


def test_labels_are_what_is_said(tables):
    for row in rows_of(tables / "keyword-100.csv"):
        assert row["keyword"] in row["text"].lower()
    for row in rows_of(tables / "number-100.csv"):
        assert (row["number"] == "yes") == row["text"].startswith("TWO")


def test_the_table_has_means_over_modules_and_gains_over_pairs(tmp_path):
    folder = tmp_path / "results" / "keyword-5"
    folder.mkdir(parents=True)
    right = {
        "Seq-0": (0.3, 0.5), "Seq-1": (0.6,), "Seq-2": (0.5,),
        "Speech-0": (0.2,), "Speech-1": (0.5,), "Speech-2": (0.4, 0.2),
        "Scratch-0": (0.2, 0.3), "Scratch-1": (0.2, 0.3), "Other-0": (0.4,), "Other-1": (0.4,),
    }  # fmt: skip
    lines = [
        json.dumps(
            {
                "checkpoint": {
                    "label": name,
                    "weights_sha256": name.replace("Scratch-1", "Scratch-0"),
                },
                "metrics": {"balanced_accuracy": value},
            }
        )
        for name, values in right.items()
        for value in values
    ]
    (folder / "results.jsonl").write_text("\n".join(lines))
    text = table(tmp_path)
    assert "| Scratch | – | 25.0 | – | – | – |" in text  # equal weights: one module
    assert "| Other | – | 40.0 ± 0.0 | – | – | – |" in text
    gains = np.array([20.0, 10.0, 20.0])
    low, high = stats.t.interval(0.95, 2, gains.mean(), stats.sem(gains))
    assert f"| Seq over Speech | – | +16.7 ({low:.1f} to {high:.1f}) | – | – | – |" in text
    assert "| Seq | – | 50.0 ± 10.0 | – | – | – |" in text
