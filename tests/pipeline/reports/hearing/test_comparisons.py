"""Untrained students find those who began like them."""

from dataclasses import replace

import numpy as np

from pipeline.models.pretrained import Pretrained
from pipeline.reports.hearing.bootstrap import Figures
from pipeline.reports.hearing.comparisons import compare, lines_of
from tests.pipeline.reports.hearing.test_bootstrap import EXPLAINED, hearing_of, pretrained


def test_a_student_is_compared_with_the_untrained_one_of_its_start():
    encoders = {
        "a": pretrained("a"),
        "b": pretrained("b", "infonce"),
        "small": Pretrained("small", "", None, None, 0, 3, "s"),
        "large": Pretrained("large", "", None, None, 0, 9, "l"),
    }
    errors = {"a": 0.2, "b": 0.6, "small": 0.4, "large": 0.4}
    hearing = hearing_of(
        {label: np.full(120, value) for label, value in errors.items()},
        encoders=encoders,
        roles={"small": "untrained", "large": "untrained"},
    )
    starts = {"a": "1", "b": "2", "small": "1", "large": "2"}
    hearing = replace(
        hearing, judged=[replace(one, start=starts[one.encoder.label]) for one in hearing.judged]
    )
    lines = lines_of(hearing)
    compared = compare(hearing, Figures(hearing), [EXPLAINED], lines)
    told = {(one.group.name, one.other.name): one.verdict for one in compared}
    assert told[("a", "small")] == "better"
    assert told[("b", "large")] == "worse"
    assert ("a", "large") not in told
