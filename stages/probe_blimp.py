"""Judge masked-LM encoders on minimal pairs, without any training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class BlimpSettings(Settings):
    """Settings of `speechkd probe blimp`."""

    data: Path = setting(help="Folder of BLiMP: one file of JSON lines a paradigm.", argument=True)
    checkpoint: list[str] = setting(
        help="Masked-LM encoder: a distill run, a Hugging Face folder or a hub id; repeat it."
    )
    out: Path | None = setting(None, help="A JSON file for the accuracy of every paradigm.")
    limit: int = setting(
        0, help="Pairs to take of each paradigm; 0 for all.", unit="pairs", minimum=0
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", help="Where to run; auto takes a GPU where there is one."
    )

    def check(self) -> None:
        """Refuse an empty list of encoders, and a result that could not be written."""
        if not self.checkpoint:
            raise SpeechkdError("--checkpoint is empty; name at least one encoder.")
        if self.out and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise SpeechkdError(f"--out {self.out}: name a file in a folder that is there.")


def run(settings: BlimpSettings) -> None:
    """Judge masked-LM encoders on minimal pairs by pseudo-log-likelihood.

    The likelier sentence of each pair is taken for the grammatical one; a tie counts one half.
    Figures are in %, the mean is over paradigms; a coin gives 50.

    Example: speechkd probe blimp blimp --checkpoint runs/none --checkpoint runs/crd
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.foundation.atomic import write_json
    from pipeline.foundation.devices import device_named
    from pipeline.foundation.progress import Meter
    from pipeline.foundation.provenance import record
    from pipeline.models.encoders import check_labels, load_masked_lm
    from pipeline.tasks.minimal_pairs import judge_pairs, log_likelihoods, read_pairs

    device = device_named(settings.device)
    pairs = read_pairs(settings.data, settings.limit)
    texts = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    found, encoders = {}, {}
    check_labels(settings.checkpoint)
    for given in dict.fromkeys(settings.checkpoint):
        described, student, tokenizer = load_masked_lm(given)
        student.to(device)
        with Meter(described.label, len(texts), "sentences") as meter:
            values = log_likelihoods(student, tokenizer, texts, meter.advance)
        encoders[described.label] = described.record()
        found[described.label] = judge_pairs(pairs, values[: len(pairs)], values[len(pairs) :])
    shown = Table(title=f"BLiMP, {len(pairs):,} pairs; accuracy in %", title_justify="left")
    shown.add_column("")
    for label in found:
        shown.add_column(Text(label), justify="right")
    first = next(iter(found.values()))
    for category in first.categories:
        line = [f"{100 * scores.categories[category]:.1f}" for scores in found.values()]
        shown.add_row(Text(category), *line)
    shown.add_row("mean over paradigms", *(f"{100 * s.mean:.1f}" for s in found.values()))
    shown.add_row("ties", *(f"{s.ties:,}" for s in found.values()))
    Console(highlight=False).print(shown)
    if settings.out:
        content = {
            "definition": "pseudo-log-likelihood in float32, each token masked alone; a tie is 1/2",
            "pairs": len(pairs),
            "limit": settings.limit,
            "encoders": encoders,
            "scores": {label: asdict(scores) for label, scores in found.items()},
            "provenance": record(),
        }
        write_json(settings.out, content)
