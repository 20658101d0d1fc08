"""Turn finished cells into tables, comparisons and pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    from pipeline.reports.page import Section
    from pipeline.reports.tables import Table


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Settings):
    """Settings of `speechkd report`."""

    results: list[Path] = setting(
        help="Results folders of `speechkd finetune` and of `speechkd probe hearing`.",
        argument=True,
    )
    out: Path = setting(
        help="Folder for report.md, report.html, report.csv, report.tex and the pictures."
    )

    def check(self) -> None:
        """Refuse a file in place of the folder before any work is done."""
        if self.out.exists() and not self.out.is_dir():
            raise SpeechkdError(f"--out {self.out} is a file; name a folder.")


def run(settings: ReportSettings) -> None:
    """Print the tables of results folders and write the whole report.

    The first row of a table is the best constant answer; the others are the encoders. Figures
    are mean ± σ over fine-tuning seeds, with the paper's figures beside them. Folders of the same
    data, split and recipe share their tables; others get tables of their own. Of a hearing there is
    a row per figure and a column per encoder, with 95 % intervals.

    Example: speechkd report results --out report
    """
    from pipeline.foundation.atomic import remove_leftovers, write_bytes, write_text
    from pipeline.reports.cells import read_sets
    from pipeline.reports.formats import to_csv, to_latex, to_terminal
    from pipeline.reports.hearing.sections import HearingReport, hearing_sections
    from pipeline.reports.page import as_html, as_markdown
    from pipeline.reports.sections import sections
    from pipeline.reports.tables import every_figure, summary, tables
    from pipeline.tasks.hearing.results import is_hearing

    hearings = [HearingReport(folder) for folder in settings.results if is_hearing(folder)]
    sets = read_sets([folder for folder in settings.results if not is_hearing(folder)])
    page: list[Section] = []
    tables_by_set: dict[str, list[Table]] = {}
    for results in sets:
        if len(sets) > 1:
            print(f"\n{results.name}")
        print(summary(results.cells), end="")
        tables_by_set[results.short] = tables(results.cells)
        page += sections(results)
    for hearing in hearings:
        print(to_terminal(hearing.table("\n"), f"{hearing.folder}, with 95 % intervals"), end="")
    page += hearing_sections(hearings)
    for part in (settings.out, settings.out / "figures"):
        remove_leftovers(part)
    for section in page:
        if section.picture:
            name, png = section.picture
            write_bytes(settings.out / "figures" / f"{name}.png", png)
    write_text(settings.out / "report.md", as_markdown(page))
    write_text(settings.out / "report.html", as_html(page))
    lines = every_figure(tables_by_set)
    for hearing in hearings:
        lines += hearing.every_figure()
    write_text(settings.out / "report.csv", to_csv(lines))
    latex = [
        to_latex(table.grid(), f"{name}: {table.title}")
        for name, several in tables_by_set.items()
        for table in several
    ]
    latex += [to_latex(one.table(), f"{one.folder}: hearing") for one in hearings]
    write_text(settings.out / "report.tex", "\n".join(latex))
    print(settings.out / "report.html")


COMMANDS = {"report": (ReportSettings, run)}
