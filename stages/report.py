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
        help="Results folders of `speechkd finetune` and of `speechkd probe hearing`, and files of "
        "`speechkd probe blimp --out`, of any tasks.",
        argument=True,
    )
    out: Path = setting(
        help="Folder for report.md, report.html, report.csv, report.tex and the pictures; of "
        "several families of tasks also for overview.csv."
    )
    holm_task: list[str] = setting(
        [],
        help="TASK or TASK:MEASURE of the family over which Holm's correction is made; may be "
        "repeated. Without it the first measure of every task.",
    )
    holm_student: list[str] = setting(
        [],
        help="A student of that family, by its name or label; may be repeated. Without it every "
        "student with a teacher that is no control.",
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
    a row per figure and a column per encoder, with 95 % intervals. Several sets of results share a
    page that begins with one table of student × task: each gain over the same without a teacher and
    over its own control, with intervals and Holm's correction. Nothing is compared across sets.

    Example: speechkd report results --out report
    """
    from pipeline.foundation.atomic import remove_leftovers, write_bytes, write_text
    from pipeline.reports.cells import read_sets
    from pipeline.reports.formats import to_csv, to_latex, to_terminal
    from pipeline.reports.gains import gains_of
    from pipeline.reports.hearing.sections import HearingReport, hearing_sections
    from pipeline.reports.minimal_pairs import is_pairs, pair_sections, read_pair_reports
    from pipeline.reports.overview import Overview
    from pipeline.reports.overview_page import chapters, overview_sections
    from pipeline.reports.overview_sources import (
        chapter_of,
        comparisons,
        has_no_interval,
        on_demand,
        uncompared,
    )
    from pipeline.reports.page import as_html, as_markdown
    from pipeline.reports.sections import sections
    from pipeline.reports.tables import every_figure, summary, tables
    from pipeline.tasks.hearing.results import is_hearing

    places = list({path.resolve(): path for path in settings.results}.values())  # each once
    hearings = [HearingReport(folder) for folder in places if is_hearing(folder)]
    pairs = read_pair_reports([path for path in places if is_pairs(path)])
    sets = read_sets([folder for folder in places if not (is_hearing(folder) or is_pairs(folder))])
    gains = [gains_of(one, on_demand(settings.holm_task, one.key)) for one in sets]
    several = len(sets) + len(hearings) + len(pairs) > 1
    by_family: list[tuple[str, list[Section]]] = []
    tables_by_set: dict[str, list[Table]] = {}
    for results, gain in zip(sets, gains, strict=True):
        if len(sets) > 1:
            print(f"\n{results.name}")
        print(summary(results.cells), end="")
        tables_by_set[results.short] = tables(results.cells)
        by_family.append((chapter_of(results), sections(results, gain)))
    for hearing in hearings:
        print(to_terminal(hearing.table("\n"), f"{hearing.folder}, with 95 % intervals"), end="")
    for report in pairs:
        print(to_terminal(report.grid(), ", ".join(map(str, report.files))), end="")
    page = chapters(by_family) if several else [s for _, some in by_family for s in some]
    page += hearing_sections(hearings) + pair_sections(pairs)
    for part in (settings.out, settings.out / "figures"):
        remove_leftovers(part)
    if several or settings.holm_task or settings.holm_student:
        together = list(zip(sets, gains, strict=True)), hearings, pairs
        overview = Overview(comparisons(*together), settings.holm_task, settings.holm_student)
        without = [task for one in sets for task in has_no_interval(one)]
        numbered = [one.short for one in sets]
        if len(hearings) > 1:
            numbered += [f"hearing {n}: {one.folder}" for n, one in enumerate(hearings, start=1)]
        beginning = overview_sections(overview, without, numbered, uncompared(*together))
        page = beginning + page
        print("\n".join(beginning[0].text))
        write_text(settings.out / "overview.csv", to_csv(overview.all_lines()))
    for section in page:
        if section.picture:
            name, png = section.picture
            write_bytes(settings.out / "figures" / f"{name}.png", png)
    write_text(settings.out / "report.md", as_markdown(page))
    write_text(settings.out / "report.html", as_html(page))
    lines = every_figure(tables_by_set)
    lines += [line for hearing in hearings for line in hearing.every_figure()]
    lines += [line for report in pairs for line in report.every_figure()]
    write_text(settings.out / "report.csv", to_csv(lines))
    latex = [
        to_latex(table.grid(), f"{name}: {table.title}")
        for name, several_tables in tables_by_set.items()
        for table in several_tables
    ]
    latex += [to_latex(one.table(), f"{one.folder}: hearing") for one in hearings]
    latex += [to_latex(one.grid(), "minimal pairs") for one in pairs]
    write_text(settings.out / "report.tex", "\n".join(latex))
    print(settings.out / "report.html")


COMMANDS = {"report": (ReportSettings, run)}
