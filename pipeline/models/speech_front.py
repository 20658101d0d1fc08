"""What stands between a cache's rows and a speech encoder: its source, normalisation, stacking.

It is stored beside the encoder, so that whatever uses the encoder later reads frames of the same
front end in the same way.

Shapes: C channels of a row.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.untrusted import parse_json, read_text_file

Read = Literal["cls", "first-frame", "mean"]
"""What stands for a whole clip: a learned first position, the first frame, the mean of all."""
Normalise = Literal["speaker", "recording", "utterance", "global"]
FORMAT_VERSION = 1
FRONT_FILE, TENSORS_FILE, ENCODER_FOLDER = "front.json", "front.safetensors", "encoder"
MOST_CHANNELS, MOST_STACK = 2**14, 2**10


@dataclass(frozen=True)
class SpeechFront:
    """How rows of a cache become the vectors that a speech encoder reads.

    Attributes:
        source: what the rows are: kind, width, hop and the settings of their front end.
        normalise: over what mean and deviation are taken.
        shrink_frames: κ; statistics of N frames weigh N / (N + κ) against those of the corpus.
        floor: least standard deviation.
        stack: rows that become one position.
        read: what stands for a whole clip.
        mean_C: mean of each channel over the corpus of pre-training.
        std_C: its standard deviation there.
    """

    source: Mapping[str, Any]
    normalise: Normalise
    shrink_frames: float
    floor: float
    stack: int
    read: Read
    mean_C: Tensor
    std_C: Tensor

    @property
    def channels(self) -> int:
        """C, the width of a row."""
        return int(self.source["width"])

    def tensors(self) -> dict[str, Tensor]:
        """Its arrays, for a file of tensors."""
        return {"mean": self.mean_C, "std": self.std_C}

    def record(self) -> dict[str, Any]:
        """The rest as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        del values["mean_C"], values["std_C"]
        return {"format_version": FORMAT_VERSION, **values, "source": dict(self.source)}

    def write(self, folder: Path) -> None:
        """Write `front.json`; `tensors` go into `front.safetensors` with those of the module."""
        text = json.dumps(self.record(), indent=2)
        (folder / FRONT_FILE).write_text(text + "\n", encoding="utf-8")

    def check_source(self, source: Mapping[str, Any], where: str, checkpoint: str) -> None:
        """Refuse rows of another front end.

        Args:
            source: of the rows at hand, as `source` is.
            where: the cache, for the message.
            checkpoint: what this belongs to, for the message.

        Raises:
            SpeechkdError: they differ; both values are named.
        """
        differing = [
            f"{name}: {source.get(name)!r} there, {self.source.get(name)!r} wanted"
            for name in sorted({*source, *self.source})
            if source.get(name) != self.source.get(name)
        ]
        if differing:
            raise SpeechkdError(
                f"{where} has rows of another front end than {checkpoint} learnt from "
                f"({'; '.join(differing)}). Make a cache like the one that it was trained on."
            )


def read_front(folder: Path) -> tuple[SpeechFront, dict[str, Tensor]]:
    """Read the front end beside an encoder.

    Returns:
        The front end, and the other tensors of its file: the module's input projection and
        learned first position.

    Raises:
        NotThere: there is none.
        Damaged: it is none, or its parts do not fit each other.
    """
    for name in (FRONT_FILE, TENSORS_FILE):
        if not (folder / name).is_file():
            raise NotThere(
                f"{folder} has no {name}, so it is no speech encoder of `speechkd pretrain`. Name "
                "the run, or its folder speech/."
            )
    try:
        record = parse_json(read_text_file(folder / FRONT_FILE))
        if record.pop("format_version") != FORMAT_VERSION:
            raise ValueError("another format")
        tensors = load_file(folder / TENSORS_FILE)
        front = SpeechFront(**record, mean_C=tensors.pop("mean"), std_C=tensors.pop("std"))
        _check(front)
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise Damaged(f"{folder}: {FRONT_FILE} or {TENSORS_FILE} is damaged ({error}).") from error
    return front, tensors


def _check(front: SpeechFront) -> None:
    width, stack = front.source["width"], front.stack
    if type(width) is not int or not 0 < width <= MOST_CHANNELS:
        raise ValueError(f"width {width!r}")
    if type(stack) is not int or not 0 < stack <= MOST_STACK:
        raise ValueError(f"stack {stack!r}")
    if front.read not in get_args(Read) or front.normalise not in get_args(Normalise):
        raise ValueError(f"read {front.read!r}, normalise {front.normalise!r}")
    for name in ("shrink_frames", "floor"):
        value = getattr(front, name)
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ValueError(f"{name} {value!r}")
    for name, values in front.tensors().items():
        if values.shape != (width,) or not torch.isfinite(values).all():
            raise ValueError(f"{name} is not {width} finite numbers")
    if not (front.std_C > 0).all():
        raise ValueError("a deviation is not positive")
