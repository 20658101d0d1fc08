"""Segments are joined and divided where they may be, and no word is lost or moved."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards.transcripts.segment import (
    Segment,
    TimedWord,
    divided,
    joined,
    utterances,
)


def words(*times):
    return tuple(TimedWord(f"w{i}", *pair) for i, pair in enumerate(times))


def test_neighbours_of_one_speaker_are_joined_up_to_the_gap_and_the_length():
    a, b = Segment(0, 2, "a", "x"), Segment(2.4, 5, "b ", "x")
    c, d = Segment(5.6, 8, "c", "x"), Segment(8, 16, "d", "x")
    assert list(joined([a, b, c, d], 0.5, 15)) == [
        Segment(0, 5, "a b", "x"),
        Segment(5.6, 16, "c d", "x"),
    ]
    assert [s.text for s in joined([a, b, c, d], 0.6, 15)] == ["a b c", "d"]
    assert list(joined([a, b, c, d], 0, 15)) == [a, b, Segment(5.6, 16, "c d", "x")]


def test_another_speaker_another_channel_or_an_overlap_keeps_segments_apart():
    one = Segment(0, 1, "a", "x")
    for other in (
        Segment(1, 2, "b", "y"),
        Segment(1, 2, "b", None),
        Segment(1, 2, "b", "x", channel=1),
        Segment(0.5, 2, "b", "x"),
    ):
        assert list(joined([one, other], 1, 15)) == [one, other]
    between = [one, Segment(1, 1.2, "hm", "y"), Segment(1.3, 2, "b", "x")]
    assert list(joined(between, 1, 15)) == between


def test_words_survive_a_join_only_if_both_have_them():
    one, other = Segment(0, 1, "w0", words=words((0, 1))), Segment(1, 2, "b")
    (together,) = joined([one, other], 1, 15)
    assert (together.text, together.words) == ("w0 b", ())
    (together,) = joined([one, Segment(1, 2, "w0", words=words((1, 2)))], 1, 15)
    assert [word.start_s for word in together.words] == [0, 1]


def test_a_long_segment_is_cut_at_its_longest_pause_and_keeps_its_text():
    timed = (
        TimedWord("One,", 0.0, 4.0),
        TimedWord("two", 4.1, 9.0),
        TimedWord("three.", 10.0, 14.0),
        TimedWord("4", None, None),
        TimedWord("five", 15.0, 19.0),
    )
    segment = Segment(0, 20, "One, two three. 4 five!", "x", timed)
    first, second = divided(segment, 15)
    assert (first.start_s, first.end_s, first.text) == (0, 9.0, "One, two")
    assert (second.start_s, second.end_s, second.text) == (10.0, 20, "three. 4 five!")
    assert first.words + second.words == timed
    assert list(divided(Segment(0, 20, "no words"), 15)) == [Segment(0, 20, "no words")]


def test_text_without_blanks_is_divided_without_any():
    timed = tuple(TimedWord(c, 5.0 * i, 5.0 * i + 4) for i, c in enumerate("吾輩は猫"))
    parts = list(divided(Segment(0, 19, "吾輩は猫", None, timed), 10))
    assert [part.text for part in parts] == ["吾輩", "は猫"]


@given(
    lengths=st.lists(st.tuples(st.floats(0.05, 2), st.floats(0, 3), st.booleans()), min_size=1),
    longest=st.floats(3, 15),
)
def test_division_keeps_every_word_in_order_and_fits(lengths, longest):
    now, timed = 0.0, []
    for i, (length, pause, is_timed) in enumerate(lengths):
        times = (now, now + length) if is_timed else (None, None)
        timed.append(TimedWord(f"w{i}", *times))
        now += length + pause
    segment = Segment(0, now, " ".join(word.text for word in timed), None, tuple(timed))
    parts = list(divided(segment, longest))
    assert [word for part in parts for word in part.words] == timed
    assert " ".join(part.text.strip() for part in parts) == segment.text
    assert (parts[0].start_s, parts[-1].end_s) == (0, now)
    if all(is_timed for _, _, is_timed in lengths):
        assert all(part.end_s - part.start_s <= longest + 3 + 1e-6 for part in parts)
    assert all(one.end_s <= other.start_s for one, other in pairwise(parts))


def test_words_alone_become_utterances_of_each_speaker():
    heard = [
        Segment(start, start + 0.4, text, who, (TimedWord(text, start, start + 0.4),))
        for start, text, who in ((0, "a", "x"), (0.2, "q", "y"), (0.5, "b", "x"), (2, "c", "x"))
    ]
    made = {(s.speaker, s.text): (s.start_s, s.end_s, len(s.words)) for s in utterances(heard)}
    assert made == {
        ("x", "a b"): (0, 0.9, 2),
        ("x", "c"): (2, 2.4, 1),
        ("y", "q"): (0.2, 0.6000000000000001, 1),
    }
