"""Shares of the work: every item once, evenly, and each scheduler's variables understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster.shares import ArrayTask, array_task, share
from pipeline.foundation.errors import SpeechkdError


def place(environment: dict[str, str], flag: str = "") -> str:
    return str(array_task(flag, environment))


@given(st.lists(st.integers(1, 10**6), max_size=60), st.integers(1, 12))
def test_shares_cover_everything_once_and_evenly(sizes, count):
    shares = [share(sizes, ArrayTask(index, count, "")) for index in range(count)]
    assert sorted(item for mine in shares for item in mine) == list(range(len(sizes)))
    loads = [sum(sizes[item] for item in mine) for mine in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "0/1"),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "9",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "5",
            },
            "3/5",
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "0",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_MAX": "99",
                "SLURM_ARRAY_TASK_COUNT": "100",
            },
            "0/100",
        ),
        (
            {
                "SGE_TASK_ID": "4",
                "SGE_TASK_FIRST": "2",
                "SGE_TASK_LAST": "10",
                "SGE_TASK_STEPSIZE": "2",
            },
            "1/5",
        ),
        ({"SGE_TASK_ID": "undefined"}, "0/1"),
        ({"LSB_JOBINDEX": "3", "LSB_JOBINDEX_END": "8", "LSB_JOBINDEX_STEP": "1"}, "2/8"),
        ({"LSB_JOBINDEX": "0"}, "0/1"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2", "AWS_BATCH_JOB_ARRAY_SIZE": "6"}, "2/6"),
    ],
)
def test_schedulers_are_understood(environment, expected):
    assert place(environment) == expected


@pytest.mark.parametrize("variable", ["PBS_ARRAY_INDEX", "PBS_ARRAYID", "JOB_COMPLETION_INDEX"])
def test_schedulers_that_do_not_tell_the_count_need_it(variable):
    with pytest.raises(SpeechkdError, match=r"SPEECHKD_ARRAY_TASKS=16.*auto/16"):
        place({variable: "3"})
    assert place({variable: "3"}, "auto/8") == "3/8"
    assert place({variable: "3", "SPEECHKD_ARRAY_TASKS": "8"}) == "3/8"
    assert place({variable: "3", "SPEECHKD_ARRAY_TASKS": "9"}, "auto/8") == "3/8"
    with pytest.raises(SpeechkdError, match="is not possible"):
        place({variable: "8"}, "auto/8")
    with pytest.raises(SpeechkdError, match="is not possible"):
        place({variable: "8", "SPEECHKD_ARRAY_TASKS": "8"})


SLURM_OF_EIGHT = {
    "SLURM_ARRAY_TASK_ID": "4",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_MAX": "8",
    "SLURM_ARRAY_TASK_COUNT": "8",
}


def test_a_number_of_tasks_that_the_scheduler_confirms_changes_nothing():
    assert place({**SLURM_OF_EIGHT, "SPEECHKD_ARRAY_TASKS": "8"}) == "3/8"
    assert place(SLURM_OF_EIGHT, "auto/8") == "3/8"


@pytest.mark.parametrize(
    ("environment", "flag", "message"),
    [
        # array tasks 4 to 8 of 16, say, run once more: nobody knows which shares are meant
        ({**SLURM_OF_EIGHT, "SPEECHKD_ARRAY_TASKS": "16"}, "", "has 8 tasks, but 16 were given"),
        (SLURM_OF_EIGHT, "auto/16", "has 8 tasks, but 16 were given"),
        ({"SPEECHKD_ARRAY_TASKS": "16"}, "", "SPEECHKD_ARRAY_TASKS=16: none of the variables"),
        ({"SPEECHKD_ARRAY_TASKS": "x"}, "", "SPEECHKD_ARRAY_TASKS is 'x'"),
    ],
)
def test_a_number_of_tasks_that_does_not_fit_is_refused(environment, flag, message):
    with pytest.raises(SpeechkdError, match=message):
        place(environment, flag)


def test_a_flag_wins_over_the_scheduler():
    assert place({"SLURM_ARRAY_TASK_ID": "5"}, "1/3") == "1/3"


def test_an_array_with_gaps_is_refused():
    environment = {
        "SLURM_ARRAY_TASK_ID": "7",
        "SLURM_ARRAY_TASK_MIN": "3",
        "SLURM_ARRAY_TASK_MAX": "7",
        "SLURM_ARRAY_TASK_COUNT": "2",
    }
    with pytest.raises(SpeechkdError, match="gaps"):
        place(environment)


@pytest.mark.parametrize("flag", ["3", "3/3", "-1/3", "a/b", "1/0", "/3", "auto/", "auto/x"])
def test_flags_that_make_no_sense_are_refused(flag):
    with pytest.raises(SpeechkdError, match=r"array-task|not possible"):
        place({}, flag)


def test_auto_without_a_scheduler_is_refused():
    with pytest.raises(SpeechkdError, match="JOB_COMPLETION_INDEX"):
        place({}, "auto/4")


def test_a_variable_that_is_no_number_is_refused():
    with pytest.raises(SpeechkdError, match="SLURM_ARRAY_TASK_ID is 'x'"):
        place({"SLURM_ARRAY_TASK_ID": "x"})
