"""Teacher cache → a text-only student: masked-LM training with distillation, without audio."""

from typing import TYPE_CHECKING

from pipeline.distillation.settings import OPERATIONAL, DistillSettings

if TYPE_CHECKING:
    import torch

    from pipeline.training.run_folder import RunFolder


def run(settings: DistillSettings) -> None:
    """Train a text-only student from a teacher cache.

    The student reads text alone: masked-LM training, plus one or more objectives that pull it
    towards the cached vectors of the speech. RUN gets student/ (an ordinary Hugging Face
    folder), metrics.jsonl, TensorBoard events, run.json, checkpoints/, loss.png and a model card.

    Interrupted, the same command carries on at the latest checkpoint, exactly. Ctrl-C,
    SIGTERM and SIGUSR2 save first. `torchrun --nproc-per-node N -m stages.cli distill …` takes N
    processes.

    Example: speechkd distill cache --out runs/crd --kd crd
    """
    from pipeline.foundation.devices import device_named
    from pipeline.training import processes
    from pipeline.training.run_folder import RunFolder

    device = device_named(settings.device)
    processes.join(device.type)
    with RunFolder(settings.out) as folder, processes.deterministic(settings.deterministic):
        _distill(settings, folder, device)


def _distill(settings: DistillSettings, folder: "RunFolder", device: "torch.device") -> None:
    import torch

    from pipeline.cache.store import TeacherCache
    from pipeline.distillation import assembly
    from pipeline.distillation.costs import flops_per_token, peak_flops
    from pipeline.distillation.preflight import announce
    from pipeline.distillation.record import finish, starting_record
    from pipeline.foundation.progress import say
    from pipeline.training import processes
    from pipeline.training.checkpoint import Checkpoints, Progress
    from pipeline.training.log import TrainingLog
    from pipeline.training.loop import STOPPED, make_optimizer, train

    main = processes.rank() == 0
    cache = TeacherCache.open(settings.cache)
    identity = {
        name: value for name, value in settings.record().items() if name not in OPERATIONAL
    } | {"cache_sha256": cache.digest()}
    found = folder.prepare(identity, settings.resume, OPERATIONAL) if main else None
    finished = found is not None and found["status"] == "finished" and folder.student.is_dir()
    if processes.any_of(finished, device):
        if main:
            say(f"{settings.out}: this run is finished: nothing to do")
        processes.leave()
        return

    compiles = assembly.shall_compile(settings, device)
    tokenizer = assembly.make_tokenizer(settings, cache, folder)
    corpus = assembly.make_corpus(settings, cache, tokenizer, device)
    torch.manual_seed(settings.seed)
    student = assembly.make_student(settings, tokenizer)
    distillation = assembly.make_distillation(settings, student, corpus)
    distillation.to(device)
    batches = assembly.make_batches(settings, corpus, tokenizer, device)
    plan = assembly.make_plan(settings, batches, device)
    if compiles:
        distillation.compile_for(batches.shape())
    checkpoints = Checkpoints(folder.checkpoints, settings.keep)
    optimizer = make_optimizer(distillation, plan)
    progress = Progress()
    latest = None if settings.resume == "never" else checkpoints.latest()
    if main:
        announce(settings, cache, corpus, student, distillation, plan, batches, device)
    if settings.dry_run:
        processes.leave()
        return
    if latest is not None:
        progress = checkpoints.load(latest, distillation, optimizer)
        if main:
            say(f"goes on from {latest}, step {progress.step:,}")
    record = starting_record(
        settings, identity, found, cache, corpus, tokenizer, distillation, plan
    )
    if main:
        folder.claim()
        if settings.resume == "never":
            folder.clear()
        folder.write_record(record)
        checkpoints.drop_old()
        if latest is None:
            folder.keep_tokenizer(tokenizer)
    processes.wait()
    mean_tokens = float(corpus.lengths_C.double().mean())
    peak = peak_flops(device)
    log = TrainingLog(
        settings.out if main else None,
        progress,
        plan.warmup_steps,
        flops_per_token(student, mean_tokens, settings.mask_share),
        peak * processes.count() if peak else None,
    )
    task = assembly.make_task(distillation, batches)
    outcome = train(distillation, task, plan, checkpoints, log, progress, optimizer, device)
    del task  # holds what distributes the gradients, which must go before the group does
    log.close()
    if main and outcome in STOPPED:
        say(f"stopped at step {progress.step:,}; the same command carries on")
    elif main:
        finish(folder, student, tokenizer, record, progress, outcome)
        last = progress.validation[-1] if progress.validation else {}
        shown = ", ".join(f"{n} {v:.4f}" for n, v in last.items() if n.startswith("loss/"))
        print(f"{folder.student}  {progress.step} steps{', held out ' + shown if shown else ''}")
    processes.leave()
    if outcome in STOPPED:
        raise SystemExit(STOPPED[outcome])


COMMANDS = {"distill": (DistillSettings, run)}
