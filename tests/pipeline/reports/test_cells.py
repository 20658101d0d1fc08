"""Results that are absent or damaged are told with file and line."""

import pytest

from pipeline.foundation.errors import SpeechkdError
from pipeline.reports.cells import read_results


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "holds no results"),
        ("", "is empty"),
        ("{}\n", "line 1: not a cell"),
        ("{\n", "line 1"),
    ],
)
def test_results_that_are_not_there_or_damaged(tmp_path, text, told):
    if text is not None:
        (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(SpeechkdError, match=told):
        read_results(tmp_path)
