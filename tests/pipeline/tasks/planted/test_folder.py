"""The planted corpus as a folder: balanced, spoken once, no word on both sides."""

import csv

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.planted.corpus import CARRIERS, plant
from pipeline.tasks.planted.folder import SPLIT_COLUMNS, halves, write_corpus

pytest.importorskip("espeakng_loader", reason="the corpus's voices come with this package")


def read(path, delimiter=","):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_halves_are_balanced():
    utterances = plant(40, CARRIERS[:3], seed=0)
    half_of = halves(utterances, seed=0)
    affect_of = {u.word: u.affect for u in utterances}
    for half in (0, 1):
        chosen = [affect_of[word] for word, place in half_of.items() if place == half]
        assert len(chosen) == 20
        assert sum(chosen) == 0


def test_a_corpus_is_spoken_once_and_no_word_trains_and_tests(tmp_path):
    utterances = plant(4, CARRIERS[:2], seed=5)
    table, labels = write_corpus(utterances, tmp_path, seed=5)
    rows = read(labels)
    assert {row["key"] for row in rows} == {row["id"] for row in read(table, "\t")}
    for split in SPLIT_COLUMNS:
        words = {s: {r["word"] for r in rows if r[split] == s} for s in ("train", "test")}
        assert len(words["train"]) == len(words["test"]) == 2
        assert not words["train"] & words["test"]
    assert all({row[split] for split in SPLIT_COLUMNS} == {"train", "test"} for row in rows)

    waves = {path: path.stat().st_mtime_ns for path in (tmp_path / "recordings").glob("*.wav")}
    assert len(waves) == 8
    gone = min(waves)
    content = gone.read_bytes()
    gone.unlink()
    write_corpus(utterances, tmp_path, seed=5)
    assert gone.read_bytes() == content
    assert all(path.stat().st_mtime_ns == at for path, at in waves.items() if path != gone)


def test_another_corpus_is_not_mixed_in(tmp_path):
    write_corpus(plant(4, CARRIERS[:1], seed=5), tmp_path, seed=5)
    with pytest.raises(SpeechkdError, match="another size or seed"):
        write_corpus(plant(4, CARRIERS[:1], seed=6), tmp_path, seed=6)
