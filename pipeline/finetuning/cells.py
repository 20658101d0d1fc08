"""The record of a finished cell: one line of `results.jsonl`, typed.

`finetuning` writes it and `reports` reads it, also from folders that somebody else made, so every
field is checked as it is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, get_args

from pipeline.finetuning.record_fields import Fields
from pipeline.foundation.errors import Damaged
from pipeline.models.pretrained import Pretrained
from pipeline.models.unknown import Unknown
from pipeline.tasks.spans.overlap import SCORES
from pipeline.tasks.task import Kind
from pipeline.tasks.words import RANKED

__all__ = ["FORMAT", "Cell", "Pretrained", "Unknown"]

FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One encoder, fine-tuned for one task with one seed, and scored.

    Attributes:
        name: the cell's name, and the name of its files.
        checkpoint: the encoder.
        task: the task's name.
        kind: the task's kind: `classes`, `value`, `flags`, `words`, `speaker` or `spans`.
        outputs: what each output of the head stands for.
        definition: the convention behind the labels, in words.
        seed: seed of fine-tuning.
        data: identity of the texts, labels and split; has `name`, and under `split` `origin` and
            `seed`.
        splits: clips per split.
        truncated_texts: texts that lost tokens to the longest length allowed.
        metrics: every metric of the test clips, as `Task.score` returns them.
        valid_metrics: the same for the validation clips; None where there are none.
        epochs: a record per epoch.
        curve: training loss along the way: `step` and the mean `loss` since the last point.
        chosen_epoch: the epoch, from 1, whose weights gave the metrics.
        recipe: how the cell was trained.
        seconds: time for training and scoring.
        trained_tokens: what training read, all epochs together: tokens of texts, positions of
            speech, of spans both. The name is the record's.
        device: where it was trained.
        provenance: versions, commit, hardware and command line.
        fold: the part of the data that is the test, where the task is asked once per part.
        repeated_texts: test texts that stand in training, too; None if that was not counted.
        unknown_tokens: what the tokenizer does not know of the texts; None if that was not counted.
    """

    name: str
    checkpoint: Pretrained
    task: str
    kind: Kind
    outputs: tuple[str, ...]
    definition: str
    seed: int
    data: Mapping[str, Any]
    splits: Mapping[str, int]
    truncated_texts: int
    metrics: Mapping[str, Any]
    valid_metrics: Mapping[str, Any] | None
    epochs: Sequence[Mapping[str, Any]]
    curve: Sequence[Mapping[str, float]]
    chosen_epoch: int
    recipe: Mapping[str, Any]
    seconds: float
    trained_tokens: int
    device: str
    provenance: Mapping[str, Any]
    fold: str = ""
    repeated_texts: int | None = None
    unknown_tokens: Unknown | None = None

    @property
    def label(self) -> str:
        """The encoder's name in tables."""
        return self.checkpoint.label

    @property
    def key(self) -> tuple[str, str, int]:
        """Label, task (with its fold) and seed, which tell a cell from every other one."""
        return self.label, self.title, self.seed

    @property
    def title(self) -> str:
        """The task, and the fold if there are several; as that of `Question`."""
        return f"{self.task}, fold {self.fold}" if self.fold else self.task

    @property
    def predictions(self) -> str:
        """The predictions file, relative to the results folder."""
        return f"predictions/{self.name}.csv"

    @property
    def made_split_seed(self) -> int | None:
        """The seed of a split that was made here; None if the data brought their own, or folds."""
        split = self.data["split"]
        seed: int = split["seed"]
        return seed if split["origin"] == "made" else None

    def figure(self, path: Sequence[str]) -> float | None:
        """The figure at a path of keys in the metrics; None where there is none."""
        value: Any = self.metrics
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else float(value)

    def record(self) -> dict[str, Any]:
        """The cell as a line of `results.jsonl`, in plain JSON values."""
        values = {
            **vars(self),
            "checkpoint": self.checkpoint.record(),
            "outputs": list(self.outputs),
            "unknown_tokens": self.unknown_tokens.record() if self.unknown_tokens else None,
        }
        name = values.pop("name")
        return {"format": FORMAT, "cell": name, **values, "predictions": self.predictions}

    @classmethod
    def from_record(cls, record: Any, where: str, remedy: str) -> "Cell":
        """Read a cell's record, whoever wrote it.

        Args:
            record: what `record` gave, after JSON.
            where: file and line, for the message.
            remedy: what to do if it is no such record, for the message.

        Raises:
            Damaged: a field is missing or of another type; it is named.
        """
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise Damaged(
                f"{where}: not a cell of format {FORMAT}; it was written by another version of "
                "speechkd."
            )
        return _read(
            Fields(record, lambda wrong: f"{where}: no record of a cell ({wrong}); {remedy}.")
        )


def _read(of: Fields) -> Cell:
    name, kind = of.get("cell", str), of.get("kind", str)
    if PurePosixPath(of.get("predictions", str)).parts != ("predictions", f"{name}.csv"):
        raise of.wrong("predictions", "the file of that cell in the folder predictions")
    if kind not in get_args(Kind):
        raise of.wrong("kind", " or ".join(get_args(Kind)))
    checkpoint = of.part("checkpoint")
    outputs = tuple(of.items("outputs").every(str))
    _check_metrics(of.part("metrics"), kind, outputs)
    if of.get("valid_metrics", dict, type(None)) is not None:
        _check_metrics(of.part("valid_metrics"), kind, outputs)
    curve = of.items("curve")
    for place in curve.values:
        curve.part(place).get("step", int)
        curve.part(place).get("loss", int, float)
    of.part("data").get("name", str)
    split = of.part("data").part("split")
    split.get("seed", *([int] if split.get("origin", str) == "made" else [int, type(None)]))
    of.part("splits").every(int)
    of.part("splits").get("test", int)
    of.part("splits").get("train", int)
    _check_provenance(of.part("provenance"))
    return Cell(
        name=name,
        checkpoint=Pretrained(
            label=checkpoint.get("label", str),
            source=checkpoint.get("source", str),
            objective=checkpoint.get("objective", str, type(None)),
            control=checkpoint.get("control", str, type(None)),
            pretraining_seed=checkpoint.get("pretraining_seed", int, type(None)),
            parameters=checkpoint.get("parameters", int),
            weights_sha256=checkpoint.get("weights_sha256", str),
            setup=_plain(checkpoint, "setup"),
            teaching=_plain(checkpoint, "teaching"),
            method=checkpoint.optional("method", None, str, type(None)),
        ),
        task=of.get("task", str),
        kind=kind,
        outputs=outputs,
        definition=of.get("definition", str),
        seed=of.get("seed", int),
        data=of.get("data", dict),
        splits=of.get("splits", dict),
        truncated_texts=of.get("truncated_texts", int),
        metrics=of.get("metrics", dict),
        valid_metrics=of.get("valid_metrics", dict, type(None)),
        epochs=of.items("epochs").every(dict),
        curve=of.items("curve").every(dict),
        chosen_epoch=of.get("chosen_epoch", int),
        recipe=of.get("recipe", dict),
        seconds=of.get("seconds", int, float),
        trained_tokens=of.get("trained_tokens", int),
        device=of.get("device", str),
        provenance=of.get("provenance", dict),
        fold=of.optional("fold", "", str),
        repeated_texts=of.optional("repeated_texts", None, int, type(None)),
        unknown_tokens=_unknown(of),
    )


def _unknown(of: Fields) -> Unknown | None:
    if of.optional("unknown_tokens", None, dict, type(None)) is None:
        return None
    unknown = of.part("unknown_tokens")
    scripts = unknown.part("scripts")
    scripts.every(float, int)
    return Unknown(
        tokens=unknown.get("tokens", int),
        unknown=unknown.get("unknown", int),
        texts=unknown.get("texts", int),
        texts_with=unknown.get("texts_with", int),
        commonest=tuple(unknown.items("commonest").every(str)),
        scripts=scripts.values,
        lost_signs=unknown.optional("lost_signs", 0.0, int, float),
        too_long=unknown.optional("too_long", 0, int),
    )


def _plain(checkpoint: Fields, name: str) -> dict[str, Any] | None:
    """Values by name that an encoder's record may have."""
    values = checkpoint.optional(name, None, dict, type(None))
    for key in values or ():
        checkpoint.part(name).get(key, str, int, float, bool, type(None))
    return values if values is None else dict(values)


def _check_metrics(metrics: Fields, kind: str, outputs: Sequence[str]) -> None:
    if kind in ("classes", "words"):
        _check_classes(metrics, len(outputs))
        if kind == "words":
            for of in (metrics, metrics.part("chance"), metrics.part("prior")):
                for name in RANKED:
                    of.get(name, int, float, type(None))
    elif kind == "speaker":
        for name in ("eer", "min_dcf"):
            metrics.get(name, int, float)
        for name in ("eer_low", "eer_high", "threshold"):
            metrics.get(name, int, float, type(None))
        for name in ("pairs", "same_pairs", "speakers", "clips"):
            metrics.get(name, int)
        metrics.get("trials", str)
    elif kind == "spans":
        metrics.get("ceiling", int, float)
        for of in (metrics, metrics.part("whole"), metrics.part("constant")):
            for name in SCORES:
                of.get(name, int, float)
    elif kind == "flags":
        for name in ("accuracy", "majority_rate", "balanced_accuracy", "weighted_f1"):
            metrics.get(name, int, float)
        for name in outputs:
            _check_classes(metrics.part("flags").part(name), 2)
    else:
        metrics.get("mae", int, float)
        metrics.get("constant_mae", int, float)
        metrics.get("pearson", int, float, type(None))
        if "derived" in metrics.values:
            derived = metrics.part("derived")
            for name in derived.values:
                scheme = derived.part(name)
                _check_classes(scheme, len(scheme.get("recall", list)))


def _check_classes(metrics: Fields, classes: int) -> None:
    for name in ("accuracy", "majority_rate", "balanced_accuracy", "weighted_f1"):
        metrics.get(name, int, float)
    confusion = metrics.items("confusion")
    rows = [confusion.items(place).every(int) for place in confusion.values]
    if [len(row) for row in rows] != [classes] * classes or sum(map(sum, rows)) < 1:
        raise metrics.wrong("confusion", f"counts of {classes} classes")
    if len(metrics.items("recall").every(int, float, type(None))) != classes:
        raise metrics.wrong("recall", f"a figure per class of {classes}")


def _check_provenance(provenance: Fields) -> None:
    provenance.get("git_commit", str, type(None))
    provenance.part("versions").every(str)
    for name in ("torch", "transformers"):
        provenance.part("versions").get(name, str)
    hardware = provenance.part("hardware")
    hardware.get("machine", str)
    hardware.get("cores", int)
    hardware.get("torch_threads", int)
    hardware.items("accelerators").every(str)
