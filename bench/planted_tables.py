"""Tables and curves of the planted-signal experiment, from its JSON lines.

    python -m bench.planted_tables DIR

Prints Markdown; DIR/curves.png has the curves. What is not finished is left out.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.figure import Figure

from bench.planted_grid import CURVES, MAIN, WEAK, settings_digest
from bench.planted_grid import SEEDS as ALL_SEEDS
from pipeline.tasks.planted.answers import CHANCE, Share, gain, share

SIDES = ("none", "center", "standardize")
Told = list[list[dict[str, float]]]


class Found:
    """What is finished: students by their digest, and what was probed of each corpus."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "students.jsonl").read_text(encoding="utf-8").splitlines()
        self.by_digest = {r["digest"]: r for r in map(json.loads, lines)}
        self.corpora = {
            path.stem.removeprefix("corpus-"): json.loads(path.read_text(encoding="utf-8"))
            for path in folder.glob("corpus-*.json")
        }

    def told(self, settings: dict, corpora: Iterable[str], what: str) -> Told:
        """Of each corpus, of each finished seed: the share of right answers a word."""
        found = [
            [
                self.by_digest[one][what]
                for seed in ALL_SEEDS
                if (one := settings_digest(corpus, seed, settings)) in self.by_digest
            ]
            for corpus in corpora
        ]
        return [seeds for seeds in found if seeds]

    def share(self, settings: dict, corpora: Iterable[str], what: str) -> Share | None:
        """Mean and interval over what is finished, or None."""
        told = self.told(settings, corpora, what)
        return share(told) if told else None

    def masked_lm(self, settings: dict, corpora: Iterable[str]) -> str:
        """Mean masked-LM loss of the last training step, over finished students."""
        losses = [
            record["losses"]["loss/mlm"]
            for corpus in corpora
            for seed in ALL_SEEDS
            if (record := self.by_digest.get(settings_digest(corpus, seed, settings)))
        ]
        return f"{sum(losses) / len(losses):.1f}" if losses else "–"

    def gain(self, settings: dict, corpora: str, what: str) -> Share | None:
        """Over the text-only student, on the corpora that have both."""
        both = [
            c for c in corpora
            if self.told(settings, [c], what) and self.told(MAIN["none"], [c], what)
        ]  # fmt: skip
        if not both:
            return None
        return gain(self.told(settings, both, what), self.told(MAIN["none"], both, what))


def table(head: list[str], rows: Iterable[list[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def plain(one: Share | None) -> str:
    return "–" if one is None else f"{100 * one.mean:.1f}"


def told(one: Share | None) -> str:
    return "–" if one is None else str(one)


def main_table(found: Found) -> None:
    print("## Students on corpora A, B and C: affect of unseen words, from text\n")
    rows = []
    for name, settings in MAIN.items():
        each = [found.share(settings, [corpus], "fine_tuned") for corpus in "ABC"]
        students = sum(len(s) for s in found.told(settings, "ABC", "fine_tuned"))
        if students:
            rows.append(
                [
                    name, *map(plain, each),
                    told(found.share(settings, "ABC", "fine_tuned")),
                    told(found.gain(settings, "ABC", "fine_tuned")),
                    told(found.share(settings, "ABC", "probe")),
                    found.masked_lm(settings, "ABC"), str(students),
                ]
            )  # fmt: skip
    table(
        ["student", "A", "B", "C", "fine-tuned, all (95 %)", "less text only (95 %)",
         "probe, all (95 %)", "masked LM", "students"],
        rows,
    )  # fmt: skip


def steps_table(found: Found) -> None:
    print("## How much survives each step\n")
    names = [name for name in ("A", "B", "C", "weak") if name in found.corpora]
    rows = [
        [title, *(plain(share([[found.corpora[name][key]]])) for name in names)]
        for title, key in (
            ("what eSpeak was told: pitch, range, rate, volume", "voice"),
            ("the teacher's vector of a clip", "teacher"),
            ("its mean over a word's clips", "teacher, a word"),
            ("the mean square of a clip's vector, one number", "mean square"),
            ("that number's mean over a word's clips", "mean square, a word"),
        )
    ]
    for student, settings in WEAK.items():
        for title, what in (("hidden states", "probe"), ("fine-tuned", "fine_tuned")):
            each = [plain(found.share(settings, [name], what)) for name in names]
            rows.append([f"{student}: {title}", *each])
    table(["", *names], rows)


def curve_tables(found: Found) -> None:
    for group, forms in CURVES.items():
        print(f"## {group}, corpus A\n")
        table(
            ["student", "fine-tuned (95 %)", "probe (95 %)", "seeds"],
            (
                [name, told(found.share(settings, "A", "fine_tuned")),
                 told(found.share(settings, "A", "probe")),
                 str(len(found.told(settings, "A", "probe")[0]))]
                for name, settings in forms.items()
                if found.told(settings, "A", "probe")
            ),
        )  # fmt: skip
    print("## Clips a word\n")
    table(
        ["student", "1", "2", "4", "10"],
        (
            [
                name,
                *(
                    told(found.share(settings, [corpus], "fine_tuned"))
                    for corpus in ("A1", "A2", "A4", "A")
                ),
            ]
            for name, settings in WEAK.items()
        ),
    )


def curves(found: Found, path: Path) -> None:
    """A panel a quantity: fine-tuned accuracy on corpus A, a line a student."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for axes, group, sign in zip(panels, ("γ", "τ"), (" = ", " = "), strict=False):
        lines: dict[str, list[tuple[float, Share]]] = {}
        for name, settings in CURVES[group].items():
            one = found.share(settings, "A", "fine_tuned")
            if one:
                student, _, value = name.rpartition(sign)
                lines.setdefault(student.rpartition(",")[0], []).append((float(value), one))
        draw(axes, lines)
        axes.set_xscale("log")
        axes.set_xlabel(group)
    lines = {}
    for name, settings in CURVES["teacher side"].items():
        student, _, side = name.rpartition(", ")
        if one := found.share(settings, "A", "fine_tuned"):
            lines.setdefault(student, []).append(
                (("none", "center", "standardize").index(side), one)
            )
    draw(panels[2], lines)
    panels[2].set_xticks(range(len(SIDES)), SIDES)
    panels[2].set_xlabel("teacher side")
    lines = {}
    for student, settings in WEAK.items():
        for clips, corpus in ((1, "A1"), (2, "A2"), (4, "A4"), (10, "A")):
            if one := found.share(settings, [corpus], "fine_tuned"):
                lines.setdefault(student, []).append((clips, one))
    draw(panels[3], lines)
    panels[3].set_xlabel("clips a word")
    panels[0].set_ylabel("right on unseen words")
    figure.savefig(path, dpi=150)


def draw(axes, lines: dict[str, list[tuple[float, Share]]]) -> None:
    axes.axhline(CHANCE, color="0.6", linewidth=1, linestyle="--")
    for name, points in lines.items():
        x = [value for value, _ in points]
        (drawn,) = axes.plot(x, [one.mean for _, one in points], "o-", label=name, markersize=4)
        axes.fill_between(
            x, [one.low for _, one in points], [one.high for _, one in points],
            color=drawn.get_color(), alpha=0.12, linewidth=0,
        )  # fmt: skip
    axes.set_ylim(0.25, 1.03)
    if lines:
        axes.legend(fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    found = Found(given.folder)
    steps: list[Callable[[Found], None]] = [main_table, steps_table, curve_tables]
    for step in steps:
        step(found)
    seconds = sum(record["seconds"] for record in found.by_digest.values())
    print(f"{len(found.by_digest)} students, {seconds / 3600:.1f} h of their processes' time.")
    curves(found, given.folder / "curves.png")


if __name__ == "__main__":
    main()
