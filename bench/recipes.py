"""What each recipe of docs/recipes.md takes: disk and time, from sizes and measured rates.

    python -m bench.recipes            # the table of docs/recipes.md

Rates on a CPU were measured once (docs/performance.md, two cores); a teacher of another size takes
time in proportion to its operations. Times on a GPU are operations divided by an assumed share of
the card's peak (bench/projections.py). Clips are taken to last 15 s and to have 44 tokens.
"""

from dataclasses import dataclass

import torch

from bench.projections import (
    CARDS,
    MASKED_SHARE,
    TOKENS_PER_CLIP,
    UTILISATION,
    WHISPER_SMALL,
    span,
)
from bench.systems import FLOAT16_BYTES, WINDOW_POSITIONS, count, fresh
from pipeline.distillation.costs import flops_per_token
from pipeline.extraction.whisper import EncoderShape
from pipeline.foundation.units import CLIP_SECONDS

WHISPER_TINY = EncoderShape(
    d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536,
    num_mel_bins=80, max_source_positions=1500,
)  # fmt: skip
TINY_AUDIO_SECONDS_PER_S = 71
"""Measured: the whole of `extract-teacher` with tiny.en on two cores."""
BASE_TOKENS_PER_S = 293
"""Measured: `distill --kd none` with bert-base on two cores."""
TARS_GB, TARS_HOURS = 400, 5_895
"""Of People's Speech, clean, as FLAC (data_manifests/peoples_speech.md)."""
CARD = next(card for card in CARDS if card.name.startswith("A100"))
SHORTEST_S = 60
"""Shorter times are not worth a figure: starting takes as long."""
FLOAT32_BYTES = 4
STATES = 3
"""Weight and two moments, which a checkpoint has of each parameter."""


@dataclass(frozen=True)
class Recipe:
    """Sizes of a recipe.

    Attributes:
        hours: of speech.
        teacher: its name.
        shape: its encoder.
        epochs: of stage two.
        student: its size.
    """

    hours: int
    teacher: str
    shape: EncoderShape
    epochs: int
    student: str = "bert-base"

    @property
    def clips(self) -> float:
        """How many there are."""
        return self.hours * 3600 / CLIP_SECONDS


RECIPES = (
    Recipe(10, "tiny.en", WHISPER_TINY, 10),
    Recipe(100, "small.en", WHISPER_SMALL, 10),
    Recipe(6_000, "small.en", WHISPER_SMALL, 40),
)


def cpu_seconds(recipe: Recipe) -> tuple[float, float]:
    """Stage one, and stage two per student, on two cores."""
    slower = recipe.shape.flops(WINDOW_POSITIONS) / WHISPER_TINY.flops(WINDOW_POSITIONS)
    one = recipe.hours * 3600 / TINY_AUDIO_SECONDS_PER_S * slower
    return one, recipe.clips * TOKENS_PER_CLIP * recipe.epochs / BASE_TOKENS_PER_S


def gpu_seconds(recipe: Recipe, utilisation: float) -> tuple[float, float]:
    """The same on `CARD`, whose peak is reached to some share."""
    with torch.device("meta"):
        per_token = flops_per_token(fresh(recipe.student), TOKENS_PER_CLIP, MASKED_SHARE)
    rate = CARD.peak * utilisation
    one = recipe.clips * recipe.shape.flops(WINDOW_POSITIONS) / rate
    return one, recipe.clips * TOKENS_PER_CLIP * recipe.epochs * per_token / rate


def student_bytes(recipe: Recipe) -> int:
    """The weights of a student."""
    with torch.device("meta"):
        return FLOAT32_BYTES * count(fresh(recipe.student))


def table() -> str:
    """The table, as Markdown."""
    lines = [
        "| hours | teacher | epochs | tars | cache of vectors | cache of words, at most | student, "
        f"and each checkpoint | stage one, 2 cores | a student, 2 cores | stage one, {CARD.name} | "
        f"a student, {CARD.name} |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    low, high = UTILISATION
    for one in RECIPES:
        vector = one.shape.d_model * FLOAT16_BYTES
        sizes = (
            one.hours * TARS_GB * 1e9 / TARS_HOURS,
            one.clips * vector,
            one.clips * TOKENS_PER_CLIP * vector,
        )
        student = student_bytes(one)
        slow, fast = gpu_seconds(one, low), gpu_seconds(one, high)
        cells = [
            f"{one.hours:,}",
            one.teacher,
            f"{one.epochs}",
            *map(_bytes, sizes),
            f"{_bytes(student)}, {_bytes(STATES * student)}",
            *map(_time, cpu_seconds(one)),
            *(
                span([a, b]) if b >= SHORTEST_S else f"under {SHORTEST_S} s"
                for a, b in zip(fast, slow, strict=True)
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _bytes(size: float) -> str:
    unit, scale = ("GB", 1e9) if size >= 1e9 else ("MB", 1e6)
    return f"{size / scale:,.1f} {unit}"


def _time(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.0f} days"


if __name__ == "__main__":
    print(table())
