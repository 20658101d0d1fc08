"""Stage two's speed against the usual way, in one run: same model, same texts, same mask share.

    python bench/distill.py

On a CPU a few small steps give the ratios. On a GPU it trains as `speechkd distill` does there, in
batches of 256 clips, with bf16 and compiled; it also prints the MFU and how long the paper's 40
epochs would take. The figures go to a JSON file in bench/results/. Needs `pip install accelerate`,
for the Trainer alone.

Texts have the paper's lengths (3 to 108 tokens, mean 44), and only real tokens count. The usual way
is Hugging Face's Trainer with DataCollatorForLanguageModeling: padded to 128, and with dynamic
padding and lengths grouped. The ways take turns for several rounds; the best round counts, because
a shared machine can only slow a round down. Processor time stands beside the wall clock: on a
machine that others use too it is the steadier of the two (with --threads 1, when no thread waits).
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    BertTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from pipeline.cache.identity import sequence_identity
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.statistics import Statistics
from pipeline.corpus.ahead import Ahead
from pipeline.corpus.batches import Batches
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.masking import Masking
from pipeline.corpus.vectors import Vectors
from pipeline.corpus.word_vectors import WordTable, WordVectors
from pipeline.distillation.costs import flops_per_token
from pipeline.distillation.module import WORD_PREFIX, Distillation, View
from pipeline.distillation.objectives import OBJECTIVES, Context
from pipeline.distillation.objectives.contract import Level
from pipeline.distillation.words import WORDS
from pipeline.foundation.arrays import Array
from pipeline.foundation.devices import device_named
from pipeline.foundation.provenance import git_commit, hardware
from pipeline.models.student import build_student
from pipeline.models.unknown import Unknown
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.log import TrainingLog
from pipeline.training.loop import Precision, Schedule, Workload, make_optimizer, train
from pipeline.training.peaks import peak_flops

VOCABULARY = 30522
MAX_TOKENS = 128
PAPER_TOKENS, PAPER_EPOCHS = 65_977_589, 40
RESULTS = Path(__file__).parent / "results"


def paper_lengths(clips: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths of 3 to 108 tokens with a mean of 44, as in the paper's corpus."""
    shape = rng.beta(2.2, 3.45, clips)
    lengths = np.rint(3 + 105 * shape).astype(np.int64)
    if lengths.min() < 3 or lengths.max() > 108 or abs(lengths.mean() - 44) > 1:
        raise SystemExit("these are not the paper's lengths")
    return lengths


def make_corpus(clips: int, teacher_width: int, device: torch.device) -> Corpus:
    """Random tokens, and vectors on a device; the arithmetic does not depend on their values."""
    rng = np.random.default_rng(0)
    lengths = torch.from_numpy(paper_lengths(clips, rng))
    ids = rng.integers(5, VOCABULARY, int(lengths.sum())).astype(np.uint16)
    starts = lengths.cumsum(0) - lengths
    ids[starts] = 2
    ids[starts + lengths - 1] = 3
    stored_SE = torch.from_numpy(rng.standard_normal((clips, teacher_width)).astype(np.float16))
    number_C = torch.arange(clips)
    wide_SE = stored_SE.double()
    statistics = Statistics(clips, wide_SE.mean(0).numpy(), wide_SE.std(0, correction=0).numpy())
    return Corpus(
        ids_N=torch.from_numpy(ids.view(np.int16)),
        starts_C=starts,
        lengths_C=lengths,
        vectors=Vectors(stored_SE.to(device), number_C, statistics, device),
        row_C=number_C,
        place_C=number_C,
        recording_C=number_C // 10,
        train=number_C,
        held_out=number_C[:0],
        where=f"vectors on {device}",
        truncated=0,
        dropped=[],
        unknown=Unknown(int(lengths.sum()), 0, clips, 0),
        spoken=clips,
    )


WORD_TOKENS = 1.3
"""Tokens per word of English in BERT's own vocabulary, about."""
WORD_ROWS = 100_000
"""Stored word vectors, 150 MB of the widest; words take turns in them."""


class RowsInMemory(SequenceReader):
    """Reads word vectors as a cache's reader does, once its files are in the system's cache.

    There is no cache behind it, and so no clips: `read` and `identity` are all that it has.
    """

    def __init__(self, stored_RE: torch.Tensor) -> None:
        self.stored_RE = stored_RE
        self.identity = sequence_identity(
            "words", width=stored_RE.shape[1], most_rows=MAX_TOKENS, settings={}
        )

    def read(self, first_B: Sequence[int] | Array, rows_B: Sequence[int] | Array) -> torch.Tensor:
        """Rows as they are stored, one stretch after the other."""
        pairs = zip(np.asarray(first_B).tolist(), np.asarray(rows_B).tolist(), strict=True)
        return torch.cat([self.stored_RE[at : at + count] for at, count in pairs])


def make_words(corpus: Corpus, teacher_width: int) -> WordVectors:
    """Words of one token or two that fill each text, and vectors of them."""
    rng = np.random.default_rng(1)
    lengths = corpus.lengths_C.numpy() - 2
    counts = np.maximum(1, np.floor(lengths / WORD_TOKENS)).astype(np.int64)
    words = int(counts.sum())
    starts = counts.cumsum() - counts
    clip = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(words) - starts[clip]
    firsts = within * lengths[clip] // counts[clip]
    ends = (within + 1) * lengths[clip] // counts[clip]
    stored_RE = torch.from_numpy(
        rng.standard_normal((WORD_ROWS, teacher_width), np.float32).astype(np.float16)
    )
    table = WordTable(
        start_P=torch.from_numpy(starts),
        count_P=torch.from_numpy(counts),
        first_V=torch.from_numpy(firsts + 1),
        tokens_V=torch.from_numpy(ends - firsts),
        row_V=torch.arange(words) % WORD_ROWS,
        type_V=torch.from_numpy(rng.zipf(1.3, words) % 20_000),
        seconds_V=torch.ones(words),
    )
    wide_RE = stored_RE[:10_000].double()
    statistics = Statistics(words, wide_RE.mean(0).numpy(), wide_RE.std(0, correction=0).numpy())
    return WordVectors(
        table, RowsInMemory(stored_RE), torch.arange(len(counts)), statistics, "made up"
    )


def make_tokenizer() -> BertTokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = pieces + [f"w{i}" for i in range(VOCABULARY - len(pieces))]
    return BertTokenizer(vocab={name: i for i, name in enumerate(names)})


@dataclass
class Setup:
    """What is the same for every way."""

    student: str
    clips: int
    steps: int
    device: torch.device
    corpus: Corpus
    tokenizer: BertTokenizer
    precision: Precision
    compile: bool


@dataclass
class Speed:
    """Real tokens per second, by the wall clock and by processor time of all threads."""

    wall: float
    processor: float


class Clock:
    """Wall and processor time since the clock was made, after the device has caught up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start = self._now()

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def speed(self, tokens: int) -> Speed:
        """Tokens per second since the start."""
        wall, processor = self._now()
        return Speed(tokens / (wall - self.start[0]), tokens / (processor - self.start[1]))


class Silent(TrainingLog):
    """A log that writes nothing, so that training alone is timed."""

    def __init__(self) -> None:
        super().__init__(
            None, Progress(), words=WORDS, quiet_steps=0, flops_per_token=0.0, peak_flops=None
        )

    def step(self, *_: object) -> None:
        """Log nothing."""

    def note(self) -> str:
        """Say nothing."""
        return ""


class Unsaved(Checkpoints):
    """Checkpoints of which none is written, so that training alone is timed."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull), keep=1)

    def save(self, *_: object) -> None:
        """Save nothing."""

    def latest(self) -> None:
        """There is none."""


def ours(setup: Setup, kd: str, negatives: int = 0, level: Level = "clip") -> Speed:
    """Speed of `speechkd distill`'s own loop."""
    torch.manual_seed(0)
    student = build_student(setup.student, setup.tokenizer, MAX_TOKENS)
    width = setup.corpus.vectors.width
    words = make_words(setup.corpus, width) if level == "word" else None
    statistics = words.statistics if words else setup.corpus.vectors.statistics
    context = Context(student.width, statistics, level=level)
    name = f"{WORD_PREFIX}{kd}" if words else kd
    objectives = {} if kd == "none" else {name: OBJECTIVES[kd](context)}
    module = Distillation(student, objectives, dict.fromkeys(objectives, 1.0), View())
    module.to(setup.device)
    batches = Batches(
        setup.corpus,
        Masking.of(setup.tokenizer, 0.15),
        setup.clips,
        seed=0,
        extra_negatives=negatives,
        words=words,
        device=setup.device,
    )
    ahead = Ahead(batches.epoch, batches.per_epoch)
    warm = max(2, setup.steps // 5)
    schedule = Schedule(
        steps_per_epoch=batches.per_epoch, total_steps=10**6, warmup_steps=100,
        learning_rate=1e-4, weight_decay=0.01, adam_epsilon=1e-6, clip_norm=1.0,
        precision=setup.precision, seed=0, max_steps=warm, max_hours=0, log_every=10**9,
        measure_every=10**9, checkpoint_steps=0, checkpoint_minutes=0,
    )  # fmt: skip
    workload = Workload(
        label="distilling",
        module=module,
        losses=lambda batch, measure: module(batch, measure=measure),
        epoch=ahead.epoch if words else batches.epoch,
        held_out=lambda: iter(()),
        tokens=lambda batch: batch.tokens,
        less_memory="Lower --batch-size.",
    )
    optimizer, progress = make_optimizer(module, schedule), Progress()

    def go(steps: int) -> None:
        until = replace(schedule, max_steps=steps)
        train(workload, until, Unsaved(), Silent(), progress, optimizer, setup.device)

    if setup.compile:
        module.compile_for(batches.shapes())
        warm = max(warm, steps_until_compiled(batches))
    go(warm)
    tokens, clock = progress.tokens, Clock(setup.device)
    go(warm + setup.steps)
    return clock.speed(progress.tokens - tokens)


def steps_until_compiled(batches: Batches) -> int:
    """Steps of the first epoch until each shape that its batches take has been met."""
    shapes, batch_at = batches.shapes(), batches.epoch(0)
    first: dict[int, int] = {}
    for place in range(batches.per_epoch):
        packed = batch_at(place).packed
        taken = next((n for n, shape in enumerate(shapes) if shape.holds(packed)), -1)
        first.setdefault(taken, place)
    return 1 + max(first.values())


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Times the Trainer's steps after its first few."""

    def __init__(self, warm: int, device: torch.device, tokens: list[int]) -> None:
        self.warm, self.device, self.tokens = warm, device, tokens
        self.clock: Clock | None = None
        self.speed: Speed | None = None

    def on_step_end(self, _args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Start after the warm-up, stop after the last step."""
        if state.global_step == self.warm:
            self.clock = Clock(self.device)
        elif state.global_step == state.max_steps and self.clock:
            # the loader collates in order, at most one batch ahead, so the timed batches are these
            self.speed = self.clock.speed(sum(self.tokens[self.warm : state.max_steps]))


def usual(setup: Setup, *, dynamic: bool) -> Speed:
    """Speed of Hugging Face's Trainer, padded to 128 or dynamically."""
    corpus = setup.corpus
    ids_N = corpus.ids_N.cpu().view(torch.uint16).int()
    ids = torch.split(ids_N, corpus.lengths_C.tolist())
    rows: list[dict[str, Any]] = [{"input_ids": row.tolist(), "length": len(row)} for row in ids]
    if not dynamic:
        rows = [
            {
                "input_ids": r["input_ids"] + [0] * (MAX_TOKENS - r["length"]),
                "attention_mask": [1] * r["length"] + [0] * (MAX_TOKENS - r["length"]),
            }
            for r in rows
        ]
    torch.manual_seed(0)
    model = build_student(setup.student, setup.tokenizer, MAX_TOKENS).model
    model.set_attn_implementation("sdpa")
    warm = max(2, setup.steps // 5)
    tokens: list[int] = []  # of each batch
    watch = Stopwatch(warm, setup.device, tokens)
    collate = DataCollatorForLanguageModeling(setup.tokenizer, mlm_probability=0.15)

    def counting(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch: dict[str, torch.Tensor] = collate(
            [{k: v for k, v in e.items() if k != "length"} for e in examples]
        )
        tokens.append(int(batch["attention_mask"].sum()))
        return batch

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=warm + setup.steps, report_to=[], disable_tqdm=True,
            per_device_train_batch_size=setup.clips, learning_rate=1e-4, weight_decay=0.01,
            bf16=setup.precision == "bf16", save_strategy="no", logging_strategy="no",
            use_cpu=setup.device.type == "cpu", dataloader_pin_memory=False,
            remove_unused_columns=False, max_grad_norm=1.0,
            **({"train_sampling_strategy": "group_by_length"} if dynamic else {}),
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=rows, data_collator=counting, callbacks=[watch]
        )
        trainer.train()
    if watch.speed is None:
        raise SystemExit("the Trainer did not get to its last step")
    return watch.speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="bert-base")
    parser.add_argument("--batch-size", type=int, help="clips per batch; 32, on a GPU 256")
    parser.add_argument("--steps", type=int, help="timed steps per round; 4, on a GPU 50")
    parser.add_argument("--rounds", type=int, help="2, on a GPU 5; the best one counts")
    parser.add_argument("--teacher-width", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--ways", nargs="*", default=None, help="names of the ways to run")
    parser.add_argument("--out", type=Path, help="JSON file; by default one in bench/results/")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = device_named("auto")
    gpu = device.type == "cuda"
    options.batch_size = options.batch_size or (256 if gpu else 32)
    options.steps = options.steps or (50 if gpu else 4)
    options.rounds = options.rounds or (5 if gpu else 2)
    corpus = make_corpus(max(20_000, 4 * options.batch_size), options.teacher_width, device)
    setup = Setup(
        options.student, options.batch_size, options.steps, device, corpus, make_tokenizer(),
        "bf16" if gpu else "float32",
        gpu if options.compile is None else options.compile,
    )  # fmt: skip
    transformers_logging.set_verbosity_error()
    print(
        f"{options.student}, {options.batch_size} clips per batch, {setup.precision}, "
        f"compile {setup.compile}, {options.threads} threads, {device}, torch "
        f"{torch.__version__}, commit {git_commit()}"
    )
    ways: dict[str, Callable[[], Speed]] = {
        "none": lambda: ours(setup, "none"),
        "nst": lambda: ours(setup, "nst"),
        "crd": lambda: ours(setup, "crd"),
        "crd K=16384": lambda: ours(setup, "crd", 16_384),
        "crd, word by word": lambda: ours(setup, "crd", level="word"),
        "nst, word by word": lambda: ours(setup, "nst", level="word"),
        "infonce": lambda: ours(setup, "infonce"),
        "infonce, word by word": lambda: ours(setup, "infonce", level="word"),
        "Trainer, padded to 128": lambda: usual(setup, dynamic=False),
        "Trainer, dynamic, grouped": lambda: usual(setup, dynamic=True),
    }
    selection = {n: w for n, w in ways.items() if options.ways is None or n in options.ways}
    speeds: dict[str, list[Speed]] = {name: [] for name in selection}
    for _ in range(options.rounds):
        for name, way in selection.items():
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
                speeds[name].append(way())
            speed = speeds[name][-1]
            print(f"  {name:26s} {speed.wall:10,.0f} {speed.processor:10,.0f}", flush=True)
    walls = {name: max(s.wall for s in rounds) for name, rounds in speeds.items()}
    works = {name: max(s.processor for s in rounds) for name, rounds in speeds.items()}
    print("real tokens per second, best round; in brackets how many times as fast `none` is")
    for name in selection:
        print(
            f"  {name:26s} wall {walls[name]:10,.0f} ({walls.get('none', 0) / walls[name]:.2f})"
            f"   processor {works[name]:10,.0f} ({works.get('none', 0) / works[name]:.2f})"
        )
    student = build_student(options.student, setup.tokenizer, MAX_TOKENS)
    flops = flops_per_token(student, float(corpus.lengths_C.double().mean()), 0.15)
    peak = peak_flops(device)
    figures = {
        "argv": sys.argv,
        "commit": git_commit(),
        "torch": torch.__version__,
        "hardware": hardware(),
        "student": options.student,
        "clips": options.batch_size,
        "steps": options.steps,
        "precision": setup.precision,
        "compile": setup.compile,
        "tokens_per_s": walls,
        "tokens_per_processor_s": works,
        "rounds": {name: [s.wall for s in speeds[name]] for name in selection},
    }
    if "none" in walls:
        minutes = PAPER_TOKENS * PAPER_EPOCHS / walls["none"] / 60
        print(f"the paper's {PAPER_EPOCHS} epochs would take {minutes:,.0f} min")
        figures["paper_minutes"] = minutes
    if peak and "none" in walls:
        figures["mfu"] = walls["none"] * flops / peak
        print(f"MFU {figures['mfu']:.1%} of {peak / 1e12:.0f} TFLOP/s")
    name = torch.cuda.get_device_name(device).replace(" ", "-") if gpu else "cpu"
    out = options.out or RESULTS / f"distill-{options.student}-{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
