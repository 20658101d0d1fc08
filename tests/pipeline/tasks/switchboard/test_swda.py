"""The Switchboard-Corpus layout: acts get their times from the words that both sources have."""

import pytest

from pipeline.foundation.errors import Damaged, NotThere
from pipeline.tasks.switchboard.swda import folder_of, read_swda, spoken_words, written_words
from tests.helpers.switchboard import make_swda


@pytest.fixture
def sources(tmp_path):
    return make_swda(tmp_path)


def acts_of(sources):
    root, words = sources
    return {(said.number, said.side, said.name): said for said in read_swda(folder_of(root), words)}


def test_an_act_lasts_from_its_first_word_to_its_last(sources):
    acts = acts_of(sources)
    times = {place: (said.start, said.end) for place, said in acts.items()}
    assert times == {
        ("2005", "A", "0001"): (0.5, 0.9),
        ("2005", "B", "0002"): (0.6, 0.9),
        ("2005", "A", "0003"): (1.0, 1.9),
        ("2005", "B", "0004"): (2.0, 2.4),
        ("2005", "A", "0005"): (None, None),  # nothing but laughter
        ("2005", "A", "0006"): (None, None),  # nobody said it
        ("2005", "A", "0007"): (3.0, 3.3),
        ("2010", "A", "0001"): (0.2, 0.9),
        ("2020", "B", "0001"): (0.1, 0.5),
    }
    assert acts["2005", "A", "0003"].act == "qy"
    assert acts["2005", "A", "0005"].text == ""
    assert {said.number: said.split for said in acts.values()} == {
        "2005": "train", "2010": "valid", "2020": "test",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spoken", "wanted"),
    [
        ("a b c d", (0.0, 4.0)),
        ("a x x d", (0.0, 4.0)),  # half of the words, both ends among them
        ("a x x x", (None, None)),
        ("x b c d", (None, None)),  # its start is not known
        ("a b c x", (None, None)),
        ("", (None, None)),
    ],
)
def test_times_are_given_only_where_both_ends_are_known(sources, spoken, wanted):
    root, words = sources
    (root / "swda_data" / "val" / "2010.txt").write_text("A|a b c d|sd\n")
    lines = [f"x {i}.0 {i + 1}.0 {word}\n" for i, word in enumerate(spoken.split())]
    (words / "20" / "2010" / "sw2010A-ms98-a-word.text").write_text("".join(lines))
    said = acts_of(sources)["2010", "A", "0001"]
    assert (said.start, said.end) == wanted


def test_a_side_without_a_transcript_of_words_has_no_times(sources):
    (sources[1] / "20" / "2010" / "sw2010A-ms98-a-word.text").unlink()
    assert acts_of(sources)["2010", "A", "0001"].start is None


@pytest.mark.parametrize(
    ("words_of", "text", "wanted"),
    [
        (written_words, "Okay, uh,", ["okay", "uh"]),
        (written_words, "{F Um, } [ I, + I've ] <laughter>", ["um", "i", "i've"]),
        (written_words, "Uh-huh. '", ["uh", "huh"]),
        (written_words, "", []),
        (spoken_words, "[laughter-I've]", ["i've"]),
        (spoken_words, "th[at]-", ["th"]),
        (spoken_words, "[pacific/specific]", ["pacific"]),
        (spoken_words, "{yuppiedom}", ["yuppiedom"]),
        (spoken_words, "you_1", ["you"]),
        (spoken_words, "[noise]", []),
        (spoken_words, "<b_aside>", []),
    ],
)
def test_words_are_compared_by_their_letters(words_of, text, wanted):
    assert words_of(text) == wanted


@pytest.mark.parametrize("line", ["A|no act", "C|text|sd", "A|text|", "nothing"])
def test_a_line_that_is_no_act_is_an_error(sources, line):
    file = sources[0] / "swda_data" / "train" / "2005.txt"
    file.write_text(f"A|Okay.|aa\n{line}\n")
    with pytest.raises(Damaged, match=r"2005\.txt, line 2: .* is not `A\|text\|act`"):
        acts_of(sources)


@pytest.mark.parametrize("line", ["x 1.0 word", "x 1.0 nan word", "x 2.0 1.0 word"])
def test_a_word_without_times_is_an_error(sources, line):
    file = sources[1] / "20" / "2010" / "sw2010A-ms98-a-word.text"
    file.write_text(line)
    with pytest.raises(Damaged, match=r"line 1: .* is no word with two times"):
        acts_of(sources)


def test_missing_parts_are_told(sources, tmp_path):
    root, words = sources
    with pytest.raises(NotThere, match="no transcript of words is below it"):
        list(read_swda(folder_of(root), root))
    for split in ("train", "val", "test"):
        for file in (root / "swda_data" / split).iterdir():
            file.unlink()
    with pytest.raises(NotThere, match="has no conversation"):
        list(read_swda(folder_of(root), words))
    assert folder_of(words) is None
