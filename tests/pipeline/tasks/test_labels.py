"""Labels become classes: numbers by their value, other words by their letters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.foundation.errors import SpeechkdError
from pipeline.tasks.labels import alike, class_name, task_of


@pytest.mark.parametrize(
    ("label", "name"),
    [
        *((one, "1") for one in ("1", "1.0", " 1 ", "+1", "1.", "1.00")),
        *((half, "-0.5") for half in ("-0.5", "-0.50")),
        *((zero, "0") for zero in ("0", "-0", "0.0", "-0.0")),
        ("007", "007"),
        ("1e3", "1e3"),
        ("1,0", "1,0"),
        ("٣", "٣"),
        ("happy 1.0", "happy 1.0"),
    ],
)
def test_equal_numbers_are_one_class(label, name):
    assert class_name(label) == name


@given(st.integers(-(10**9), 10**9), st.integers(0, 3))
def test_whole_numbers_have_one_name_however_written(number, zeros):
    assert class_name(f"{number}.{'0' * zeros}") == class_name(str(number)) == str(number)


@given(st.text())
def test_a_name_is_its_own_name(label):
    assert class_name(class_name(label)) == class_name(label)


def test_names_that_differ_in_case_only_are_told():
    assert alike(["Happy", "happy", "happy", "sad", "very sad", "verysad"]) == [
        "Happy (1), happy (2)",
        "very sad (1), verysad (1)",
    ]
    assert alike(["a", "b"]) == []


def test_a_description_is_short_whatever_the_classes_are_called():
    names = [f"class {i} with a very long name that goes on, and on" for i in range(100)]
    task, labels = task_of("y", names, "classes", "here")
    assert len(task.definition) < 100
    assert task.definition.startswith("y: one of 100 classes (class 0 with a very")
    assert [task.outputs[label] for label in labels] == names
    assert task_of("y", ["b", "a"], "classes", "here")[0].definition == "y: one of a, b"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 rows can be used; at least two classes"),
        (1, "1 row can be used, all with the label 'c0'"),
        (301, r"301 different labels, and classes are at most 300. .*\(--kind value\)"),
    ],
)
def test_too_few_or_too_many_classes_are_refused(count, words):
    with pytest.raises(SpeechkdError, match=f"here: {words}"):
        task_of("y", [f"c{i}" for i in range(count)], "classes", "here")


@pytest.mark.parametrize("wrong", ["abc", "1e400", "-inf", "nan", "1,5"])
def test_a_label_that_is_no_number_is_shown(wrong):
    with pytest.raises(SpeechkdError, match=f"here: 1 label of 3 is no .*such as '{wrong}'"):
        task_of("y", ["1", wrong, "-2.5e-1"], "value", "here")
