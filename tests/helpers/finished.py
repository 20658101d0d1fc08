"""Finished cells as `finetune` writes them, with made figures."""

from typing import Any

from pipeline.finetuning.cells import Cell
from pipeline.models.pretrained import Pretrained
from pipeline.tasks.mosei.questions import TASKS


def checkpoint(
    label: str = "m",
    objective: str | None = None,
    control: str | None = None,
    weights_sha256: str = "b" * 64,
) -> Pretrained:
    """An encoder of 1,000 numbers."""
    return Pretrained(label, f"runs/{label}", objective, control, 0, 1000, weights_sha256)


def cell(name: str = "one", encoder: Pretrained | None = None, **changes: Any) -> Cell:
    """A cell of `sentiment2`, ten test clips, seven of them positive and all called so."""
    encoder = encoder or checkpoint()
    task = TASKS.get(changes.get("task", ""), TASKS["sentiment2"])
    metrics = {
        "accuracy": 0.7,
        "majority_rate": 0.7,
        "balanced_accuracy": 0.5,
        "weighted_f1": 0.58,
        "recall": [0.0, 1.0],
        "confusion": [[0, 3], [0, 7]],
    }
    fields: dict[str, Any] = {
        "name": name,
        "checkpoint": encoder,
        "task": task.name,
        "kind": task.kind,
        "outputs": task.outputs,
        "definition": task.definition,
        "seed": 0,
        "data": {"name": "mosei", "sha256": "a" * 64, "split": {"origin": "given", "seed": None}},
        "splits": {"train": 14_000, "valid": 10, "test": 4_000},
        "truncated_texts": 0,
        "metrics": metrics,
        "valid_metrics": None,
        "epochs": [],
        "curve": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}],
        "chosen_epoch": 3,
        "recipe": {"epochs": 3},
        "seconds": 90.0,
        "trained_tokens": 1000,
        "device": "cpu",
        "provenance": {
            "argv": ["speechkd"],
            "started": "2026-01-01T00:00:00Z",
            "git_commit": "abc",
            "versions": {"torch": "2.0", "transformers": "5.0"},
            "hardware": {"machine": "x86_64", "torch_threads": 1, "cores": 4, "accelerators": []},
        },
    }
    return Cell(**{**fields, **changes})
