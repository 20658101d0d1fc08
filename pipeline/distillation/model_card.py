"""The model card and the loss curve of a run, written from its own record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.distillation.objectives import OBJECTIVES
from pipeline.foundation import atomic
from pipeline.foundation.progress import duration
from pipeline.training.log import read_metrics


def model_card(record: Mapping[str, Any]) -> str:
    """The README.md of a student, from its run's record."""
    settings, data, result = record["settings"], record["data"], record["result"]
    teacher, student = data["teacher"], record["student"]
    kinds = [k for k in record["objectives"] if k != "none"]
    named = ", ".join(f"{kind} ({OBJECTIVES[kind].title})" for kind in kinds)
    distilled = (
        f"It was pulled towards the vectors of the speech encoder {_code(teacher['teacher'])} by "
        f"{named}."
        if kinds
        else "No teacher was used: masked-LM training on the transcripts alone."
    )
    if kinds and settings["control"] != "real":
        distilled += (
            f" **This is a control**: the teacher's vectors were {settings['control']}, so nothing "
            "of the speech can have been learnt from them."
        )
    head = [
        "---",
        "library_name: transformers",
        "pipeline_tag: fill-mask",
        f"license: {settings['license']}",
        *([f"language: {settings['language']}"] if settings["language"] else []),
        "tags: [speechkd, knowledge-distillation, text-encoder]",
        "---",
    ]
    lines = [
        *head,
        f"# {student['architecture']}, {student['parameters']:,} parameters, {_taught(record)}",
        "",
        f"A text-only encoder made by `speechkd distill`. {distilled} It needs no audio.",
        "",
        "```python",
        "from transformers import AutoModel, AutoTokenizer",
        'model = AutoModel.from_pretrained("student")',
        'tokenizer = AutoTokenizer.from_pretrained("student")',
        "```",
        "",
        "## Data",
        f"- {data['train_clips']:,} clips to train on, {data['held_out_clips']:,} held out by "
        f"recording; {data['tokens']:,} tokens in all, {data['truncated']:,} texts cut to "
        f"{settings['max_tokens']} tokens, {len(data['dropped'])} without text left out",
        f"- teacher {_code(teacher['teacher'])} (weights sha256 "
        f"`{teacher['teacher_sha256'][:16]}…`), width {teacher['d_model']}, "
        f"pooling {_code(teacher['pooling'])}",
        f"- cache digest `{data['cache_sha256'][:16]}…`",
        "",
        "## Training",
        f"- {result['step']:,} of {record['plan']['total_steps']:,} steps "
        f"({_ending(result['outcome'])}), {result['tokens']:,} tokens, "
        f"{duration(result['seconds'])} on {_hardware(record)}",
        *(
            f"- {kind}: weight γ {record['gammas'][kind]:g}, teacher side "
            f"{record['teacher_sides'][kind]}"
            for kind in kinds
        ),
        f"- skipped steps (not finite): {result['skipped']}",
        *[f"- {line}" for line in _losses(result)],
        "",
        "## Settings",
        *(f"- `{name}`: {value}" for name, value in settings.items()),
        "",
        "Of these, left at values that the paper does not state: "
        + (", ".join(f"`{name}`" for name in record["assumed"]) or "none")
        + ".",
        "",
        "## Versions",
        *(f"- {name} {version}" for name, version in record["provenance"]["versions"].items()),
        f"- commit {record['provenance']['git_commit'] or 'unknown'}",
        "",
        "![losses](loss.png)",
        "",
    ]
    return "\n".join(lines)


def _code(text: str) -> str:
    """Text of any origin as Markdown shows code: without links, pictures or tags of its own."""
    return f"`{text.replace('`', chr(39))}`"


def _taught(record: Mapping[str, Any]) -> str:
    if record["objectives"] == ["none"]:
        return "trained on transcripts alone"
    real = record["settings"]["control"] == "real"
    return "taught by speech" if real else "a control: taught by vectors that are not its clips'"


def _ending(outcome: str) -> str:
    return {
        "finished": "the whole schedule",
        "steps": "stopped by --max-steps",
        "hours": "stopped by --max-hours",
    }[outcome]


def _hardware(record: Mapping[str, Any]) -> str:
    hardware = record["provenance"]["hardware"]
    return ", ".join(hardware["accelerators"]) or (
        f"{hardware['machine']}, {hardware['torch_threads']} threads"
    )


def _losses(result: Mapping[str, Any]) -> list[str]:
    if not result["validation"]:
        return ["no clips were held out, or too few for a batch"]
    last = result["validation"][-1]
    return [
        f"held out, {name}: {value:.4f}"
        for name, value in last.items()
        if name.startswith(("loss", "cosine"))
    ]


def write_card(folder: Path, record: Mapping[str, Any]) -> None:
    """Write README.md into a run's folder."""
    atomic.write_text(folder / "README.md", model_card(record))


def write_loss_curve(folder: Path) -> None:
    """Draw loss.png from metrics.jsonl: each loss of training and, where there is, held out."""
    from matplotlib.figure import Figure

    lines = read_metrics(folder / "metrics.jsonl")
    names = sorted({n for line in lines for n in line if n.startswith("loss/")})
    names = [n for n in names if n not in ("loss/kd", "loss/kd_weighted")]
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
