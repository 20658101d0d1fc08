"""What is said and recorded of texts without speech, from tables."""

from typing import Any

from pipeline.distillation.assembly import Parts
from pipeline.distillation.doubts import NEEDS_NEGATIVES
from pipeline.foundation.progress import counted

FEW_SPOKEN = 8
"""Clips with speech of a mean batch below which objectives compare very few with each other."""
MUCH_REPEATED = 0.1
"""Share of held-out texts that are trained on, too, above which there is a warning."""


def texts_record(parts: Parts, tables_sha256: str) -> dict[str, Any]:
    """What `run.json` says of the texts without speech.

    Args:
        parts: of a run with tables.
        tables_sha256: their digest.
    """
    corpus, tables = parts.corpus, parts.tables
    return {
        "files": [str(path) for path in tables.paths] if tables else [],
        "tables_sha256": tables_sha256,
        "texts": len(corpus) - corpus.spoken,
        "train_texts": len(corpus.train) - len(corpus.spoken_train),
        "held_out_texts": len(corpus.held_out) - len(corpus.spoken_held_out),
        "tokens": int(corpus.lengths_C[corpus.spoken :].sum()),
        "repeated": parts.repeated,
    }


def told_of_texts(parts: Parts) -> list[str]:
    """Sentences on the texts without speech: how many, what they lack, and what stands twice."""
    corpus, record = parts.corpus, texts_record(parts, "")
    train, again = record["train_texts"], record["repeated"]
    share = record["tokens"] / int(corpus.lengths_C.sum())
    told = [
        f"texts without speech: {counted(record['texts'], 'text')} ({train:,} to train on, "
        f"{record['held_out_texts']:,} held out), {counted(record['tokens'], 'token')}, "
        f"{100 * share:.1f} % of all; {again['again']:,} stand there before"
    ]
    objectives = parts.settings.objectives()
    told[0] += ". They get no distillation loss" * bool(objectives)
    if corpus.spoken:
        told.append(
            f"{again['spoken']:,} of the {train:,} texts without speech that are trained on are "
            f"those of a clip with speech, too, {again['spoken_held_out']:,} of one held out"
        )
    if len(corpus.held_out):
        much = again["held_out"] > MUCH_REPEATED * len(corpus.held_out)
        told.append(
            ("WARNING: " if much else "")
            + f"{again['held_out']:,} of {counted(len(corpus.held_out), 'text')} held out stand in "
            "training, too" + (": the held-out loss is too good for other texts" if much else "")
        )
    mean = parts.batches.clips_per_batch * len(corpus.spoken_train) / max(1, len(corpus.train))
    if objectives:
        told.append(f"a batch has {mean:.1f} clips with speech on average, and the others without")
    if objectives and mean < FEW_SPOKEN:
        rivals = "--crd-negatives" if "crd" in objectives else "fewer texts"
        few = " and ".join(n for n in objectives if n in NEEDS_NEGATIVES) or "the objective"
        told.append(
            f"WARNING: {few} compares so few clips with each other that little can be learnt. "
            f"Raise --batch-size, or take {rivals}"
        )
    return told
