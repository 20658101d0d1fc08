"""Cached frames and their texts → text, audio and fusion encoders, trained by five losses."""

from typing import TYPE_CHECKING

from pipeline.pretraining.whisbert.settings import WhisbertSettings

if TYPE_CHECKING:
    from pipeline.pretraining.whisbert.method import Whisbert
    from pipeline.pretraining.whisbert.start import AudioStart


def run(settings: WhisbertSettings) -> None:
    """Train WhisBERT: a text encoder beside an audio encoder and one that joins both.

    CACHE is a cache of frames with their texts. --losses says which of the five losses are on;
    mlm alone is the text-only twin, which is the same command and hears nothing. The folder --out
    gets student/ (the text encoder, an ordinary Hugging Face folder), whisbert/ (all encoders),
    metrics.jsonl, TensorBoard events, run.json, checkpoints/, loss.png and a card.

    If it is interrupted, the same command carries on exactly from the latest checkpoint. To use N
    processes, start it with `torchrun --nproc-per-node N -m stages.cli pretrain …`.

    Example: speechkd pretrain whisbert mels --out runs/mm --losses mlm,mam,mmc,mmm,atm
    """
    from pipeline.pretraining.running import pretrain

    pretrain(method_of(settings))


def method_of(settings: WhisbertSettings) -> "Whisbert":
    """The method with what its audio encoder begins with.

    Raises:
        SpeechkdError: that is not there, or cannot be read.
    """
    from pipeline.pretraining.whisbert.method import Whisbert

    begins = settings.init_audio and "audio" in settings.choices()
    return Whisbert(settings, _start(settings) if begins else None)


def _start(settings: WhisbertSettings) -> "AudioStart":
    """What the audio encoder begins with."""
    from pipeline.extraction.weights import read_encoder, teacher_folder, tensors_sha256
    from pipeline.models.whisbert.layers import LayerSizes
    from pipeline.models.whisbert.loading import whisbert_folder
    from pipeline.pretraining.whisbert.start import AudioStart

    name = settings.init_audio
    if run_folder := whisbert_folder(name):
        return AudioStart.of_run(name, run_folder)
    shape, tensors = read_encoder(teacher_folder(name))
    sizes = LayerSizes(
        shape.encoder_layers, shape.d_model, shape.encoder_attention_heads, shape.encoder_ffn_dim
    )
    digest = tensors_sha256(tensors)
    return AudioStart.of_whisper(name, sizes, tensors, digest, settings.audio_layers)


COMMANDS = {"pretrain whisbert": (WhisbertSettings, run)}
