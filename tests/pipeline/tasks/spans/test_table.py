"""Questions about passages from a table: several answers, refusals that are counted, and errors."""

from collections import Counter

import numpy as np
import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.labelled_rows import Source
from pipeline.tasks.spans.passages import Passage
from pipeline.tasks.spans.table import in_cell, read_spans

HEAD = "question_id,question,passage,answer_start_s,answer_end_s,split"
PASSAGES = {
    name: Passage(name, (f"{name}-0",), (0.0,), (seconds,))
    for name, seconds in (("p", 10.0), *((other, 5.0) for other in "qrstuvwxyz"))
}


def read(tmp_path, *lines, head=HEAD, seed=0):
    path = tmp_path / "questions.csv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return read_spans([Source(path)], PASSAGES, seed, Counter())


TRAIN, TEST = "1,where,p,1,2,train", "2,when,q,1,2.5,test"


def test_answers_become_labels_with_nothing_where_a_question_has_fewer(tmp_path):
    table = read(
        tmp_path, TRAIN, "1,where,p,4,5,train", "1,where,p,1,2,train", TEST, "3,who,r,0,1,dev"
    )
    question = table.question
    assert [row.id for row in table.rows] == ["1", "2", "3"]
    assert np.array_equal(question.labels["train"], [[[1, 2], [4, 5]]])
    assert np.array_equal(question.labels["test"], [[[1, 2.5], [0, 0]]])
    assert question.counts == {"train": 1, "valid": 1, "test": 1}
    assert question.passages["train"].names == ("p",)
    assert question.passages["test"].seconds_n.tolist() == [5.0]
    assert question.raw == ["1.0 2.5"]
    assert table.notes == ()


def test_what_cannot_be_used_is_counted_and_left_out(tmp_path):
    table = read(
        tmp_path, TRAIN, TEST,
        "4,,p,1,2,train", "5,what,nowhere,1,2,train", "6,what,gone,1,2,train", "7,what,p,,2,train",
        "8,what,p,3,3,train", "9,what,p,9,11,train", "10,what,p,-1,2,train", "10,what,p,4,5,train",
        "11,what,p,9,10.01,train",
    )  # fmt: skip
    assert [row.id for row in table.rows] == ["1", "2", "10", "11"]
    assert table.rows[-1].answers == ((9.0, 10.0),)
    assert set(table.notes) == {
        "rows whose question is blank, left out: 1",
        "rows of a passage that is not among the passages at hand, such as 'nowhere', left out: 2",
        "answers without a time, left out: 1",
        "answers that end where they begin or before, left out: 1",
        "answers outside the audio of their passage, left out: 2",
        "questions without an answer that can be used, left out: 3",
    }


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["1,where,p,soon,2,train"], "line 2: 'soon' is not a time"),
        (["1,where,p,1,inf,train"], "line 2: 'inf' is not a time"),
        ([TRAIN, "1,when,p,3,4,train"], "line 3: question_id 1 stands with another question"),
        ([TRAIN, "1,where,q,3,4,train"], "question_id 1 stands with another question, passage"),
        (["1,where,p,1,2,later"], "split 'later' is none of train, valid, test"),
        ([TRAIN, "2,when,p,1,2,test"], "passage p is both in train and in test"),
        ([TRAIN], "no question is in the split test"),
        ([TRAIN, "2,when,q,1,2,"], "some questions have a split and some have none"),
        ([",where,p,1,2,train"], "line 2: question_id is empty"),
        (["1,where,p,8,88,train"], "no question that can be asked.*outside the audio"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_where(tmp_path, lines, wanted):
    with pytest.raises(SpeechkdError, match=wanted):
        read(tmp_path, *lines)


def test_a_row_of_another_split_than_its_file_is_an_error(tmp_path):
    path = tmp_path / "questions.csv"
    path.write_text("\n".join([HEAD, TRAIN, "3,who,r,0,1,dev"]) + "\n")
    with pytest.raises(
        SpeechkdError, match=r"line 3: the row's split is valid, .* given as train="
    ):
        read_spans([Source(path, "train")], PASSAGES, 0, Counter())


def test_groups_stay_together_in_a_split_that_is_made(tmp_path):
    names = "pqrstuvwxyz"
    lines = [f"{i},where,{names[i % 11]},1,2,group {i % 11 // 2}" for i in range(33)]
    table = read(tmp_path, *lines, head=HEAD.replace("split", "group"))
    splits = {row.group: row.split for row in table.rows}
    assert not table.has_split
    assert all(row.split == splits[row.group] for row in table.rows)
    assert set(splits.values()) >= {"train", "test"}


def test_a_group_in_two_splits_is_an_error(tmp_path):
    head = HEAD + ",group"
    with pytest.raises(SpeechkdError, match="group one is both in train and in test"):
        read(tmp_path, TRAIN + ",one", TEST + ",one", head=head)


def test_a_table_without_its_columns_is_an_error_that_names_them(tmp_path):
    with pytest.raises(SpeechkdError, match="has no column passage, answer_end_s"):
        read(tmp_path, "1,x,2", head="question_id,question,answer_start_s")


def test_another_answer_is_another_table(tmp_path):
    before = read(tmp_path, TRAIN, TEST).sha256
    assert read(tmp_path, TRAIN, TEST).sha256 == before
    assert read(tmp_path, TRAIN, TEST.replace("2.5", "2.6")).sha256 != before


def test_answers_are_told_exactly():
    assert in_cell([(0.1, 2.0), (3.25, 1e-7)]) == "0.1 2.0;3.25 1e-07"
