"""Teacher cache → a text-only student: masked-LM training with distillation, without audio."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import SpeechkdError
from pipeline.settings import Settings, setting

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from pipeline.cache import TeacherCache
    from pipeline.corpus import Batches, Corpus
    from pipeline.distillation import Distillation
    from pipeline.run_folder import RunFolder
    from pipeline.student import Student
    from pipeline.training import Plan

KD = "Distillation"
STUDENT = "Student"
TRAINING = "Training"
RUNNING = "Running"

OPERATIONAL = {
    "cache", "out", "device", "compile", "resume", "dry_run", "max_steps", "max_hours", "log_every",
    "measure_every", "checkpoint_minutes", "checkpoint_steps", "keep", "license", "language",
}  # fmt: skip
"""Settings that the trained weights do not depend on: they may change between sittings."""

WARMUP_AT_MOST = 0.5
WARMUP_INSTEAD = 0.1
"""A warm-up over half of a run never trains at full rate: a tenth of the run takes its place."""


@dataclass(frozen=True, kw_only=True)
class DistillSettings(Settings):
    """How `speechkd distill` trains a student."""

    cache: Path = setting(help="The teacher cache.", argument=True)
    out: Path = setting(help="Folder of the run.")

    kd: list[Literal["none", "nst", "crd", "infonce", "l1", "cosine"]] = setting(
        ["nst"],
        help="Objective, or several; none is masked-LM training alone (the paper's "
        "transcription-BERT).",
        panel=KD,
    )
    gamma: list[float] = setting(
        [],
        help="Weight γ of each objective, in their order; 1 by default, the paper's. nst took 10 "
        "or more to have an effect when tried.",
        panel=KD,
    )
    temperature: float | None = setting(
        None,
        help="Temperature τ: 0.01 for crd by default (the paper's), 0.1 for infonce.",
        minimum=1e-4,
        panel=KD,
    )
    nst_pattern: Literal["vector", "batch", "token", "sequence"] = setting(
        "vector",
        help="What nst takes as a neuron's pattern; token (Eq. 3 read literally) and sequence see "
        "almost nothing of the teacher.",
        origin="assumed",
        panel=KD,
    )
    nst_normalize: bool = setting(
        True, help="Give nst's patterns length 1.", origin="assumed", panel=KD
    )
    crd_bias: Literal["calibrated", "paper", "learned"] = setting(
        "calibrated",
        help="Bias of crd's logits; paper is Eq. 5 as printed, which did not distil when tried.",
        panel=KD,
    )
    crd_negatives: int = setting(
        0,
        help="Extra negatives drawn from the whole cache at each step.",
        unit="clips",
        minimum=0,
        panel=KD,
    )
    crd_symmetric: bool = setting(False, help="Let the teacher also pick the text.", panel=KD)
    teacher_side: Literal["auto", "none", "center", "standardize"] = setting(
        "auto",
        help="What is done to the teacher's vectors; auto: none for nst vector, token and "
        "sequence, standardize for all else.",
        origin="assumed",
        panel=KD,
    )
    projection: Literal["mlp", "linear", "none"] = setting(
        "mlp",
        help="Head from student to teacher width, thrown away after training.",
        origin="assumed",
        panel=KD,
    )
    kd_tokens: Literal["all", "cls", "mean"] = setting(
        "all", help="Student vectors that are compared.", origin="paper", panel=KD
    )
    kd_pass: Literal["masked", "clean"] = setting(
        "masked",
        help="Which tokens the student sees for distillation; clean takes a second pass.",
        origin="assumed",
        panel=KD,
    )
    kd_special: bool = setting(
        True, help="Count special tokens such as CLS too.", origin="assumed", panel=KD
    )
    control: Literal["real", "shuffled", "random"] = setting(
        "real",
        help="Teacher vectors: the clips' own, other clips', or noise. A gain that the last two "
        "also give is not distillation.",
        panel=KD,
    )

    student: str = setting(
        "bert-base",
        help="bert-base (12 layers, 768 wide), bert-small (4, 512), bert-mini (4, 256), bert-tiny "
        "(2, 128), or a Hugging Face config.json; fresh weights.",
        origin="paper",
        panel=STUDENT,
    )
    init: str | None = setting(
        None, help="Folder or hub id of a masked-LM encoder to go on from instead.", panel=STUDENT
    )
    tokenizer: str | None = setting(
        None,
        help="Folder or hub id of a tokenizer; by default that of --init, or a new WordPiece "
        "trained on the cache's texts.",
        panel=STUDENT,
    )
    vocab_size: int = setting(
        30522,
        help="Pieces of a new WordPiece, at the most.",
        minimum=100,
        origin="assumed",
        panel=STUDENT,
    )
    lowercase: bool = setting(
        True,
        help="Whether a new WordPiece drops case and accents.",
        origin="assumed",
        panel=STUDENT,
    )
    dropout: float = setting(
        0.1,
        help="Dropout of a fresh student.",
        minimum=0,
        maximum=0.9,
        origin="assumed",
        panel=STUDENT,
    )
    max_tokens: int = setting(
        128,
        help="Longest text; longer ones are cut and counted.",
        unit="tokens",
        minimum=4,
        maximum=512,
        origin="paper",
        panel=STUDENT,
    )

    epochs: float = setting(
        40.0,
        help="Passes over the clips.",
        minimum=1e-6,
        maximum=1e6,
        origin="paper",
        panel=TRAINING,
    )
    batch: int = setting(
        256,
        help="Clips in a batch, over all processes.",
        unit="clips",
        minimum=2,
        origin="paper",
        panel=TRAINING,
    )
    learning_rate: float = setting(
        1e-4, help="Peak of the learning rate.", minimum=0, origin="paper", panel=TRAINING
    )
    warmup: int = setting(
        10_000,
        help="Linear warm-up; where it would take over half of the run, a tenth of the run does "
        "instead. The decay to 0 after it is linear, which is assumed.",
        unit="steps",
        minimum=0,
        origin="paper",
        panel=TRAINING,
    )
    weight_decay: float = setting(
        0.01, help="AdamW's decay of matrices.", minimum=0, origin="paper", panel=TRAINING
    )
    adam_epsilon: float = setting(
        1e-6, help="AdamW's epsilon.", minimum=0, origin="assumed", panel=TRAINING
    )
    clip_norm: float = setting(
        1.0,
        help="Largest gradient norm; 0 for no clipping.",
        minimum=0,
        origin="assumed",
        panel=TRAINING,
    )
    mask_share: float = setting(
        0.15,
        help="Share of tokens to predict; 80 % of them masked, 10 % replaced, 10 % kept.",
        minimum=0.01,
        maximum=0.9,
        origin="paper",
        panel=TRAINING,
    )
    precision: Literal["auto", "bf16", "float32"] = setting(
        "auto", help="auto: bf16 (the paper's) on a GPU, float32 on a CPU.", panel=TRAINING
    )
    seed: int = setting(
        0,
        help="Of weights, order, masks and dropout.",
        minimum=0,
        maximum=2**63 - 1,
        panel=TRAINING,
    )
    held_out: float = setting(
        0.01,
        help="Share of clips held out for validation, by whole recordings.",
        minimum=0,
        maximum=0.5,
        panel=TRAINING,
    )

    device: Literal["auto", "cpu", "cuda"] = setting("auto", help="Where to train.", panel=RUNNING)
    compile: Literal["auto", "yes", "no"] = setting(
        "auto",
        help="Compile the encoder for one fixed shape; auto: on a GPU. It changes rounding.",
        panel=RUNNING,
    )
    resume: Literal["auto", "never", "always"] = setting(
        "auto",
        help="Go on from the latest checkpoint where there is one, never, or insist.",
        panel=RUNNING,
    )
    max_steps: int = setting(
        0,
        help="Stop after so many steps, leaving the schedule as it is; 0 for no limit.",
        unit="steps",
        minimum=0,
        panel=RUNNING,
    )
    max_hours: float = setting(
        0.0, help="Stop after this long; 0 for no limit.", unit="h", minimum=0, panel=RUNNING
    )
    log_every: int = setting(
        10, help="Steps between logged lines.", unit="steps", minimum=1, panel=RUNNING
    )
    measure_every: int = setting(
        100,
        help="Steps between measurements of gradient ratio and cosine to the teacher; a multiple "
        "of --log-every.",
        unit="steps",
        minimum=1,
        panel=RUNNING,
    )
    checkpoint_minutes: float = setting(
        15.0, help="Time between checkpoints; 0 for none.", unit="min", minimum=0, panel=RUNNING
    )
    checkpoint_steps: int = setting(
        0, help="Steps between checkpoints; 0 for none.", unit="steps", minimum=0, panel=RUNNING
    )
    keep: int = setting(2, help="Checkpoints to keep.", minimum=1, panel=RUNNING)
    license: str = setting("unknown", help="Licence named in the model card.", panel=RUNNING)
    language: str = setting("en", help="Language named in the model card.", panel=RUNNING)
    dry_run: bool = setting(
        False, help="Read everything, print the plan, and stop before the first step."
    )

    def check(self) -> None:
        """Refuse combinations that contradict each other."""
        if len(set(self.kd)) < len(self.kd) or ("none" in self.kd and len(self.kd) > 1):
            raise SpeechkdError(
                f"--kd {','.join(self.kd)}: name each objective once, and none by itself."
            )
        if self.gamma and len(self.gamma) != len(self.objectives()):
            raise SpeechkdError(
                f"--gamma is given {len(self.gamma)} times for {len(self.objectives())} "
                "objectives. Give one for each, in the order of --kd."
            )
        if any(not 0 < gamma < 1e9 for gamma in self.gamma):
            raise SpeechkdError(f"--gamma is {self.gamma}; each must be positive and finite.")
        if self.crd_negatives and "crd" not in self.kd:
            raise SpeechkdError("--crd-negatives needs --kd crd.")
        if self.measure_every % self.log_every:
            raise SpeechkdError(
                f"--measure-every {self.measure_every} is no multiple of --log-every "
                f"{self.log_every}."
            )

    def objectives(self) -> list[str]:
        """The objectives asked for, without `none`."""
        return [name for name in self.kd if name != "none"]

    def record(self) -> dict[str, Any]:
        """The settings as plain JSON values, the objectives by commas as on the command line."""
        return {**super().record(), "kd": ",".join(self.kd)}


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
    import torch

    from pipeline import processes, provenance
    from pipeline.arithmetic import flops_per_token, peak_flops
    from pipeline.cache import TeacherCache
    from pipeline.checkpoint import Checkpoints, Progress
    from pipeline.progress import say
    from pipeline.run_folder import RunFolder
    from pipeline.training import make_optimizer, train
    from pipeline.training_log import TrainingLog

    device = processes.device(settings.device)
    processes.join(device.type)
    main = processes.rank() == 0
    cache = TeacherCache.open(str(settings.cache))
    identity = {
        name: value for name, value in settings.record().items() if name not in OPERATIONAL
    } | {"cache_sha256": cache.digest()}
    folder = RunFolder(settings.out)
    found = folder.prepare(identity, settings.resume, OPERATIONAL) if main else None
    finished = found is not None and found["status"] == "finished" and folder.student.is_dir()
    if processes.any_of(finished, device):
        if main:
            say(f"{settings.out}: this run is finished: nothing to do")
        processes.leave()
        return

    tokenizer = _tokenizer(settings, cache, folder)
    corpus = _corpus(settings, cache, tokenizer, folder)
    torch.manual_seed(settings.seed)
    student = _student(settings, tokenizer)
    distillation = _distillation(settings, student, corpus, cache.identity.d_model).to(device)
    corpus = corpus.place(device)
    batches = _batches(settings, corpus, tokenizer, device)
    plan = _plan(settings, batches, device)
    if settings.compile == "yes" or (settings.compile == "auto" and device.type == "cuda"):
        distillation.compile_for(batches.shape(-(-plan.last_step // plan.steps_per_epoch)))
    checkpoints = Checkpoints(folder.checkpoints, settings.keep)
    optimizer = make_optimizer(distillation, plan)
    progress = Progress()
    latest = None if settings.resume == "never" else checkpoints.latest()
    if main:
        _announce(settings, cache, corpus, student, distillation, plan, batches, device)
    if settings.dry_run:
        return
    if latest is not None:
        progress = checkpoints.load(latest, distillation, optimizer)
        if main:
            say(f"goes on from {latest}, step {progress.step:,}")
    sittings = [*found.get("sittings", []), provenance.record()] if found else [provenance.record()]
    record = {
        "status": "running",
        "identity": identity,
        "objectives": list(settings.kd),
        "settings": settings.record(),
        "paper": settings.stated_in_paper(),
        "assumed": settings.assumed(),
        "plan": asdict(plan),
        "gammas": distillation.gammas,
        "teacher_sides": {n: o.side for n, o in distillation.named_objectives()},
        "student": {
            "architecture": student.model.config.model_type,
            "parameters": sum(p.numel() for p in student.encoder.parameters()),
            "vocabulary": len(tokenizer),
        },
        "data": _data(cache, corpus),
        "provenance": sittings[-1],
        "sittings": sittings,
    }
    mean_tokens = float(corpus.lengths_C.double().mean())
    flops = flops_per_token(student, mean_tokens, settings.mask_share)
    if main:
        if settings.resume == "never":
            folder.clear()
        folder.write_record(record)
        if latest is None:
            folder.keep_tokenizer(tokenizer)
    processes.wait()
    peak = peak_flops(device)
    log = TrainingLog(
        settings.out if main else None,
        progress,
        plan.warmup_steps,
        flops,
        peak * processes.count() if peak else None,
    )
    task = _task(distillation, batches)
    outcome = train(distillation, task, plan, checkpoints, log, progress, optimizer, device)
    del task  # holds what distributes the gradients, which must go before the group does
    log.close()
    folder.drop_vectors()
    if main and outcome == "signal":
        say(f"stopped at step {progress.step:,}; the same command carries on")
    elif main:
        _finish(folder, student, tokenizer, record, progress, outcome)
    processes.leave()
    if outcome == "signal":
        raise SystemExit(143)


def _tokenizer(
    settings: DistillSettings, cache: "TeacherCache", folder: "RunFolder"
) -> "PreTrainedTokenizerBase":
    """The run's tokenizer: the one kept by an earlier sitting, the one named, or a new one."""
    from pipeline import processes
    from pipeline.progress import say
    from pipeline.student import load_tokenizer
    from pipeline.tokenization import train_wordpiece

    kept = folder.kept_tokenizer()
    if kept is not None and settings.resume != "never":
        return kept
    named = settings.tokenizer or settings.init
    if named:
        return load_tokenizer(named)
    texts = (s["text"] for shard in cache.receipts() for s in cache.shard_samples(shard))
    tokenizer = train_wordpiece(
        texts,
        settings.vocab_size,
        lowercase=settings.lowercase,
        max_tokens=settings.max_tokens,
    )
    if len(tokenizer) < settings.vocab_size and processes.rank() == 0:
        say(
            f"WordPiece finds {len(tokenizer):,} pieces in these texts, not "
            f"{settings.vocab_size:,}: the vocabulary is that small"
        )
    return tokenizer


def _corpus(
    settings: DistillSettings,
    cache: "TeacherCache",
    tokenizer: "PreTrainedTokenizerBase",
    folder: "RunFolder",
) -> "Corpus":
    from pipeline.corpus import read_corpus

    return read_corpus(
        cache,
        tokenizer,
        max_tokens=settings.max_tokens,
        held_out_share=settings.held_out,
        seed=settings.seed,
        control=settings.control,
        spill=folder.vectors,
    )


def _student(settings: DistillSettings, tokenizer: "PreTrainedTokenizerBase") -> "Student":
    from pipeline.student import build_student, load_student

    if settings.init:
        student, _ = load_student(settings.init)
    else:
        student = build_student(
            settings.student, tokenizer, settings.max_tokens, dropout=settings.dropout
        )
    student.check_fits(tokenizer, settings.max_tokens)
    return student


def _distillation(
    settings: DistillSettings, student: "Student", corpus: "Corpus", teacher_width: int
) -> "Distillation":
    from pipeline.distillation import Distillation, View
    from pipeline.objectives import OBJECTIVES, Options

    options = Options(
        projection=settings.projection,
        teacher_side=settings.teacher_side,
        temperature=settings.temperature,
        nst_pattern=settings.nst_pattern,
        nst_normalize=settings.nst_normalize,
        crd_bias=settings.crd_bias,
        crd_symmetric=settings.crd_symmetric,
    )
    objectives = {
        name: OBJECTIVES[name](student.width, teacher_width, corpus.statistics, options)
        for name in settings.objectives()
    }
    gammas = settings.gamma or [o.default_gamma for o in objectives.values()]
    return Distillation(
        student,
        objectives,
        dict(zip(objectives, gammas, strict=True)),
        View(settings.kd_tokens, settings.kd_pass, settings.kd_special),
    )


def _batches(
    settings: DistillSettings,
    corpus: "Corpus",
    tokenizer: "PreTrainedTokenizerBase",
    device: "torch.device",
) -> "Batches":
    from pipeline import processes
    from pipeline.corpus import Batches, Masking
    from pipeline.progress import say

    clips = min(settings.batch, len(corpus.train))
    if clips < settings.batch and processes.rank() == 0:
        say(f"there are only {clips:,} clips to train on: that is the batch, not {settings.batch}")
    if clips < 2 * processes.count():
        raise SpeechkdError(
            f"a batch of {clips} clips is too small for {processes.count()} processes: each needs "
            "two. Start fewer processes or raise --batch."
        )
    return Batches(
        corpus,
        Masking.of(tokenizer, settings.mask_share, corpus.train.device),
        clips,
        settings.seed,
        extra_negatives=settings.crd_negatives,
        process=processes.rank(),
        processes=processes.count(),
        device=device,
    )


def _plan(settings: DistillSettings, batches: "Batches", device: "torch.device") -> "Plan":
    from pipeline import processes
    from pipeline.progress import say
    from pipeline.training import Plan

    total = max(1, round(settings.epochs * batches.per_epoch))
    warmup = settings.warmup
    if warmup > WARMUP_AT_MOST * total:
        warmup = round(WARMUP_INSTEAD * total)
        if processes.rank() == 0:
            say(
                f"a warm-up of {settings.warmup:,} steps would take over half of this run's "
                f"{total:,}: {warmup:,} steps instead"
            )
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "float32"
    return Plan(
        steps_per_epoch=batches.per_epoch,
        total_steps=total,
        warmup_steps=warmup,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adam_epsilon=settings.adam_epsilon,
        clip_norm=settings.clip_norm,
        precision=precision,
        seed=settings.seed,
        max_steps=settings.max_steps,
        max_hours=settings.max_hours,
        log_every=settings.log_every,
        measure_every=settings.measure_every,
        checkpoint_steps=settings.checkpoint_steps,
        checkpoint_minutes=settings.checkpoint_minutes,
    )


def _task(distillation: "Distillation", batches: "Batches") -> Any:
    from torch.nn.parallel import DistributedDataParallel

    from pipeline import processes
    from pipeline.training import Task

    module: Any = distillation
    if processes.count() > 1:
        module = DistributedDataParallel(distillation, broadcast_buffers=False)
    return Task(
        losses=lambda batch, measure: module(batch, measure=measure),
        epoch=batches.epoch,
        held_out=lambda: (
            batches.make(clip_B, "held out", 0, index)
            for index, clip_B in enumerate(batches.held_out())
        ),
        tokens=lambda batch: int(batch.lengths_B.sum()),
    )


def _data(cache: "TeacherCache", corpus: "Corpus") -> dict[str, Any]:
    return {
        "cache": cache.location,
        "cache_sha256": cache.digest(),
        "teacher": asdict(cache.identity),
        "clips": len(corpus),
        "train_clips": len(corpus.train),
        "held_out_clips": len(corpus.held_out),
        "tokens": int(corpus.lengths_C.sum()),
        "truncated": corpus.truncated,
        "dropped": corpus.dropped,
    }


def _announce(
    settings: DistillSettings,
    cache: "TeacherCache",
    corpus: "Corpus",
    student: "Student",
    distillation: "Distillation",
    plan: "Plan",
    batches: "Batches",
    device: "torch.device",
) -> None:
    """Say what is about to happen, what is assumed, and check that there is room for it."""
    import shutil

    from pipeline.progress import say

    teacher = cache.identity
    parameters = sum(p.numel() for p in distillation.parameters())
    say(
        f"teacher {teacher.teacher}, width {teacher.d_model}, pooling {teacher.pooling}; "
        f"{len(corpus):,} clips ({len(corpus.train):,} to train on, {len(corpus.held_out):,} held "
        f"out), {int(corpus.lengths_C.sum()):,} tokens, {corpus.truncated:,} texts cut to "
        f"{settings.max_tokens} tokens, {len(corpus.dropped)} without text left out"
    )
    say(
        f"student {settings.init or settings.student}: {student.width} wide, "
        f"{sum(p.numel() for p in student.parameters()):,} parameters; "
        f"{plan.total_steps:,} steps of {batches.clips_per_batch} clips, "
        f"{plan.steps_per_epoch:,} an epoch, warm-up {plan.warmup_steps:,}, {plan.precision}"
    )
    state_bytes = 16 * parameters  # weights, gradients and both moments, float32
    say(
        f"memory: tokens and vectors {corpus.nbytes / 1e9:.2f} GB, {corpus.where}; weights and "
        f"optimiser {state_bytes / 1e9:.2f} GB on {device}, and the activations of a batch"
    )
    for name, objective in distillation.named_objectives():
        say(
            f"objective {name}: γ {distillation.gammas[name]:g}, teacher side {objective.side}, "
            f"projection {settings.projection}"
        )
        if distillation.gammas[name] < objective.effective_gamma:
            say(
                f"{name} had no effect below γ {objective.effective_gamma:g} in the planted-signal "
                "test (docs/objectives.md); the default 1 is the paper's"
            )
        for notice in objective.notices():
            say(notice)
    if settings.control != "real":
        say(f"CONTROL: the teacher's vectors are {settings.control}")
    assumed = ", ".join(f"{name} {value}" for name, value in settings.assumed().items())
    say(f"not stated in the paper, assumed: {assumed}")
    needed = (settings.keep + 2) * 12 * parameters
    there = next(path for path in (settings.out, *settings.out.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise SpeechkdError(
            f"{settings.out}: {free / 1e6:,.0f} MB free, but checkpoints and the student need "
            f"{needed / 1e6:,.0f} MB. Free some, lower --keep, or name another --out."
        )


def _check_converged(student: "Student", progress: Any, out: Path) -> None:
    """Refuse to hand on a student whose losses or weights are no numbers."""
    last = progress.validation[-1] if progress.validation else {}
    sound = all(math.isfinite(value) for name, value in last.items() if name.startswith("loss"))
    if not sound or not all(bool(p.isfinite().all()) for p in student.parameters()):
        raise SpeechkdError(
            f"{out}: training diverged, its losses or weights are not finite "
            f"({progress.skipped:,} steps were skipped for that). No student is written. Lower "
            "--learning-rate and start anew with --resume never."
        )


def _finish(
    folder: "RunFolder",
    student: "Student",
    tokenizer: "PreTrainedTokenizerBase",
    record: dict[str, Any],
    progress: Any,
    outcome: str,
) -> None:
    """Write the student, its card and curve, and last the record that calls the run finished."""
    from pipeline.model_card import write_card, write_loss_curve

    _check_converged(student, progress, folder.path)
    folder.export(student, tokenizer)
    validation = [  # JSON has no number for what an early epoch may have given
        {name: value if math.isfinite(value) else None for name, value in epoch.items()}
        for epoch in progress.validation
    ]
    record = {
        **record,
        "status": "finished" if outcome == "finished" else "stopped",
        "result": {**asdict(progress), "validation": validation, "outcome": outcome},
    }
    write_loss_curve(folder.path)
    write_card(folder.path, record)
    folder.write_record(record)
    last = progress.validation[-1] if progress.validation else {}
    shown = ", ".join(f"{n} {v:.4f}" for n, v in last.items() if n.startswith("loss/"))
    print(f"{folder.student}  {progress.step} steps{', held out ' + shown if shown else ''}")
