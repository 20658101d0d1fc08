"""What logs and queue together say of each array task."""

import pytest

from pipeline.cluster.array_tasks import task_statuses
from pipeline.cluster.slurm import Queued, Submission

START = "array task 7_0 starts at 1700000000 on node, restart 0: 'speechkd'\n"
AGAIN = "array task 7_0 starts at 1700000500 on node, restart 1: 'speechkd'\n"
RUNNING, PENDING = Queued("RUNNING", "None"), Queued("PENDING", "Resources")


@pytest.mark.parametrize(
    ("log", "queued", "state", "why"),
    [
        (None, PENDING, "waiting", "Resources"),
        (None, None, "not started", "taken out of the queue before it started"),
        ("", RUNNING, "running", "RUNNING"),
        (START, RUNNING, "running", "RUNNING"),
        (START + "array task 7_0 is done\n", None, "done", ""),
        (START + "array task 7_0 is done\n", Queued("COMPLETING", "None"), "done", ""),
        (
            START
            + "loading\nerror: no such file.\nMend it.\narray task 7_0 failed with status 1\n",
            None,
            "failed",
            "error: no such file. Mend it.",
        ),
        (START + "Killed\narray task 7_0 failed with status 137\n", None, "failed", "Killed"),
        (START + "step 3\n", None, "ended", "ended without a word; the last line: step 3"),
        (START, None, "ended", "ended without a word; the last line: none"),
        # a failure of an earlier sitting does not count once the task runs again
        (START + "array task 7_0 failed with status 143\n" + AGAIN, RUNNING, "running", "RUNNING"),
        (START + "array task 7_0 failed with status 143\n", PENDING, "waiting", "Resources"),
        (START + "array task 7_0 failed with status 1\n" + AGAIN + "array task 7_0 is done\n",
         None, "done", ""),
        # words in the log that only look like an end
        (START + "the array task 7_0 is done\n", RUNNING, "running", "RUNNING"),
    ],
)  # fmt: skip
def test_an_array_task_stands_as_its_log_and_the_queue_say(tmp_path, log, queued, state, why):
    if log is not None:
        (tmp_path / "distill-7_0.log").write_text(log)
    submission = Submission("distill", "7", 1, 0.0)
    (task,) = task_statuses(submission, {("7", 0): queued} if queued else {}, tmp_path)
    assert (task.state, task.why) == (state, why)
    assert task.started == (1_700_000_000 if log else None)


def test_a_job_that_is_no_array_is_one_array_task(tmp_path):
    (tmp_path / "report-9.log").write_text(START)
    (task,) = task_statuses(Submission("report", "9", 0, 0.0), {("9", 0): RUNNING}, tmp_path)
    assert task.state == "running"
    assert task.log == tmp_path / "report-9.log"
