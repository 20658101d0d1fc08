"""Cached frames → a speech module: by masked audio alone, then aligned to cached text states."""

from pipeline.pretraining.splat.settings import MaskedAudioSettings, SplatSettings


def masked_audio(settings: MaskedAudioSettings) -> None:
    """Train a speech module on frames alone: it fills in what is hidden of them.

    Step 1 of SPLAT. FRAMES is a cache of frames; nothing is read of its texts. The folder --out
    gets speech/ (a Hugging Face encoder, and the front end that feeds it), metrics.jsonl,
    TensorBoard events, run.json, checkpoints/, loss.png and a card.

    If it is interrupted, the same command carries on exactly from the latest checkpoint. To use N
    processes, start it with `torchrun --nproc-per-node N -m stages.cli pretrain …`.

    Example: speechkd pretrain masked-audio mels --out runs/speech
    """
    from pipeline.pretraining.running import pretrain
    from pipeline.pretraining.splat.masked_audio import MaskedAudio

    pretrain(MaskedAudio(settings))


def splat(settings: SplatSettings) -> None:
    """Align a speech module to a frozen text encoder, from both sides' caches.

    Step 4 of SPLAT. FRAMES is a cache of frames and --text the cache of a text encoder's states of
    the same clips; the two are joined by the keys of their clips. The text encoder is never loaded
    and never changes. --out gets what pretrain masked-audio leaves.

    Example: speechkd pretrain splat mels --text texts --init runs/speech --align seq --out runs/seq
    """
    from pipeline.pretraining.running import pretrain
    from pipeline.pretraining.splat.align import Splat

    pretrain(Splat(settings))


COMMANDS = {
    "pretrain masked-audio": (MaskedAudioSettings, masked_audio),
    "pretrain splat": (SplatSettings, splat),
}
