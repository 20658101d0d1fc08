"""Audacity's labels are told from a plain text."""

from pipeline.shards.transcripts.audacity import parse
from pipeline.shards.transcripts.segment import Segment, Transcript


def labels(text):
    found = parse(Transcript(text, "talk"))
    return None if found is None else list(found)


def test_labels_with_frequencies_commas_and_empty_ones():
    text = "0.5\t1.25\thello\tyou\n\\\t100.0\t200.0\n1,5\t2,0\tbye\n3.0\t3.0\n\n"
    assert labels(text) == [
        Segment(0.5, 1.25, "hello\tyou"),
        Segment(1.5, 2.0, "bye"),
        Segment(3.0, 3.0, ""),
    ]


def test_a_plain_text_is_none():
    for text in ("", "hello", "0.5 1.5 hello", "0.5\t1.5\thello\nand more", "a\tb\tc", "\\\t1\t2"):
        assert labels(text) is None
