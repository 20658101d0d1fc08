"""`speechkd finetune audio-spans` as a user meets it, and its report, on made-up caches."""

import csv
import json
import shutil

import numpy as np
import pytest

from pipeline.finetuning.audio_inputs import AudioClips
from pipeline.foundation.errors import SpeechkdError
from stages.finetune_audio_spans import AudioSpansSettings, run
from stages.report import ReportSettings
from stages.report import run as report
from tests.helpers.caches import make_sequence_cache, wordpiece
from tests.helpers.encoders import save_encoder
from tests.helpers.speech_runs import save_speech_run

PASSAGES = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cache of frames, a run, a tokenizer, and nine passages of three clips, two questions."""
    folder = tmp_path_factory.mktemp("audio-spans")
    cache = make_sequence_cache(folder / "frames", [27], "whisper-mel", width=4, most_rows=20)
    wordpiece(cache).save_pretrained(folder / "tokenizer")
    clips = AudioClips.open(str(folder / "frames"))
    save_speech_run(folder / "speech-run", clips, stack=2, objective="splat-seq")
    keys = clips.reader.clips.key
    splits = ["train"] * 5 + ["valid"] + ["test"] * 3
    parts, asked = [], []
    for number in range(PASSAGES):
        parts += [[f"p{number}", key] for key in keys[3 * number : 3 * number + 3]]
        for place in range(2):
            name = f"q{number}-{place}"
            row = [name, f"the cat {number}", f"p{number}", 0.01 * place, 0.05, splits[number]]
            asked += [row, [*row[:3], 0.1, 0.15, row[5]]][: 1 + place]
    write(folder / "passages.csv", ["passage", "clip"], parts)
    write(folder / "questions.csv", HEAD, asked)
    return folder


HEAD = ["question_id", "question", "passage", "answer_start_s", "answer_end_s", "split"]


def write(path, names, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def settings(folder, out, **changes):
    given = {
        "data": [str(folder / "questions.csv")], "passages": folder / "passages.csv",
        "cache": str(folder / "frames"), "tokenizer": str(folder / "tokenizer"), "out": out,
        "checkpoint": [f"Seq={folder / 'speech-run'}"], "seeds": "0", "epochs": 1, "layers": 1,
        "batch_size": 4, "device": "cpu",
    }  # fmt: skip
    return AudioSpansSettings(**{**given, **changes})


def scored(path):
    """AOS and frame F1 of a predictions file, question by question."""
    aos, f1 = [], []
    for row in csv.DictReader(path.open()):
        start, end = float(row["start_s"]), float(row["end_s"])
        several = []
        for answer in row["raw"].split(";"):
            a, b = map(float, answer.split())
            shared = max(0.0, min(b, end) - max(a, start))
            several.append(
                (shared / (b - a + end - start - shared), 2 * shared / (b - a + end - start))
            )
        aos.append(max(s for s, _ in several))
        f1.append(max(f for _, f in several))
    return np.mean(aos), np.mean(f1)


def test_cells_are_judged_in_time_beside_controls_and_simple_answers(folder, tmp_path, capsys):
    speech = folder / "speech-run"
    checkpoints = [
        f"Seq={speech}", f"Seq shuffled=shuffled:{speech}", f"Seq blind=blind:{speech}",
    ]  # fmt: skip
    given = settings(folder, tmp_path / "results", checkpoint=checkpoints, seeds="0")
    run(given)
    told = capsys.readouterr()
    assert " questions, " in told.err.partition("fine-tuning: ")[2]
    table = told.out.splitlines()
    assert any("AOS" in line and "frame F1" in line and "AOS at most" in line for line in table)
    assert any("the whole passage" in line for line in table), told.out
    lines = (given.out / "results.jsonl").read_text().splitlines()
    cells = [json.loads(line) for line in lines]
    assert len(cells) == 3
    for cell in cells:
        assert cell["kind"] == "spans"
        assert cell["splits"] == {"train": 10, "valid": 2, "test": 6}
        aos, f1 = scored(given.out / cell["predictions"])
        assert cell["metrics"]["aos"] == pytest.approx(aos, abs=1e-6)
        assert cell["metrics"]["frame_f1"] == pytest.approx(f1, abs=1e-6)
        assert cell["metrics"]["aos"] <= cell["metrics"]["ceiling"] + 1e-6
    run(given)
    assert "3 of 3 cells are finished already" in capsys.readouterr().err
    report(ReportSettings(results=[given.out], out=tmp_path / "report"))
    page = (tmp_path / "report" / "report.md").read_text()
    for control in ("shuffled", "blind"):
        assert f"compared with Seq, {control}" in page.replace("(kd splat-seq) ", "")
    assert "Shown and not compared" not in page
    changed = given.out / cells[0]["predictions"]
    changed.write_text(changed.read_text().replace(",p6,", ",p6,", 1).replace("0.05;", "0.06;"))
    with pytest.raises(SpeechkdError, match="does not give a figure of its cell"):
        report(ReportSettings(results=[given.out], out=tmp_path / "report"))


def test_another_tokenizer_of_the_same_name_is_another_recipe(folder, tmp_path):
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    given = settings(folder, tmp_path / "results", tokenizer=str(tmp_path / "tokenizer"))
    run(given)
    save_encoder(tmp_path / "tokenizer", ["some other texts"])
    with pytest.raises(SpeechkdError, match=r"another recipe or data set.*words_sha256"):
        run(given)


def test_what_is_left_out_is_counted_and_said(folder, tmp_path, capsys):
    more = [
        ["blank", "", "p0", 0.1, 0.2, "train"], ["late", "when", "p0", 0, 9999, "train"],
        ["lost", "when", "nowhere", 0, 1, "train"],
    ]  # fmt: skip
    rows = list(csv.reader((folder / "questions.csv").open()))[1:]
    questions = write(tmp_path / "questions.csv", HEAD, rows + more)
    parts = list(csv.reader((folder / "passages.csv").open()))[1:]
    parts.append(["p8", "no such clip"])
    passages = write(tmp_path / "passages.csv", ["passage", "clip"], parts)
    run(settings(folder, tmp_path / "r", data=[str(questions)], passages=passages, dry_run=True))
    told = capsys.readouterr().err
    assert (
        "passages with a clip that the cache lacks, such as p8 (no such clip), left out: 1" in told
    )
    assert "at hand, such as 'p8', left out: 4" in told
    assert "rows whose question is blank, left out: 1" in told
    assert "answers outside the audio of their passage, left out: 1" in told
    assert "questions without an answer that can be used, left out: 1" in told
    assert "answer: train 10, valid 2, test 4 questions" in told


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"teacher_cache": "x"}, "--teacher-cache has no meaning"),
        ({"class_weights": "balanced"}, "--class-weights has no meaning"),
        ({"data": []}, "DATA is empty"),
        ({"grid_ms": 0}, "--grid-ms is 0"),
    ],
)
def test_settings_that_mean_nothing_here_are_refused(folder, tmp_path, changes, wanted):
    with pytest.raises(SpeechkdError, match=wanted):
        settings(folder, tmp_path, **changes)


def test_the_best_epoch_needs_questions_to_be_judged_by(folder, tmp_path):
    rows = [row for row in csv.reader((folder / "questions.csv").open()) if row[-1] != "valid"]
    questions = write(tmp_path / "questions.csv", HEAD, rows[1:])
    with pytest.raises(SpeechkdError, match="write --selection last"):
        run(settings(folder, tmp_path / "out", data=[str(questions)]))


def test_frames_of_another_front_end_are_refused(folder, tmp_path):
    make_sequence_cache(
        tmp_path / "other", [27], "whisper-mel", width=4, most_rows=20, hop_samples=320
    )
    with pytest.raises(SpeechkdError, match="hop_samples: 320 there, 160 wanted"):
        run(settings(folder, tmp_path / "out", cache=str(tmp_path / "other")))
