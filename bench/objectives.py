"""What an objective costs by clips and by words, alone: its value and gradients, no encoder.

    python bench/objectives.py --student bert-tiny

Prints milliseconds of this thread's processor time per batch, the least of several rounds, in which
all objectives take turns. A whole step is measured by bench/distill.py, where other load hides what
differs by a few per cent.
"""

import argparse
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.distill import make_corpus, make_tokenizer, make_words
from pipeline.corpus.batch import TokenBatch
from pipeline.corpus.batches import Batches
from pipeline.corpus.masking import Masking
from pipeline.distillation.module import WORD_PREFIX, Distillation, View
from pipeline.distillation.objectives import OBJECTIVES, Context, Objective, Options
from pipeline.distillation.objectives.contract import Level
from pipeline.foundation.provenance import git_commit
from pipeline.models.student import build_student

FORMS = {
    "crd": ("crd", Options()),
    "infonce": ("infonce", Options()),
    "nst batch": ("nst", Options(nst_pattern="batch")),
    "nst vector": ("nst", Options(nst_pattern="vector")),
    "nst sequence": ("nst", Options(nst_pattern="sequence")),
    "cosine": ("cosine", Options()),
    "l1": ("l1", Options()),
}
LEVELS: tuple[Level, Level] = ("clip", "word")


@dataclass
class Way:
    """An objective at a level, with a batch and made-up states of its tokens."""

    level: Level
    module: Distillation
    objective: Objective
    batch: TokenBatch
    states_ND: Tensor

    def once(self) -> float:
        """Milliseconds of processor time of one value with its gradients."""
        started = time.thread_time()
        loss = self.objective(self.module.pairs(self.states_ND, self.batch, self.level))
        loss.backward()
        seconds = time.thread_time() - started
        self.states_ND.grad = None
        self.objective.zero_grad(set_to_none=True)
        return seconds * 1e3


def least_making(batches: Batches, rounds: int) -> float:
    """Milliseconds of processor time in which a batch is made, the least of several."""
    at = batches.epoch(0)
    seconds = []
    for _ in range(rounds):
        started = time.thread_time()
        at(0)
        seconds.append(time.thread_time() - started)
    return 1e3 * min(seconds)


def main() -> None:
    """Time all objectives in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="bert-tiny")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--teacher-width", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)  # `thread_time` sees one thread, and gradients run in it on a CPU
    cpu = torch.device("cpu")
    corpus = make_corpus(20_000, options.teacher_width, cpu)
    words, tokenizer = make_words(corpus, options.teacher_width), make_tokenizer()
    masking = Masking.of(tokenizer, 0.15)
    batches = Batches(corpus, masking, options.batch_size, seed=0, words=words, device=cpu)
    batch = batches.epoch(0)(0)
    making = [least_making(replace(batches, words=w), options.rounds) for w in (None, words)]
    torch.manual_seed(0)
    student = build_student(options.student, tokenizer, 128)
    states_ND = torch.randn(batch.tokens, student.width)
    ways: dict[tuple[str, Level], Way] = {}
    for form, (name, chosen) in FORMS.items():
        for level in LEVELS:
            statistics = words.statistics if level == "word" else corpus.vectors.statistics
            objective = OBJECTIVES[name](Context(student.width, statistics, chosen, level))
            label = f"{WORD_PREFIX}{name}" if level == "word" else name
            module = Distillation(student, {label: objective}, {label: 1.0}, View())
            leaf_ND = states_ND.clone().requires_grad_()
            ways[form, level] = Way(level, module, objective, batch, leaf_ND)
    least = {key: min(way.once() for _ in range(2)) for key, way in ways.items()}
    for _ in range(options.rounds):
        for key, way in ways.items():
            least[key] = min(least[key], way.once())
    spoken = batch.words.total if batch.words else 0
    print(
        f"{options.student}, {batch.tokens:,} tokens, {spoken:,} words, teacher "
        f"{options.teacher_width} wide, torch {torch.__version__}, commit {git_commit()}"
    )
    print(f"{'ms':14s} {'clips':>8s} {'words':>8s} {'more':>8s}")
    print(f"{'making it':14s} {making[0]:8.1f} {making[1]:8.1f} {making[1] - making[0]:+8.1f}")
    for form in FORMS:
        clip, word = (least[form, level] for level in LEVELS)
        print(f"{form:14s} {clip:8.1f} {word:8.1f} {word - clip:+8.1f}")


if __name__ == "__main__":
    main()
