"""What a task makes of the head's outputs: predictions, and metrics by its kind."""

import numpy as np

from pipeline.tasks.metrics import score_classes, score_flags, score_values
from pipeline.tasks.task import Task

CLASSES = Task("colour", "classes", ("red", "green", "blue"), "one of three")
FLAGS = Task("signs", "flags", ("a", "b"), "each or not")
VALUE = Task("height", "value", ("height",), "in m")


def test_predictions_are_the_largest_logit_a_positive_logit_or_the_value():
    scores = np.array([[0.1, 2.0, -1.0], [3.0, 2.0, -1.0]])
    assert CLASSES.decide(scores).tolist() == [1, 0]
    assert FLAGS.decide(scores[:, 1:]).tolist() == [[1, 0], [1, 0]]
    assert VALUE.decide(scores[:, :1]).tolist() == [0.1, 3.0]


def test_each_kind_has_its_metrics():
    scores = np.array([[0.1, 2.0, -1.0], [3.0, 2.0, -1.0]])
    labels = np.array([1, 2])
    assert CLASSES.score(labels, scores) == score_classes(labels, np.array([1, 0]), 3)
    flags = np.array([[1, 1], [0, 0]])
    wanted = score_flags(flags, np.array([[1, 0], [1, 0]]), ("a", "b"))
    assert FLAGS.score(flags, scores[:, 1:]) == wanted
    values = np.array([0.0, 2.5])
    assert VALUE.score(values, scores[:, :1]) == score_values(values, scores[:, 0])


def test_a_task_may_bring_metrics_of_its_own():
    def own(labels, predictions):
        return {"largest_error": float(np.abs(labels - predictions).max())}

    task = Task("height", "value", ("height",), "in m", own)
    metrics = task.score(np.array([1.0, 2.0]), np.array([[1.5], [2.0]]))
    assert metrics["largest_error"] == 0.5
    assert metrics["mae"] == 0.25
