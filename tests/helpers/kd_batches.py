"""Small batches for the tests of objectives."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from pipeline.cache.statistics import Statistics
from pipeline.corpus.batch import WholeBatch
from pipeline.corpus.word_vectors import Sentences
from pipeline.distillation.objectives import OBJECTIVES, Context, KDBatch, Objective, Options
from pipeline.distillation.objectives.contract import Level

LENGTHS = (3, 1, 5, 2, 4)


def make_batch(
    width: int = 6,
    teacher_width: int = 6,
    lengths: Sequence[int] = LENGTHS,
    seed: int = 0,
    negatives: int = 0,
    **changes: Any,
) -> KDBatch:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths_B = torch.tensor(lengths)
    clip_N = torch.arange(len(lengths)).repeat_interleave(lengths_B)
    batch = KDBatch(
        states_ND=normal(len(clip_N), width),
        clip_N=clip_N,
        place_N=torch.cat([torch.arange(length) for length in lengths]),
        longest=max(lengths),
        weight_N=torch.ones(len(clip_N)),
        total=torch.tensor(float(len(clip_N))),
        whole=WholeBatch(
            teacher_BE=normal(len(lengths), teacher_width) + 0.5,
            row_B=torch.arange(len(lengths)) * 10,
            recording_B=torch.arange(len(lengths)) + 100,
            corpus_clips=1000,
        ),
    )
    if negatives:
        batch = changed(
            batch,
            negative_KE=normal(negatives, teacher_width),
            negative_row_K=torch.arange(negatives) + 5000,
            negative_recording_K=torch.arange(negatives) + 5000,
        )
    return changed(batch, **changes)


def make_word_batch(
    width: int = 6,
    teacher_width: int = 6,
    lengths: Sequence[int] = LENGTHS,
    seed: int = 0,
    negatives: int = 0,
    **changes: Any,
) -> KDBatch:
    """One vector per word, as many words per clip as `lengths` say; some are spelled alike."""
    batch = make_batch(width, teacher_width, (1,) * sum(lengths), seed, negatives)
    counts = torch.tensor(lengths)
    clip_W = torch.arange(len(lengths)).repeat_interleave(counts)
    batch = replace(batch, sentences=Sentences.of(clip_W, counts))
    types = {"type_B": torch.arange(sum(lengths)) % 11}
    if negatives:
        types["negative_type_K"] = torch.arange(negatives) + 9
    return changed(batch, **{"recording_B": clip_W // 2 + 100, **types, **changes})


def changed(batch: KDBatch, **changes: Any) -> KDBatch:
    """The batch with other values, whether the clips hold them or the student's side does."""
    of_whole = {f.name for f in fields(WholeBatch)} & changes.keys()
    whole = replace(batch.whole, **{name: changes.pop(name) for name in of_whole})
    return replace(batch, whole=whole, **changes)


def statistics(teacher_width: int = 6) -> Statistics:
    generator = torch.Generator().manual_seed(9)
    return Statistics(
        count=1000,
        mean_E=torch.randn(teacher_width, generator=generator, dtype=torch.float64).numpy(),
        std_E=torch.rand(teacher_width, generator=generator, dtype=torch.float64).numpy() + 0.5,
    )


def make_objective(
    name: str, width: int = 6, teacher_width: int = 6, level: Level = "clip", **options: Any
) -> Objective:
    torch.manual_seed(0)
    options.setdefault("projection", "none")
    options.setdefault("teacher_side", "none")
    context = Context(width, statistics(teacher_width), Options(**options), level)
    return OBJECTIVES[name](context).double()


def add_padding(batch: KDBatch, count: int = 4) -> KDBatch:
    """The same batch with vectors that do not count mixed in at the end."""
    noise_ND = torch.full((count, batch.states_ND.shape[1]), 1e3, dtype=batch.states_ND.dtype)
    return replace(
        batch,
        states_ND=torch.cat([batch.states_ND, noise_ND]),
        clip_N=torch.cat([batch.clip_N, torch.zeros(count, dtype=torch.long)]),
        place_N=torch.cat([batch.place_N, torch.zeros(count, dtype=torch.long)]),
        weight_N=torch.cat([batch.weight_N, torch.zeros(count)]),
    )


def run_in_lockstep(objectives: Sequence[Objective], parts: Sequence[KDBatch]) -> list[Tensor]:
    """Run each part with sums over all parts, found by replaying until the sums settle."""
    earlier: list[list[Tensor]] = [[] for _ in parts]
    while True:
        sums: list[list[Tensor]] = [[] for _ in parts]
        losses = []
        for index, (objective, part) in enumerate(zip(objectives, parts, strict=True)):

            def add_up(
                value: Tensor,
                index: int = index,
                sums: list[list[Tensor]] = sums,
                earlier: list[list[Tensor]] = earlier,
            ) -> Tensor:
                sums[index].append(value)
                turn = len(sums[index]) - 1
                others = [o[turn] for i, o in enumerate(earlier) if i != index and turn < len(o)]
                return sum(others, value)

            log_mean = getattr(objective, "log_mean", None)
            if isinstance(log_mean, Tensor):
                log_mean.fill_(torch.nan)
            losses.append(objective(changed(part, sum_over_processes=add_up)))
        if all(len(o) == len(a) for o, a in zip(earlier, sums, strict=True)) and all(
            torch.equal(x, y)
            for o, a in zip(earlier, sums, strict=True)
            for x, y in zip(o, a, strict=True)
        ):
            return losses
        earlier = sums
