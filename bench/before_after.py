"""The rates of the other benchmarks in two checkouts, in turns, and the ratio after / before.

    python bench/before_after.py ../speechkd-before            # this checkout against that one
    python bench/before_after.py ../speechkd-before --rounds 5 --only distill finetune

Each round runs a benchmark in one checkout and then in the other, so that other load on the
machine meets both alike; the best round of each counts. A rate per second of processor time is
shown beside the rate by the clock, because on a shared machine it is the steadier of the two.
Both checkouts run in this Python environment.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
WORDS = ("we", "heard", "the", "rain", "last", "night", "and", "nobody", "slept", "well")
Rates = dict[str, float]


def run(checkout: Path, *words: str) -> tuple[str, float, float]:
    """Standard output of a Python command in a checkout, its seconds and its processor seconds."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "COLUMNS": "100"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=checkout, env=environment, capture_output=True, text=True
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{checkout}: {' '.join(words)}\n{done.stderr}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, seconds, processor


def extraction(checkout: Path, folder: Path) -> Rates:
    out = folder / "extract.json"
    ways = ("extract-teacher", "extract-teacher --encoder dummy")
    run(
        *(checkout, "bench/extract.py", "--clips", "48", "--rounds", "1"),
        *("--only", ",".join(ways), "--out", str(out)),
    )
    rows = json.loads(out.read_text())["ways"]
    clips = {name: row["windows_per_s"] * row["wall_s"] for name, row in rows.items()}
    return {
        **{f"{name}, clips/s": row["windows_per_s"] for name, row in rows.items()},
        **{f"{name}, clips/cpu-s": clips[name] / row["cpu_s"] for name, row in rows.items()},
    }


def distillation(checkout: Path, folder: Path) -> Rates:
    out = folder / "distill.json"
    run(
        *(checkout, "bench/distill.py", "--student", "bert-mini", "--steps", "8", "--rounds", "1"),
        *("--teacher-width", "384", "--out", str(out), "--ways", "none", "nst", "crd"),
    )
    result = json.loads(out.read_text())
    return {
        **{f"distill {name}, tokens/s": v for name, v in result["tokens_per_s"].items()},
        **{
            f"distill {name}, tokens/cpu-s": v
            for name, v in result["tokens_per_processor_s"].items()
        },
    }


def finetuning(checkout: Path, folder: Path) -> Rates:
    encoder, data = folder / "encoder", folder / "labels.csv"
    words = ("--clips", "512", "--rounds", "1")
    text, _, _ = run(checkout, "bench/finetune.py", str(encoder), str(data), *words)
    rates = re.findall(r"^  (speechkd, packed) +([\d.]+) clips/s", text, flags=re.M)
    return {f"finetune, {name}, clips/s": float(rate) for name, rate in rates}


def help_text(checkout: Path, _: Path) -> Rates:
    seconds, processor = run(checkout, "-m", "stages.cli", "--help")[1:]
    return {"--help, per s": 1 / seconds, "--help, per cpu-s": 1 / processor}


BENCHMARKS: dict[str, Callable[[Path, Path], Rates]] = {
    "extract": extraction,
    "distill": distillation,
    "finetune": finetuning,
    "help": help_text,
}


def make_inputs(folder: Path) -> None:
    """A small random encoder and a label file as MMSA has it, for the benchmark of fine-tuning."""
    sys.path.insert(0, str(HERE))
    from tests.helpers.encoders import save_encoder

    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(4, 40))) for _ in range(600)]
    save_encoder(folder / "encoder", texts, width=128, positions=128)
    lines = ["video_id,clip_id,text,label,annotation,mode"]
    for number, text in enumerate(texts):
        split = "train" if number < 560 else "valid" if number < 580 else "test"
        lines.append(f"{split}-{number},0,{text},{float(rng.integers(-3, 4))},,{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    sides = {"before": options.before.resolve(), "after": HERE}
    best: dict[str, dict[str, float]] = {"before": {}, "after": {}}
    with tempfile.TemporaryDirectory() as name:
        make_inputs(Path(name))
        for number in range(options.rounds):
            order = list(sides) if number % 2 == 0 else list(sides)[::-1]
            for benchmark in options.only:
                for side in order:
                    for what, rate in BENCHMARKS[benchmark](sides[side], Path(name)).items():
                        best[side][what] = max(rate, best[side].get(what, 0.0))
                print(f"round {number + 1} of {options.rounds}: {benchmark}", file=sys.stderr)
    print("| rate | before | after | after / before |\n|---|--:|--:|--:|")
    for what, before in best["before"].items():
        after = best["after"][what]
        print(f"| {what} | {before:,.2f} | {after:,.2f} | {after / before:.3f} |")
    if options.out:
        options.out.write_text(json.dumps(best, indent=1) + "\n")


if __name__ == "__main__":
    main()
