"""TextGrids of both forms agree with praatio; tiers of aligners and of people are told apart."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid as praatio

from pipeline.shards.transcripts.formats import decoded
from pipeline.shards.transcripts.segment import Transcript
from pipeline.shards.transcripts.textgrid import parse


def grid(tiers, form="long_textgrid", points=(), folder=None):
    """A TextGrid as praatio writes it: `{name: [(start, end, text)]}`."""
    made = praatio.Textgrid()
    for name, intervals in tiers.items():
        made.addTier(praatio.IntervalTier(name, intervals, 0, 30))
    for name in points:
        made.addTier(praatio.PointTier(name, [(1.0, "!")], 0, 30))
    path = folder / "t.TextGrid"
    made.save(str(path), format=form, includeBlankSpaces=True)
    return path.read_bytes()


def told(content, tiers=()):
    segments = parse(Transcript(decoded(content), "talk", tuple(tiers)))
    return [(s.start_s, s.end_s, s.text, s.speaker) for s in segments]


texts = st.text(st.characters(categories=["L", "P", "Zs"]), min_size=1).map(
    lambda text: " ".join(text.split())
)


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@settings(max_examples=25)
@given(said=st.lists(texts.filter(bool), min_size=1, max_size=9))
def test_what_praatio_writes_comes_back(tmp_path_factory, form, said):
    intervals = [(3.0 * i, 3.0 * i + 2, text) for i, text in enumerate(said)]
    content = grid({"Mary": intervals}, form, ["clicks"], tmp_path_factory.mktemp("grid"))
    assert told(content) == [(*interval, None) for interval in intervals]


def test_utf16_with_windows_line_ends_and_quotes_as_praat_writes_it(tmp_path):
    text = grid({"Mary": [(0, 1.5, 'she said "no"')]}, folder=tmp_path).decode()
    content = text.replace("\n", "\r\n").encode("utf-16")
    assert told(content) == [(0, 1.5, 'she said "no"', None)]


def test_forced_alignment_becomes_utterances_with_words(tmp_path):
    words = [(0, 0.4, "hello"), (0.4, 0.6, ""), (0.6, 1.0, "you"), (1.0, 2.5, "sil"), (2.5, 3, "x")]
    phones = [(0, 0.2, "HH"), (0.2, 3, "AH0")]
    content = grid({"words": words, "phones": phones}, folder=tmp_path)
    one, two = parse(Transcript(decoded(content), "talk"))
    assert (one.start_s, one.end_s, one.text) == (0, 1.0, "hello you")
    assert one.words == (("hello", 0, 0.4), ("you", 0.6, 1.0))
    assert two.text == "x"


def test_aligners_tiers_of_two_speakers_stay_theirs(tmp_path):
    tiers = {
        "anna - words": [(0, 1, "yes")],
        "anna - phones": [(0, 1, "J")],
        "ben - words": [(0.5, 1, "no")],
        "ben - phones": [(0.5, 1, "N")],
    }
    assert told(grid(tiers, folder=tmp_path)) == [
        (0, 1, "yes", "anna"),
        (0.5, 1, "no", "ben"),
    ]


def test_words_lie_in_the_utterance_that_holds_their_middle(tmp_path):
    tiers = {
        "utterance": [(0, 1, "Hello you."), (1, 2, "Bye.")],
        "words": [(0, 0.4, "hello"), (0.4, 1.1, "you"), (1.1, 2, "bye")],
    }
    one, two = parse(Transcript(decoded(grid(tiers, folder=tmp_path)), "talk"))
    assert [word.text for word in one.words] == ["hello", "you"]
    assert [word.text for word in two.words] == ["bye"]


def test_several_tiers_need_a_name(tmp_path):
    tiers = {"anna": [(0, 1, "yes")], "ben": [(0, 1, "no")], "gesture": [(0, 1, "nods")]}
    content = grid(tiers, folder=tmp_path)
    with pytest.raises(ValueError, match=r"'anna', 'ben', 'gesture'.*--tier"):
        told(content)
    assert told(content, ["ben"]) == [(0, 1, "no", None)]
    assert told(content, ["anna", "ben"]) == [(0, 1, "yes", "anna"), (0, 1, "no", "ben")]
    assert len(told(content, ["all"])) == 3
    with pytest.raises(ValueError, match="no tier 'dora'"):
        told(content, ["dora"])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "ends too early"),
        ('File type = "ooTextFile"\nObject class = "Sound"\n', "TextGrid"),
        (
            '"ooTextFile"\n"TextGrid"\n0 1\n<exists>\n1\n"IntervalTier"\n"a"\n0 1\n9\n0 1 "x',
            "not closed",
        ),
        (
            '"ooTextFile"\n"TextGrid"\n0 1\n<exists>\n1\n"IntervalTier"\n"a"\n0 1\n9\n0 1 "x"',
            "ends too",
        ),
        ('"ooTextFile"\n"TextGrid"\n0 1\n<exists>\n1e999\n', "not finite"),
        ('"ooTextFile"\n"TextGrid"\n0 1\n<absent>\n', "no tier of speech"),
        ("ooBinaryFile\x08TextGrid\0\0", "ends too early"),
    ],
)
def test_broken_ones_are_told(text, word):
    with pytest.raises(ValueError, match=word):
        list(parse(Transcript(text, "talk")))
