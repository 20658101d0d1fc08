"""What the paper's run would take on a card that nobody has tried: arithmetic, nothing measured.

`python bench/gpu.py --project` prints it; docs/gpu.md holds what it prints.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import BertConfig, BertForMaskedLM

from pipeline.corpus.masking import most_chosen
from pipeline.distillation.costs import flops_per_token, step_bytes
from pipeline.distillation.preflight import objective_bytes
from pipeline.extraction.whisper import EncoderShape
from pipeline.foundation.units import CLIP_SECONDS
from pipeline.models.student import PRESETS, Student
from pipeline.training.peaks import PEAK_BF16_FLOPS

HOURS = (6_000, 100)
EPOCHS = 40
MASKED_SHARE = 0.15
TOKENS_OF_THE_PAPER = 65_977_589  # of its 6,000 hours, an epoch
TOKENS_PER_CLIP = 44
LONGEST_CLIP_TOKENS = 108
FILLER = 1.06
"""Tokens computed per real token of a compiled batch."""
UTILISATION = (0.25, 0.45)
"""Assumed range of the share of the peak that is reached."""
MEMORY_SHARE = 0.9
"""Share of a card's memory that is counted on."""
BYTES_PER_PARAMETER = 16
"""Float32 weight, gradient and two moments of AdamW."""
DECODING = 3_971
"""Audio-seconds per second that one core reads and decodes, measured (docs/performance.md)."""
WHISPER_SMALL = EncoderShape(
    d_model=768, encoder_layers=12, encoder_attention_heads=12, encoder_ffn_dim=3072,
    num_mel_bins=80, max_source_positions=1500,
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A card by its maker's data sheet, and what an hour of it is assumed to cost.

    Attributes:
        name: in words.
        key: its name in the table of peaks.
        memory_gb: 10^9 bytes.
        dollars: per hour, assumed.
    """

    name: str
    key: str
    memory_gb: int
    dollars: float

    @property
    def peak(self) -> float:
        """Dense bf16 operations per second."""
        return PEAK_BF16_FLOPS[self.key]


CARDS = (
    Card("H200", "H200", 141, 3.50),
    Card("H100 SXM", "H100 HBM3", 80, 2.50),
    Card("A100 SXM", "A100 SXM4", 80, 1.50),
    Card("RTX 4090", "RTX 4090", 24, 0.50),
    Card("L4", "L4", 24, 0.70),
)


def bert_base() -> Student:
    """The paper's student without its numbers: a shape."""
    with torch.device("meta"):
        return Student(BertForMaskedLM(BertConfig(**PRESETS["bert-base"])))


def clips_that_fit(student: Student, card: Card, kd: bool) -> int:
    """Clips per batch by the preflight's bound for a step, a multiple of 32."""
    room = MEMORY_SHARE * card.memory_gb * 1e9
    room -= BYTES_PER_PARAMETER * sum(p.numel() for p in student.parameters())
    clips = 0
    while True:
        more = clips + 32
        tokens = more * TOKENS_PER_CLIP
        needed = step_bytes(student, tokens, most_chosen(MASKED_SHARE, tokens), passes=1)
        if kd:
            needed += objective_bytes(tokens, more, 0, student.width, WHISPER_SMALL.d_model)
        if needed > room:
            return clips
        clips = more


def stage_one_seconds(card: Card, hours: float, utilisation: float) -> float:
    """Encoding every clip of so many hours once."""
    clips = hours * 3600 / CLIP_SECONDS
    return clips * WHISPER_SMALL.flops(1500) / (card.peak * utilisation)


def stage_two_seconds(student: Student, card: Card, hours: float, utilisation: float) -> float:
    """Training a student for all epochs on the texts of so many hours."""
    tokens = TOKENS_OF_THE_PAPER * hours / HOURS[0] * EPOCHS * FILLER
    return (
        tokens * flops_per_token(student, TOKENS_PER_CLIP, MASKED_SHARE) / (card.peak * utilisation)
    )


def page() -> str:
    """The tables, as Markdown."""
    student = bert_base()
    per_token = flops_per_token(student, TOKENS_PER_CLIP, MASKED_SHARE)
    low, high = UTILISATION
    lines = [
        "| quantity | value | where from |",
        "|---|--:|---|",
        f"| one clip through whisper-small | {WHISPER_SMALL.flops(1500) / 1e9:.0f} GFLOP | derived "
        "(`EncoderShape.flops`, 1,500 positions) |",
        f"| one token of BERT-base, forward and backward | {per_token / 1e9:.2f} GFLOP | derived "
        "(`flops_per_token`) |",
        f"| clips of {HOURS[0]:,} h, of {HOURS[1]:,} h | {', '.join(_clips(h) for h in HOURS)} | "
        f"derived, if each lasts {CLIP_SECONDS} s |",
        f"| tokens of {HOURS[0]:,} h, per epoch | {TOKENS_OF_THE_PAPER:,} | the paper; other hours "
        "in proportion |",
        f"| filler of a compiled step | {FILLER - 1:.0%} | bound that a test holds |",
        f"| utilisation | {low:.0%} to {high:.0%} | **assumed** |",
        f"| reading and decoding, per core | {DECODING:,} audio-s/s | measured, on a CPU |",
        "",
        "| card | bf16 peak, TFLOP/s | memory, GB | $ per hour (assumed) | clips that fit, "
        "without teacher | with one objective |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {c.name} | {c.peak / 1e12:.0f} | {c.memory_gb} | {c.dollars:.2f} | "
            f"{clips_that_fit(student, c, False):,} | {clips_that_fit(student, c, True):,} |"
            for c in CARDS
        ),
    ]
    for hours in HOURS:
        lines += ["", *_times(student, hours)]
    return "\n".join(lines)


def _clips(hours: float) -> str:
    return f"{round(hours * 3600 / CLIP_SECONDS):,}"


def _times(student: Student, hours: int) -> Iterator[str]:
    yield (
        f"| {hours:,} h | stage one | $ | cores that keep up with it | stage two, {EPOCHS} epochs "
        "| $ |"
    )
    yield "|---|--:|--:|--:|--:|--:|"
    for card in CARDS:
        one = [stage_one_seconds(card, hours, u) for u in reversed(UTILISATION)]
        two = [stage_two_seconds(student, card, hours, u) for u in reversed(UTILISATION)]
        cores = [hours * 3600 / DECODING / seconds for seconds in reversed(one)]
        yield (
            f"| {card.name} | {span(one)} | {_dollars(one, card)} | {cores[0]:.1f} to "
            f"{cores[1]:.1f} | {span(two)} | {_dollars(two, card)} |"
        )


def span(seconds: Sequence[float]) -> str:
    """The least and the greatest of two times, in one unit."""
    unit, size = ("h", 3600) if seconds[0] >= 3600 else ("min", 60)
    low, high = (value / size for value in seconds)
    return f"{low:.1f} to {high:.1f} {unit}" if low < 10 else f"{low:.0f} to {high:.0f} {unit}"


def _dollars(seconds: Sequence[float], card: Card) -> str:
    low, high = (value / 3600 * card.dollars for value in seconds)
    return f"{low:.2f} to {high:.2f}"
