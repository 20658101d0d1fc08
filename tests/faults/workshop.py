"""Every stage on a corpus that takes it a second, and what must come out of it bit for bit.

The stages form a chain; each has a reference output, made by a run that nothing disturbed. Any
run of the stage into another folder must end with the same content. What may differ is named in
`NOT_COMPARED` and `UNTIMED`: times, speeds, where and when a run took place, TensorBoard's files.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.helpers.caches import WORDS
from tests.helpers.mosei import write_mmsa
from tests.helpers.whispers import save_random_whisper, speechlike

STAGES = (
    "shard", "extract-teacher", "cache merge", "cache export", "distill", "finetune", "report",
)  # fmt: skip
MOSTLY_SLOW = [
    *STAGES[:2],
    *(pytest.param(name, marks=pytest.mark.slow) for name in STAGES[2:]),
]
"""The stages as parameters of a test: the first two in the fast suite, all in the slow one."""
CLIPS = 20
STUDENT = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32,
}  # fmt: skip
TRAINING = (
    "--kd=crd", "--epochs=3", "--batch-size=4", "--vocab-size=200", "--held-out=0.1",
    "--log-every=1", "--measure-every=2", "--checkpoint-steps=3", "--checkpoint-minutes=0",
    "--device=cpu", "--learning-rate=1e-3", "--max-tokens=32",
)  # fmt: skip
FINETUNING = ("--task=sentiment3,sentiment", "--seeds=0-1", "--epochs=1", "--device=cpu")
ALTERNATIVES = {
    "shard": (("--workers=0",), ("--workers=2",)),
    "extract-teacher": (("--workers=0",), ("--workers=1",)),
}
UNTIMED = {"seconds", "tokens_per_s", "provenance", "sittings", "created_by"}
"""Keys of records that tell when, where and how fast."""
NOT_COMPARED = ("tensorboard/", ".lock")
"""TensorBoard's events carry times; the lock of a results folder stays, empty."""


@dataclass(frozen=True)
class Stage:
    """A command of the chain.

    Attributes:
        name: for tables.
        words: its command line, but for the output.
        option: by which the output is named.
        reference: its output when nothing disturbs it.
        alternatives: further words that must not change the result.
    """

    name: str
    words: tuple[str, ...]
    option: str
    reference: Path
    alternatives: tuple[tuple[str, ...], ...] = ((),)

    def command(self, out: Path, choice: int = 0) -> list[str]:
        """The words behind `speechkd`."""
        return [*self.words, self.option, str(out), *self.alternatives[choice]]


class Workshop:
    """The stages, with their inputs, in one folder.

    Args:
        folder: which is made.
        run: runs a command to its good end, given its words.
    """

    def __init__(self, folder: Path, run: Callable[[list[str]], None]) -> None:
        self.folder, self._run = folder, run
        self._contents: dict[str, dict[str, bytes]] = {}
        _recordings(folder / "recordings")
        save_random_whisper(folder / "teacher", layers=1, heads=1)
        (folder / "student.json").write_text(json.dumps(STUDENT))
        write_mmsa(folder / "label.csv", 45)
        self._halves = [str(folder / f"half-{i}") for i in range(2)]
        self._extraction = (
            "extract-teacher", str(folder / "shard" / "manifest.jsonl"), "--teacher",
            str(folder / "teacher"), "--context=15s", "--batch-size=2", "--devices=cpu",
            "--max-refused=0.2",
        )  # fmt: skip
        cache, run_folder, results = (
            str(folder / name) for name in ("extract-teacher", "distill", "finetune")
        )
        made = (
            ("shard", ("shard", str(folder / "recordings" / "table.tsv"),
                       "--samples-per-shard=3", "--max-refused=0.2"), "--out"),
            ("extract-teacher", self._extraction, "--cache"),
            ("cache merge", ("cache", "merge", *self._halves), "--out"),
            ("cache export", ("cache", "export", cache), "--out"),
            ("distill", ("distill", cache, "--student", str(folder / "student.json"),
                         *TRAINING), "--out"),
            ("finetune", ("finetune", "mosei", "--data", str(folder / "label.csv"),
                          "--checkpoint", run_folder, *FINETUNING), "--out"),
            ("report", ("report", results), "--out"),
        )  # fmt: skip
        self.stages = {
            name: Stage(
                name,
                words,
                option,
                folder / name.replace(" ", "-"),
                ALTERNATIVES.get(name, ((),)),
            )
            for name, words, option in made
        }

    def need(self, name: str) -> Stage:
        """A stage, once the references of it and of those before it are there."""
        for stage in self.stages.values():
            if stage.name not in self._contents:
                if stage.name == "cache merge":
                    for i, half in enumerate(self._halves):
                        self._run([*self._extraction, "--cache", half, f"--array-task={i}/2"])
                self._run(stage.command(stage.reference))
                self._contents[stage.name] = content(stage.reference)
            if stage.name == name:
                return stage
        raise KeyError(name)

    def check(self, stage: Stage, out: Path) -> list[str]:
        """Files of `out` that differ from the reference, are missing, or should not be there."""
        expected, found = self._contents[stage.name], content(out)
        told = {True: "missing", False: "differs"}
        return [
            f"{name}: {'foreign' if name not in expected else told[name not in found]}"
            for name in sorted({*expected, *found})
            if expected.get(name) != found.get(name)
        ]


def content(out: Path) -> dict[str, bytes]:
    """A digest of each file of an output, without what tells when, where and how fast."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and not name.startswith(NOT_COMPARED) and not is_leftover(path):
            found[name] = hashlib.sha256(_essence(path, out)).digest()
    return found


def is_leftover(path: Path) -> bool:
    """Whether a name is that of a file or folder that was being written."""
    return path.name.endswith(".partial")


def leftovers(out: Path) -> list[Path]:
    """What half-written files there are in an output and beside it."""
    beside = [path for path in out.parent.iterdir() if path.name.startswith(f".{out.name}.")]
    return sorted([*(path for path in out.rglob("*") if is_leftover(path)), *beside])


def make_old(paths: list[Path]) -> None:
    """Set times back by a day: what was half-written may be taken for abandoned."""
    for path in paths:
        for part in (path, *path.rglob("*")):
            os.utime(part, (part.stat().st_mtime - 86_400,) * 2)


def _essence(path: Path, out: Path) -> bytes:
    raw = path.read_bytes()
    if path.name == "optimizer.pt":
        return _tensors(raw)
    if path.name == "model.safetensors":  # its header has no fixed order
        size = int.from_bytes(raw[:8], "little")
        return json.dumps(json.loads(raw[8 : 8 + size]), sort_keys=True).encode() + raw[8 + size :]
    if path.name not in ("run.json", "results.json", "progress.json", "metrics.jsonl",
                         "results.jsonl", "README.md") and path.parent.name != "cells":  # fmt: skip
        return raw
    text = raw.decode().replace(str(out), "OUT")
    if path.suffix == ".md":
        told = (" tokens, ", "- commit ")
        return "\n".join(line for line in text.splitlines() if not _tells(line, told)).encode()
    records = [
        json.loads(part) for part in (text.splitlines() if path.suffix == ".jsonl" else [text])
    ]
    return json.dumps([_untimed(record) for record in records], sort_keys=True).encode()


def _tells(line: str, told: tuple[str, str]) -> bool:
    """Whether a line of a model card holds the time a run took, or the commit it was made at."""
    return line.startswith(told[1]) or (" steps (" in line and told[0] in line)


def _untimed(record: Any) -> Any:
    if isinstance(record, dict):
        return {key: _untimed(value) for key, value in record.items() if key not in UNTIMED}
    if isinstance(record, list):
        return [_untimed(value) for value in record]
    return record


def _tensors(raw: bytes) -> bytes:
    """The state of an optimiser, free of how its pickle shares objects."""
    import torch

    state = torch.load(io.BytesIO(raw), weights_only=True)

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return [str(value.dtype), list(value.shape), value.numpy().tobytes().hex()]
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return json.dumps(plain(state), sort_keys=True).encode()


def _recordings(folder: Path) -> None:
    """Recordings of 0.1 to 0.3 s and their table; one cannot be decoded."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["path\ttext\tspeaker\trecording"]
    for i in range(CLIPS):
        name = f"clip-{i:02d}.wav"
        soundfile.write(folder / name, speechlike(1_600 + 160 * i, i), 16_000)
        lines.append(f"{name}\t{' '.join(rng.choice(WORDS, 5))}\ts{i % 3}\trecording-{i // 3}")
    (folder / "clip-07.wav").write_bytes(b"no sound")
    (folder / "table.tsv").write_text("\n".join(lines) + "\n")
