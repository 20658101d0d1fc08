"""`speechkd finetune audio-text` as a user meets it: classes, values, speakers, from one model."""

import csv
import json
import shutil

import numpy as np
import pytest
import zarr
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.verification import equal_error_rate
from stages.finetune_audio_text import AudioTextSettings, run
from stages.pretrain_ctal import CtalSettings
from stages.pretrain_ctal import run as pretrain
from stages.report import ReportSettings
from stages.report import run as report
from tests.helpers.caches import make_sequence_cache, samples_of

CLIPS = [40, 32]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A cache, a model trained on it for a step or two, and a table of its clips."""
    folder = tmp_path_factory.mktemp("audio-text")
    cache = make_sequence_cache(
        folder / "mels", CLIPS, "ctal-mel", width=4, most_rows=60, hop_samples=200
    )
    pretrain(
        CtalSettings(
            cache=str(folder / "mels"), out=folder / "ctal", layers=1, width=16, heads=2,
            vocab_size=300, epochs=1.0, batch=16, held_out=0.0, device="cpu",
        )
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["key", "text", "label", "score", "who", "session", "take", "one"])
        clips = samples_of(cache)
        for i, (key, text) in enumerate(zip(clips.keys, clips.texts, strict=True)):
            label = ("happy", "sad", "angry")[i % 3]
            table.writerow(
                [key, text, label, round(rng.normal(), 3), f"w{i % 24}", i % 4, i // 24 % 2, 1]
            )
    return folder


@pytest.fixture
def settings(work, tmp_path):
    def make(**changes):
        options = {
            "data": [str(work / "table.csv")], "cache": str(work / "mels"), "seeds": "0",
            "checkpoint": [str(work / "ctal")], "out": tmp_path / "results", "epochs": 2,
            "batch_size": 8, "learning_rate": 1e-3, "device": "cpu",
        }  # fmt: skip
        return AudioTextSettings(**{**options, **changes})

    return make


def cells(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"streams": "text", "cache": ""},
        {"streams": "audio"},
        {"fusion": "concat", "orthogonal": 0.0},
        {"fusion_head": "repository", "freeze": True},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "default",
)
def test_classes_are_told_by_either_stream_or_both(settings, changes):
    made = settings(group_column="who", **changes)
    run(made)
    (cell,) = cells(made.out)
    with (made.out / cell["predictions"]).open() as file:
        rows = list(csv.DictReader(file))
    labels, predictions = ([row[name] for row in rows] for name in ("label", "prediction"))
    assert cell["metrics"]["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert cell["metrics"]["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, predictions)
    )
    assert cell["recipe"]["streams"] == made.streams
    assert cell["recipe"]["schedule"] == "cosine"
    assert cell["chosen_epoch"] in (1, 2)
    assert cell["checkpoint"]["objective"] == "ctal"


def test_folds_are_never_selected_on_their_test(settings):
    made = settings(fold_column="session", group_column="session", fold_validation="next")
    run(made)
    found = cells(made.out)
    assert [cell["fold"] for cell in found] == ["0", "1", "2", "3"]
    assert all(cell["splits"]["valid"] == cell["splits"]["test"] == 18 for cell in found)
    assert all(cell["splits"]["train"] == 36 for cell in found)


def test_epochs_selected_on_the_test_are_warned_of_in_every_table(settings, tmp_path, capsys):
    made = settings(
        fold_column="session", group_column="session", selection="best-test", epochs=3,
        learning_rate=1e-2,
    )  # fmt: skip
    run(made)
    told = capsys.readouterr()
    assert "WARNING: table.csv: epochs are selected on the test itself" in told.err
    assert "SELECTED ON THE TEST" in " ".join(told.out.split())
    for cell in cells(made.out):
        metrics = cell["metrics"]
        chosen = 0.9 * metrics["accuracy"] + 0.1 * metrics["balanced_accuracy"]
        scores = [epoch["test_score"] for epoch in cell["epochs"]]
        assert max(scores) == pytest.approx(chosen)
        assert scores.index(max(scores)) == cell["chosen_epoch"] - 1
    report(ReportSettings(results=[made.out], out=tmp_path / "report"))
    page = (tmp_path / "report" / "report.md").read_text()
    # in short, at the table and fold by fold; and in the titles of all three tables
    assert page.count("WARNING: epochs are selected on the test itself") == 3
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert sum("SELECTED ON THE TEST" in title for title in titles) == 3


def test_values_have_mults_figures_beside_them(settings, tmp_path):
    made = settings(label_column="score", kind="value", derived="mult")
    run(made)
    (cell,) = cells(made.out)
    assert "mult/sentiment2" in cell["metrics"]["derived"]
    assert cell["recipe"]["regression_loss"] == "l1"
    report(ReportSettings(results=[made.out], out=tmp_path / "report"))
    page = (tmp_path / "report" / "report.md").read_text()
    assert "| model | Acc2 | F1 | F1 as MulT | Acc5 | Acc7 | MAE | Pearson r |" in page
    assert "MulT gives its arguments in the other order" in page


@pytest.mark.parametrize("pairs", ["all", "other-recording"])
def test_speakers_are_verified_by_pairs_of_clips_of_others(settings, pairs, tmp_path):
    made = settings(
        label_column="who", kind="speaker", pairs=pairs, group_column="take", selection="last"
    )
    run(made)
    (cell,) = cells(made.out)
    with (made.out / cell["predictions"]).open() as file:
        rows = list(csv.DictReader(file))
    speakers = [row["raw"] for row in rows]
    assert not set(speakers) & set(cell["outputs"])
    vectors = np.array(
        [[float(v) for k, v in row.items() if k.startswith("vector")] for row in rows]
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    one, other = np.triu_indices(len(rows), 1)
    if pairs == "other-recording":
        takes = np.array([row["group"] for row in rows])
        apart = takes[one] != takes[other]
        one, other = one[apart], other[apart]
    same = np.array(speakers)[one] == np.array(speakers)[other]
    expected = equal_error_rate((unit @ unit.T)[one, other], same)
    assert cell["metrics"]["eer"] == pytest.approx(expected, abs=0.02)
    assert cell["metrics"]["pairs"] == len(one)
    report(ReportSettings(results=[made.out], out=tmp_path / "report"))
    assert "EER" in (tmp_path / "report" / "report.md").read_text()


def test_a_list_of_trials_decides_which_pairs_are_asked(settings, work, tmp_path):
    with (work / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    table, trials = tmp_path / "split.csv", tmp_path / "trials.txt"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "split"])
        writer.writeheader()
        for row in rows:
            split = "test" if row["who"] in ("w0", "w1") else "train"
            writer.writerow({**row, "split": split})
    own = {who: [row["key"] for row in rows if row["who"] == who] for who in ("w0", "w1")}
    trials.write_text(
        f"1 {own['w0'][0]} {own['w0'][1]}\n0 {own['w0'][0]} {own['w1'][0]}\n"
        f"{own['w1'][0]} {own['w1'][1]} target\n"
    )
    made = settings(
        data=[str(table)], label_column="who", kind="speaker", split_column="split", trials=trials,
        selection="last",
    )  # fmt: skip
    run(made)
    (cell,) = cells(made.out)
    assert (cell["metrics"]["pairs"], cell["metrics"]["same_pairs"]) == (3, 2)
    assert cell["metrics"]["trials"] == "list"


def test_scratch_draws_all_weights_anew(settings, work):
    made = settings(
        checkpoint=[f"ctal={work / 'ctal'}", f"fresh=scratch:{work / 'ctal'}"], epochs=1
    )
    run(made)
    one, other = sorted(cells(made.out), key=lambda cell: cell["checkpoint"]["label"])
    assert [one["checkpoint"]["label"], other["checkpoint"]["label"]] == ["ctal", "fresh"]
    assert one["checkpoint"]["weights_sha256"] != other["checkpoint"]["weights_sha256"]
    assert other["checkpoint"]["objective"] is None
    assert one["metrics"] != other["metrics"] or one["curve"] != other["curve"]


def test_a_cell_is_a_function_of_its_seed(settings, tmp_path):
    for name in ("one", "other"):
        run(settings(out=tmp_path / name))
    one, other = (cells(tmp_path / name)[0] for name in ("one", "other"))
    assert one["metrics"] == other["metrics"]
    assert one["curve"] == other["curve"]


def test_a_cache_of_another_front_end_is_refused(settings, tmp_path):
    other = make_sequence_cache(
        tmp_path / "other", CLIPS, "ctal-mel", width=4, most_rows=60, hop_samples=160
    )
    with pytest.raises(SpeechkdError, match="hop_samples: 200 there, 160 here"):
        run(settings(cache=other.folder.path))


def test_rows_without_a_clip_in_the_cache_are_left_out_and_counted(settings, tmp_path, capsys):
    few = make_sequence_cache(
        tmp_path / "few", CLIPS, "ctal-mel", width=4, most_rows=60, hop_samples=200,
        only=list(range(20)),
    )  # fmt: skip
    made = settings(cache=few.folder.path, selection="last", epochs=1)
    run(made)
    assert sum(cells(made.out)[0]["splits"].values()) == 40
    assert "rows without a clip in the cache, such as 'clip-0-20', left out: 32" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache": ""}, "--streams both reads audio"),
        ({"label_column": "who", "kind": "speaker", "fold_column": "session"}, "has no folds"),
        ({"label_column": "who", "kind": "speaker", "folds": 3}, "--folds has no meaning"),
        ({"kind": "speaker", "drop_duplicates": True}, "--drop-duplicates has no meaning"),
        ({"label_column": "who", "kind": "speaker", "pairs": "other-recording"}, "--group-column"),
        ({"fold_column": "take", "fold_validation": "next"}, "folds need 3"),
        ({"label_column": "score", "kind": "value", "selection": "best-test"}, "best-test repeats"),
        ({"fold_column": "one"}, "one: 1 different value .1., but folds need 2"),
        (
            {"fold_column": "one", "fold_validation": "next"},
            "on. Name another --fold-column.$",
        ),
        ({"label_column": "key", "kind": "speaker"}, "there is no pair of one speaker"),
        ({"checkpoint": ["nowhere"]}, "there is no folder nowhere"),
        (
            {"label_column": "who", "kind": "speaker", "split_column": "take"},
            "is none of train, valid, test",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(settings, changes, message):
    with pytest.raises(SpeechkdError, match=message):
        run(settings(**changes))


def test_trials_that_name_unknown_clips_are_refused_before_training(settings, tmp_path):
    trials = tmp_path / "trials.txt"
    trials.write_text("1 clip-0-0 nobody\n")
    with pytest.raises(SpeechkdError, match="names of clips are not in the test"):
        run(settings(label_column="who", kind="speaker", trials=trials))
    assert not (tmp_path / "results").exists()


def test_silence_single_frames_and_texts_without_a_word_are_answered(settings, work, tmp_path):
    """As those of training: a clip of one frame, all frames alike, a text of signs alone."""
    odd = tmp_path / "odd"
    shutil.copytree(work / "mels", odd)
    with (work / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows[0]["text"], rows[1]["text"], rows[2]["text"] = "...", "\u200b", rows[2]["text"].upper()
    table = tmp_path / "odd.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    group = zarr.open_group(odd, mode="r+")
    group["rows"][:60] = np.log(1e-6)
    made = settings(data=[str(table)], cache=str(odd), selection="last", epochs=1)
    run(made)
    (cell,) = cells(made.out)
    assert np.isfinite(cell["curve"][-1]["loss"])


def test_clips_longer_than_those_of_training_are_cut_and_counted(settings, work, tmp_path, capsys):
    short = tmp_path / "short"
    shutil.copytree(work / "ctal" / "model", short)
    file = short / "features.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "longest": 20}))
    run(settings(checkpoint=[str(short)], epochs=1, selection="last"))
    told = capsys.readouterr().err
    assert "clips are longer than any the model was trained on and are cut to 20 frames" in told


def test_a_model_whose_parts_do_not_fit_is_refused(settings, work, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(work / "ctal" / "model", broken)
    file = broken / "features.json"
    file.write_text(file.read_text().replace('"stack": 1', '"stack": 2'))
    with pytest.raises(SpeechkdError, match="its parts are of different models"):
        run(settings(checkpoint=[str(broken)]))
    (broken / "audio" / "config.json").unlink()
    with pytest.raises(SpeechkdError, match="holds no audio stack"):
        run(settings(checkpoint=[str(broken)]))
