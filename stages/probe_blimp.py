"""Compare the sentences of minimal pairs by masked-LM encoders, without any training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class BlimpSettings(Settings):
    """Settings of `speechkd probe blimp`."""

    data: Path = setting(help="Folder of BLiMP, one JSON lines file per paradigm.", argument=True)
    checkpoint: list[str] = setting(
        help="Masked-LM encoder, PATH or NAME=PATH: a distill run, a Hugging Face folder or a hub "
        "id; may be repeated."
    )
    out: Path | None = setting(None, help="A JSON file for the accuracy of every paradigm.")
    limit: int = setting(
        0, help="Pairs to read of each paradigm; 0 for all.", unit="pairs", minimum=0
    )
    masking: Literal["token", "word-l2r"] = setting(
        "token",
        help="What is masked with each token: nothing else (Salazar et al. 2020), or the later "
        "tokens of its word (PLL-word-l2r, Kauf & Ivanova 2023), which does not favour words of "
        "many tokens.",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", help="Where to run; auto takes a GPU if there is one."
    )

    def check(self) -> None:
        """Check that there are encoders and that the result can be written."""
        if not self.checkpoint:
            raise SpeechkdError("--checkpoint is empty; name at least one encoder.")
        if self.out and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise SpeechkdError(f"--out {self.out}: name a file in a folder that exists.")


def run(settings: BlimpSettings) -> None:
    """Ask masked-LM encoders which sentence of each minimal pair is grammatical.

    An encoder's answer is the sentence with the higher pseudo-log-likelihood; a tie counts one
    half. Figures are in %, and their mean is over paradigms. A coin gives 50.

    Example: speechkd probe blimp blimp --checkpoint runs/none --checkpoint runs/crd
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.foundation.atomic import write_json
    from pipeline.foundation.devices import device_named, ieee_float32
    from pipeline.foundation.progress import Meter, say
    from pipeline.foundation.provenance import record
    from pipeline.models.encoders import check_labels, load_masked_lm
    from pipeline.models.unknown import measure_unknown
    from pipeline.tasks.minimal_pairs import (
        DEFINITIONS,
        compare_pairs,
        log_likelihoods,
        read_pairs,
    )

    device = device_named(settings.device)
    pairs = read_pairs(settings.data, settings.limit)
    texts = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    scores, encoders, unknown = {}, {}, {}
    check_labels(settings.checkpoint)
    for checkpoint in dict.fromkeys(settings.checkpoint):
        pretrained, student, tokenizer = load_masked_lm(checkpoint)
        student.to(device)
        unknown[pretrained.label] = measure_unknown(tokenizer, texts)
        warning = "WARNING: " if unknown[pretrained.label].too_many else ""
        say(f"{warning}{pretrained.label}: {unknown[pretrained.label]}")
        with Meter(pretrained.label, len(texts), "sentences") as meter, ieee_float32():
            values = log_likelihoods(
                student, tokenizer, texts, meter.advance, masking=settings.masking
            )
        encoders[pretrained.label] = pretrained.record()
        scores[pretrained.label] = compare_pairs(pairs, values[: len(pairs)], values[len(pairs) :])
    table = Table(title=f"BLiMP, {len(pairs):,} pairs; accuracy in %", title_justify="left")
    table.add_column("")
    for label in scores:
        table.add_column(Text(label), justify="right")
    for category in next(iter(scores.values())).categories:
        line = [f"{100 * s.categories[category]:.1f}" for s in scores.values()]
        table.add_row(Text(category), *line)
    table.add_row("mean over paradigms", *(f"{100 * s.mean:.1f}" for s in scores.values()))
    shares = (one.percentage.removesuffix(" %") for one in unknown.values())
    table.add_row("unknown tokens", *shares)
    table.add_row("ties", *(f"{s.ties:,}" for s in scores.values()))
    Console(highlight=False).print(table)
    if settings.out:
        content = {
            "definition": DEFINITIONS[settings.masking],
            "masking": settings.masking,
            "pairs": len(pairs),
            "limit": settings.limit,
            "encoders": encoders,
            "unknown_tokens": {label: one.record() for label, one in unknown.items()},
            "scores": {label: asdict(one) for label, one in scores.items()},
            "provenance": record(),
        }
        write_json(settings.out, content)


COMMANDS = {"probe blimp": (BlimpSettings, run)}
