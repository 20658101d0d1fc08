"""Sentences of one bright and one flat word: what they hold, how they are said, what is written."""

import csv
import io
import json
import tarfile
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from pipeline.shards.manifest import file_sha256, parse_manifest
from pipeline.tasks.planted.sentences import (
    PAIRS,
    jittered,
    plant_pairs,
    speak_sentence,
    word_halves,
    write_sentences,
)
from pipeline.tasks.planted.speech import Synthesizer

pytest.importorskip("espeakng_loader", reason="the voices come with this package")


@pytest.fixture(scope="module")
def sentences():
    return plant_pairs(16, PAIRS[:3], seed=4)


def test_every_sentence_holds_a_bright_and_a_flat_word_that_always_meet(sentences):
    assert len(sentences) == 8 * 3 * 2
    affect_of, partners, places = {}, defaultdict(set), Counter()
    for s in sentences:
        assert sorted(s.affects) == [-1, 1]
        for word, affect, accent in zip(s.words, s.affects, s.accents, strict=True):
            assert affect_of.setdefault(word, affect) == affect
            assert s.text[accent.place :].startswith(word)
        partners[s.words[0]].add(s.words[1])
        partners[s.words[1]].add(s.words[0])
        places[s.words[0], "first"] += 1
    assert Counter(affect_of.values()) == {1: 8, -1: 8}
    assert all(len(others) == 1 for others in partners.values())
    assert set(places.values()) == {3}, "each word comes first in half of its sentences"
    half_of = word_halves(16, 4)
    assert all(half_of[word] == half_of[min(others)] for word, others in partners.items())
    of_a_kind = Counter((half_of[word], affect) for word, affect in affect_of.items())
    assert of_a_kind == {(half, affect): 4 for half in (0, 1) for affect in (1, -1)}
    assert all(s.half == half_of[s.words[0]] for s in sentences)


def test_bright_words_are_said_higher_faster_and_louder_than_flat_ones(sentences):
    for name in ("pitch", "range", "rate_wpm", "volume"):
        bright, flat = (
            [getattr(a, name) for s in sentences for a, x in zip(s.accents, s.affects, strict=True)
             if x == affect]
            for affect in (1, -1)
        )  # fmt: skip
        assert np.mean(bright) - np.mean(flat) > np.std(flat)


def test_a_seed_decides_everything():
    assert plant_pairs(8, PAIRS[:2], 1) == plant_pairs(8, PAIRS[:2], 1)
    assert plant_pairs(8, PAIRS[:2], 1) != plant_pairs(8, PAIRS[:2], 2)


@pytest.mark.parametrize("carrier", PAIRS)
def test_every_word_of_a_carrier_has_a_time_of_its_own(carrier):
    sentence = plant_pairs(4, [carrier], 0)[0]
    wave, words = speak_sentence(Synthesizer(), sentence)
    assert [w["text"] for w in words] == sentence.text.split()
    begins = [w["start_s"] for w in words]
    assert begins == sorted(begins)
    assert [w["end_s"] for w in words[:-1]] == begins[1:]
    assert words[-1]["end_s"] == pytest.approx(len(wave) / 16_000)


def test_the_two_words_alone_are_said_in_their_own_way(sentences):
    """The louder an accent, the louder its word beside the rest of its sentence."""
    synthesizer = Synthesizer()
    louder = []
    for s in sentences[:8]:
        wave, words = speak_sentence(synthesizer, s)
        size = [
            np.sqrt(np.mean(wave[int(w["start_s"] * 16_000) : int(w["end_s"] * 16_000)] ** 2))
            for w in words
        ]
        at = [s.text.split().index(word) for word in s.words]
        for place, accent in zip(at, s.accents, strict=True):
            louder.append((accent.volume, size[place] / np.mean(size)))
    volumes, sizes = zip(*louder, strict=True)
    assert np.corrcoef(volumes, sizes)[0, 1] > 0.5


def test_the_tar_is_one_that_extraction_reads(sentences, tmp_path):
    manifest, labels = write_sentences(sentences[:6], tmp_path, 4)
    (shard,) = parse_manifest(manifest.read_text(), str(manifest)).shards
    tar = manifest.parent / shard.url
    assert (shard.samples, shard.bytes) == (6, tar.stat().st_size)
    assert shard.sha256 == file_sha256(tar)
    with tarfile.open(tar) as archive:
        content = {m.name: archive.extractfile(m).read() for m in archive}
    for s in sentences[:6]:
        told = json.loads(content[f"{s.key}.json"])
        assert told["text"] == s.text == " ".join(w["text"] for w in told["words"])
        wave, rate = soundfile.read(io.BytesIO(content[f"{s.key}.wav"]))
        assert rate == 16_000
        assert told["words"][-1]["end_s"] == pytest.approx(len(wave) / rate)
    rows = list(csv.DictReader(labels.open(encoding="utf-8")))
    assert [(r["key"], r["word"]) for r in rows] == [
        (s.key, w) for s in sentences[:6] for w in s.words
    ]
    assert all(r["split_1"] != r["split_2"] for r in rows)
    again = tar.stat().st_mtime_ns
    write_sentences(sentences[:6], tmp_path, 4)
    assert tar.stat().st_mtime_ns == again, "a finished corpus stays"


def test_jitter_moves_borders_and_keeps_order_and_ends(sentences):
    _, words = speak_sentence(Synthesizer(), sentences[0])
    rng = np.random.default_rng(0)
    moves = []
    for _ in range(50):
        moved = jittered(words, 0.05, rng)
        assert moved[0]["start_s"] == words[0]["start_s"]
        assert moved[-1]["end_s"] == words[-1]["end_s"]
        assert all(a["end_s"] == b["start_s"] for a, b in pairwise(moved))
        assert all(w["start_s"] <= w["end_s"] for w in moved)
        moves += [m["start_s"] - w["start_s"] for m, w in zip(moved[1:], words[1:], strict=True)]
    assert 0.03 < np.std(moves) < 0.07
