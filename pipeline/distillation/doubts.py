"""What a corpus lacks for what it is to be used for, said before the first step."""

from collections.abc import Sequence

import torch

from pipeline.cache.store import TeacherCache
from pipeline.corpus.corpus import Corpus

NEEDS_NEGATIVES = ("crd", "infonce")
"""Objectives that tell a clip's own vector from those of other clips."""

FEW_RIVALS = 0.1
"""Share of pairs of clips that may be told from each other below which there is a warning."""


def doubts(corpus: Corpus, objectives: Sequence[str], held_out_share: float) -> list[str]:
    """Warnings of recordings: no negatives, few of them, or nothing held out.

    Args:
        corpus: the clips.
        objectives: those of the run.
        held_out_share: the share of clips that was to be held out.
    """
    warnings = []
    contrastive = [name for name in objectives if name in NEEDS_NEGATIVES]
    share = rival_share(corpus)
    if contrastive and share < FEW_RIVALS:
        names = " and ".join(contrastive)
        pairs = "no pair" if share == 0 else f"only {100 * share:.2g} % of the pairs"
        warnings.append(
            f"WARNING: {names}: {pairs} of clips to train on can be told from each other, because "
            "clips of one recording never are each other's negatives and nearly all are of one. "
            + ("Nothing can be learnt from their vectors. " if share == 0 else "")
            + "Say in the table which recording each clip is of, add recordings, or take an "
            "objective without negatives (nst, l1, cosine)"
        )
    if held_out_share and not len(corpus.held_out):
        warnings.append(
            "WARNING: nothing is held out, so no loss is measured on clips that were not trained "
            "on: recordings are held out whole, and never over half of the clips, but the clips "
            f"are of {_recordings(corpus)}"
        )
    return warnings


def rival_share(corpus: Corpus) -> float:
    """Share of the pairs of training clips that are not of one recording: 0 to 1."""
    recording_C = corpus.recording_C[corpus.spoken_train]
    clips = len(recording_C)
    if clips < 2:
        return 0.0
    sizes = torch.bincount(recording_C[recording_C >= 0]).double()
    alike = float((sizes * (sizes - 1)).sum())
    return 1 - alike / (clips * (clips - 1))


def _recordings(corpus: Corpus) -> str:
    known = int(corpus.recording_C.max()) + 1 if len(corpus) else 0
    return "one recording" if known == 1 else f"{known:,} recordings of unequal size"


def only_speaker(cache: TeacherCache) -> str | None:
    """The speaker of all clips; None if there are several, or one is unknown.

    Shards are read until a second speaker is met, which is the first one as a rule.
    """
    names: set[str | None] = set()
    for shard in cache.receipts():
        names.update(sample["speaker"] for sample in cache.shard_samples(shard))
        if len(names) > 1:
            return None
    return next(iter(names), None)
