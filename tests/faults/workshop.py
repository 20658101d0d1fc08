"""Every stage on a corpus that takes it a second, and what must come out of it bit for bit.

The stages form a chain; each has a reference output, made by a run that nothing disturbed. Any
run of the stage into another folder must end with the same content. What may differ is named in
`KEPT` and `UNTIMED`: times, speeds, where and when a run took place, TensorBoard's event files.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.made_up import WORDS
from tests.pipeline.mosei.made import write_mmsa
from tests.whispers import save_random_whisper, speechlike

CLIPS = 20
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


@dataclass
class Workshop:
    """The stages, with their inputs, in one folder."""

    folder: Path
    stages: dict[str, Stage] = field(default_factory=dict)
    contents: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def check(self, stage: Stage, out: Path) -> list[str]:
        """Files of `out` that differ from the reference, are missing, or should not be there."""
        expected, found = self.contents[stage.name], content(out)
        return [
            f"{name}: " + ("missing" if name not in found else "differs" if name in expected
                           else "foreign")
            for name in sorted({*expected, *found})
            if expected.get(name) != found.get(name)
        ]  # fmt: skip


def build(folder: Path, run: Callable[[list[str]], None]) -> Workshop:
    """Make the inputs and, by `run` of each command's words, the references."""
    _recordings(folder / "recordings")
    save_random_whisper(folder / "teacher", layers=1, heads=1)
    student = {
        "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32,
    }  # fmt: skip
    (folder / "student.json").write_text(json.dumps(student))
    write_mmsa(folder / "label.csv", 45)
    shop = Workshop(folder)
    made = {name: folder / name for name in ("shards", "cache", "merged", "exported", "run",
                                             "results", "report")}  # fmt: skip
    extraction = (
        "extract-teacher", str(made["shards"] / "manifest.jsonl"), "--teacher",
        str(folder / "teacher"), "--context=15s", "--batch-size=2", "--devices=cpu",
        "--max-refused=0.2",
    )  # fmt: skip
    training = (
        "--student", str(folder / "student.json"), "--kd=crd", "--epochs=3", "--batch=4",
        "--vocab-size=200", "--held-out=0.1", "--log-every=1", "--measure-every=2",
        "--checkpoint-steps=3", "--checkpoint-minutes=0", "--device=cpu", "--learning-rate=1e-3",
        "--max-tokens=32",
    )  # fmt: skip
    finetuning = (
        "finetune", "mosei", "--data", str(folder / "label.csv"), "--checkpoint",
        str(made["run"]), "--task=sentiment3,sentiment", "--seeds=0-1", "--epochs=1",
        "--device=cpu",
    )  # fmt: skip
    halves = [folder / f"half-{i}" for i in range(2)]
    table = str(folder / "recordings" / "table.tsv")
    for stage in (
        Stage(
            "shard", ("shard", table, "--samples-per-shard=3", "--max-refused=0.2"), "--out",
            made["shards"], (("--jobs=1",), ("--jobs=2",)),
        ),
        Stage(
            "extract-teacher", extraction, "--cache", made["cache"],
            (("--workers=0",), ("--workers=1",)),
        ),
        Stage("cache merge", ("cache", "merge", *map(str, halves)), "--out", made["merged"]),
        Stage("cache export", ("cache", "export", str(made["cache"])), "--out", made["exported"]),
        Stage("distill", ("distill", str(made["cache"]), *training), "--out", made["run"]),
        Stage("finetune", finetuning, "--out", made["results"]),
        Stage("report", ("report", str(made["results"])), "--out", made["report"]),
    ):  # fmt: skip
        if stage.name == "cache merge":
            for i, half in enumerate(halves):
                run([*extraction, "--cache", str(half), f"--array-task={i}/2", "--workers=0"])
        run(stage.command(stage.reference))
        shop.stages[stage.name] = stage
        shop.contents[stage.name] = content(stage.reference)
    return shop


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
        os.utime(path, (path.stat().st_mtime - 86_400,) * 2)


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
