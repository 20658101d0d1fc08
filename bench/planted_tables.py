"""Tables and curves of the planted-signal experiment, from its JSON lines.

    python -m bench.planted_tables DIR

Prints Markdown; DIR/curves.png has the curves. Unfinished students are left out.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.planted_grid import CURVES, MAIN, WEAK, settings_digest
from bench.planted_grid import SEEDS as ALL_SEEDS
from pipeline.tasks.planted.answers import CHANCE, Share, gain, share

SIDES = ("none", "center", "standardize")
RightAnswers = list[list[dict[str, float]]]


class Finished:
    """The finished students by their digest, and the probes of each corpus."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "students.jsonl").read_text(encoding="utf-8").splitlines()
        self.by_digest = {r["digest"]: r for r in map(json.loads, lines)}
        self.corpora = {
            path.stem.removeprefix("corpus-"): json.loads(path.read_text(encoding="utf-8"))
            for path in folder.glob("corpus-*.json")
        }

    def right(self, settings: Mapping[str, Any], corpora: Iterable[str], what: str) -> RightAnswers:
        """Per corpus, per finished seed: the share of right answers per word."""
        by_corpus = [
            [
                self.by_digest[one][what]
                for seed in ALL_SEEDS
                if (one := settings_digest(corpus, seed, settings)) in self.by_digest
            ]
            for corpus in corpora
        ]
        return [seeds for seeds in by_corpus if seeds]

    def share(self, settings: Mapping[str, Any], corpora: Iterable[str], what: str) -> Share | None:
        """Mean and interval over finished students, or None."""
        right = self.right(settings, corpora, what)
        return share(right) if right else None

    def masked_lm(self, settings: Mapping[str, Any], corpora: Iterable[str]) -> str:
        """Mean masked-LM loss of the last training step, over finished students."""
        losses = [
            record["losses"]["loss/mlm"]
            for corpus in corpora
            for seed in ALL_SEEDS
            if (record := self.by_digest.get(settings_digest(corpus, seed, settings)))
        ]
        return f"{sum(losses) / len(losses):.1f}" if losses else "–"

    def gain(self, settings: Mapping[str, Any], corpora: str, what: str) -> Share | None:
        """Gain over the text-only student, on the corpora that have both."""
        both = [
            c for c in corpora
            if self.right(settings, [c], what) and self.right(MAIN["none"], [c], what)
        ]  # fmt: skip
        if not both:
            return None
        return gain(self.right(settings, both, what), self.right(MAIN["none"], both, what))


def table(head: list[str], rows: Iterable[list[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def mean_only(one: Share | None) -> str:
    return "–" if one is None else f"{100 * one.mean:.1f}"


def with_interval(one: Share | None) -> str:
    return "–" if one is None else str(one)


def main_table(finished: Finished) -> None:
    print("## Students on corpora A, B and C: affect of unseen words, from text\n")
    rows = []
    for name, settings in MAIN.items():
        each = [finished.share(settings, [corpus], "fine_tuned") for corpus in "ABC"]
        students = sum(len(s) for s in finished.right(settings, "ABC", "fine_tuned"))
        if students:
            rows.append(
                [
                    name, *map(mean_only, each),
                    with_interval(finished.share(settings, "ABC", "fine_tuned")),
                    with_interval(finished.gain(settings, "ABC", "fine_tuned")),
                    with_interval(finished.share(settings, "ABC", "probe")),
                    finished.masked_lm(settings, "ABC"), str(students),
                ]
            )  # fmt: skip
    table(
        ["student", "A", "B", "C", "fine-tuned, all (95 %)", "less text only (95 %)",
         "probe, all (95 %)", "masked LM", "students"],
        rows,
    )  # fmt: skip


def steps_table(finished: Finished) -> None:
    print("## How much survives each step\n")
    names = [name for name in ("A", "B", "C", "weak") if name in finished.corpora]
    rows = [
        [title, *(mean_only(share([[finished.corpora[name][key]]])) for name in names)]
        for title, key in (
            ("what eSpeak got: pitch, range, rate, volume", "voice"),
            ("the teacher's vector of a clip", "teacher"),
            ("its mean over a word's clips", "teacher, a word"),
            ("the mean square of a clip's vector, one number", "mean square"),
            ("that number's mean over a word's clips", "mean square, a word"),
        )
    ]
    for student, settings in WEAK.items():
        for title, what in (("hidden states", "probe"), ("fine-tuned", "fine_tuned")):
            each = [mean_only(finished.share(settings, [name], what)) for name in names]
            rows.append([f"{student}: {title}", *each])
    table(["", *names], rows)


def curve_tables(finished: Finished) -> None:
    for group, forms in CURVES.items():
        print(f"## {group}, corpus A\n")
        table(
            ["student", "fine-tuned (95 %)", "probe (95 %)", "seeds"],
            (
                [name, with_interval(finished.share(settings, "A", "fine_tuned")),
                 with_interval(finished.share(settings, "A", "probe")),
                 str(len(finished.right(settings, "A", "probe")[0]))]
                for name, settings in forms.items()
                if finished.right(settings, "A", "probe")
            ),
        )  # fmt: skip
    print("## Clips per word\n")
    table(
        ["student", "1", "2", "4", "10"],
        (
            [
                name,
                *(
                    with_interval(finished.share(settings, [corpus], "fine_tuned"))
                    for corpus in ("A1", "A2", "A4", "A")
                ),
            ]
            for name, settings in WEAK.items()
        ),
    )


def curves(finished: Finished, path: Path) -> None:
    """One panel per quantity: fine-tuned accuracy on corpus A, one line per student."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for axes, group, sign in zip(panels, ("γ", "τ"), (" = ", " = "), strict=False):
        lines: dict[str, list[tuple[float, Share]]] = {}
        for name, settings in CURVES[group].items():
            one = finished.share(settings, "A", "fine_tuned")
            if one:
                student, _, value = name.rpartition(sign)
                lines.setdefault(student.rpartition(",")[0], []).append((float(value), one))
        draw(axes, lines)
        axes.set_xscale("log")
        axes.set_xlabel(group)
    lines = {}
    for name, settings in CURVES["teacher side"].items():
        student, _, side = name.rpartition(", ")
        if one := finished.share(settings, "A", "fine_tuned"):
            lines.setdefault(student, []).append((SIDES.index(side), one))
    draw(panels[2], lines)
    panels[2].set_xticks(range(len(SIDES)), SIDES)
    panels[2].set_xlabel("teacher side")
    lines = {}
    for student, settings in WEAK.items():
        for clips, corpus in ((1, "A1"), (2, "A2"), (4, "A4"), (10, "A")):
            if one := finished.share(settings, [corpus], "fine_tuned"):
                lines.setdefault(student, []).append((clips, one))
    draw(panels[3], lines)
    panels[3].set_xlabel("clips per word")
    panels[0].set_ylabel("right on unseen words")
    figure.savefig(path, dpi=150)


def draw(axes: Axes, lines: dict[str, list[tuple[float, Share]]]) -> None:
    axes.axhline(CHANCE, color="0.6", linewidth=1, linestyle="--")
    for name, points in lines.items():
        x = [value for value, _ in points]
        (line,) = axes.plot(x, [one.mean for _, one in points], "o-", label=name, markersize=4)
        axes.fill_between(
            x, [one.low for _, one in points], [one.high for _, one in points],
            color=line.get_color(), alpha=0.12, linewidth=0,
        )  # fmt: skip
    axes.set_ylim(0.25, 1.03)
    if lines:
        axes.legend(fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    finished = Finished(options.folder)
    steps: list[Callable[[Finished], None]] = [main_table, steps_table, curve_tables]
    for step in steps:
        step(finished)
    seconds = sum(record["seconds"] for record in finished.by_digest.values())
    print(f"{len(finished.by_digest)} students, {seconds / 3600:.1f} h of process time.")
    curves(finished, options.folder / "curves.png")


if __name__ == "__main__":
    main()
