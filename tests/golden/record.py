"""Record what the commands give on a small made-up corpus, so that a change can be held to it.

    python -m tests.golden.record new.json                        # run the commands, write a record
    python -m tests.golden.record --compare old.json new.json     # bit for bit
    python -m tests.golden.record --compare old.json new.json --near    # up to rounding

Everything goes through the command line, so a record survives any move of the code behind it. The
commands are forked from a process that has everything imported (`tests.helpers.warm`), for which
this needs Linux.
A record holds digests and exact numbers. Outside `environment` it names no path, no time and no
version.
"""

import argparse
import csv
import hashlib
import json
import platform
import re
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.helpers.warm import Running, Warm

CLIPS = 12
STEPS = 20
RATE_HZ = 16_000
WORDS = [
    *("we", "heard", "the", "rain", "last", "night", "and", "nobody", "slept", "well", "a", "dog"),
    *("sang", "under", "red", "lamps", "near", "old", "stone", "walls"),
]
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "zarr", "soundfile", "scikit-learn")
OBJECTIVES = {
    "none": ["--kd", "none"],
    "crd": ["--kd", "crd"],
    "crd-negatives": ["--kd", "crd", "--crd-negatives", "4", "--crd-symmetric"],
    "infonce": ["--kd", "infonce"],
    "l1": ["--kd", "l1"],
    "cosine": ["--kd", "cosine"],
    **{
        f"nst-{pattern}": ["--kd", "nst", "--nst-pattern", pattern]
        for pattern in ("vector", "batch", "token", "sequence")
    },
    "crd-cls-clean": ["--kd", "crd", "--kd-tokens", "cls", "--kd-pass", "clean"],
    "crd-mean-shuffled": ["--kd", "crd", "--kd-tokens", "mean", "--control", "shuffled"],
    "crd-and-nst": ["--kd", "crd,nst"],
}
BATCH_FLAG = "--batch-size"
CLOCK_FIELDS = {"seconds", "tokens_per_s", "mfu"}  # of metrics.jsonl
MACHINE_FIELDS = {"versions", "manifest_location"}  # of a cache's JSON files
FLOAT_DIGESTS = {"sha256", "everything logged"}  # they change with the last bit of any float
FLOAT_PARTS = ("cache", "students", "predictions", "report")  # digests, or numbers within text
NEAR = 1e-3  # largest relative difference of floats that two processors may show


def environment() -> dict[str, str]:
    """What the last bit of a float depends on."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", text, re.MULTILINE)
    vector_flags = re.findall(r"\b(?:avx|amx|fma)\w*", flags[1]) if flags else []
    return {
        "machine": platform.machine(),
        "processor": name[1] if name else platform.processor(),
        "instructions": " ".join(sorted(vector_flags)),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        **{package: version(package) for package in PACKAGES},
    }


def record() -> dict[str, Any]:
    """Run the commands in a temporary folder and return what they gave."""
    with tempfile.TemporaryDirectory() as name, Warm(Path(name) / "logs") as warm:
        folder = Path(name)
        _make_recordings(folder / "recordings")
        _make_labels(folder / "labels.csv")
        _speechkd(
            warm, folder, "shard", "recordings", "--out", "shards", "--samples-per-shard", "5"
        )
        _speechkd(
            *(warm, folder, "extract-teacher", "shards/manifest.jsonl", "--cache", "cache"),
            *("--teacher", "offline:tiny.en", "--context", "15s"),
        )
        _speechkd(warm, folder, "cache", "verify", "cache")
        _speechkd(warm, folder, "cache", "export", "cache", "--out", "export")
        _distil(warm, folder, OBJECTIVES)
        _speechkd(
            *(warm, folder, "finetune", "mosei", "--data", "labels.csv", "--task", "sentiment2"),
            *("--task", "sentiment", "--checkpoint", "runs/none", "--checkpoint", "runs/crd"),
            *("--seeds", "0-1", "--epochs", "1", "--out", "results"),
        )
        _speechkd(warm, folder, "report", "results", "--out", "report")
        return {
            "environment": environment(),
            "shards": _digests(folder / "shards"),
            "samples": _lines(folder / "export" / "samples.jsonl"),
            "vectors": _vectors(folder / "export" / "embedding.npy"),
            "cache": _cache(folder / "cache"),
            "losses": {run: _losses(folder / "runs" / run / "metrics.jsonl") for run in OBJECTIVES},
            "students": {
                run: _digest((folder / "runs" / run / "student" / "model.safetensors").read_bytes())
                for run in OBJECTIVES
            },
            "predictions": _predictions(folder / "results"),
            "report": _report(folder / "report" / "report.md"),
        }


def _speechkd(warm: Warm, folder: Path, *words: str) -> None:
    _ended_well(warm, _started(warm, folder, *words), words)


def _started(warm: Warm, folder: Path, *words: str) -> Running:
    return warm.start(list(words), folder=str(folder), environment={"COLUMNS": "100"})


def _ended_well(warm: Warm, running: Running, words: Iterable[str]) -> None:
    if warm.wait(running) != 0:
        raise RuntimeError(f"speechkd {' '.join(words)}\n{running.said}")


def _distil(warm: Warm, folder: Path, runs: Iterable[str]) -> None:
    """Distil students, two at a time."""
    names = list(runs)
    for first in range(0, len(names), 2):
        at_work = []
        for run in names[first : first + 2]:
            words = (
                *("distill", "cache", "--out", f"runs/{run}", "--student", "bert-tiny"),
                *("--deterministic", BATCH_FLAG, "4", "--epochs", "7", "--max-steps", str(STEPS)),
                *("--log-every", "1", "--measure-every", "5", "--held-out", "0", *OBJECTIVES[run]),
            )
            at_work.append((_started(warm, folder, *words), words))
        for running, words in at_work:
            _ended_well(warm, running, words)


def _make_recordings(folder: Path) -> None:
    """Clips of 1.0 to 3.2 s, made of whole numbers only: a sine may differ between machines."""
    rng = np.random.default_rng(14)
    folder.mkdir()
    for number in range(CLIPS):
        samples = RATE_HZ + 3_200 * number
        period = 80 + 7 * number
        saw = (np.arange(samples) % period) * 8_000 // period - 4_000
        loud = (np.arange(samples) // 4_000 % 3)[: len(saw)]
        noise = rng.integers(-200, 201, samples)
        wave = (saw * loud // 2 + noise).astype(np.int16)
        soundfile.write(folder / f"take-{number:02d}.wav", wave, RATE_HZ, subtype="PCM_16")
        text = " ".join(rng.choice(WORDS, 6 + number % 5))
        (folder / f"take-{number:02d}.txt").write_text(text, encoding="utf-8")


def _make_labels(path: Path) -> None:
    """A label.csv as MMSA has it, 20 clips in each split."""
    rng = np.random.default_rng(15)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video_id", "clip_id", "text", "label", "annotation", "mode"])
        for split in ("train", "valid", "test"):
            for clip in range(20):
                label = float(rng.integers(-3, 4))
                text = " ".join(rng.choice(WORDS, 8))
                rows.writerow([f"{split}-video-{clip % 7}", clip, text, label, "", split])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    """Digest of each file that is not hidden, by its path in the folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    inner = {str(path.relative_to(folder)): path for path in paths}
    return {name: _digest(p.read_bytes()) for name, p in inner.items() if not name.startswith(".")}


def _cache(folder: Path) -> dict[str, str]:
    """Digest of each file of the cache; JSON files count without `MACHINE_FIELDS`."""
    digests = _digests(folder)
    for path in folder.rglob("*.json"):
        content = _without(json.loads(path.read_text(encoding="utf-8")), MACHINE_FIELDS)
        digests[str(path.relative_to(folder))] = _digest(
            json.dumps(content, sort_keys=True).encode()
        )
    return digests


def _without(content: Any, names: set[str]) -> Any:
    if isinstance(content, dict):
        return {key: _without(value, names) for key, value in content.items() if key not in names}
    if isinstance(content, list):
        return [_without(value, names) for value in content]
    return content


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _vectors(path: Path) -> dict[str, Any]:
    vectors_NE = np.load(path)
    return {
        "shape": list(vectors_NE.shape),
        "dtype": str(vectors_NE.dtype),
        "sha256": _digest(vectors_NE.tobytes()),
        "first values": [[float(value) for value in row[:4]] for row in vectors_NE],
    }


def _losses(path: Path) -> dict[str, Any]:
    """The loss of each step, exact as JSON's floats are, and a digest of all that was logged."""
    lines = [line for line in _lines(path) if "loss" in line]
    logged = [{k: v for k, v in line.items() if k not in CLOCK_FIELDS} for line in lines]
    return {
        "loss": [line["loss"] for line in logged],
        "everything logged": _digest(json.dumps(logged, sort_keys=True).encode()),
    }


def _predictions(results: Path) -> dict[str, Any]:
    """Rows of each cell's predictions, by encoder, task and seed."""
    cells = {}
    for record in _lines(results / "results.jsonl"):
        name = f"{record['checkpoint']['label']}, {record['task']}, seed {record['seed']}"
        with (results / record["predictions"]).open(encoding="utf-8", newline="") as file:
            cells[name] = [",".join(row) for row in csv.reader(file)]
    return dict(sorted(cells.items()))


def _report(path: Path) -> list[str]:
    """Its lines, without the time that a cell took, commit, libraries and machine."""
    text = re.sub(r"[\d.]+ s each", "… s each", path.read_text(encoding="utf-8"))
    here = r"^\| (commit|libraries|machine) \| .* \|$"
    return re.sub(here, r"| \1 | … |", text, flags=re.MULTILINE).splitlines()


def near_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Where two records of different machines or libraries differ by more than rounding.

    Floats are compared up to `NEAR`; what a single bit of a float changes is left out, and so are
    the tars where another version of soundfile encoded them.
    """
    environments = old["environment"], new["environment"]
    encoders = {environment["soundfile"] for environment in environments}
    left_out = {"environment", *FLOAT_PARTS, *(["shards"] if len(encoders) > 1 else [])}
    old, new = (
        {
            name: _without(part, FLOAT_DIGESTS)
            for name, part in record.items()
            if name not in left_out
        }
        for record in (old, new)
    )
    return differences(old, new, NEAR)


def differences(old: Any, new: Any, tolerance: float = 0.0, where: str = "") -> list[str]:
    """Where two records differ, a line per difference.

    Args:
        old: a record or a part of one.
        new: what it is compared with.
        tolerance: largest relative difference of two floats that counts as none.
        where: name of the part, for the lines.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        lines = [f"{where}/{name}: only in one" for name in sorted(set(old) ^ set(new))]
        for name in sorted(set(old) & set(new)):
            lines += differences(old[name], new[name], tolerance, f"{where}/{name}")
        return lines
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return [f"{where}: {len(old)} entries, then {len(new)}"]
        lines = []
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            lines += differences(one, other, tolerance, f"{where}[{number}]")
        return lines
    if tolerance and isinstance(old, float) and isinstance(new, float):
        near = abs(old - new) <= tolerance * max(abs(old), abs(new))
        return [] if near else [f"{where}: {old!r}, then {new!r}"]
    return [] if old == new else [f"{where}: {old!r}, then {new!r}"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"))
    parser.add_argument("--near", action="store_true", help="compare up to rounding")
    options = parser.parse_args()
    if options.compare:
        old, new = (json.loads(path.read_text(encoding="utf-8")) for path in options.compare)
        lines = near_differences(old, new) if options.near else differences(old, new)
        print("\n".join(lines) or "equal")
        sys.exit(bool(lines))
    if options.out is None:
        parser.error("name the file to write, or --compare two")
    text = json.dumps(record(), indent=1, ensure_ascii=False)
    options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
