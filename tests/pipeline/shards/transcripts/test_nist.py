"""STM, CTM and RTTM: channels, labels, alternatives, other recordings, and speakers by overlap."""

import pytest

from pipeline.shards.transcripts import nist
from pipeline.shards.transcripts.segment import Segment, Transcript

STM = """;; CATEGORY "0" "" ""
talk 1 Anna 0.50 2.25 <o,f0,female> well i never
talk 1 inter_segment_gap 2.25 3 <o,,unknown>
talk B Ben 3 4.5 <o> ignore_time_segment_in_scoring
talk B Ben 4.5 5 no <unk> labels
other A x 0 1 <o> elsewhere
"""


def test_stm():
    assert list(nist.parse_stm(Transcript(STM, "talk"))) == [
        Segment(0.5, 2.25, "well i never", "Anna", channel=0),
        Segment(4.5, 5, "no <unk> labels", "Ben", channel=1),
    ]


def test_ctm_takes_the_first_alternative_and_joins_words_up_to_a_pause():
    text = """;; comment
talk 1 0.00 0.40 hello 0.9
talk 1 * * <ALT_BEGIN>
talk 1 0.50 0.30 you
talk 1 * * <ALT>
talk 1 0.50 0.30 ewe
talk 1 * * <ALT_END>
talk 1 2.00 0.50 bye
talk 2 0.10 0.20 hm
"""
    found = {s.text: s for s in nist.parse_ctm(Transcript(text, "talk"))}
    assert set(found) == {"hello you", "bye", "hm"}
    assert found["hello you"].words == (("hello", 0, 0.4), ("you", 0.5, 0.8))
    assert (found["bye"].start_s, found["bye"].end_s, found["hm"].channel) == (2, 2.5, 1)


RTTM = """SPKR-INFO talk 1 <NA> <NA> <NA> unknown anna <NA> <NA>
SPEAKER talk 1 0.00 2.00 <NA> <NA> anna <NA> <NA>
SPEAKER talk 1 1.50 3.50 <NA> <NA> ben <NA> <NA>
"""


def test_rttm_names_the_speaker_who_covers_most():
    turns = nist.turns(Transcript(RTTM, "talk"))
    assert [(t.start_s, t.end_s, t.speaker) for t in turns] == [(0, 2, "anna"), (1.5, 5, "ben")]
    segments = [
        Segment(0, 1.9, "a"),
        Segment(1, 4, "b"),
        Segment(9, 10, "c"),
        Segment(3, 4, "d", "eve"),
    ]
    speakers = [s.speaker for s in nist.with_speakers(segments, turns)]
    assert speakers == ["anna", "ben", None, "eve"]
    assert nist.parse_rttm(Transcript(RTTM, "talk")) is None


def test_rttm_with_words():
    text = RTTM + "LEXEME talk 1 0.10 0.30 hello lex anna 0.9 <NA>\n"
    (one,) = nist.parse_rttm(Transcript(text, "talk"))
    assert (one.text, one.speaker, one.words) == ("hello", "anna", (("hello", 0.1, 0.4),))


@pytest.mark.parametrize(
    ("parse", "text", "word"),
    [
        (nist.parse_stm, "talk 1 x 0\n", "line 1 has 4 fields"),
        (nist.parse_stm, "\ntalk 1 x zero 1 a\n", "line 2: a time is 'zero'"),
        (nist.parse_stm, "talk 1 x 0 nan a\n", "not finite"),
        (nist.parse_stm, STM.replace("talk", "speech"), "'speech' and not 'talk'"),
        (nist.parse_ctm, "talk 1 0 1\n", "4 fields"),
        (nist.turns, "SPEAKER talk 1 0 1\n", "5 fields"),
    ],
)
def test_broken_lines_and_other_recordings_are_told(parse, text, word):
    with pytest.raises(ValueError, match=word):
        list(parse(Transcript(text, "talk")))
