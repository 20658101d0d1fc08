"""NXT-Switchboard's XML: words and acts by pointers, ranges, times that are missing, bad files."""

from collections import Counter

import pytest

from pipeline.foundation.errors import Damaged, NotThere
from pipeline.tasks.switchboard.nxt import elements, folder_of, read_nxt
from tests.helpers.switchboard import make_nxt


@pytest.fixture
def release(tmp_path):
    return make_nxt(tmp_path)


def test_acts_are_what_the_layers_say(release):
    notes = Counter()
    acts = list(read_nxt(folder_of(release), "nite", notes))
    assert [(a.number, a.side, a.name, a.act) for a in acts] == [
        ("2005", "A", "da0", "agree"), ("2005", "A", "da1", "yn_q"),
        ("2005", "B", "da0", "backchannel"), ("2005", "B", "da1", "statement"),
        ("2010", "A", "da0", "statement"),
    ]  # fmt: skip
    # a range of words, one of which has no times; silence is no word
    assert (acts[1].text, acts[1].start, acts[1].end) == ("don't you agree", 1.0, 1.9)
    assert (acts[3].text, acts[3].start, acts[3].end) == ("right", 2.0, 2.4)
    assert [a.speaker for a in acts] == ["105", "105", "205", "205", "100"]
    assert notes == {"acts that NXT excludes, left out": 1}


def test_labels_may_be_the_tags_as_they_were_written(release):
    acts = read_nxt(folder_of(release), "swbd", Counter())
    assert [a.act for a in acts] == ["aa", "qy^t", "b", "sd", "sd(^q)"]


@pytest.mark.parametrize("times", ["n/a", "non-aligned", "nan", "inf", ""])
def test_an_act_without_times_has_none(release, times):
    file = release / "xml" / "terminals" / "sw2010.A.terminals.xml"
    text = file.read_text()
    for time in ("0.200000", "0.700000"):
        text = text.replace(time, times)
    file.write_text(text)
    acts = list(read_nxt(folder_of(release), "nite", Counter()))
    assert (acts[-1].start, acts[-1].end) == (None, None)
    assert acts[-1].text == "well hi"


def test_without_the_file_of_dialogues_a_side_is_a_speaker(release):
    (release / "xml" / "corpus-resources" / "dialogues.xml").unlink()
    acts = list(read_nxt(folder_of(release), "nite", Counter()))
    assert acts[0].speaker == "sw2005A"


def test_the_release_is_found_from_above_and_from_within(release):
    assert folder_of(release) == folder_of(release.parent) == folder_of(release / "xml")
    assert folder_of(release / "xml" / "dialAct") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id(s0)", "id(s99)", "a word that its file does not have"),
        ("#id(s0)", "", "points at no word"),
        ('niteType="agree"', "", "act 1 has no niteType"),
        ("</da>", "", "is no XML"),
        ("<nite:root", '<!DOCTYPE a [<!ENTITY b "c">]><nite:root', "document type or an entity"),
    ],
)
def test_what_is_broken_is_an_error_that_names_the_file(release, old, new, message):
    file = release / "xml" / "dialAct" / "sw2005.A.dialAct.xml"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(Damaged, match=message) as told:
        list(read_nxt(folder_of(release), "nite", Counter()))
    assert "sw2005.A.dialAct.xml" in str(told.value)


def test_missing_layers_are_told(release):
    (release / "xml" / "terminals" / "sw2005.B.terminals.xml").unlink()
    with pytest.raises(NotThere, match=r"the words of sw2005\.B\.dialAct\.xml are missing"):
        list(read_nxt(folder_of(release), "nite", Counter()))
    for file in (release / "xml" / "dialAct").iterdir():
        file.unlink()
    with pytest.raises(NotThere, match="no file such as"):
        list(read_nxt(folder_of(release), "nite", Counter()))


def test_elements_come_in_the_order_of_their_starts(tmp_path):
    (tmp_path / "a.xml").write_text('<a><b x="1"><c/></b><d/></a>')
    assert elements(tmp_path / "a.xml") == [("a", {}), ("b", {"x": "1"}), ("c", {}), ("d", {})]
