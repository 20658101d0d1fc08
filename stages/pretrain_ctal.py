"""Cached log-mels with texts → CTAL: a text encoder, and an audio encoder that looks at it."""

from pipeline.pretraining.ctal.settings import CtalSettings


def run(settings: CtalSettings) -> None:
    """Train a text encoder and an encoder of audio that looks at the text, from masked parts.

    CACHE is a cache of log-mels. Masked tokens are predicted from text alone, masked frames from
    the frames around them and the text. The folder --out gets model/ (text/, an ordinary Hugging
    Face folder; audio/; features.json, what the audio encoder reads), metrics.jsonl, TensorBoard
    events, run.json, checkpoints/, loss.png and a card.

    If it is interrupted, the same command carries on exactly from the latest checkpoint. To use N
    processes, start it with `torchrun --nproc-per-node N -m stages.cli pretrain ctal …`.

    Example: speechkd pretrain ctal mels --layers 3 --out runs/ctal
    """
    from pipeline.pretraining.ctal.method import CtalMethod
    from pipeline.pretraining.running import pretrain

    pretrain(CtalMethod(settings))


COMMANDS = {"pretrain ctal": (CtalSettings, run)}
