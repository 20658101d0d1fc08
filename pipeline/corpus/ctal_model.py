"""A trained CTAL model and what it reads of a cache, for whatever uses it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.corpus.frame_features import FrameFeatures
from pipeline.foundation.errors import Damaged, NotThere
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.models.encoders import weights_sha256
from pipeline.models.student import load_encoder
from pipeline.models.text_referred import AudioStack, load_audio

TEXT, AUDIO, FEATURES = "text", "audio", "features.json"


@dataclass(frozen=True)
class CtalModel:
    """What a folder `model/` of `pretrain ctal` holds.

    Attributes:
        text: its text encoder.
        tokenizer: the tokenizer of that.
        audio: its audio stack.
        features: what that reads.
    """

    text: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    audio: AudioStack
    features: FrameFeatures

    @property
    def sha256(self) -> str:
        """Digest of all weights, and of what is read."""
        digest = hashlib.sha256(weights_sha256(self.text).encode())
        for name, tensor in sorted(self.audio.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        digest.update(json.dumps(self.features.record(), sort_keys=True).encode())
        return digest.hexdigest()


def load_ctal(folder: Path) -> CtalModel:
    """Load a model.

    Args:
        folder: `RUN/model`.

    Raises:
        SpeechkdError: something of it is missing or damaged, or its parts do not fit each other.
    """
    for name in (TEXT, AUDIO, FEATURES):
        if not (folder / name).exists():
            raise NotThere(
                f"{folder} has no {name}, so it is no model of `speechkd pretrain ctal`. Name its "
                "run, or the folder model/ in it."
            )
    text, tokenizer = load_encoder(str(folder / TEXT))
    audio = load_audio(folder / AUDIO)
    file = folder / FEATURES
    try:
        record = parse_json(read_text_file(file))
    except ValueError as error:
        raise Damaged(f"{file} is not JSON ({error}).") from None
    features = FrameFeatures.of_record(record, str(file))
    width = int(text.config.hidden_size)
    if (audio.config.text_width, audio.config.width, audio.config.columns) != (
        width,
        width,
        features.columns,
    ):
        raise Damaged(
            f"{folder}: its parts are of different models: text of width {width}, audio of width "
            f"{audio.config.width} for texts of {audio.config.text_width}, which reads "
            f"{audio.config.columns} values where {FEATURES} gives {features.columns}."
        )
    if int(features.positions(torch.tensor(features.longest))) > audio.config.positions:
        raise Damaged(f"{folder}: {FEATURES} allows longer clips than audio/ has positions for.")
    return CtalModel(text, tokenizer, audio, features)
