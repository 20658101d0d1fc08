"""Texts that stand more than once: counted, warned of, and one of each left."""

import numpy as np
import pytest

from pipeline.tasks.duplicates import contradictions, distinct, essence, remark, with_repetitions
from pipeline.tasks.task import Question, Task

TASK = Task("y", "classes", ("a", "b"), "y")


def question(train, test):
    places = {"train": train, "valid": [], "test": test}
    labels = {split: np.zeros(len(some), np.int64) for split, some in places.items()}
    return Question(TASK, places, labels, [""] * len(test))


def test_case_and_punctuation_make_no_other_text():
    assert essence("It's fine!") == essence("it's  FINE") != essence("its fine")
    assert essence("Straße") == essence("STRASSE")
    assert essence("?!") == "?!" != essence("…")
    assert essence("好的。") == essence("好的")


def test_test_texts_that_stand_in_training_are_counted():
    texts = ["a", "b", "c", "A!", "d", "b"]
    first, second = with_repetitions([question([0, 1, 2], [3, 4, 5]), question([4], [3])], texts)
    assert (first.repeated, second.repeated) == (2, 0)
    assert remark(second, "do so") == ""
    assert remark(first, "do so").startswith("WARNING: y: 2 of 3 test texts (66.7 %) stand in")


@pytest.mark.parametrize(("tests", "warned"), [(99, True), (100, False), (101, False)])
def test_one_per_cent_is_no_warning_yet(tests, warned):
    texts = ["same", *(f"other {i}" for i in range(tests - 1)), "same"]
    (one,) = with_repetitions([question([tests], range(tests))], texts)
    assert remark(one, "x").startswith("WARNING") == warned
    assert f"1 of {tests} test texts" in remark(one, "x")


def test_the_test_keeps_its_texts():
    texts = ["a", "b", "A", "c", "a.", "b"]
    splits = ["train", "train", "test", "train", "test", "valid"]
    assert distinct(texts, splits) == ([2, 3, 5], 3)
    assert distinct(texts, [""] * 6) == ([0, 1, 3], 3)
    assert distinct([], []) == ([], 0)


def test_texts_with_different_labels_are_counted():
    assert contradictions(["a", "A", "b", "b"], ["x", "y", "z", "z"]) == 1
