"""The audio and the fusion encoder of a WhisBERT run, each loaded alone from `whisbert/`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pipeline.foundation.errors import (
    Damaged,
    NotThere,
    SpeechkdError,
    first_line,
    unless_of_memory,
)
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.models.loading import check_config
from pipeline.models.whisbert.fusion import Fusion
from pipeline.models.whisbert.layers import LayerSizes
from pipeline.models.whisbert.speech_encoder import SpeechEncoder

FOLDER, CONFIG, WEIGHTS, TEXT = "whisbert", "whisbert.json", "model.safetensors", "text"
SPEECH, FUSION = "speech.", "fusion."
"""Begin the names of the audio encoder's weights and of the fusion encoder's."""
Part = TypeVar("Part", bound=nn.Module)


def whisbert_folder(source: str) -> Path | None:
    """The folder of all encoders in a run, or a folder that is such; None if it is none."""
    for folder in (Path(source) / FOLDER, Path(source)):
        if (folder / CONFIG).is_file():
            return folder
    return None


def read_config(folder: Path) -> dict[str, Any]:
    """What the folder says of its encoders.

    Raises:
        NotThere: there is no such folder.
        Damaged: it is no such file.
        SpeechkdError: it claims numbers that no model has.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise NotThere(f"{folder}: there is no {CONFIG} in it; name RUN/{FOLDER} of a run.")
    check_config(path)
    try:
        content: dict[str, Any] = parse_json(read_text_file(path))
        _ = content["shape"]["audio"], content["reads"]["kind"], content["weights"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} does not describe WhisBERT ({error!r}).") from error
    return content


@dataclass(frozen=True)
class Hearing:
    """An audio encoder and what it reads.

    Attributes:
        encoder: the audio encoder.
        reads: kind, width and settings of the cache that it learnt from.
        per_patch: rows of the cache per patch.
    """

    encoder: SpeechEncoder
    reads: dict[str, Any]
    per_patch: int

    def check(self, reads: dict[str, Any], location: str, source: str) -> None:
        """Check that a cache holds what the encoder reads.

        Raises:
            SpeechkdError: it does not; the message has both values.
        """
        differing = [
            f"{name} is {reads.get(name)!r} there and {self.reads.get(name)!r} here"
            for name in sorted({*reads, *self.reads})
            if reads.get(name) != self.reads.get(name)
        ]
        if differing:
            raise SpeechkdError(
                f"{location} holds other frames than {source} learnt from: {'; '.join(differing)}. "
                "Name a cache of the same front end."
            )


def load_hearing(folder: Path, *, fresh: bool = False) -> Hearing:
    """Load the audio encoder alone.

    Args:
        folder: `RUN/whisbert`.
        fresh: draw its weights from torch's generator, at the same sizes.

    Raises:
        NotThere: the run has no audio encoder, or no such folder.
        Damaged: weights and configuration do not fit.
        SpeechkdError: the configuration claims numbers that no model has.
    """
    content = read_config(folder)
    without = "audio encoder: its run had --losses mlm alone. Name a run with mam, mmc, mmm or atm."

    def make() -> SpeechEncoder:
        shape = content["shape"]
        sizes = LayerSizes(**shape["audio"])
        return SpeechEncoder(
            shape["frame_width"], sizes, shape["per_patch"], normed=shape["normed"]
        )

    encoder = _loaded(folder, SPEECH, make, without, fresh=fresh)
    return Hearing(encoder, content["reads"], int(content["shape"]["per_patch"]))


def load_fusion(folder: Path, text_width: int, *, fresh: bool = False) -> Fusion:
    """Load the encoder that joins audio and text, alone.

    Args:
        folder: `RUN/whisbert`.
        text_width: of the states of the run's text encoder.
        fresh: draw its weights from torch's generator, at the same sizes.

    Raises:
        NotThere: the run has no such encoder, or there is no such folder.
        Damaged: weights and configuration do not fit.
        SpeechkdError: the configuration claims numbers that no model has.
    """
    content = read_config(folder)
    without = (
        "fusion encoder: its run had neither mmm nor atm among its --losses. Name one that had."
    )

    def make() -> Fusion:
        shape = content["shape"]
        sizes = LayerSizes(**shape["fusion"])
        return Fusion(int(shape["audio"]["width"]), text_width, sizes)

    return _loaded(folder, FUSION, make, without, fresh=fresh)


def _loaded(
    folder: Path, names: str, make: Callable[[], Part], without: str, *, fresh: bool
) -> Part:
    """A part of a model with the weights whose names begin so, or with fresh ones.

    Raises:
        NotThere: the file has none of them.
        Damaged: they are of other sizes than the part.
    """
    try:
        tensors = _tensors(folder, names)
        if not tensors:
            raise NotThere(f"{folder} holds no {without}")
        with torch.device("meta"):
            part = make()
        wanted = {name: value.shape for name, value in part.state_dict().items()}
        if wanted != {name: value.shape for name, value in tensors.items()}:
            raise ValueError("weights are of other sizes than the configuration says")
        if fresh:
            part = make()
        else:
            part.load_state_dict(tensors, assign=True)
    except SpeechkdError:
        raise
    except Exception as error:  # damaged files may fail in any way
        unless_of_memory(error)
        raise Damaged(f"{folder} cannot be loaded: {first_line(error)}") from error
    return part.requires_grad_(True)


def _tensors(folder: Path, names: str) -> Mapping[str, Tensor]:
    """The weights whose names begin so, without that beginning."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        mine = [name for name in sorted(file.keys()) if name.startswith(names)]
        return {name.removeprefix(names): file.get_tensor(name) for name in mine}
