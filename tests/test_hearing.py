"""The natural-speech experiment: which recorded lines make a clip, and which word is whose."""

import csv
import json

import numpy as np
import soundfile

from bench import hearing
from bench.hearing_speech import Corpus, heard_words, joined, lines_of, write_clips
from pipeline.cache.sequences import SequenceReader
from pipeline.reports.predictions import Predictions, WordAnswers
from tests.helpers.word_caches import make_word_cache

LINES = [
    ("a01", "me", 6.0, "It's  NOT - fair!"),
    ("a02", "you", 2.0, "No."),
    ("a03", "me", 7.0, "So what?"),
    ("b01", "me", 3.0, "Go AWAY"),
    ("b02", "me", 13.0, "I said so"),
    ("b03", "out", 1.0, "left out"),
]
CORPUS = Corpus("corpus", scene_letters=1, without=("out",))


def write_corpus(root):
    folder = root / "corpus"
    folder.mkdir()
    for name, _, seconds, _ in LINES:
        soundfile.write(folder / f"{name}.wav", np.full(int(16_000 * seconds), 0.1), 16_000)
    rows = [[name, f"{name}.wav", who, seconds, text] for name, who, seconds, text in LINES]
    with (folder / "manifest.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([["utt_id", "path", "speaker", "duration_s", "text"], *rows])
    return root


def test_neighbours_of_one_speaker_and_scene_are_joined_up_to_15_s(tmp_path):
    lines = lines_of(write_corpus(tmp_path), CORPUS)
    clips = [[line.id for line in clip] for clip in joined(lines)]
    assert clips == [["a01", "a03"], ["b01"], ["b02"], ["a02"]]
    table = write_clips(lines, tmp_path / "out")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows][:2] == ["it's not - fair! so what?", "go away"]
    assert soundfile.info(tmp_path / "out" / rows[0]["path"]).duration == 13.2
    names = json.loads((tmp_path / "out" / "lines.json").read_text())
    assert [names[row["key"]] for row in rows] == clips
    only = lines_of(tmp_path, Corpus("corpus", only=("you", "out")))
    assert [line.id for line in only] == ["b03", "a02"]
    half = write_clips(lines, tmp_path / "half", hours=15.5 / 3600)
    assert len(half.read_text().splitlines()) - 1 == 2


def test_each_word_of_a_line_has_the_vector_that_was_heard_of_it(tmp_path):
    root = write_corpus(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    clips = [
        ("go away", None, "11"),
        ("it's not - fair! so what?", ["it's", "not", "fair", "so", "what"], "11011"),
    ]
    cache = make_word_cache(out / "words", clips)
    (out / "lines.json").write_text(json.dumps({"clip-0": ["b01"], "clip-1": ["a01", "a03"]}))
    heard = heard_words(out, root, CORPUS)
    assert heard.row_of == {
        ("b01", 0): 0,
        ("b01", 1): 1,
        ("a01", 0): 2,
        ("a01", 1): 3,
        ("a03", 0): 5,
        ("a03", 1): 6,
    }
    reader = SequenceReader(cache)
    second = reader.read(reader.clips.row[[1]], [5])
    np.testing.assert_allclose(heard.rows_NE[[2, 3, 5, 6]], second[[0, 1, 3, 4]].float())


def test_a_student_that_is_there_is_not_taken_for_one_of_other_epochs(tmp_path, monkeypatch):
    weights = tmp_path / "runs" / "none-7" / "student" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    settings = []
    monkeypatch.setattr(hearing.distill, "run", settings.append)
    hearing.train(tmp_path, "none", 7, epochs=2.0)
    assert [(one.epochs, one.seed) for one in settings] == [(2.0, 7)], "distill compares them"


def test_a_figure_that_is_not_defined_is_a_dash_and_no_crash():
    words = WordAnswers(("text", "text"), np.ones(2), np.zeros(2))
    nothing = Predictions(("a", "b"), ("g", "g"), np.zeros(2), np.ones(2), words)
    figures = hearing.figures(nothing)
    assert [hearing.per_cent([figures[name]]) for name in ("average_precision", "top1")] == 2 * [
        "–"
    ]
    assert hearing.per_cent([0.5, 0.52]) == "51.0 ± 1.4"
    assert hearing.per_cent([0.5, None]) == "–"
