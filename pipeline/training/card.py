"""The model card and the loss curve of a run, written from its own record."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.foundation import atomic
from pipeline.foundation.progress import counted, duration
from pipeline.training.log import read_metrics

ENDINGS = {
    "finished": "the whole schedule",
    "steps": "stopped by --max-steps",
    "hours": "stopped by --max-hours",
}


@dataclass(frozen=True)
class CardWords:
    """What a method says about its model.

    Attributes:
        title: the heading.
        summary: one paragraph below it.
        pipeline_tag: the task by which the Hugging Face hub lists it.
        tags: further tags of the hub.
        usage: lines of Python that load it.
        data: what it was trained on, one entry per line.
        training: what is particular to how it was trained, one entry per line.
        unit: what it was trained on is counted in.
    """

    title: str
    summary: str
    pipeline_tag: str
    tags: Sequence[str]
    usage: Sequence[str]
    data: Sequence[str]
    training: Sequence[str]
    unit: str = "tokens"


def card(record: Mapping[str, Any], words: CardWords) -> str:
    """The README.md of a trained model, from the record of its run."""
    settings, result, provenance = record["settings"], record["result"], record["provenance"]
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {words.pipeline_tag}",
        f"license: {settings['license']}",
        *([f"language: {settings['language']}"] if settings["language"] else []),
        f"tags: [{', '.join(words.tags)}]",
        "---",
        f"# {words.title}",
        "",
        words.summary,
        "",
        "```python",
        *words.usage,
        "```",
        "",
        "## Data",
        *(f"- {line}" for line in words.data),
        "",
        "## Training",
        f"- {result['step']:,} of {counted(record['plan']['total_steps'], 'step')} "
        f"({ENDINGS[result['outcome']]}), {result['tokens']:,} {words.unit}, "
        f"{duration(result['seconds'])} on {_hardware(provenance['hardware'])}",
        *(f"- {line}" for line in words.training),
        f"- skipped steps (not finite): {result['skipped']}",
        *(f"- {line}" for line in _losses(result)),
        "",
        "## Settings",
        *(f"- `{name}`: {value}" for name, value in settings.items()),
        "",
        "Of these, left at values that the paper does not state: "
        + (", ".join(f"`{name}`" for name in record["assumed"]) or "none")
        + ".",
        "",
        "## Versions",
        *(f"- {name} {version}" for name, version in provenance["versions"].items()),
        f"- commit {provenance['git_commit'] or 'unknown'}",
        "",
        "![losses](loss.png)",
        "",
    ]
    return "\n".join(lines)


def code(text: str) -> str:
    """Text from anywhere as Markdown code, so that no link, picture or tag in it takes effect."""
    return f"`{text.replace('`', chr(39))}`"


def _hardware(hardware: Mapping[str, Any]) -> str:
    return ", ".join(hardware["accelerators"]) or (
        f"{hardware['machine']}, {counted(hardware['torch_threads'], 'thread')}"
    )


def _losses(result: Mapping[str, Any]) -> list[str]:
    if not result["validation"]:
        return ["nothing was held out, or too little for a batch"]
    last = result["validation"][-1]
    return [
        f"held out, {name}: {value:.4f}"
        for name, value in last.items()
        if name.startswith(("loss", "cosine"))
    ]


def write_loss_curve(folder: Path, leave_out: Collection[str] = ()) -> None:
    """Draw loss.png from metrics.jsonl: each named loss, in training and on what is held out.

    Args:
        folder: the run's.
        leave_out: losses that are only sums of others.
    """
    from matplotlib.figure import Figure

    lines = read_metrics(folder / "metrics.jsonl")
    names = sorted({n for line in lines for n in line if n.startswith("loss/")} - set(leave_out))
    figure = Figure(figsize=(4.5 * len(names), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label in ((name, "training"), (f"validation/{name}", "held out")):
            points = [(x["step"], x[key]) for x in lines if x.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, marker="." * (len(points) < 30))
        axes.set(xlabel="step", title=name.removeprefix("loss/"))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    with atomic.replaced(folder / "loss.png") as temporary:
        figure.savefig(temporary, format="png", dpi=120)
