import pytest

from pipeline.errors import SpeechkdError
from pipeline.metrics import judge_classes
from pipeline.results import Results
from stages.report import ReportSettings, run


def test_tables_are_printed_and_written(tmp_path, capsys):
    results = Results(tmp_path / "r", {}, {})
    for seed in (0, 1):
        record = {
            "checkpoint": {"label": "mine", "objective": None, "weights_sha256": "0"},
            "task": "sentiment3",
            "seed": seed,
            "metrics": judge_classes([0, 1, 2, 2], [0, 1, 2, seed], 3),
        }
        results.add(f"cell{seed}", record, "")
    run(ReportSettings(results=tmp_path / "r", out=tmp_path / "report"))
    assert "mine" in capsys.readouterr().out
    assert "| mine |" in (tmp_path / "report" / "report.md").read_text()
    assert "table1,mine,sentiment3,0.75" in (tmp_path / "report" / "report.csv").read_text()


def test_no_results_is_an_error(tmp_path):
    with pytest.raises(SpeechkdError, match="no such file"):
        run(ReportSettings(results=tmp_path, out=tmp_path / "report"))
    assert not (tmp_path / "report").exists()
