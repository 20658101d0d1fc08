"""What a sample's .json may say of its words, and which times are believed."""

import json
import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards.refusals import Reason, RefusedError
from pipeline.shards.words import Word, spelling, words_of


def told(*words):
    return {"words": [{"text": t, "start_s": s, "end_s": e} for t, s, e in words]}


def fault(record, text="one two", duration_s=2.0) -> str:
    with pytest.raises(RefusedError) as refused:
        words_of(record, text, duration_s)
    assert refused.value.reason == Reason.UNUSABLE_WORDS
    return refused.value.detail


def trusted(*words, duration_s=2.0) -> list[bool]:
    text = " ".join(word[0] for word in words)
    return [word.trusted for word in words_of(told(*words), text, duration_s)]


def test_good_words_come_through_as_they_are():
    words = words_of(told(("one", 0, 0.5), ("two", 0.5, 2.0)), "One, two!", 2.0)
    assert words == (Word("one", 0.0, 0.5), Word("two", 0.5, 2.0))
    assert words[0].record() == {"text": "one", "start_s": 0.0, "end_s": 0.5, "trusted": True}


def test_more_members_are_passed_over():
    record = told(("one", 0, 1))
    record["words"][0]["score"] = 0.3
    assert words_of(record, "one", 2.0) == (Word("one", 0.0, 1.0),)


@pytest.mark.parametrize("record", [{}, {"words": None}])
def test_a_sample_may_tell_no_words(record):
    assert words_of(record, "one two", 2.0) == ()


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        ("one two", "words is 'one two', not a list"),
        ({"one": 1}, "not a list"),
        ([], "the text has 2 words, words has 0"),
        (["one", "two"], "word 1 is 'one', not an object"),
        ([{"word": "one", "start": 0, "end": 1}], "word 1 has no text"),
        ([{"text": "one", "start_s": 0}], "word 1 has no end_s"),
        ([{"text": " ", "start_s": 0, "end_s": 1}], "the text of word 1 is ' '"),
        ([{"text": 7, "start_s": 0, "end_s": 1}], "the text of word 1 is 7"),
        ([{"text": "\ud800", "start_s": 0, "end_s": 1}], "the text of word 1 is"),
        ([{"text": "one", "start_s": "0", "end_s": 1}], "start_s of word 1 is '0', not a number"),
        ([{"text": "one", "start_s": True, "end_s": 1}], "start_s of word 1 is True"),
        ([{"text": "one", "start_s": 0, "end_s": math.nan}], "end_s of word 1 is not finite"),
        ([{"text": "one", "start_s": 0, "end_s": 10**400}], "end_s of word 1 is not finite"),
        ([{"text": "one", "start_s": 0, "end_s": None}], "word 1 has one time"),
        ([{"text": "x" * 99, "start_s": [0] * 99, "end_s": 1}], "…, not a number"),
    ],
)
def test_malformed_words_are_a_fault(words, detail):
    assert detail in fault({"words": words})


def test_words_of_another_text_are_a_fault():
    assert fault(told(("one", 0, 1))) == "the text has 2 words, words has 1"
    wrong = told(("one", 0, 1), ("too", 1, 2))
    assert fault(wrong) == "word 2 of the text is 'two', of words 'too'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't — stop!", ["dont", "STOP"]),
        ("well-known", ["well", "known"]),
        ("café", ["cafe\u0301"]),
        ("你好 世界", ["你", "好", "世", "界"]),
        ("ﬁve ½", ["five", "1⁄2"]),
    ],
)
def test_words_need_only_spell_the_text(text, words):
    record = told(*((word, i * 0.2, i * 0.2 + 0.2) for i, word in enumerate(words)))
    assert [word.text for word in words_of(record, text, 2.0)] == words


@pytest.mark.parametrize(
    ("start", "end", "believed"),
    [
        (0.4, 0.4, False),
        (0.5, 0.4, False),
        (-0.02, 0.4, True),
        (-0.03, 0.4, False),
        (0.4, 2.02, True),
        (0.4, 2.03, False),
        (2.005, 2.01, False),
        (2.5, 3.0, False),
        (-9.0, -8.0, False),
        (None, None, False),
    ],
)
def test_a_time_that_cannot_be_right_is_not_trusted(start, end, believed):
    words = words_of(told(("one", start, end), ("two", 0.41, 1.0)), "one two", 2.0)
    assert [word.trusted for word in words] == [believed, True]
    assert not believed or 0 <= words[0].start_s < words[0].end_s <= 2.0


def test_only_words_that_run_backwards_lose_trust():
    assert trusted(("a", 0, 0.2), ("b", 1.5, 1.6), ("c", 0.2, 0.4), ("d", 0.4, 0.6)) == [
        *(True, False, True, True)
    ]
    assert trusted(("a", 0, 1.0), ("b", 0.9, 1.2), ("c", 0.9, 1.4)) == [True, True, True]


def test_a_word_without_a_time_gets_the_gap_between_its_neighbours():
    record = told(("a", 0.1, 0.2), ("b", None, None), ("c", None, None), ("d", 0.6, 0.7))
    words = words_of(record, "a b c d", 2.0)
    assert words[1] == Word("b", 0.2, 0.6, trusted=False)
    assert words[2] == Word("c", 0.2, 0.6, trusted=False)
    ends = words_of(told(("a", None, None), ("b", 0.5, 0.6), ("c", None, None)), "a b c", 2.0)
    assert [(word.start_s, word.end_s) for word in ends] == [(0.0, 0.5), (0.5, 0.6), (0.6, 2.0)]


def test_times_in_another_unit_are_a_fault_and_not_a_clip_of_untrusted_words():
    milliseconds = told(("one", 120, 480), ("two", 480, 1900))
    assert "no time of its 2 words can be right in 2.00 s of audio" in fault(milliseconds)
    assert "from 120 to 480" in fault(milliseconds)


TIMES = st.one_of(st.none(), st.floats(-1, 3, allow_nan=False))


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=9))
def test_trusted_words_lie_in_order_inside_the_audio_and_none_more_could(times):
    times = [(s, e) if s is not None and e is not None else (None, None) for s, e in times]
    record = json.loads(json.dumps(told(*(("x", s, e) for s, e in times))))
    good = [s for s, e in times if s is not None and s < e and s >= -0.02 and e <= 2.02]
    inside = [s for s, e in times if s in good and max(s, 0) < min(e, 2.0)]
    try:
        words = words_of(record, "x" * len(times), 2.0)
    except RefusedError:
        assert len(inside) < 1 or len(inside) < len(good)
        return
    assert [word.text for word in words] == ["x"] * len(times)
    starts = [word.start_s for word in words if word.trusted]
    assert starts == sorted(starts)
    assert all(0 <= word.start_s < word.end_s <= 2.0 for word in words if word.trusted)
    if len(inside) == len(good):
        largest = max(
            size
            for size in range(len(good) + 1)
            for part in combinations(good, size)
            if list(part) == sorted(part)
        )
        assert len(starts) == largest


def test_spelling_is_letters_marks_and_digits_without_case():
    assert spelling("“Straße”, 4 %") == "strasse4"
    assert spelling("…") == ""
