"""All that `probe hearing` told in the study of natural speech, and Holm's correction of it.

python -m bench.natural_hearing DIR/hearing-calls DIR/hearing-characters --to JSON  # keep it
python -m bench.natural_hearing JSON           # tables of docs/natural-hearing.md, as Markdown
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.foundation.atomic import write_json
from pipeline.foundation.provenance import git_commit
from pipeline.reports.hearing.bootstrap import Interval
from pipeline.reports.hearing.measures import Measure
from pipeline.reports.hearing.sections import HearingReport
from pipeline.reports.holm import holm
from pipeline.reports.partners import Group

ASKED = {
    "word-crd": ("none", "word-crd-shuffled"),
    "clip-crd": ("none", "clip-crd-shuffled"),
}
"""Groups, and those that each is to be better than."""
Told = Mapping[str, Any]
"""What is kept of a corpus: `figures` and `differences`, by figure and group."""


def told_by(folder: Path) -> Told:
    """Figures and the asked differences of a results folder, with intervals, as they are shown."""
    report = HearingReport(folder)
    figures: dict[str, dict[str, Any]] = {}
    for measure in report.measures:
        row = figures[measure.title] = {"chance": measure.shown(measure.chance)}
        for line in report.lines:
            figure = report.figures.of(measure, line.group)
            row[_arm(line.group)] = _shown(measure, figure) if figure else None
    differences: dict[str, dict[str, Any]] = {}
    for one in report.compared:
        arm, other = _arm(one.group), _arm(one.other)
        if other in ASKED.get(arm, ()):
            row = differences.setdefault(one.measure.title, {})
            row[f"{arm} over {other}"] = {
                **_shown(one.measure, one.difference),
                "p": round(one.difference.p, 5),
                "better": one.difference.mean > 0,
            }
    return {"figures": figures, "differences": differences}


def _arm(group: Group) -> str:
    """Its name in the study, without the count of seeds or parameters."""
    return group.name.partition(" (")[0].removeprefix("all-")


def _shown(measure: Measure, one: Interval) -> dict[str, str]:
    mean, low, high = (measure.shown(value) for value in (one.mean, one.low, one.high))
    return {"mean": mean, "interval": f"{low} to {high}"}


def figure_table(told: Told) -> str:
    """A row per figure of a corpus, a column per group, as Markdown."""
    rows = list(told["figures"].items())
    groups = [name for name in rows[0][1] if name != "chance"]
    lines = [f"| figure | chance | {' | '.join(groups)} |", f"|---|{'--:|' * (len(groups) + 1)}"]
    for title, row in rows:
        cells = [f"{one['mean']} ({one['interval']})" if (one := row[g]) else "–" for g in groups]
        lines.append(f"| {title} | {row['chance']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def question_table(told: Mapping[str, Told]) -> str:
    """Each figure of each corpus asked of each level, with Holm's correction, as Markdown.

    As in the study's primary questions a group has to be better than both others, so a question has
    the larger p of its two comparisons, or 1 if one of them goes the other way.

    Args:
        told: by corpus.
    """
    rows, p_of = [], []
    for corpus, one in told.items():
        for arm, others in ASKED.items():
            for title, row in one["differences"].items():
                both = [row[f"{arm} over {other}"] for other in others]
                p_of.append(max(gap["p"] if gap["better"] else 1.0 for gap in both))
                cells = [f"{gap['mean']} ({gap['interval']}) | {gap['p']:.4f}" for gap in both]
                rows.append(f"| {corpus} | {arm} | {title} | "
                            f"{' | '.join(cells)}")  # fmt: skip
    adjusted = holm(p_of, len(p_of))
    head = ("corpus", "taught", "figure", "over none", "p", "over its twin", "p", "Holm's p")
    return "\n".join([
        f"| {' | '.join(head)} |",
        f"|---|---|---|{'--:|' * 5}",
        *(f"{row} | {p:.3f} |" for row, p in zip(rows, adjusted, strict=True)),
    ])  # fmt: skip


def page_tables(told: Mapping[str, Told]) -> str:
    """All tables of the page."""
    return "\n\n".join([question_table(told), *(figure_table(one) for one in told.values())])


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("places", type=Path, nargs="+", help="results folders, or a kept JSON file")
    parser.add_argument("--to", type=Path, help="JSON file to keep what the folders tell")
    options = parser.parse_args(words)
    if options.to:
        told = {place.name.removeprefix("hearing-"): told_by(place) for place in options.places}
        write_json(options.to, {"commit": git_commit(), "told": told})
    else:
        print(page_tables(json.loads(options.places[0].read_text(encoding="utf-8"))["told"]))


if __name__ == "__main__":
    main()
