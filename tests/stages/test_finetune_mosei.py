"""`finetune mosei`: each cell once, the same figures after any interruption."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import write_vectors
from pipeline.finetuning import grid
from pipeline.finetuning.trainer import train_cell
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.seeds import parse_seeds
from pipeline.reports.cells import read_results, read_sets
from pipeline.reports.gains import gains_of
from pipeline.reports.projections import read_projection
from pipeline.reports.sections import sections
from pipeline.reports.tables import tables
from stages.finetune_mosei import MoseiSettings, run
from tests.helpers.caches import identity, manifest, shard_result, vectors_of
from tests.helpers.encoders import save_encoder
from tests.helpers.mosei import sentences, write_mmsa


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    write_mmsa(folder / "label.csv", 60)
    for name, seed in (("a", 0), ("b", 1)):
        save_encoder(folder / name, [text for text, _ in sentences(60)], seed=seed)
    return folder


def settings(here, out, **changes):
    return MoseiSettings(
        **{
            "data": here / "label.csv",
            "checkpoint": [str(here / "a")],
            "task": ["sentiment3", "sentiment"],
            "seeds": "0",
            "epochs": 1,
            "device": "cpu",
            "out": out,
            **changes,
        }
    )


def test_each_cell_leaves_a_line_and_its_predictions(here, tmp_path, capsys):
    run(settings(here, tmp_path / "r", checkpoint=[str(here / "a"), f"second={here / 'b'}"]))
    cells = read_results(tmp_path / "r")
    assert {cell.key for cell in cells} == {
        (label, task, 0) for label in ("a", "second") for task in ("sentiment3", "sentiment")
    }
    for cell in cells:
        assert cell.splits == {"train": 36, "valid": 12, "test": 12}
        predictions = (tmp_path / "r" / cell.predictions).read_text().splitlines()
        assert len(predictions) == 13
        assert cell.recipe["pooling"] == "cls"
        assert cell.provenance["versions"]["torch"]
    (results,) = read_sets([tmp_path / "r"])
    assert set(results.projections) == {"a", "second"}
    points, raw, share = read_projection(results.projections["second"])
    assert points.shape == (12, 2)
    assert set(raw) <= {f"{value}.0" for value in range(-3, 4)}
    assert 0 < share <= 1
    shown = capsys.readouterr().out
    assert "best constant answer" in shown
    assert "second" in shown


def teacher_cache(folder, keys):
    """Random vectors of one shard whose samples have these keys."""
    made = shard_result(len(keys), 8, seed=0)
    kept = [{**sample, "key": key} for sample, key in zip(made.samples, keys, strict=True)]
    cache = TeacherCache.create_or_open(folder, manifest([len(keys)]), identity(), {})
    write_vectors(cache, 0, replace(made, samples=kept), {})
    return cache


def test_the_teachers_vectors_of_the_test_clips_stand_beside_the_encoders(here, tmp_path, capsys):
    ids = [f"video{video}[{clip}]" for video in (4, 9, 14) for clip in (0, 1, 2)]
    cache = teacher_cache(tmp_path / "cache", ["elsewhere", *ids, "video0[0]"])
    run(settings(here, tmp_path / "r", teacher_cache=str(tmp_path / "cache"), task=["sentiment3"]))
    assert "has 9 of the 12 test clips of sentiment3" in capsys.readouterr().err
    (results,) = read_sets([tmp_path / "r"])
    points, raw, share = read_projection(results.teacher)
    reference = PCA(2).fit(vectors_of(cache)[1:10])
    np.testing.assert_allclose(
        np.abs(points), np.abs(reference.transform(vectors_of(cache)[1:10])), atol=1e-4
    )
    assert share == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-4)
    _, of_texts, _ = read_projection(results.projections["a"])
    assert raw == of_texts[:9]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_cache_of_other_clips_is_refused_before_anything_is_trained(here, tmp_path, dry_run):
    teacher_cache(tmp_path / "cache", ["some/clip", "video4[0]"])
    with pytest.raises(SpeechkdError, match=r"has 1 of the 12.*'video4\[0\]' here and 'some/clip'"):
        run(settings(here, tmp_path / "r", teacher_cache=str(tmp_path / "cache"), dry_run=dry_run))
    assert not (tmp_path / "r").exists()


def test_a_report_of_part_of_a_grid_tells_what_is_missing(here, tmp_path):
    """Found by a user: after one of three tasks of an array it said 2 of 2 cells."""
    share = {"task": ["sentiment3"], "seeds": "0-2", "out": tmp_path / "r"}
    run(settings(here, array_task="1/3", **share))
    (results,) = read_sets([tmp_path / "r"])
    (done,) = [cell.seed for cell in results.cells]
    assert results.missing == tuple(("a", "sentiment3", s) for s in range(3) if s != done)
    text = sections(results, gains_of(results))[0].text
    assert "1 of 3 cells are finished" in text[0]
    assert text[1].startswith("Missing: a sentiment3 seed ")
    run(settings(here, **share))
    (results,) = read_sets([tmp_path / "r"])
    assert results.missing == ()
    assert "3 of 3 cells are finished" in sections(results, gains_of(results))[0].text[0]


def test_a_made_split_does_not_ask_for_a_sound_one(here, tmp_path):
    data = tmp_path / "label.csv"
    text = (here / "label.csv").read_text()
    data.write_text(text.replace(",train\n", ",test\n", 1).replace(",valid\n", ",dev\n", 1))
    changes = {"data": data, "task": ["sentiment3"], "dry_run": True}
    with pytest.raises(SpeechkdError, match=r"splits are train, valid, test|both in"):
        run(settings(here, tmp_path / "r", **changes))
    run(settings(here, tmp_path / "r", split="made", **changes))


def test_another_recipe_is_refused_in_a_dry_run_too(here, tmp_path):
    run(settings(here, tmp_path / "r", task=["sentiment3"]))
    with pytest.raises(SpeechkdError, match=r"recipe\.epochs: 1 there, 2 now"):
        run(settings(here, tmp_path / "r", task=["sentiment3"], epochs=2, dry_run=True))
    run(settings(here, tmp_path / "not there", task=["sentiment3"], dry_run=True))
    assert not (tmp_path / "not there").exists()


def test_a_finished_cell_is_never_run_again(here, tmp_path, monkeypatch):
    run(settings(here, tmp_path / "r", task=["sentiment3"]))
    before = (tmp_path / "r" / "results.jsonl").read_bytes()
    monkeypatch.setattr(
        "pipeline.finetuning.grid.train_cell", lambda *_, **__: pytest.fail("ran again")
    )
    run(settings(here, tmp_path / "r", task=["sentiment3"]))
    assert (tmp_path / "r" / "results.jsonl").read_bytes() == before


def test_what_was_cut_off_is_finished_later_with_the_same_figures(here, tmp_path, monkeypatch):
    """The second cell dies; a later run does that one alone, and nothing differs from one run."""
    import pipeline.finetuning.grid

    train, calls = pipeline.finetuning.grid.train_cell, []

    def dying(*arguments, **named):
        calls.append(arguments[4])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr("pipeline.finetuning.grid.train_cell", dying)
    cut = settings(here, tmp_path / "cut", task=["sentiment3"], seeds="0-2")
    with pytest.raises(KeyboardInterrupt):
        run(cut)
    assert len(read_results(tmp_path / "cut")) == 1
    run(cut)
    assert calls == [0, 1, 1, 2]
    run(settings(here, tmp_path / "whole", task=["sentiment3"], seeds="0-2"))
    for one, other in zip(
        read_results(tmp_path / "cut"), read_results(tmp_path / "whole"), strict=True
    ):
        assert one.metrics == other.metrics
        table = one.predictions
        assert (tmp_path / "cut" / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()


def test_a_cell_that_another_command_finished_meanwhile_is_not_run_again(
    here, tmp_path, monkeypatch
):
    done = []

    def both(encoder, inputs, question, *arguments, **named):
        done.append(question.task.name)
        if len(done) == 1:  # while the first cell trains, someone else runs the second
            run(settings(here, tmp_path / "r", task=["sentiment"]))
        return train_cell(encoder, inputs, question, *arguments, **named)

    monkeypatch.setattr(grid, "train_cell", both)
    run(settings(here, tmp_path / "r"))
    assert done == ["sentiment3", "sentiment"]
    assert len(read_results(tmp_path / "r")) == 2


def test_another_recipe_needs_another_folder(here, tmp_path):
    run(settings(here, tmp_path / "r", task=["sentiment3"]))
    with pytest.raises(SpeechkdError, match=r"recipe\.pooling: cls there, mean now"):
        run(settings(here, tmp_path / "r", task=["sentiment3"], pooling="mean"))


def test_array_tasks_share_the_grid(here, tmp_path, capsys):
    shown = []
    for task in ("0/3", "1/3", "2/3"):
        run(settings(here, tmp_path, seeds="0-4", array_task=task, dry_run=True))
        shown.append(capsys.readouterr().out.split())
    cells = [name for part in shown for name in part]
    assert len(cells) == len(set(cells)) == 10
    assert {len(part) for part in shown} == {3, 4}
    assert list(tmp_path.iterdir()) == []


def test_mult_trains_one_regression(here, tmp_path, capsys):
    run(settings(here, tmp_path, task=["sentiment7", "sentiment2"], scheme="mult", dry_run=True))
    (cell,) = capsys.readouterr().out.split()
    assert cell.endswith("-sentiment-seed0")


def test_two_encoders_of_one_name_are_refused(here, tmp_path):
    with pytest.raises(SpeechkdError, match="are both called a in tables and files"):
        run(settings(here, tmp_path, checkpoint=[str(here / "a"), f"a={here / 'b'}"]))


def test_a_task_without_labels_is_refused(here, tmp_path):
    with pytest.raises(SpeechkdError, match=r"task fear has no labelled clip in train and test"):
        run(settings(here, tmp_path, task=["fear"]))


def test_a_made_split_needs_no_split_in_the_data(tmp_path):
    rows = [
        {"video_id": f"v{i // 2}", "clip_id": i, "text": text, "happy": int(value > 0)}
        for i, (text, value) in enumerate(sentences(40))
    ]
    data = tmp_path / "t.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    save_encoder(tmp_path / "a", [row["text"] for row in rows])
    made = {"task": ["happiness"], "split": "made", "data": data}
    run(settings(tmp_path, tmp_path / "r", **made))
    (cell,) = read_results(tmp_path / "r")
    assert cell.splits == {"train": 28, "valid": 4, "test": 8}
    assert cell.data["split"] == {"origin": "made", "seed": 0}
    assert "made here by group" in " ".join(tables([cell])[0].notes)
    with pytest.raises(SpeechkdError, match=r"data\.split\.seed: 0 there, 1 now"):
        run(settings(tmp_path, tmp_path / "r", **made, split_seed=1))


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("7", [7]), ("0, 2,5-6,2", [0, 2, 5, 6])]
)
def test_seeds_are_given_as_numbers_and_ranges(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "1-", "3-1", "1.5", "0..4"])
def test_seeds_that_are_none(text):
    with pytest.raises(SpeechkdError, match="--seeds is"):
        parse_seeds(text)
