"""Labels per word: how a table writes them, what is refused, and what the word alone tells."""

import json
import math

import numpy as np
import pytest

from bench import capitals
from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.labelled import Division, read_labelled
from pipeline.tasks.labelled_rows import LabelColumns, Source
from pipeline.tasks.word_labels import STRENGTHS, TypePrior

COLUMNS = LabelColumns("text", "stress", "id", split="split")
ROWS = [
    {"id": "a", "text": "you  did it", "stress": "0 1 -", "split": "train"},
    {"id": "b", "text": "did you", "stress": "1 0", "split": "train"},
    {"id": "c", "text": "He did!", "stress": [0, True], "split": "test"},
    {"id": "d", "text": ["I", "know", "you"], "stress": [None, 1.0, 0], "split": "test"},
    {"id": "e", "text": "- I", "stress": "- -", "split": "test"},
]


def read(path, rows, columns=COLUMNS):
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_labelled([Source(path)], columns, "words", Division())


def test_each_word_has_its_label(tmp_path):
    table = read(tmp_path / "t.jsonl", ROWS)
    assert [row.id for row in table.rows] == ["a", "b", "c", "d"]
    (question,) = table.questions
    assert question.labels["train"].tolist() == [0, 1, 1, 0]
    assert question.labels["test"].tolist() == [0, 1, 1, 0]
    assert question.counts == {"train": 2, "valid": 0, "test": 2}
    assert question.answers("train") == (2, 2)
    assert question.names("test", []) == ["c:1", "c:2", "d:2", "d:3"]
    assert question.words["test"].spellings == ("He", "did!", "know", "you")
    assert question.repeat("test", ["g1", "g1", "g2", "g3"]) == ["g2", "g2", "g3", "g3"]
    assert question.labels_of("train", np.array([1, 0])).tolist() == [1, 0, 0, 1]
    assert question.raw == ["0", "1", "1", "0"]
    assert table.words[0].words == ("you", "did", "it")
    assert table.words[3].places == (1, 2)
    assert table.notes == (
        "rows without a word that is asked of, left out: 1",
        "words that are asked of: 8",
        "of them with label 1: 4",
        "words that are read and not asked of: 2",
    )
    assert (question.task.kind, question.task.outputs) == ("words", ("no", "yes"))
    with pytest.raises(ValueError, match="ask the question"):
        question.task.score(question.labels["test"], np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stress": "0 1"}, r"row b: 3 words and 2 labels \('did you so'"),
        ({"stress": "0 2 1"}, "row b: the label '2' of a word is none of 1, 0 and -"),
        ({"stress": '["0", [1], "1"]'}, r"row b: the label '\[1\]' of a word"),
        ({"stress": "[0, 1, 0"}, r"row b: the label '\[0,' of a word"),
        ({"text": ""}, None),
    ],
)
def test_labels_that_do_not_fit_the_words_are_refused(tmp_path, changes, told):
    rows = [ROWS[0], {"id": "b", "text": "did you so", "stress": "1 0 0", "split": "train"}]
    rows = [*rows[:1], rows[1] | changes, *ROWS[2:]]
    if told is None:
        assert "rows whose text is blank, left out: 1" in read(tmp_path / "t.jsonl", rows).notes
        return
    with pytest.raises(SpeechkdError, match=told):
        read(tmp_path / "t.jsonl", rows)


@pytest.mark.parametrize(
    ("label", "told"), [("0 0", "all words have the label 0"), ("- -", "no word is asked of")]
)
def test_words_of_one_label_are_no_task(tmp_path, label, told):
    rows = [{"id": i, "text": "a b", "stress": label, "split": s} for i, s in enumerate("ab")]
    with pytest.raises(SpeechkdError, match=told):
        read(tmp_path / "t.jsonl", rows, LabelColumns("text", "stress", "id"))


def test_training_words_of_one_label_are_refused(tmp_path):
    rows = [
        {"id": "a", "text": "a b", "stress": "0 0", "split": "train"},
        {"id": "b", "text": "a b", "stress": "0 1", "split": "test"},
    ]
    table = read(tmp_path / "t.jsonl", rows)
    with pytest.raises(SpeechkdError, match="all words of the training split"):
        _ = table.questions


def test_folds_hold_groups_out_whole(tmp_path):
    rows = [{"id": i, "text": "a b", "stress": "0 1", "talk": f"t{i % 4}"} for i in range(12)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    columns = LabelColumns("text", "stress", "id", group="talk")
    table = read_labelled([Source(path)], columns, "words", Division(folds=2))
    questions = table.questions
    assert [q.fold for q in questions] == ["1 of 2", "2 of 2"]
    tested = [{name.partition(":")[0] for name in q.words["test"].ids} for q in questions]
    assert not tested[0] & tested[1]
    for ids in tested:
        assert {int(i) % 4 for i in ids} & {int(i) % 4 for i in set.union(*tested) - ids} == set()


def test_the_word_alone_tells_its_rate_drawn_towards_that_of_all():
    words = ["Stop!", "stop", "it", "it", "it", "It,", "now", "then", "it", "stop"]
    labels = np.array([1, 1, 0, 0, 0, 1, 1, 0, 0, 0])
    prior = TypePrior.of(words, labels)
    rate = 0.4

    def likelihood(m):
        """Each word by the others that are spelled alike, one by one."""
        total = 0.0
        plain = [w.strip("!,").lower() for w in words]
        for i, word in enumerate(plain):
            others = [labels[j] for j in range(len(words)) if plain[j] == word and j != i]
            p = (sum(others) + m * rate) / (len(others) + m)
            total += math.log(p if labels[i] else 1 - p)
        return total

    assert prior.strength == max(STRENGTHS, key=likelihood)
    m = prior.strength
    wanted = [(2 + m * rate) / (3 + m), (1 + m * rate) / (5 + m), rate]
    told = prior.log_odds(["stop", "IT", "never"]).astype(float) + prior.threshold
    np.testing.assert_allclose(1 / (1 + np.exp(-told)), wanted, rtol=1e-5)


def test_the_word_alone_never_sees_the_test(tmp_path):
    rows = [*ROWS[:2], {"id": "z", "text": "new new", "stress": "1 1", "split": "test"}]
    (question,) = read(tmp_path / "t.jsonl", rows).questions
    other = [*ROWS[:2], {"id": "z", "text": "new new", "stress": "0 1", "split": "test"}]
    (changed,) = read(tmp_path / "u.jsonl", other).questions
    np.testing.assert_array_equal(question.words["test"].prior_n, changed.words["test"].prior_n)


def test_capitals_become_labels_and_are_gone_from_the_texts(tmp_path, capsys):
    lines = [
        ("t010", "I had to INSPECT it."),
        ("t011", "Look - it's LINC's, LINC!"),
        ("t013", "STOP THAT!"),
        ("t020", "What's it FOR?"),
    ]
    script = tmp_path / "script.tsv"
    script.write_text("utt_id\ttext\n" + "".join(f"{name}\t{text}\n" for name, text in lines))
    capitals.main([str(script), "--out", str(tmp_path / "t.csv"), "--acronyms", "linc"])
    columns = LabelColumns("text", "stress", "id", "group")
    table = read_labelled([Source(tmp_path / "t.csv")], columns, "words", Division(folds=2))
    assert [row.text for row in table.rows] == [
        "i had to inspect it.",
        "look - it's linc's, linc!",
        "what's it for?",
    ]
    assert [row.label for row in table.rows] == ["- 0 0 1 0", "0 - 0 0 -", "0 0 1"]
    assert [row.group for row in table.rows] == [":t010", ":t010", ":t020"]
    assert "lines in capitals alone, left out: 1" in capsys.readouterr().out


def test_groups_are_told_by_a_pattern_or_by_gaps():
    names = ["50a1", "50a2", "50b3", "50b9"]
    assert list(capitals.groups_of(names, r"^\d+[a-z]", 0)) == ["50a", "50a", "50b", "50b"]
    told = list(capitals.groups_of(names, r"^\d+([a-z])", 3))
    assert told == ["a:50a1", "a:50a1", "b:50b3", "b:50b9"]
