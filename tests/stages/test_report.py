"""`report`: the whole page from results folders, with its conclusions and its refusals."""

import csv
import html.parser
import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from pipeline.finetuning.results import TEACHER, Results, prediction_table, projection_name
from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import read_sets
from pipeline.reports.gains import gains_of
from pipeline.tasks.mosei.questions import TASKS
from pipeline.tasks.task import Task
from stages.report import ReportSettings, run
from tests.helpers.finished import cell, checkpoint

EVIL = "<script>alert(1)</script>|$x$"


def add(
    results, label, seed, share, task="sentiment3", objective=None, control=None, first=0, **changes
):
    """A cell of 60 clips in 20 videos, of which a share is classed right."""
    task = TASKS[task]
    labels = np.random.default_rng(7).integers(0, 3, 60)
    if task.kind == "value":
        labels = (labels - 1).astype(np.float32)
    if task.kind == "flags":
        labels = np.stack([labels > i % 2 for i in range(6)], 1).astype(np.int64)
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(60, len(task.outputs))).astype(np.float32)
    right = rng.random(60) < share
    if task.kind == "value":
        scores[right, 0] = labels[right]
    elif task.kind == "flags":
        scores[right] = 2.0 * labels[right] - 1
    else:
        scores[np.flatnonzero(right), labels[right]] += 9
    ids = [str(first + i) for i in range(60)]
    hardware = cell().provenance["hardware"] | {"accelerators": ["GPU"] if label == "kd" else []}
    finished = cell(
        name=f"{len(list((results.folder / 'cells').glob('*')))}",
        encoder=checkpoint(label, objective, control, weights_sha256=label),
        task=task.name,
        seed=seed,
        splits={"train": 100, "valid": 10, "test": 60},
        metrics=task.score(labels, scores),
        provenance={**cell().provenance, "hardware": hardware},
        **changes,
    )
    groups = [f"video{(first + i) // 3}" for i in range(60)]
    results.add_projection(
        projection_name(label, label, task.name), ids, ["1.5", "-2.0"] * 30, scores[:, [0, 0]], 0.5
    )
    results.add(finished, prediction_table(task, ids, groups, [""] * 60, labels, scores))


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def full(tmp_path):
    results = Results(tmp_path / "r", {"data": 1}, {})
    for seed in (0, 1, 2):
        add(results, "text", seed, 0.3, objective="none")
        add(results, "kd", seed, 0.9, objective="crd")
        add(results, "mixed", seed, 0.9, objective="crd", control="shuffled")
        add(results, EVIL, seed, 0.3)
        add(results, "text", seed, 0.2, task="sentiment", objective="none")
        add(results, "kd", seed, 0.7, task="sentiment", objective="crd")
        add(results, "kd", seed, 0.7, task="emotions", objective="crd")
    tasks = ("sentiment3", "sentiment", "emotions")
    results.ask(itertools.product(("text", "kd", "mixed", EVIL), tasks, (0, 1, 2)))
    return tmp_path


def test_the_teacher_is_shown_where_it_heard_the_clips(full):
    run(ReportSettings(results=[full / "r"], out=full / "report"))
    assert "finetune --teacher-cache" in (full / "report" / "report.md").read_text()
    before = (full / "report" / "figures" / "vectors.png").read_bytes()
    Results(full / "r", {"data": 1}, {}).add_projection(
        TEACHER, ["1", "2"], ["1.5", "-2.0"], np.eye(2), 0.5
    )
    run(ReportSettings(results=[full / "r"], out=full / "again"))
    assert "of the clips' recordings" in (full / "again" / "report.md").read_text()
    assert (full / "again" / "figures" / "vectors.png").read_bytes() != before


def test_the_whole_report(full, capsys):
    run(ReportSettings(results=[full / "r"], out=full / "report"))
    assert "best constant answer" in capsys.readouterr().out
    text = (full / "report" / "report.md").read_text()
    assert text.startswith(
        "# Results\n\n## In short\n\nEncoders: 4; tasks: 3; fine-tuning seeds: 3"
    )
    assert "21 of 36 cells are finished" in text
    assert (
        "kd (kd crd) compared with text (3 seeds): better beyond the noise in sentiment3, MAE"
        in text
    )
    assert "Compared with mixed, there is no gain beyond the noise in sentiment3" in text
    assert "| sentiment3 | kd (kd crd) | mixed |" in text
    assert "## emotions: fear: beside the accuracy" in text
    assert "CONTROL: shuffled teacher" in text
    assert "| sentiment7 | regression, scheme paper | " in text
    assert "| sentiment7 | regression, scheme mult | " in text
    assert "| sentiment3 | classifier, scheme paper | " in text
    assert "because no run of distillation made them: &lt;script>alert(1)" in text
    assert "The figures of Hasan et al. 2023 are not put beside these" in text
    assert "Missing: " in text
    assert "| commit | abc |" in text
    assert "| machine | x86_64, 1 of 4 cores; GPU |" in text
    assert "weights sha256 mixed; cells: 3, 1 min 30 s each |" in text
    for name in ("gains", "losses", "vectors", "confusion-sentiment3"):
        assert (full / "report" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"figures/{name}.png" in text
    assert (full / "report" / "report.tex").read_text().count("tabular") >= 4
    assert "table2,kd (kd crd),MAE," in (full / "report" / "report.csv").read_text()


def test_the_page_needs_nothing_else_and_runs_nothing(full):
    run(ReportSettings(results=[full / "r"], out=full / "report"))
    page = Tags()
    page.feed((full / "report" / "report.html").read_text())
    assert "script" not in page.tags
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert any(EVIL in text for text in page.text)


def test_gains_of_epochs_selected_on_the_test_are_headed_by_that(tmp_path):
    results = Results(tmp_path / "r", {"data": 1}, {})
    for label, objective in (("text", "none"), ("kd", "crd")):
        recipe = {"epochs": 3, "selection": "best-test"}
        add(results, label, 0, 0.5, objective=objective, recipe=recipe)
    run(ReportSettings(results=[tmp_path / "r"], out=tmp_path / "report"))
    page = (tmp_path / "report" / "report.md").read_text()
    for title in ("Gains of the students", "All differences between encoders"):
        (line,) = (line for line in page.splitlines() if line.startswith(f"## {title}"))
        assert "SELECTED ON THE TEST" in line


def answers(results, name, predicted, labels):
    """Give a cell other answers."""
    path, task = results.folder / "cells" / f"{name}.json", TASKS["sentiment3"]
    record = json.loads(path.read_text())
    scores = np.eye(3, dtype=np.float32)[predicted]
    record["metrics"] = task.score(labels, scores)
    path.write_text(json.dumps(record))
    ids, groups = [str(i) for i in range(60)], [f"video{i // 3}" for i in range(60)]
    table = prediction_table(task, ids, groups, [""] * 60, labels, scores)
    (results.folder / "predictions" / f"{name}.csv").write_text(table)
    results.collect()


def test_encoders_that_answer_as_a_constant_would_are_named_first(tmp_path):
    """And no other: one that is wrong everywhere has a low balanced accuracy, too."""
    results = Results(tmp_path / "r", {}, {})
    for label in ("reads", "sleeps", "errs", "half"):
        add(results, label, 0, 0.9)
    add(results, "half", 1, 0.9)
    labels = np.random.default_rng(7).integers(0, 3, 60)
    answers(results, 1, np.full(60, 1), labels)
    answers(results, 2, (labels + 1) % 3, labels)
    answers(results, 3, np.full(60, 1), labels)
    run(ReportSettings(results=[results.folder], out=tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    line = "- In sentiment3, the answers of sleeps are all but constant: with every seed, more than"
    assert line in text


def test_chance_is_that_of_the_classes_that_occur(tmp_path):
    results = Results(tmp_path / "r", {}, {})
    add(results, "m", 0, 0.9, objective="none")
    answers(results, 0, np.full(60, 2), np.repeat([0, 2], 30))
    run(ReportSettings(results=[results.folder], out=tmp_path / "report"))
    assert "balanced accuracy near 50.0" in (tmp_path / "report" / "report.md").read_text()


def test_predictions_that_are_missing_or_cut_off_are_an_error_with_a_remedy(full):
    path = next((full / "r" / "predictions").glob("*.csv"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:41]))
    with pytest.raises(
        SpeechkdError, match=r"holds 40 of 60 test clips; remove it.*makes it again"
    ):
        run(ReportSettings(results=[full / "r"], out=full / "report"))
    path.unlink()
    with pytest.raises(SpeechkdError, match=r"finished cell are missing; .* makes it again"):
        run(ReportSettings(results=[full / "r"], out=full / "report"))


def test_results_of_two_recipes_never_share_a_table(tmp_path, capsys):
    for name, epochs in (("a", 3), ("b", 4), ("c", 3)):
        results = Results(tmp_path / name, {"recipe": {"epochs": epochs}}, {})
        add(results, f"model-{name}", 0, 0.8)
    folders = [tmp_path / name for name in "abc"]
    run(ReportSettings(results=folders, out=tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    first, second = text.split("# Results: ")[1:]
    assert "model-a" in first
    assert "model-c" in first
    assert "model-b" not in first
    assert "model-b" in second
    assert (tmp_path / "report" / "figures" / "2-losses.png").exists()
    assert str(tmp_path / "b") in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "report" / "report.csv").open()))
    told = {(row["results"], row["model"]) for row in rows if row["model"].startswith("model")}
    assert told == {("1: a, c", "model-a"), ("1: a, c", "model-c"), ("2: b", "model-b")}
    titles = (tmp_path / "report" / "report.tex").read_text().split("\n% ")
    assert len(titles) == 2
    assert titles[1].startswith("2: b: ")


@pytest.mark.parametrize("path", [("metrics", "accuracy"), ("provenance", "git_commit")])
def test_a_record_without_what_is_needed_is_told(full, path):
    file = full / "r" / "results.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    del lines[1][path[0]][path[1]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = rf"results\.jsonl, line 2: no record of a cell \({'.'.join(path)} is missing\); the same"
    with pytest.raises(SpeechkdError, match=told):
        run(ReportSettings(results=[full / "r"], out=full / "report"))
    assert not (full / "report").exists()


def test_a_file_cannot_be_the_reports_folder(full):
    (full / "file").touch()
    with pytest.raises(SpeechkdError, match="is a file; name a folder"):
        run(ReportSettings(results=[full / "r"], out=full / "file"))


def test_one_label_for_two_encoders_is_refused(tmp_path):
    for name in "ab":
        results = Results(tmp_path / name, {}, {})
        add(results, "m", 0, 0.8)
        path = next((tmp_path / name / "cells").glob("*.json"))
        path.write_text(
            path.read_text().replace('"weights_sha256": "m"', f'"weights_sha256": "{name}"')
        )
        results.collect()
    with pytest.raises(SpeechkdError, match="m stands for weights"):
        run(ReportSettings(results=[tmp_path / "a", tmp_path / "b"], out=tmp_path / "report"))


def test_a_figure_that_its_predictions_do_not_give_is_refused(full):
    path = full / "r" / "cells" / "0.json"
    record = json.loads(path.read_text())
    record["metrics"]["accuracy"] += 0.01
    path.write_text(json.dumps(record))
    Results(full / "r", {"data": 1}, {}).collect()
    with pytest.raises(SpeechkdError, match=r"0\.csv does not give a figure of its cell: accuracy"):
        run(ReportSettings(results=[full / "r"], out=full / "report"))
    assert not (full / "report").exists()


def test_a_removed_cell_does_not_count(full):
    (full / "r" / "cells" / "1.json").unlink()  # and results.jsonl still has its line
    run(ReportSettings(results=[full / "r"], out=full / "report"))
    text = (full / "report" / "report.md").read_text()
    assert "20 of 36 cells are finished" in text
    assert "Lines of results.jsonl whose cells were removed, and which do not count: 1." in text
    assert "| kd (kd crd) | 91.67 ± 0.00 (2 of 3)" in text or "(2 of 3)" in text


def test_a_cell_that_was_not_listed_yet_counts(full):
    path = full / "r" / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    run(ReportSettings(results=[full / "r"], out=full / "report"))
    assert "21 of 36 cells are finished" in (full / "report" / "report.md").read_text()


def test_texts_that_are_in_training_too_are_told_where_the_figures_are_read(tmp_path):
    results = Results(tmp_path / "r", {}, {})
    add(results, "m", 0, 0.9, repeated_texts=6)
    run(ReportSettings(results=[results.folder], out=tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "In sentiment3, 6 of 60 test texts (10.0 %) stand in training, too" in text


def folded(tmp_path, folds=("Ses1", "Ses2"), seeds=(0, 1), task="sentiment3"):
    results = Results(tmp_path / "r", {}, {})
    data = {**cell().data, "split": {"origin": "folds", "seed": 0, "of": "session"}, "name": "t"}
    for label, share in (("text", 0.4), ("kd", 0.8)):
        for number, fold in enumerate(folds):
            for seed in seeds:
                add(
                    results, label, seed, share, objective="none" if label == "text" else "crd",
                    fold=fold, data=data, first=60 * number, task=task,
                )  # fmt: skip
    return results


def test_folds_are_one_test(tmp_path):
    results = folded(tmp_path)
    run(ReportSettings(results=[results.folder], out=tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "folds: 2; fine-tuning seeds: 2; 8 of 8 cells are finished" in text
    assert "one session after another was left out as the test" in text
    (whole,) = read_sets([results.folder])
    assert [(one.label, one.seed, one.splits["test"]) for one in whole.cells] == [
        ("kd", 0, 120), ("kd", 1, 120), ("text", 0, 120), ("text", 1, 120),
    ]  # fmt: skip
    predictions = whole.predictions["kd", "sentiment3", 0]
    right = predictions.labels == predictions.predictions
    assert whole.cells[0].metrics["accuracy"] == pytest.approx(right.mean())
    assert len(set(predictions.ids)) == 120
    assert "kd (kd crd) compared with text (2 seeds): better beyond the noise" in text
    by_fold = text.partition("## sentiment3: fold by fold")[2].partition("\n## ")[0]
    means = [
        np.mean([one.metrics["accuracy"] for one in whole.folds if one.key[:2] == key])
        for key in (("kd", "sentiment3, fold Ses1"), ("kd", "sentiment3, fold Ses2"))
    ]
    assert f"| {100 * means[0]:.2f} | {100 * means[1]:.2f} |" in by_fold
    assert f"| kd (kd crd) | accuracy | {100 * np.mean(means):.2f} ±" in by_fold


def test_r_of_folds_is_their_mean(tmp_path):
    results = folded(tmp_path, task="sentiment")
    run(ReportSettings(results=[results.folder], out=tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "all folds' predictions together, but r is the mean over folds." in text
    (whole,) = read_sets([results.folder])
    for one in whole.cells:
        of_folds = [
            f.metrics["pearson"] for f in whole.folds if (f.label, f.seed) == (one.label, one.seed)
        ]
        assert len(of_folds) == 2
        assert one.metrics["pearson"] == pytest.approx(np.mean(of_folds))


def test_an_encoder_without_one_of_its_folds_has_no_figure(tmp_path):
    results = folded(tmp_path)
    gone = next(
        one.name for one in results.cells() if one.key == ("kd", "sentiment3, fold Ses2", 1)
    )
    (results.folder / "cells" / f"{gone}.json").unlink()
    results.collect()
    run(ReportSettings(results=[results.folder], out=tmp_path / "report"))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Cells that no figure shows, because other folds of the same encoder and seed" in text
    (whole,) = read_sets([results.folder])
    assert [one.key for one in whole.cells if one.label == "kd"] == [("kd", "sentiment3", 0)]


def test_folds_of_which_only_some_were_run_are_no_whole_test(tmp_path):
    """All encoders lack the same fold, which was asked for: it is not forgotten."""
    results = folded(tmp_path)
    results.ask([("kd", "sentiment3, fold Ses3", 0)])
    with pytest.raises(SpeechkdError, match="no encoder and seed has all folds"):
        run(ReportSettings(results=[results.folder], out=tmp_path / "report"))


def test_a_hundred_classes_make_a_readable_page_at_once(tmp_path):
    names = tuple(f"class {i} with a very long name that goes on, and on & on" for i in range(100))
    task, results = (
        Task("y", "classes", names, "y: one of 100 classes"),
        Results(tmp_path / "r", {}, {}),
    )
    labels = np.arange(300) % 100
    scores = np.random.default_rng(0).normal(size=(300, 100)).astype(np.float32)
    scores[np.arange(0, 300, 2), labels[::2]] += 9
    ids = [str(i) for i in range(300)]
    finished = cell(
        encoder=checkpoint("m"),
        metrics=task.score(labels, scores),
        splits={"train": 9, "test": 300},
    )
    finished = replace(finished, task="y", outputs=names, definition=task.definition)
    results.add(finished, prediction_table(task, ids, ids, [""] * 300, labels, scores))
    started = time.process_time()
    run(ReportSettings(results=[results.folder], out=tmp_path / "report"))
    assert time.process_time() - started < 10
    text = (tmp_path / "report" / "report.md").read_text()
    assert max(len(line) for line in text.splitlines() if line.startswith("#")) < 120
    assert f"| 100 | {names[99]} | 3 | " in text
    assert text.count("\n| m | class ") == 10
    assert "recall class" not in text


def test_no_results_is_an_error(tmp_path):
    with pytest.raises(SpeechkdError, match=r"holds no results: .*probe hearing"):
        run(ReportSettings(results=[tmp_path], out=tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_several_families_share_a_page_that_begins_with_one_table(tmp_path, capsys):
    for name, task, data in (("a", "sentiment3", {"data": 1}), ("b", "sentiment", {"data": 2})):
        results = Results(tmp_path / name, data, {})
        for seed in (0, 1):
            of_table = {"data": {**cell().data, "name": "t.csv"}} if name == "b" else {}
            add(results, "text", seed, 0.3, task, objective="none", **of_table)
            add(results, "kd", seed, 0.9, task, objective="crd", **of_table)
            add(results, "mixed", seed, 0.3, task, objective="crd", control="shuffled", **of_table)
    both = [tmp_path / "a", tmp_path / "b"]
    run(ReportSettings(results=both, out=tmp_path / "report"))
    told = "kd: better than without a teacher and than its control in sentiment3: accuracy and "
    assert f"{told}sentiment: Pearson r." in capsys.readouterr().out
    text = (tmp_path / "report" / "report.md").read_text()
    heads = [line for line in text.splitlines() if line.startswith("# ")]
    assert heads == ["# All tasks on one page", "# CMU-MOSEI, told from texts",
                     "# Values, told from texts"]  # fmt: skip
    assert "\n## Results: " in text
    assert "| student | compared with | sentiment3: accuracy | sentiment: Pearson r |" in text
    assert (tmp_path / "report" / "figures" / "overview.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "report" / "overview.csv").open()))
    kd = next(row for row in rows if (row["task"], row["student"]) == ("sentiment3", "kd"))
    gain = next(
        g
        for g in gains_of(read_sets(both)[0]).over_baseline
        if (g.label, g.key) == ("kd", "accuracy")
    )
    assert float(kd["gain"]) == pytest.approx(gain.difference.mean)
    assert float(kd["holm_p"]) == pytest.approx(4 * gain.difference.p)
    named = ReportSettings(results=both, out=tmp_path / "r", holm_task=["sentiment3:weighted_f1"])
    run(named)
    assert "Holm's correction is over 2 comparisons: sentiment3: weighted F1, of kd" in (
        tmp_path / "r" / "report.md"
    ).read_text()  # fmt: skip


def test_a_measure_of_a_task_of_two_sets_is_named_as_its_heading(tmp_path):
    for name in ("a", "b"):
        results = Results(tmp_path / name, {"data": name}, {})
        add(results, "text", 0, 0.3, objective="none")
        add(results, "kd", 0, 0.9, objective="crd")
    named = ["2: sentiment3:weighted_f1"]
    folders = [tmp_path / "a", tmp_path / "b"]
    run(ReportSettings(results=folders, out=tmp_path / "report", holm_task=named))
    rows = [*csv.DictReader((tmp_path / "report" / "overview.csv").open())]
    assert [(r["task"], r["measure"]) for r in rows if r["holm_p"]] == [
        ("2: sentiment3", "weighted F1")
    ]


def test_figures_of_epochs_selected_on_the_test_are_marked_in_the_table_of_figures(tmp_path):
    results = Results(tmp_path / "r", {}, {})
    add(results, "kd", 0, 0.5, objective="crd", recipe={"epochs": 3, "selection": "best-test"})
    run(ReportSettings(results=[tmp_path / "r"], out=tmp_path / "report"))
    rows = list(csv.DictReader((tmp_path / "report" / "report.csv").open()))
    assert {row["selection"] for row in rows} == {"best-test"}


def test_gains_of_epochs_selected_on_the_test_are_marked_wherever_they_stand(tmp_path, capsys):
    results = Results(tmp_path / "r", {}, {})
    for label, share, objective in (("none", 0.3, "none"), ("kd", 0.9, "crd")):
        recipe = {"epochs": 3, "selection": "best-test"}
        add(results, label, 0, share, objective=objective, recipe=recipe)
    named = ["sentiment3:accuracy"]
    run(ReportSettings(results=[tmp_path / "r"], out=tmp_path / "report", holm_task=named))
    printed = capsys.readouterr().out
    assert "alone in sentiment3: accuracy [SELECTED ON THE TEST] (" in printed
    assert "WARNING: where it is said, epochs are selected on the test itself" in printed
    text = (tmp_path / "report" / "report.md").read_text()
    assert r"| compared with | sentiment3: accuracy \[SELECTED ON THE TEST\] |" in text
    assert "1 of these comparisons are of one fine-tuning seed" in printed
    (row,) = csv.DictReader((tmp_path / "report" / "overview.csv").open())
    assert row["measure"] == "accuracy [SELECTED ON THE TEST]"


def test_many_folders_of_one_parent_are_counted_in_headings_and_named_below(tmp_path):
    for number in range(4):
        results = Results(tmp_path / "all" / str(number), {}, {})
        add(results, f"m{number}", 0, 0.5)
    folders = [tmp_path / "all" / str(number) for number in range(4)]
    (whole,) = read_sets(folders)
    assert (whole.name, whole.short) == (f"{tmp_path / 'all'} (4 folders)", "all (4 folders)")
    run(ReportSettings(results=folders, out=tmp_path / "report"))
    assert f"| folders | {', '.join(map(str, folders))} |" in (
        tmp_path / "report" / "report.md"
    ).read_text()  # fmt: skip


def test_what_pretraining_made_is_compared_with_the_same_of_fresh_weights(tmp_path):
    """And with those of no other run."""
    results = Results(tmp_path / "r", {}, {})
    for seed in (0, 1):
        add(results, "kd", seed, 0.9, objective="ctal")
        add(results, "scratch", seed, 0.3)
        add(results, "other", seed, 0.3)
    for path in (results.folder / "cells").glob("*.json"):
        text = path.read_text().replace('"source": "runs/scratch"', '"source": "scratch:runs/kd"')
        path.write_text(text.replace('"source": "runs/other"', '"source": "scratch:runs/other"'))
    results.collect()
    run(ReportSettings(results=[results.folder], out=tmp_path / "report", holm_task=["sentiment3"]))
    text = (tmp_path / "report" / "report.md").read_text()
    assert "kd: better than without a teacher alone in sentiment3: accuracy (it has no" in text
    assert "| kd | scratch | +" in text
    assert "is their equal as pretrain left it: other. fresh:RUN" in text
    assert "so no gain can be stated" not in text
