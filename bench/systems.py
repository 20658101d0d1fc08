"""What each of the four systems needs: parameters, operations and bytes, at its default sizes.

    python -m bench.systems            # the tables of docs/which-method.md and of the README

Needs are neither measured nor typed in. Models are built without their numbers (torch's `meta`
device) from the defaults of each command's settings, and operations are those that the commands
themselves announce. A clip is the longest one, 15 s, with as many tokens as a clip of the main
paper has on average; so times of shorter clips are lower. Gains are of the figures that
docs/natural-speech.md rests on.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from bench.natural_picture import gains
from bench.natural_tests import read_values, with_earlier
from bench.projections import (
    CARDS,
    MASKED_SHARE,
    TOKENS_PER_CLIP,
    UTILISATION,
    WHISPER_SMALL,
    span,
)
from pipeline.distillation.costs import flops_per_token
from pipeline.distillation.settings import DistillSettings
from pipeline.extraction.ctal_mel import CtalMel
from pipeline.foundation.settings import Settings
from pipeline.foundation.units import (
    CLIP_SAMPLES,
    CLIP_SECONDS,
    HOP_LENGTH,
)
from pipeline.models.speech import SpeechShape, build_speech
from pipeline.models.student import PRESETS, Student
from pipeline.models.text_referred import AudioConfig, AudioStack
from pipeline.models.whisbert.layers import LayerSizes
from pipeline.pretraining.ctal.costs import audio_flops, heads_flops, text_flops
from pipeline.pretraining.ctal.method import fresh_text
from pipeline.pretraining.ctal.module import CtalPretraining
from pipeline.pretraining.ctal.settings import CtalSettings
from pipeline.pretraining.sizes import encoder_flops
from pipeline.pretraining.splat.costs import clip_flops
from pipeline.pretraining.splat.filling import Filling
from pipeline.pretraining.splat.settings import MaskedAudioSettings, SplatSettings
from pipeline.pretraining.whisbert import costs
from pipeline.pretraining.whisbert.method import FEED_FORWARD, PATCH_MS
from pipeline.pretraining.whisbert.module import Shape, WhisBERT
from pipeline.pretraining.whisbert.settings import WhisbertSettings

FLOAT16_BYTES = 2
BACKWARD = 3
MEL_CHANNELS = WHISPER_SMALL.num_mel_bins
MEL_FRAMES = CLIP_SAMPLES // HOP_LENGTH
WINDOW_POSITIONS = WHISPER_SMALL.max_source_positions
RESULTS = Path(__file__).parent / "results"
ARMS_OF_SYSTEMS = ("clip-crd", "word-crd", "clip-l1", "token-ctal", "whisbert")
"""What stands for each system in the study on natural speech."""
HOURS = 100
CARD = next(card for card in CARDS if card.name.startswith("A100"))


@dataclass(frozen=True)
class Needs:
    """What a system takes for a clip.

    Attributes:
        name: of the system, as a heading.
        train: what a clip must have for training.
        cache_bytes: what stage one keeps of it.
        stage_one: operations of frozen encoders, once per clip; 0 for a spectrogram.
        trained: parameters that stage two trains, heads of masked tokens and frames with them; what
            objectives of distillation add is left out.
        stage_two: operations per clip and epoch, forward and backward.
        epochs: the defaults of its steps.
        use: what the model reads afterwards.
        parameters: of what reads it.
        inference: operations per clip, forward.
    """

    name: str
    train: str
    cache_bytes: int
    stage_one: float
    trained: int
    stage_two: float
    epochs: tuple[float, ...]
    use: str
    parameters: int
    inference: float

    def seconds(self, utilisation: float) -> float:
        """Seconds of `CARD` for `HOURS` hours of speech: stage one, and all epochs of stage two."""
        clips = HOURS * 3600 / CLIP_SECONDS
        operations = clips * (self.stage_one + sum(self.epochs) * self.stage_two)
        return operations / (CARD.peak * utilisation)


def defaults(settings: type[Settings]) -> Any:
    """The defaults of a command's settings, without what it requires."""
    values = {}
    for field in fields(settings):
        if field.default is not MISSING:
            values[field.name] = field.default
        elif field.default_factory is not MISSING:
            values[field.name] = field.default_factory()
    return SimpleNamespace(**values)


def fresh(preset: str) -> Student:
    """A text encoder by the name of its size."""
    return Student(BertForMaskedLM(BertConfig(**PRESETS[preset])))


def count(*modules: nn.Module) -> int:
    """Parameters of some modules, shared ones once."""
    return sum(p.numel() for p in {id(p): p for m in modules for p in m.parameters()}.values())


def whisper_to_text(by_word: bool) -> Needs:
    """`extract-teacher` and `distill`, clip by clip or word by word."""
    settings = defaults(DistillSettings)
    student = fresh(settings.student)
    per_token = flops_per_token(student, TOKENS_PER_CLIP, MASKED_SHARE)
    rows = TOKENS_PER_CLIP if by_word else 1  # no more words than tokens
    return Needs(
        "Whisper → text, word by word" if by_word else "Whisper → text, clip by clip",
        "audio and text",
        rows * WHISPER_SMALL.d_model * FLOAT16_BYTES,
        WHISPER_SMALL.flops(WINDOW_POSITIONS),
        count(student),
        per_token * TOKENS_PER_CLIP,
        (settings.epochs,),
        "text",
        count(student.encoder),
        text_flops(student, TOKENS_PER_CLIP),
    )


def splat() -> Needs:
    """`pretrain masked-audio`, `extract-text` of BERT-base, and `pretrain splat`."""
    first, second = defaults(MaskedAudioSettings), defaults(SplatSettings)
    shape = SpeechShape(
        channels=MEL_CHANNELS,
        most_rows=MEL_FRAMES,
        stack=first.stack,
        layers=first.layers,
        width=first.width,
        heads=first.heads,
        read=first.read,
    )
    speech = build_speech(shape)
    filling = Filling(speech, MEL_CHANNELS, first.stack, first.reconstruct)
    places, stacked = -(-MEL_FRAMES // first.stack), MEL_CHANNELS * first.stack
    sizes = {"layers": first.layers, "width": first.width, "inner": 4 * first.width}
    if second.keep_masked_audio:
        raise ValueError("alignment would make two passes per clip, and this counts one")
    teacher = fresh("bert-base")
    text_bytes = TOKENS_PER_CLIP * teacher.width * FLOAT16_BYTES
    return Needs(
        "SPLAT, text → speech",
        "audio, then audio and text",
        MEL_FRAMES * MEL_CHANNELS * FLOAT16_BYTES + text_bytes,
        text_flops(teacher, TOKENS_PER_CLIP),
        count(filling),
        clip_flops(places, stacked=stacked, **sizes),
        (first.epochs, second.epochs),
        "audio",
        count(speech),
        encoder_flops(places + 1, first.layers, first.width, 4 * first.width)
        + 2 * places * stacked * first.width,
    )


def ctal() -> Needs:
    """`pretrain ctal`."""
    settings = defaults(CtalSettings)
    tokenizer: Any = _Tokenizer(settings.vocab_size)
    text = fresh_text(settings, tokenizer)
    frames = CtalMel.frames_of(CLIP_SAMPLES)
    positions, target = frames // settings.stack, 2 * MEL_CHANNELS * settings.stack
    config = AudioConfig(
        columns=target,
        width=settings.width,
        text_width=settings.width,
        layers=settings.layers,
        heads=settings.heads,
        inner_width=4 * settings.width,
        positions=positions,
    )
    audio = AudioStack(config)
    read = audio_flops(config, positions, TOKENS_PER_CLIP) + text_flops(text, TOKENS_PER_CLIP)
    masked, chosen = settings.mask_share * TOKENS_PER_CLIP, settings.frame_share * positions
    return Needs(
        "CTAL, speech beside text",
        "audio and text",
        frames * MEL_CHANNELS * FLOAT16_BYTES,
        0,
        count(CtalPretraining(text, audio, target)),
        BACKWARD * (read + heads_flops(text, config, target, masked, chosen)),
        (settings.epochs,),
        "audio and text",
        count(text.encoder, audio),
        read,
    )


def whisbert() -> Needs:
    """`pretrain whisbert` with all five losses."""
    settings = defaults(WhisbertSettings)
    student = fresh(settings.student)

    def sizes(layers: int) -> LayerSizes:
        return LayerSizes(layers, settings.width, settings.heads, FEED_FORWARD * settings.width)

    per_patch = round(PATCH_MS / 10)  # rows of whisper-mel are 10 ms apart
    shape = Shape(
        MEL_CHANNELS, per_patch, sizes(settings.audio_layers), sizes(settings.fusion_layers)
    )
    weights = dict.fromkeys(settings.losses, 1.0)
    model = WhisBERT(student, weights, shape)
    clip = costs.Clip(MEL_FRAMES, TOKENS_PER_CLIP)
    passes = costs.pass_flops(student, shape, clip, settings.mask_share)
    return Needs(
        "WhisBERT, text and speech",
        "audio and text",
        MEL_FRAMES * MEL_CHANNELS * FLOAT16_BYTES,
        0,
        count(model),
        costs.BACKWARD * costs.clip_flops(passes, weights),
        (settings.epochs,),
        "text (or audio, or both)",
        count(student.encoder),
        passes["text"],
    )


class _Tokenizer:
    """As much of a tokenizer as a fresh encoder asks for."""

    pad_token_id, bos_token_id, eos_token_id = 1, 0, 2

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def __len__(self) -> int:
        return self._tokens


SYSTEMS: tuple[Callable[[], Needs], ...] = (
    lambda: whisper_to_text(by_word=False),
    lambda: whisper_to_text(by_word=True),
    splat,
    ctal,
    whisbert,
)


def all_needs() -> list[Needs]:
    """Of each system, in the order of the table."""
    with torch.device("meta"):
        return [system() for system in SYSTEMS]


def table() -> str:
    """The table, as Markdown."""
    low, high = UTILISATION
    lines = [
        f"| system | to train | cache, kB per clip | stage one, GFLOP per clip, once | trained, "
        f"million parameters | stage two, GFLOP per clip and epoch | {HOURS} h of speech on an "
        f"{CARD.name} | reads afterwards | million parameters | GFLOP per clip |",
        "|---|---|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for one in all_needs():
        epochs = " + ".join(f"{each:g}" for each in one.epochs)
        times = f"{span([one.seconds(high), one.seconds(low)])}, {epochs} epochs"
        lines.append(
            f"| {one.name} | {one.train} | {one.cache_bytes / 1e3:,.1f} | {_giga(one.stage_one)} | "
            f"{one.trained / 1e6:.0f} | {_giga(one.stage_two)} | {times} | {one.use} | "
            f"{one.parameters / 1e6:.0f} | {_giga(one.inference)} |"
        )
    return "\n".join(lines)


def short() -> str:
    """The README's table, as Markdown: some of these columns, and gains on natural speech."""
    latest, earlier = (RESULTS / f"natural-{run}-run.json" for run in ("second", "first"))
    values = with_earlier(read_values(latest), [earlier])
    lines = [
        "| method | trained on | reads afterwards | million parameters | GFLOP per clip of 15 s | "
        "stressed words | valence |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for one, arm in zip(all_needs(), ARMS_OF_SYSTEMS, strict=True):
        figures = f"{one.parameters / 1e6:.0f} | {_giga(one.inference)}"
        over_control = [gains(values, task, arm)[0] for task in ("stress", "valence")]
        points = " | ".join(each.points if each else "–" for each in over_control)
        lines.append(f"| {one.name} | {one.train} | {one.use} | {figures} | {points} |")
    return "\n".join(lines)


def _giga(operations: float) -> str:
    return f"{operations / 1e9:,.0f}" if operations else "–"


if __name__ == "__main__":
    print(f"{table()}\n\n{short()}")
