"""What a distillation run records of itself, and what it leaves when it ends."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.corpus.word_corpus import WordCorpus
from pipeline.distillation.assembly import Parts
from pipeline.distillation.comparable import comparable
from pipeline.distillation.model_card import model_card
from pipeline.distillation.unspoken import texts_record
from pipeline.foundation import atomic
from pipeline.training.card import write_loss_curve
from pipeline.training.checkpoint import Progress
from pipeline.training.processes import on_main
from pipeline.training.record import check_converged, ended_record
from pipeline.training.run_folder import RunFolder

SUMS = ("loss/kd", "loss/kd_weighted")


def method_record(parts: Parts, digests: Mapping[str, str]) -> dict[str, Any]:
    """What `run.json` says of the objectives, the student and the data.

    Args:
        parts: what the run is made of.
        digests: `cache_sha256` and `tables_sha256`, whichever there are, which take a while to
            compute.
    """
    cache_sha256 = digests.get("cache_sha256")
    distillation, corpus, cache = parts.distillation, parts.corpus, parts.cache
    student = distillation.student
    return {
        "objectives": list(parts.settings.kd),
        "gammas": distillation.gammas,
        "comparable": comparable(parts, cache_sha256),
        "teacher_sides": {n: o.side for n, o in distillation.named_objectives()},
        "student": {
            "architecture": student.model.config.model_type,
            "parameters": sum(p.numel() for p in student.encoder.parameters()),
            "vocabulary": len(parts.tokenizer),
        },
        "data": {
            **(
                {
                    "cache": cache.location,
                    "cache_sha256": cache_sha256,
                    "teacher": cache.identity.flat_record(),
                }
                if cache
                else {}
            ),
            "clips": len(corpus),
            "train_clips": len(corpus.train),
            "held_out_clips": len(corpus.held_out),
            "tokens": int(corpus.lengths_C.sum()),
            "truncated": corpus.truncated,
            "dropped": corpus.dropped,
            "unknown_tokens": corpus.unknown.record(),
            **({"words": _words(parts.words)} if parts.words else {}),
            **({"texts": texts_record(parts, digests["tables_sha256"])} if parts.tables else {}),
        },
    }


def _words(words: WordCorpus) -> dict[str, Any]:
    cache = words.cache
    return {
        "cache": cache.location,
        "cache_sha256": words.prepared.digest,
        "teacher": cache.identity.flat_record(),
        **asdict(words.counts),
    }


@on_main
def hand_over(
    parts: Parts,
    folder: RunFolder,
    record: Mapping[str, Any],
    progress: Progress,
    outcome: str,
) -> None:
    """Write the student, its card and curve, and last the record that calls the run finished.

    Raises:
        SpeechkdError: losses or weights are not finite; no student is handed on then.
    """
    student = parts.distillation.student
    check_converged(student, progress, folder.path)

    def save(into: Path) -> None:
        student.save(into)
        parts.tokenizer.save_pretrained(into)

    folder.export(save)
    record = ended_record(record, progress, outcome)
    write_loss_curve(folder.path, leave_out=SUMS)
    atomic.write_text(folder.path / "README.md", model_card(record))
    folder.write_record(record)
