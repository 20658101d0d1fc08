"""What each stage of a run is to bring about, and how much of it is there already.

Each goal has the name of its `stage`, the `unit` that it counts, the `rate_unit` of its rate and
the `total` of units. `lasting` says whether a unit that an earlier job finished counts.
`progress()` reads what the stage has left in storage: receipts, run records, results, the report.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from pipeline.foundation.errors import NotThere

TAIL_BYTES = 65_536


@dataclass(frozen=True)
class GoalProgress:
    """How much of a goal is there.

    Attributes:
        times: when each finished unit (shard, student, cell) was finished, in seconds since 1970.
        steps_left: steps that unfinished students still have to train; None for other units.
        steps_per_second: of all students together, lately; 0 if unknown.
    """

    times: Sequence[float]
    steps_left: float | None = None
    steps_per_second: float = 0.0


@dataclass(frozen=True)
class ExtractionGoal:
    """Stage one: a cache, whose receipts count.

    Attributes:
        total: shards in all.
        cache: path or URL of the cache, absolute.
    """

    stage: ClassVar[str] = "extract-teacher"
    unit: ClassVar[str] = "shards"
    rate_unit: ClassVar[str] = "shards"
    lasting: ClassVar[bool] = True
    total: int
    cache: str

    def progress(self) -> GoalProgress:
        """Shards with a receipt.

        Raises:
            SpeechkdError: the cache is damaged or cannot be reached.
        """
        from pipeline.cache.identity import KINDS
        from pipeline.cache.store import TeacherCache

        try:
            cache = TeacherCache.open(self.cache, kinds=KINDS)
        except NotThere:  # the first array task creates it
            return GoalProgress([])
        return GoalProgress(list(cache.finished().values()))


@dataclass(frozen=True)
class FeaturesGoal(ExtractionGoal):
    """Frames of the clips: a cache, whose receipts count."""

    stage: ClassVar[str] = "extract-features"


@dataclass(frozen=True)
class TextGoal(ExtractionGoal):
    """A text encoder's states of the transcripts: a cache, whose receipts count."""

    stage: ClassVar[str] = "extract-text"


class TrainingGoal(ABC):
    """Stage two: runs, whose records count."""

    stage: ClassVar[str]
    unit: ClassVar[str] = "runs"
    rate_unit: ClassVar[str] = "steps"
    lasting: ClassVar[bool] = True
    model: ClassVar[str]
    """Name of the folder that a run writes last, with its model."""

    @abstractmethod
    def folders(self) -> Sequence[str]:
        """Absolute paths of the run folders."""

    @property
    def total(self) -> int:
        """Runs in all."""
        return len(self.folders())

    def progress(self) -> GoalProgress:
        """Finished runs; a run not begun counts as many steps as the mean of the others."""
        times, steps_left, steps_per_second, totals, unknown = [], 0, 0.0, [], 0
        for folder in map(Path, self.folders()):
            path = folder / "run.json"
            record = _json(path)
            total = record.get("plan", {}).get("total_steps", 0)
            if record.get("status") in ("finished", "stopped") and (folder / self.model).is_dir():
                times.append(path.stat().st_mtime)
            elif total:
                step, pace = _pace(folder / "metrics.jsonl")
                steps_left += max(0, total - step)
                steps_per_second += pace
            else:
                unknown += 1
            totals += [total] if total else []
        mean_steps = sum(totals) / len(totals) if totals else 0.0
        return GoalProgress(times, steps_left + unknown * mean_steps, steps_per_second)


@dataclass(frozen=True)
class DistillationGoal(TrainingGoal):
    """Students.

    Attributes:
        students: absolute paths of the run folders.
    """

    stage: ClassVar[str] = "distill"
    unit: ClassVar[str] = "students"
    model: ClassVar[str] = "student"
    students: Sequence[str]

    def folders(self) -> Sequence[str]:
        """Absolute paths of the run folders."""
        return self.students


@dataclass(frozen=True)
class MaskedAudioGoal(TrainingGoal):
    """Speech modules that learn from frames alone; the other methods differ in names.

    Attributes:
        runs: absolute paths of the run folders.
    """

    stage: ClassVar[str] = "pretrain-masked-audio"
    model: ClassVar[str] = "speech"
    runs: Sequence[str]

    def folders(self) -> Sequence[str]:
        """Absolute paths of the run folders."""
        return self.runs


@dataclass(frozen=True)
class SplatGoal(MaskedAudioGoal):
    """Speech modules that are aligned to a text encoder."""

    stage: ClassVar[str] = "pretrain-splat"


@dataclass(frozen=True)
class CtalGoal(MaskedAudioGoal):
    """Encoders of text, and of audio that looks at it."""

    stage: ClassVar[str] = "pretrain-ctal"
    model: ClassVar[str] = "model"


@dataclass(frozen=True)
class WhisbertGoal(MaskedAudioGoal):
    """Encoders of text, audio and both."""

    stage: ClassVar[str] = "pretrain-whisbert"
    model: ClassVar[str] = "student"


@dataclass(frozen=True)
class FinetuningGoal:
    """Fine-tuning: a results folder, whose cells count.

    Attributes:
        total: cells in all.
        results: absolute path of the results folder.
        labels: names of the encoders whose cells count.
        tasks: tasks whose cells count; every task if empty.
        seeds: seeds whose cells count.
    """

    stage: ClassVar[str] = "finetune"
    unit: ClassVar[str] = "cells"
    rate_unit: ClassVar[str] = "cells"
    lasting: ClassVar[bool] = True
    total: int
    results: str
    labels: Sequence[str]
    tasks: Sequence[str]
    seeds: Sequence[int]

    def progress(self) -> GoalProgress:
        """Cells of these encoders, tasks and seeds."""
        times = []
        for file in (Path(self.results) / "cells").glob("*.json"):
            record = _json(file)
            if (
                record.get("checkpoint", {}).get("label") in self.labels
                and record.get("seed") in self.seeds
                and (not self.tasks or record.get("task") in self.tasks)
            ):
                times.append(file.stat().st_mtime)
        return GoalProgress(times)


@dataclass(frozen=True)
class ReportGoal:
    """The report.

    Attributes:
        report: absolute path of its folder.
    """

    stage: ClassVar[str] = "report"
    unit: ClassVar[str] = "report"
    rate_unit: ClassVar[str] = "report"
    lasting: ClassVar[bool] = False  # an older report may lack later results
    total: ClassVar[int] = 1
    report: str

    def progress(self) -> GoalProgress:
        """One if there is a report."""
        path = Path(self.report) / "report.md"
        return GoalProgress([path.stat().st_mtime] if path.is_file() else [])


Goal: TypeAlias = ExtractionGoal | TrainingGoal | FinetuningGoal | ReportGoal
GOALS: dict[str, type[Goal]] = {
    goal.stage: goal
    for goal in (
        *(ExtractionGoal, FeaturesGoal, TextGoal),
        *(MaskedAudioGoal, SplatGoal, CtalGoal, WhisbertGoal),
        *(DistillationGoal, FinetuningGoal, ReportGoal),
    )
}
"""The kind of goal of each stage, in the order in which stages run."""


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _pace(path: Path) -> tuple[int, float]:
    """Last logged step of a run, and steps per second over the last logged lines."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return 0, 0.0
    logged = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            logged.append((int(entry["step"]), float(entry["seconds"])))
        except (ValueError, KeyError, TypeError):
            continue  # a torn first or last line, or a line of validation
    if not logged:
        return 0, 0.0
    steps, seconds = logged[-1][0] - logged[0][0], logged[-1][1] - logged[0][1]
    return logged[-1][0], steps / seconds if seconds > 0 else 0.0
