"""JSON of the programs around Whisper, as each of them writes it."""

import json

import pytest

from pipeline.shards.transcripts.segment import Transcript
from pipeline.shards.transcripts.whisper import parse


def segments(content):
    found = parse(Transcript(json.dumps(content), "talk"))
    return None if found is None else list(found)


def test_openai_whisper():
    content = {
        "text": " Hello there. Bye.",
        "segments": [
            {
                "id": 0,
                "seek": 0,
                "start": 0.0,
                "end": 1.28,
                "text": " Hello there.",
                "tokens": [50364, 2425],
                "words": [
                    {"word": " Hello", "start": 0.0, "end": 0.5, "probability": 0.9},
                    {"word": " there.", "start": 0.5, "end": 1.28, "probability": 0.8},
                ],
            },
            {"id": 1, "start": 2, "end": 3, "text": " Bye."},
        ],
        "language": "en",
    }
    one, two = segments(content)
    assert (one.start_s, one.end_s, one.text) == (0, 1.28, " Hello there.")
    assert one.words == (("Hello", 0.0, 0.5), ("there.", 0.5, 1.28))
    assert (two.text, two.words) == (" Bye.", ())


def test_whisperx_has_speakers_and_words_without_times():
    words = [{"word": "In", "start": 0.1, "end": 0.2, "score": 1, "speaker": "SPEAKER_01"}]
    words += [{"word": "2014"}, {"word": "we", "start": 0.9}]
    segment = {"start": 0.1, "end": 1, "text": "In 2014 we", "speaker": "SPEAKER_01"}
    (one,) = segments({"segments": [{**segment, "words": words}], "word_segments": words})
    assert one.speaker == "SPEAKER_01"
    assert one.words == (("In", 0.1, 0.2), ("2014", None, None), ("we", None, None))


def test_a_list_of_faster_whispers_segments_and_whisper_timestamped():
    (one,) = segments([{"start": 0, "end": 1, "text": "a", "words": None}])
    assert (one.text, one.words) == ("a", ())
    word = {"text": "a", "start": 0, "end": 1, "confidence": 0.5}
    (one,) = segments({"segments": [{"start": 0, "end": 1, "text": "a", "words": [word]}]})
    assert one.words == (("a", 0, 1),)


def test_whisper_cpp_counts_milliseconds():
    times = {"timestamps": {"from": "00:00:00,000", "to": "00:00:01,500"}}
    item = {**times, "offsets": {"from": 0, "to": 1500}, "text": " Hello."}
    (one,) = segments({"result": {"language": "en"}, "transcription": [item]})
    assert (one.start_s, one.end_s, one.text) == (0, 1.5, " Hello.")


@pytest.mark.parametrize("content", [{}, [1], {"segments": 3}, {"segments": [{"text": "a"}]}, "x"])
def test_json_of_another_kind_is_none(content):
    assert segments(content) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"start": None, "end": 1, "text": "a"},
        {"start": 0, "end": float("nan"), "text": "a"},
        {"start": 0, "end": True, "text": "a"},
        {"start": 0, "end": 10**400, "text": "a"},
        {"start": 0, "end": 1, "text": 5},
        {"start": 0, "end": 1, "text": "a", "words": ["a"]},
        {"start": 0, "end": 1, "text": "a", "words": [{"start": 0, "end": 1}]},
    ],
)
def test_broken_segments_are_told(broken):
    with pytest.raises(ValueError, match=r"is|in"):
        segments({"segments": [broken]})


def test_deep_nesting_is_told():
    with pytest.raises(ValueError, match="nested"):
        parse(Transcript("[" * 200_000, "talk"))
