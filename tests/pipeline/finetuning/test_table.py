"""What settings of a table refuse before anything is read or trained."""

from types import SimpleNamespace

import pytest

from pipeline.finetuning.table import TableData
from pipeline.foundation.errors import SpeechkdError


def questions(*valid: int) -> list:
    return [SimpleNamespace(title=f"q{i}", counts={"valid": n}) for i, n in enumerate(valid)]


def test_epochs_chosen_by_validation_need_rows_to_validate_on():
    table = TableData(data=["t.csv"])
    table.check_selection("best-valid", questions(3, 1))
    table.check_selection("last", questions(0))
    with pytest.raises(
        SpeechkdError, match=r"t\.csv: .* q1 has no row there .* give some rows .* --selection last"
    ):
        table.check_selection("best-valid", questions(3, 0))
    folds = TableData(data=["t.csv"], folds=3)
    with pytest.raises(SpeechkdError, match=r"add --fold-validation next, or write --selection"):
        folds.check_selection("best-valid", questions(0))
