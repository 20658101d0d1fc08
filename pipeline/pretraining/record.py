"""What a run of pre-training records of itself, and what it leaves when it ends."""

from collections.abc import Mapping
from typing import Any

from pipeline.cache.texts import texts_sha256
from pipeline.foundation import atomic
from pipeline.foundation.progress import say
from pipeline.pretraining.method import Method, Parts
from pipeline.training.card import card, write_loss_curve
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.processes import on_main
from pipeline.training.record import check_converged, ended_record
from pipeline.training.run_folder import RunFolder


def method_record(method: Method[Any], parts: Parts, digests: Mapping[str, str]) -> dict[str, Any]:
    """What `run.json` says of the method, the model and the data.

    Args:
        method: of the run.
        parts: what the run is made of.
        digests: of the caches, by name with `_sha256` behind it.
    """
    corpus, schedule = parts.data.corpus, parts.schedule
    first = next(iter(parts.data.caches.values()))
    compared = method.comparable(parts)
    for name in ("setup", "teaching"):
        for key, value in (compared[name] or {}).items():
            if not isinstance(value, str | int | float | None):  # results could not be read back
                raise TypeError(f"{method.name}: {name}[{key!r}] is {value!r}, no plain value")
    setup = {
        "texts": texts_sha256(first),
        "clips per batch": parts.batches.clips_per_batch,
        "total steps": schedule.total_steps,
        "warm-up steps": schedule.warmup_steps,
        "precision": schedule.precision,
        **compared["setup"],
    }
    return {
        "method": method.name,
        "comparable": {**compared, "setup": setup},
        "data": {
            "caches": {
                name: {
                    "location": cache.location,
                    "sha256": digests[f"{name}_sha256"],
                    **cache.identity.flat_record(),
                }
                for name, cache in parts.data.caches.items()
            },
            "clips": len(corpus),
            "train_clips": len(corpus.train),
            "held_out_clips": len(corpus.held_out),
            "told": corpus.omissions,
        },
        **method.record(parts),
    }


@on_main
def hand_over(
    method: Method[Any],
    parts: Parts,
    folder: RunFolder,
    record: Mapping[str, Any],
    checkpoints: Checkpoints,
    progress: Progress,
    outcome: str,
) -> None:
    """Write the models, their card and curve, and last the record that calls the run finished.

    The weights are those of the epoch that was best on what is held out if the method goes by it.

    Raises:
        SpeechkdError: losses or weights are not finite; no model is handed on then.
    """
    check_converged(parts.module, progress, folder.path)
    chosen = checkpoints.load_best(parts.module, progress)
    if chosen is not None:
        say(f"hands on the weights of step {chosen:,}, the best on what is held out")
    fillers = method.save(parts)
    for name in method.folders:
        folder.export(fillers[name], name)
    record = {**ended_record(record, progress, outcome), **method.outcome(parts)}
    record["result"]["chosen_step"] = progress.step if chosen is None else chosen
    write_loss_curve(folder.path)
    atomic.write_text(folder.path / "README.md", card(record, method.card(record)))
    folder.write_record(record)
