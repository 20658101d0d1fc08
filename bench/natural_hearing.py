"""All that `probe hearing` gave in the study of natural speech, and Holm's correction of it.

python -m bench.natural_hearing DIR/hearing-calls DIR/hearing-characters --to JSON  # keep it
python -m bench.natural_hearing JSON           # tables of docs/natural-hearing.md, as Markdown
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.natural_tests import QUESTIONS
from pipeline.foundation.atomic import write_json
from pipeline.foundation.provenance import git_commit
from pipeline.reports.formats import to_markdown
from pipeline.reports.hearing.sections import HearingReport
from pipeline.reports.hearing.tables import with_interval
from pipeline.reports.holm import holm

Answers = Mapping[str, Any]
"""Of a corpus: `figures`, a grid, and `differences` by figure and pair of arms."""


def answers_of(folder: Path) -> Answers:
    """Figures, and the differences that `QUESTIONS` names, of a results folder, as text."""
    report = HearingReport(folder)
    head, *figures = report.table()
    differences: dict[str, dict[str, Any]] = {}
    for one in report.compared:
        arm, other = arm_of(one.group.name), arm_of(one.other.name)
        if other in QUESTIONS.get(arm, ()):
            differences.setdefault(one.measure.title, {})[f"{arm} over {other}"] = {
                "gain": with_interval(one.measure, one.difference),
                "p": round(one.difference.p, 5),
                "better": one.difference.mean > 0,
            }
    return {"figures": [[*map(arm_of, head)], *figures], "differences": differences}


def arm_of(group: str) -> str:
    """A group's name in the study, without the count of seeds or parameters."""
    return group.partition(" (")[0].removeprefix("all-")


def question_table(answers: Mapping[str, Answers]) -> str:
    """Each figure of each corpus asked of each level, with Holm's correction, as Markdown.

    As in the study's primary questions a group has to be better than both others, so a question has
    the larger p of its two comparisons, or 1 if one of them goes the other way.

    Args:
        answers: by corpus.
    """
    rows, p_of = [], []
    for corpus, one in answers.items():
        for arm, others in QUESTIONS.items():
            for title, pairs in one["differences"].items():
                both = [pairs[f"{arm} over {other}"] for other in others]
                p_of.append(max(pair["p"] if pair["better"] else 1.0 for pair in both))
                cells = [cell for pair in both for cell in (pair["gain"], f"{pair['p']:.4f}")]
                rows.append([corpus, arm, title, *cells])
    head = ["corpus", "level", "figure", "over none", "p", "over its twin", "p", "Holm's p"]
    last = [f"{p:.3f}" for p in holm(p_of, len(p_of))]
    return to_markdown([head, *([*row, p] for row, p in zip(rows, last, strict=True))])


def page_tables(answers: Mapping[str, Answers]) -> str:
    """All tables of the page."""
    figures = [to_markdown(one["figures"]) for one in answers.values()]
    return "\n\n".join([question_table(answers), *figures])


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("places", type=Path, nargs="+", help="results folders, or such a JSON file")
    parser.add_argument("--to", type=Path, help="JSON file to keep what the folders say")
    options = parser.parse_args(words)
    if options.to:
        answers = {one.name.removeprefix("hearing-"): answers_of(one) for one in options.places}
        write_json(options.to, {"commit": git_commit(), "answers": answers})
    else:
        file = json.loads(options.places[0].read_text(encoding="utf-8"))
        print(page_tables(file["answers"]))


if __name__ == "__main__":
    main()
