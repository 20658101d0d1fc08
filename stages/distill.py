"""Teacher cache → a text-only student: masked-LM training with distillation, without audio."""

from pipeline.distillation.settings import DistillSettings


def run(settings: DistillSettings) -> None:
    """Train a text-only student from a teacher cache.

    The student reads text alone: masked-LM training, plus one or more objectives that pull it
    towards the cached vectors of the speech, clip by clip or word by word (--level). The folder
    --out gets student/ (an ordinary Hugging Face folder), metrics.jsonl, TensorBoard events,
    run.json, checkpoints/, loss.png and a model card.

    If it is interrupted, the same command carries on exactly from the latest checkpoint. Ctrl-C,
    SIGTERM and SIGUSR2 save first. To use N processes, start it with
    `torchrun --nproc-per-node N -m stages.cli distill …`.

    Example: speechkd distill cache --out runs/crd --kd crd
    """
    from pipeline.distillation.running import DistillationRun
    from pipeline.training.running import carry_out

    carry_out(DistillationRun(settings))


COMMANDS = {"distill": (DistillSettings, run)}
