"""A reading process printed a traceback when the main process was stopped while taking a batch."""

import pytest

from pipeline.extraction.batches import _report


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(), BrokenPipeError()])
def test_a_main_process_that_hangs_up_is_no_news(error, capsys):
    _report(type(error), error, None)
    assert capsys.readouterr().err == ""


def test_anything_else_is_printed(capsys):
    error = ValueError("of a thread")
    _report(ValueError, error, None)
    assert "ValueError: of a thread" in capsys.readouterr().err
