"""ELAN's files agree with pympi; hanging tiers, missing times and bombs are told."""

import pytest
from pympi.Elan import Eaf

from pipeline.shards.transcripts.elan import parse
from pipeline.shards.transcripts.formats import decoded
from pipeline.shards.transcripts.segment import Transcript


def eaf(path, tiers, child=None):
    """An .eaf as pympi writes it: `{(tier, participant): [(start ms, end ms, text)]}`."""
    made = Eaf()
    made.remove_tier("default")
    made.add_linguistic_type("words", constraints="Included_In")
    made.add_linguistic_type("gloss", constraints="Symbolic_Association", timealignable=False)
    for (name, speaker), annotations in tiers.items():
        made.add_tier(name, part=speaker)
        for start, end, text in annotations:
            made.add_annotation(name, start, end, text)
        if child and name == child[0]:
            made.add_tier(child[1], ling=child[2], parent=name)
            for start, end, text in child[3]:
                if child[2] == "gloss":
                    made.add_ref_annotation(child[1], name, (start + end) // 2, text)
                else:
                    made.add_annotation(child[1], start, end, text)
    made.to_file(str(path))
    return path


def told(path, tiers=()):
    text = decoded(path.read_bytes())
    return list(parse(Transcript(text, "talk", tuple(tiers))))


def test_tiers_with_participants_are_speakers_and_agree_with_pympi(tmp_path):
    anna, ben = [(0, 1500, "Hé & ho"), (1500, 1500 + 2**20, "x")], [(700, 900, "mhm")]
    path = eaf(tmp_path / "a.eaf", {("A", "Anna"): anna, ("B", "Ben"): ben})
    reference = Eaf(str(path))
    wanted = [
        (start / 1000, end / 1000, text, reference.get_parameters_for_tier(tier)["PARTICIPANT"])
        for tier in ("A", "B")
        for start, end, text in reference.get_annotation_data_for_tier(tier)
    ]
    found = [(s.start_s, s.end_s, s.text, s.speaker) for s in told(path)]
    assert sorted(found) == sorted(wanted)
    assert len(found) == 3


def test_words_below_a_tier_are_its_words_and_a_gloss_is_left_out(tmp_path):
    said = {("A", ""): [(0, 1000, "hello you"), (1000, 2000, "bye")]}
    words = [(0, 400, "hello"), (400, 900, "you"), (1000, 2000, "bye")]
    one, two = told(eaf(tmp_path / "w.eaf", said, ("A", "A-words", "words", words)))
    assert one.words == (("hello", 0, 0.4), ("you", 0.4, 0.9))
    assert two.words == (("bye", 1, 2),)
    gloss = ("A", "A-en", "gloss", [(0, 1000, "greeting")])
    one, two = told(eaf(tmp_path / "g.eaf", said, gloss))
    assert (one.text, one.words) == ("hello you", ())


def test_several_tiers_without_participants_need_a_name(tmp_path):
    tiers = {("speech", ""): [(0, 1000, "yes")], ("comment", ""): [(0, 1000, "[laughs]")]}
    path = eaf(tmp_path / "a.eaf", tiers)
    with pytest.raises(ValueError, match=r"'speech', 'comment'.*--tier"):
        told(path)
    (one,) = told(path, ["speech"])
    assert one.text == "yes"


def test_a_slot_without_time_is_told(tmp_path):
    path = eaf(tmp_path / "a.eaf", {("A", "x"): [(0, 1000, "yes")]})
    path.write_text(path.read_text().replace('TIME_VALUE="1000"', ""))
    with pytest.raises(ValueError, match="'yes' of tier 'A' has no time"):
        told(path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('<!DOCTYPE a [<!ENTITY b "bb">]><ANNOTATION_DOCUMENT>&b;</ANNOTATION_DOCUMENT>', "entity"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><ANNOTATION_DOCUMENT/>', "document type"),
        ("<a>", "not XML"),
        ("<a/>", "ANNOTATION_DOCUMENT"),
        ("<ANNOTATION_DOCUMENT/>", "no tier of speech"),
        ("", "not XML"),
    ],
)
def test_bombs_and_other_xml_are_refused(text, word):
    with pytest.raises(ValueError, match=word):
        list(parse(Transcript('<?xml version="1.0" encoding="UTF-16"?>' + text, "talk")))
