"""What an audio encoder starts from: an earlier run's audio encoder, or the layers of a Whisper.

The paper starts from scratch. Its code has a configuration that loads an audio encoder which
learned masked audio beforehand; Whisper's layers, whose form these have, are an assumption of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.foundation.errors import SpeechkdError
from pipeline.models.encoders import weights_sha256
from pipeline.models.whisbert.layers import LayerSizes
from pipeline.models.whisbert.loading import Hearing, load_hearing, read_config
from pipeline.models.whisbert.speech_encoder import SpeechEncoder

LAYERS, NORM, WHISPERS_NORM = "layers.layers.", "layers.norm.", "layer_norm."
FLAG = "--init-audio"


@dataclass(frozen=True)
class AudioStart:
    """Weights that an audio encoder begins with.

    Attributes:
        name: as the user wrote it.
        sha256: of all that it is taken from.
        sizes: of its layers; it may have more of them than are taken.
        weights: of the audio encoder, by name; what is not there begins fresh.
        hearing: the encoder of a run, which knows its frames; None for Whisper, whose stem is not
            taken.
        description: what it is, in a few words.
    """

    name: str
    sha256: str
    sizes: LayerSizes
    weights: Mapping[str, Tensor]
    hearing: Hearing | None
    description: str

    @classmethod
    def of_run(cls, name: str, folder: Path) -> "AudioStart":
        """The audio encoder of a run of `pretrain whisbert`, its stem and CLS included.

        Args:
            name: as the user wrote it.
            folder: the run's `whisbert/`.

        Raises:
            SpeechkdError: it has none, or it cannot be loaded.
        """
        hearing = load_hearing(folder)
        return cls(
            name,
            weights_sha256(hearing.encoder),
            LayerSizes(**read_config(folder)["shape"]["audio"]),
            hearing.encoder.state_dict(),
            hearing,
            "the audio encoder of a run",
        )

    @classmethod
    def of_whisper(
        cls, name: str, sizes: LayerSizes, tensors: Mapping[str, Tensor], sha256: str, layers: int
    ) -> "AudioStart":
        """The first layers of a Whisper encoder; its final norm, too, if all of them are taken.

        Args:
            name: as the user wrote it.
            sizes: of Whisper's layers.
            tensors: of its encoder, named as in Hugging Face's `WhisperEncoder`.
            sha256: of all of them.
            layers: how many are taken.
        """
        weights = {}
        for key, value in tensors.items():
            number = key.split(".")[1]
            if key.startswith("layers.") and int(number) < layers:
                weights[f"layers.{key}"] = value.float()
            if key.startswith(WHISPERS_NORM) and layers == sizes.layers:
                weights[NORM + key.removeprefix(WHISPERS_NORM)] = value.float()
        description = f"the first {layers} of {sizes.layers} layers of a Whisper encoder"
        return cls(name, sha256, sizes, weights, None, description)

    def check(self, sizes: LayerSizes, reads: dict[str, Any], location: str) -> None:
        """Check that an audio encoder can begin with these weights.

        Args:
            sizes: of its layers.
            reads: kind, width and settings of the cache that it reads.
            location: of that cache.

        Raises:
            SpeechkdError: it is of other sizes, or reads other frames; the message has both.
        """
        if self.hearing is not None:
            self.hearing.check(reads, location, self.name)
        mine, wanted = vars(self.sizes), vars(sizes)
        other = [name for name in mine if name != "layers" and mine[name] != wanted[name]]
        whole = self.hearing is not None
        if sizes.layers > self.sizes.layers or (whole and sizes.layers != self.sizes.layers):
            other.append("layers")
        if other:
            differing = "; ".join(f"{n}: {mine[n]} there, {wanted[n]} here" for n in other)
            raise SpeechkdError(
                f"{FLAG} {self.name} has an audio encoder of other sizes ({differing}). Set "
                "--width, --heads and --audio-layers to what it has."
            )

    def fill(self, speech: SpeechEncoder) -> None:
        """Give an audio encoder these weights.

        Raises:
            SpeechkdError: one of them is of another form than the encoder's.
        """
        own = speech.state_dict()
        for name, value in self.weights.items():
            there = tuple(own[name].shape) if name in own else "absent"
            if there != tuple(value.shape):
                raise SpeechkdError(
                    f"{FLAG} {self.name}: {name} is {tuple(value.shape)} there and {there} here."
                )
        speech.load_state_dict({**own, **self.weights})
