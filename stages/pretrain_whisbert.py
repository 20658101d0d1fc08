"""Cached frames and their texts → text, audio and fusion encoders, trained by five losses."""

from pipeline.pretraining.whisbert.settings import WhisbertSettings


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
    from pipeline.pretraining.whisbert.method import Whisbert

    pretrain(Whisbert(settings))


COMMANDS = {"pretrain whisbert": (WhisbertSettings, run)}
