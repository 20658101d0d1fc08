"""Any speech encoder as a teacher: Whisper by our own encoder, others by the library's."""

import torch

from pipeline.extraction.teacher import (
    ContextWindow,
    EncoderPrecision,
    FramePooling,
    Teacher,
    load_teacher,
)
from pipeline.extraction.wave_teacher import WAVE_MODELS, WaveTeacher, load_wave_teacher
from pipeline.extraction.weights import model_type, teacher_folder
from pipeline.foundation.errors import SpeechkdError

WHISPER = "whisper"


def load_speech_teacher(
    name: str,
    *,
    device: str | torch.device = "cpu",
    precision: EncoderPrecision = "float32",
    pooling: FramePooling = "fixed750",
    context: ContextWindow = "30s",
    layer: int = -1,
    keep_later: bool = False,
) -> Teacher | WaveTeacher:
    """Load a speech encoder, frozen, onto a device.

    Args:
        name: Hugging Face id, local folder in Hugging Face's format, or an offline teacher.
        device: where to compute.
        precision: of the encoder's arithmetic.
        pooling: `fixed750` is for Whisper alone.
        context: what Whisper sees; others see the clip alone.
        layer: number of the layer whose states are read; -1 for the last one.
        keep_later: keep a Whisper's later layers, which its decoder needs to tell word times.

    Raises:
        SpeechkdError: the teacher cannot be found, read or used. The message says why.
    """
    folder = teacher_folder(name)
    kind = model_type(folder)
    if kind == WHISPER:
        return load_teacher(
            name,
            device=device,
            precision=precision,
            pooling=pooling,
            context=context,
            layer=layer,
            keep_later=keep_later,
        )
    if kind not in WAVE_MODELS:
        known = ", ".join((WHISPER, *WAVE_MODELS))
        raise SpeechkdError(f"--teacher {name}: its model_type is {kind!r}; known are {known}.")
    if pooling == "fixed750":
        raise SpeechkdError(
            f"--pooling fixed750 is of the 30 s that Whisper sees; --teacher {name} is a {kind}, "
            "which sees the clip alone. Use --pooling length."
        )
    if context != "30s":
        raise SpeechkdError(f"--context {context} changes nothing for --teacher {name}, a {kind}.")
    return load_wave_teacher(name, folder, device=device, precision=precision, layer=layer)
