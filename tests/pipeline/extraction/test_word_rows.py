"""Means of states per word, against a loop over positions, and clips whose words cannot be used."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import WhisperModel

from pipeline.extraction.batches import WaveBatch
from pipeline.extraction.teacher import load_teacher
from pipeline.extraction.word_rows import WordMeans, positions_of, word_means
from pipeline.extraction.word_times import aligner_or_why_not
from pipeline.foundation.errors import NotThere, SpeechkdError
from pipeline.shards.reading import Clip
from pipeline.shards.words import Word
from tests.helpers.whispers import (
    batch_of,
    save_random_whisper,
    small_tokenizer,
    speechlike,
)


def centres_inside(start_s: float, end_s: float, positions: int) -> list[int]:
    """By definition, in whole milliseconds."""
    start, end = round(1000 * start_s), round(1000 * end_s)
    return [p for p in range(positions) if start <= 20 * p + 10 < end]


@given(st.integers(0, 2_000), st.integers(0, 2_000), st.integers(1, 100))
def test_positions_are_those_whose_centre_lies_in_the_word(start_ms, length_ms, positions):
    word = Word("w", start_ms / 1000, (start_ms + length_ms) / 1000)
    first, behind = positions_of(word, positions)
    inside = centres_inside(word.start_s, word.end_s, positions)
    if inside:
        assert (first, behind) == (inside[0], inside[-1] + 1)
    else:
        middle_ms = start_ms + length_ms / 2
        distance = [abs(20 * p + 10 - middle_ms) for p in range(positions)]
        assert behind == first + 1
        assert distance[first] == min(distance)


@pytest.mark.parametrize("times", [(-5.0, -4.0), (9e300, 9.5e300), (3.0, 1.0), (0.0, 0.0)])
def test_a_word_anywhere_has_a_position(times):
    first, behind = positions_of(Word("w", *times), 50)
    assert 0 <= first < behind <= 50


def test_means_equal_a_loop_over_words_and_positions():
    states_BTE = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(0)).half()
    words = [
        [Word("a", 0.0, 0.3), Word("b", 0.2, 0.5), Word("c", 0.5, 0.505)],
        [],
        [Word("d", 0.0, 0.8)],
    ]
    positions = [40, 7, 12]
    rows_NE = word_means(states_BTE, words, positions)
    expected = []
    for states_TE, of_clip, number in zip(
        states_BTE.double().numpy(), words, positions, strict=True
    ):
        for word in of_clip:
            inside = centres_inside(word.start_s, word.end_s, number)
            expected.append(states_TE[inside].mean(0) if inside else states_TE[25])
    assert rows_NE.dtype == torch.float32
    assert np.allclose(rows_NE.numpy(), expected, atol=1e-6)
    assert word_means(states_BTE, [[], [], []], positions).shape == (0, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("w") / "random"
    save_random_whisper(folder, layers=1, heads=2, vocab_size=400)
    small_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(json.dumps({"alignment_heads": [[0, 1]]}))
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    teacher = load_teacher(str(folder), context="15s")
    return WordMeans(teacher, aligner_or_why_not(str(folder), "en", None, teacher), "en")


@pytest.fixture(autouse=True)
def any_cost(monkeypatch):
    """Random heads follow no audio."""
    monkeypatch.setattr("pipeline.extraction.word_times.MOST_COST", math.inf)


def clip(text: str, words=(), fault: str = "") -> Clip:
    return Clip(0, "k", text, None, None, np.empty(0, np.float32), tuple(words), fault)


def batch(*clips: tuple[Clip, int]) -> WaveBatch:
    waves_BS, lengths_B = batch_of([speechlike(n, seed) for seed, (_, n) in enumerate(clips)])
    return WaveBatch(0, list(range(len(clips))), waves_BS, lengths_B, [one for one, _ in clips])


def test_told_words_and_those_that_the_teacher_tells_stand_side_by_side(encoder):
    told = clip("yes sir", [Word("yes", 0.1, 0.3), Word("sir", 0.3, 0.6, trusted=False)])
    rows = encoder.rows_of(batch((clip("no, not now"), 32_000), (told, 16_000)))
    assert rows.counts == [3, 2]
    assert rows.refused == {}
    assert [w["text"] for w in rows.records[0]["words"]] == ["no,", "not", "now"]
    assert rows.records[1]["words"] == [word.record() for word in told.words]
    states_BTE = encoder.teacher.states(*[batch((told, 16_000)).waves_BS, 50])
    alone = encoder.rows_of(batch((told, 16_000)))
    assert torch.allclose(alone.rows_NE[0], states_BTE[0, 5:15].mean(0), atol=1e-6)


def test_words_of_an_earlier_layer_have_the_times_that_the_last_one_tells(tmp_path):
    folder = tmp_path / "three"
    save_random_whisper(folder, layers=3, heads=2, vocab_size=400)
    small_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(json.dumps({"alignment_heads": [[0, 1]]}))
    timed = clip("yes sir", [Word("yes", 0.1, 0.3), Word("sir", 0.3, 0.6)])
    clips = batch((clip("no, not now"), 32_000), (timed, 16_000), (clip("so it is"), 24_000))
    rows = {}
    for layer in (-1, 1):
        teacher = load_teacher(str(folder), pooling="length", layer=layer, keep_later=True)
        aligner = aligner_or_why_not(str(folder), "en", None, teacher)
        rows[layer] = WordMeans(teacher, aligner, "en").rows_of(clips)
    assert rows[1].records == rows[-1].records
    library = WhisperModel.from_pretrained(folder).encoder.eval()
    mel_BMF = teacher.log_mel(clips.waves_BS, frames=3000)
    with torch.inference_mode():
        states = library(mel_BMF, output_hidden_states=True).hidden_states[1].numpy()
    expected = []
    for states_TE, record, length in zip(states, rows[1].records, clips.lengths_B, strict=True):
        for word in record["words"]:
            inside = centres_inside(word["start_s"], word["end_s"], -(-int(length) // 320))
            expected.append(states_TE[inside].mean(0) if inside else None)
    close = [
        np.allclose(row_E, mean_E, atol=1e-5)
        for row_E, mean_E in zip(rows[1].rows_NE.numpy(), expected, strict=True)
        if mean_E is not None
    ]
    assert len(close) >= 4
    assert all(close)
    assert not np.allclose(rows[1].rows_NE, rows[-1].rows_NE, atol=0.01)
    with pytest.raises(ValueError, match="were not kept"):
        load_teacher(str(folder), layer=1).last_states(torch.zeros(1, 4, 32))


def test_clips_whose_words_cannot_be_used_are_refused_by_name(encoder):
    good = clip("yes", [Word("yes", 0.1, 0.3)])
    many = clip("a " * 400, [Word("a", i / 80, (i + 1) / 80) for i in range(400)])
    rows = encoder.rows_of(
        batch(
            (good, 16_000),
            (clip("yes", fault="words is 7, not a list"), 16_000),
            (clip("..."), 16_000),
            (many, 80_000),
            (clip("a " * 600), 80_000),
            (clip("stop <|endoftext|>"), 16_000),
        )
    )
    assert rows.counts == [1, 0, 0, 0, 0, 0]
    assert len(rows.rows_NE) == 1
    assert rows.refused == {
        1: ("unusable words", "words is 7, not a list"),
        2: ("no word", "the text is '...'"),
        3: ("unusable words", "400 words in 5.00 s; at most 100 can be said"),
        4: ("unusable words", rows.refused[4][1]),
        5: ("unusable text", "it holds <|endoftext|>, a mark of the decoder's"),
    }
    assert "the teacher's decoder reads at most" in rows.refused[4][1]


def test_a_clip_too_short_for_its_words_is_refused(encoder):
    rows = encoder.rows_of(batch((clip("one two three"), 100)))
    assert rows.counts == [0]
    assert rows.refused[0][0] == "unusable words"


def test_a_teacher_that_cannot_tell_word_times_still_takes_those_that_are_told(folder, tmp_path):
    without = tmp_path / "without"
    without.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (without / name).write_bytes((folder / name).read_bytes())
    teacher = load_teacher(str(without), context="15s")
    aligner = aligner_or_why_not(str(without), "en", None, teacher)
    assert isinstance(aligner, NotThere)
    encoder = WordMeans(teacher, aligner, "en")
    assert encoder.identity("float16", 15).settings["decoder_sha256"] == ""
    assert encoder.rows_of(batch((clip("yes", [Word("yes", 0.1, 0.3)]), 16_000))).counts == [1]
    with pytest.raises(SpeechkdError, match="lists no alignment_heads"):
        encoder.rows_of(batch((clip("yes"), 16_000)))


def test_the_identity_tells_the_language_and_the_decoder(encoder):
    identity = encoder.identity("float16", 15)
    assert (identity.kind, identity.width, identity.most_rows) == ("words", 32, 300)
    assert identity.settings["language"] == "en"
    assert len(identity.settings["decoder_sha256"]) == 64


def test_a_clip_of_which_the_teacher_hears_fewer_than_half_the_words_is_refused(
    encoder, monkeypatch
):
    monkeypatch.setattr("pipeline.extraction.word_times.MOST_COST", -math.inf)
    rows = encoder.rows_of(batch((clip("so it is"), 32_000)))
    assert rows.counts == [0]
    reason = "the teacher finds 0 of its 3 words in the audio; is the text what is said?"
    assert rows.refused == {0: ("unusable words", reason)}
