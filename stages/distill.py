"""Teacher cache → a text-only student: masked-LM training with distillation, without audio."""

from typing import TYPE_CHECKING

from pipeline.distillation.settings import DistillSettings

if TYPE_CHECKING:
    import torch

    from pipeline.training.loop import Ending
    from pipeline.training.run_folder import RunFolder


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
    from pipeline.foundation.devices import device_named
    from pipeline.training import processes
    from pipeline.training.loop import STOPPED
    from pipeline.training.run_folder import RunFolder

    device = device_named(settings.device)
    with (
        processes.joined(device),
        RunFolder(settings.out, "student") as folder,
        processes.deterministic(settings.deterministic),
    ):
        outcome = _distill(settings, folder, device)
    if outcome in STOPPED:
        raise SystemExit(STOPPED[outcome])


def _distill(
    settings: DistillSettings, folder: "RunFolder", device: "torch.device"
) -> "Ending | None":
    from pipeline.corpus.draws import DRAWS
    from pipeline.distillation.assembly import assemble, make_log, open_cache, words_digest
    from pipeline.distillation.preflight import announce
    from pipeline.distillation.record import hand_over, method_record
    from pipeline.foundation.progress import say
    from pipeline.training import processes
    from pipeline.training.checkpoint import Checkpoints, Progress
    from pipeline.training.loop import STOPPED, train
    from pipeline.training.record import starting_record

    cache = open_cache(settings)
    cache_sha256 = cache.digest()
    identity = {
        **settings.identity(),
        "cache_sha256": cache_sha256,
        **words_digest(settings),
        "draws": DRAWS,
    }
    anew = settings.resume == "never"
    versions = {"draws": "the same seed gave it other clips, masks, negatives or dropout"}
    before = folder.prepare(identity, settings.resume, settings.operational(), versions)
    if any(processes.any_of([folder.is_finished(before)], device)):
        say(f"{settings.out}: this run is finished: nothing to do")
        return None

    parts = assemble(settings, cache, device, None if anew else folder.kept_tokenizer())
    announce(parts)
    if settings.dry_run:
        return None

    checkpoints = Checkpoints(folder.checkpoints, settings.keep)
    progress = Progress()
    if not anew:
        progress = checkpoints.resume(parts.distillation, parts.optimizer)
    method = method_record(parts, cache_sha256)
    record = starting_record(settings, identity, before, parts.schedule, method)
    folder.claim(anew=anew)
    folder.write_record(record)
    folder.keep_tokenizer(parts.tokenizer)
    checkpoints.drop_old()
    processes.wait()

    log = make_log(parts, folder, progress)
    outcome = train(
        parts.workload, parts.schedule, checkpoints, log, progress, parts.optimizer, device
    )
    log.close()
    parts.close()
    if outcome in STOPPED:
        say(f"stopped at step {progress.step:,}; the same command carries on")
        return outcome
    hand_over(parts, folder, record, progress, outcome)
    if processes.rank() == 0:
        print(f"{folder.model}  {progress.summary()}")
    return outcome


COMMANDS = {"distill": (DistillSettings, run)}
