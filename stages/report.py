"""Turn finished cells into tables."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """Settings of `speechkd report`."""

    results: Path = setting(help="A results folder of `speechkd finetune`.", argument=True)
    out: Path = setting(help="Folder for report.md and report.csv.")


def run(settings: ReportSettings) -> None:
    """Print the tables of a results folder and write them as Markdown and CSV.

    Rows are checkpoints, after the best constant answer; figures are mean ± σ over seeds.

    Example: speechkd report results --out report
    """
    from pipeline.atomic import write_text
    from pipeline.report import print_summary, tables, to_csv, to_markdown
    from pipeline.results import read_results

    records = read_results(settings.results)
    made = tables(records)
    print_summary(records)
    write_text(settings.out / "report.md", "# Results\n\n" + "\n".join(map(to_markdown, made)))
    write_text(settings.out / "report.csv", to_csv(made))
