"""The picture of docs/natural-speech.md: each arm's gains over its own control and over no teacher.

    python -m bench.natural_picture bench/results/natural-{second,first}-run.json --to PNG

Made of the figures that `python -m bench.natural keep` kept. Seeds of files behind the first one
are of another base, and are paired among themselves.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.natural import secondary_questions
from bench.natural_tests import (
    FEWEST,
    MEASURES,
    QUESTIONS,
    TITLES,
    Comparison,
    Values,
    comparisons,
    read_values,
    with_earlier,
)

ARMS = {
    "clip-crd": "Whisper → text, clip by clip",
    "word-crd": "Whisper → text, word by word",
    "both-crd": "Whisper → text, both levels",
    "clip-middle": "clip by clip, middle layer",
    "clip-within": "clip by clip, less the speaker",
    "clip-nst": "clip by clip, by nst",
    "word-within": "word by word, less the speaker",
    "word-infonce": "word by word, by infonce",
    "read-word-crd": "word by word, reading alone",
    "acted-word-crd": "word by word, acting alone",
    "clip-l1": "SPLAT's alignment, turned round",
    "token-ctal": "what a CTAL hears, token by token",
    "whisbert": "WhisBERT's text encoder",
}
"""What each arm is, from top to bottom."""
OVER_CONTROL, OVER_NONE = "#00539c", "#c1440e"
LOOKS = ((OVER_CONTROL, "o", "over its own control"), (OVER_NONE, "s", "over no teacher"))


def gains(values: Values, task: str, arm: str) -> tuple[Comparison | None, Comparison | None]:
    """An arm's gains over its control and over no teacher, where there are seeds enough.

    For WhisBERT the latter is its text-only twin, because `none` reads twice as long. Both gains of
    a primary arm are over the same seeds, as in its question.
    """
    none, control = {**secondary_questions(), **QUESTIONS}[arm][:2]
    pairs = comparisons(values, [task], {arm: (none, control)}, together=arm in QUESTIONS)
    enough = {one.other: one for one in pairs if len(one.gains) >= FEWEST}
    return enough.get(control), enough.get(none)


def draw(values: Values) -> Figure:
    """A panel per task, a row per arm, in points; dots are pairs of seeds, bars Student's 95 %."""
    arms = [a for a in ARMS if any(any(gains(values, t, a)) for t in MEASURES)]
    figure = Figure(figsize=(11, 1.6 + 0.48 * len(arms)), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(MEASURES), sharey=True)
    for panel, task in zip(panels, MEASURES, strict=True):
        panel.axvline(0, color="0.6", linewidth=0.8)
        for row, arm in enumerate(arms):
            pair = gains(values, task, arm)
            if not any(pair):
                panel.text(0.5, row, "not asked", transform=panel.get_yaxis_transform(),
                           color="0.6", fontsize=8, ha="center", va="center")  # fmt: skip
            for below, one, (colour, mark, _) in zip((-0.14, 0.14), pair, LOOKS, strict=True):
                if one is None:
                    continue
                points, height = 100 * np.array(one.gains), row + below
                panel.plot(points, np.full(len(points), height), ".", color=colour, alpha=0.35)
                panel.errorbar(
                    100 * one.mean, height, xerr=100 * one.half_width, color=colour, marker=mark,
                    markersize=5, capsize=2.5, linewidth=1.2,
                )  # fmt: skip
        panel.set_title(TITLES[task].replace(", ", "\n"), fontsize=10)
        panel.grid(axis="x", color="0.92")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("gain, points")
    panels[0].set_yticks(range(len(arms)), [ARMS[arm] for arm in arms])
    panels[0].invert_yaxis()
    for colour, mark, label in LOOKS:
        panels[-1].plot([], [], color=colour, marker=mark, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("latest", type=Path, help="file that `keep` wrote")
    parser.add_argument("earlier", type=Path, nargs="*", help="such files of earlier runs")
    parser.add_argument("--to", type=Path, required=True, help="PNG file")
    options = parser.parse_args()
    values = with_earlier(read_values(options.latest), options.earlier)
    draw(values).savefig(options.to, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
