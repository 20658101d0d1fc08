"""SPLAT on real speech: every run of docs/splat.md's "Real speech", as commands.

    python -m bench.splat_speech plan --data SHARED --teacher MINILM --out DIR    # commands, times
    python -m bench.splat_speech run --data SHARED --teacher MINILM --out DIR     # one by one
    python -m bench.splat_speech table --out DIR    # figures of fine-tuning, mean over seeds

The speech module learns from all speech with text but that of the speakers that it is judged by. It
is judged by two questions of keywords, put to voices and sentences that it never heard: which of
five names a caller says, and whether a read sentence holds a number word. What a cell is, and how
cells are carried out: `bench/cells.py`.
"""

import argparse
import csv
import json
import math
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.cells import Cell, add_arguments, plan_or_run, speechkd
from bench.natural_tests import Comparison
from pipeline.foundation.tables import read_rows

CORPORA = (
    "ur_quan_masters", "flight_of_the_amazon_queen", "beneath_a_steel_sky", "wuw2",
    "speechocean762", "librispeech_test_other",
)  # fmt: skip
NAMES = ("operator", "think engine", "onword", "wildfire", "voyager")
NUMBERS = frozenset((
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred",
    "thousand", "million",
))  # fmt: skip
TASKS = ("keyword", "number")
SHARES = (1, 5, 10, 50, 100)
"""Per cent of the training rows, those of the paper's Figure 3; each set holds the smaller ones."""
SEEDS = (0, 1, 2)
CALLS = {"test": 0.3, "valid": 0.1}
"""Shares of callers; the others train."""
OF_A_READER = 10
"""Clips of each reader that trains or validates; of those who test all are taken."""
SHAPE = ["--layers", "2", "--width", "128", "--heads", "4", "--stack", "8", "--dropout", "0"]
TRAINED = ["--batch-size", "32", "--held-out", "0.05", "--learning-rate", "1e-3", "--device", "cpu",
           "--log-every", "50", "--measure-every", "500"]  # fmt: skip
SPEECH_EPOCHS, ALIGN_EPOCHS, TEXT_EPOCHS = 6, 5, 2
ALIGNED = {
    "Seq": ("texts", "real"),
    "Seq-MLM": ("texts-mlm", "real"),
    "Seq-relabelled": ("texts", "relabelled"),
}
GAINS = (("Seq", "Seq-relabelled"), ("Seq", "Speech"), ("Seq-MLM", "Speech"), ("Speech", "Scratch"))
FRAMES_PER_S = 100_000
"""Of a core, for masked audio with this shape; measured, and no claim of speed."""
FRAMES = 5_900_000
"""Of the speech that trains."""


def cells(data: Path, out: Path, teacher: str) -> list[Cell]:
    """All cells, in an order in which each stands behind what it needs."""
    tables = ("bench.splat_speech", "tables", "--data", str(data), "--out", str(out))
    every = [Cell("tables", tables, core_s=10)]
    for part in ("train", "judged"):
        every.append(
            speechkd(f"shard/{part}",
                     ["shard", f"{out}/{part}.csv", "--out", f"{out}/{part}-shards",
                      "--key-column", "key", "--speaker-column", "speaker",
                      "--recording-column", "recording", "--max-refused", "0.2"],
                     ["tables"], 60)
        )  # fmt: skip
        every.append(
            speechkd(f"frames/{part}",
                     ["extract-features", f"{out}/{part}-shards/manifest.jsonl",
                      "--features", "whisper-mel", "--cache", f"{out}/{part}-mel"],
                     [f"shard/{part}"], 60)
        )  # fmt: skip
    every.append(text(out, "texts", teacher, "frames/train"))
    every.append(
        speechkd("text-encoder",
                 ["distill", f"{out}/train-mel", "--kd", "none", "--init", teacher,
                  "--epochs", str(TEXT_EPOCHS), "--learning-rate", "5e-5", "--batch-size", "64",
                  "--device", "cpu", "--out", f"{out}/lm"],
                 ["frames/train"], 600)
    )  # fmt: skip
    every.append(text(out, "texts-mlm", f"{out}/lm/student", "text-encoder"))
    for seed in SEEDS:
        every += runs(out, seed)
    return every


def text(out: Path, name: str, teacher: str, needs: str) -> Cell:
    """What a text encoder says of the transcripts."""
    words = ["extract-text", f"{out}/train-mel", "--teacher", teacher, "--out", f"{out}/{name}"]
    return speechkd(name, words, ["frames/train", needs], 120)


def runs(out: Path, seed: int) -> Iterator[Cell]:
    """The modules of a seed, and the questions that are put to them."""
    speech, core_s = f"{out}/runs/Speech-{seed}", SPEECH_EPOCHS * FRAMES / FRAMES_PER_S
    same = [*TRAINED, "--seed", str(seed)]
    yield speechkd(
        f"run/Speech-{seed}",
        ["pretrain", "masked-audio", f"{out}/train-mel", "--out", speech,
         "--epochs", str(SPEECH_EPOCHS), *SHAPE, *same],
        ["frames/train"], core_s,
    )  # fmt: skip
    checkpoints = {"Scratch": f"fresh:{speech}", "Speech": speech}
    for name, (texts, control) in ALIGNED.items():
        checkpoints[name] = f"{out}/runs/{name}-{seed}"
        yield speechkd(
            f"run/{name}-{seed}",
            ["pretrain", "splat", f"{out}/train-mel", "--text", f"{out}/{texts}", "--init", speech,
             "--align", "seq", "--text-vector", "mean", "--control", control,
             "--out", checkpoints[name], "--epochs", str(ALIGN_EPOCHS), *same],
            [f"run/Speech-{seed}", texts], 0.8 * core_s,
        )  # fmt: skip
    for task in TASKS:
        for share in SHARES:
            yield speechkd(
                f"judge/{task}-{share}-{seed}",
                ["finetune", "audio", f"{out}/{task}-{share}.csv", "--cache", f"{out}/judged-mel",
                 "--label-column", task, "--split-column", "split", "--group-column", "speaker",
                 "--text-column", "text", "--class-weights", "balanced", "--device", "cpu",
                 *(w for name, run in checkpoints.items()
                   for w in ("--checkpoint", f"{name}-{seed}={run}")),
                 "--out", f"{out}/results/{task}-{share}"],
                [f"run/{name}-{seed}" for name in checkpoints if name != "Scratch"]
                + ["frames/judged"],
                20 + 5 * share,
            )  # fmt: skip


def make_tables(data: Path, out: Path) -> None:
    """Clips to learn from, clips to be asked about, and labels with a split by speaker."""
    out.mkdir(parents=True, exist_ok=True)
    train: list[dict[str, str]] = []
    clips: list[dict[str, str]] = []
    for corpus in CORPORA:
        _, lines = read_rows(data / corpus / "manifest.tsv")
        rows = [row for _, row in lines if row["text"].strip()]
        split_of = callers(rows) if corpus == "wuw2" else {}
        for row in rows:
            who = f"{corpus}/{row['speaker']}" if row["speaker"] else ""
            split = split_of.get(row["speaker"]) or row.get("split", "train")
            key = f"{corpus}/{row['utt_id']}"
            clip = {"path": str((data / corpus / row["path"]).resolve()), "text": row["text"],
                    "speaker": who, "recording": who if corpus == "wuw2" else key, "key": key,
                    "split": split}  # fmt: skip
            if split != "test":
                train.append(clip)
            if corpus in ("wuw2", "speechocean762"):
                clips.append(clip)
    write(out / "train.csv", train)
    write(out / "judged.csv", clips)
    for task in TASKS:
        answers = [*labelled(clips, task)]
        for share in SHARES:
            write(out / f"{task}-{share}.csv", list(some(answers, task, share)))


def callers(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The split of each caller, drawn once."""
    who = sorted({row["speaker"] for row in rows})
    random.Random("callers").shuffle(who)
    test = math.ceil(CALLS["test"] * len(who))
    valid = test + math.ceil(CALLS["valid"] * len(who))
    splits = {"test": who[:test], "valid": who[test:valid], "train": who[valid:]}
    return {name: split for split, names in splits.items() for name in names}


def labelled(judged: Sequence[dict[str, str]], task: str) -> Iterator[dict[str, str]]:
    """The rows of a task, each with its label."""
    of_reader: dict[str, int] = defaultdict(int)
    readers = sorted({r["speaker"] for r in judged if r["key"].startswith("speechocean762/")})
    valid = set(readers[::6])
    for clip in judged:
        row = {name: clip[name] for name in ("text", "speaker", "split")} | {"id": clip["key"]}
        spoken = clip["text"].lower()
        if task == "keyword" and clip["key"].startswith("wuw2/"):
            names = [name for name in NAMES if name in spoken]
            if len(names) == 1:
                yield row | {task: names[0]}
        elif task == "number" and clip["key"].startswith("speechocean762/"):
            of_reader[clip["speaker"]] += 1
            if clip["split"] == "test" or of_reader[clip["speaker"]] <= OF_A_READER:
                if clip["split"] != "test" and clip["speaker"] in valid:
                    row["split"] = "valid"
                yield row | {task: "yes" if NUMBERS & set(spoken.split()) else "no"}


def some(rows: Sequence[dict[str, str]], task: str, share: int) -> Iterator[dict[str, str]]:
    """A share of the training rows of each label, at least one, and all rows of other splits."""
    by_label = defaultdict(list)
    for row in rows:
        if row["split"] == "train":
            by_label[row[task]].append(row)
        else:
            yield row
    for label, those in sorted(by_label.items()):
        random.Random(f"{task} {label}").shuffle(those)
        yield from those[: math.ceil(share * len(those) / 100)]


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows as a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def table(out: Path) -> str:
    """The test's balanced accuracy in %, per share of the training rows, and gains.

    It is a module's mean over fine-tuning seeds, then the mean and σ over modules. Runs with equal
    weights, as fresh ones had, are one module. A gain is over modules of the same seed, with
    Student's 95 % interval.
    """
    lines = []
    for task in TASKS:
        figures = [modules(out / "results" / f"{task}-{share}" / "results.jsonl")
                   for share in SHARES]  # fmt: skip
        head = [" | ".join(f"{share} %" for share in SHARES) + " |", "|---|" + "--:|" * len(SHARES)]
        lines += [f"| {task} | {head[0]}", head[1]]
        for name in dict.fromkeys(name for of in figures for name in list(of)):
            by_weights = [dict(of[name].values()) for of in figures]
            row = [mean_and_spread([*means.values()]) for means in by_weights]
            lines.append(f"| {name} | {' | '.join(row)} |")
        lines += ["", f"| {task}, gain | {head[0]}", head[1]]
        for name, other in GAINS:
            row = [gain(of[name], of[other]) for of in figures]
            lines.append(f"| {name} over {other} | {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def modules(results: Path) -> dict[str, dict[str, tuple[str, float]]]:
    """By kind of module and its seed, its weights' digest and the mean of a task's cells in %."""
    cells_of: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in results.read_text().splitlines() if results.exists() else ():
        cell = json.loads(row)
        name, _, seed = cell["checkpoint"]["label"].rpartition("-")
        weights = cell["checkpoint"]["weights_sha256"]
        cells_of[name, seed, weights].append(100 * cell["metrics"]["balanced_accuracy"])
    means: dict[str, dict[str, tuple[str, float]]] = defaultdict(dict)
    for (name, seed, weights), values in cells_of.items():
        means[name][seed] = weights, statistics.mean(values)
    return means


def gain(ours: Mapping[str, tuple[str, float]], others: Mapping[str, tuple[str, float]]) -> str:
    """`+14.0 (5.1 to 22.9)`: the mean gain of paired seeds, and Student's interval if it varies."""
    seeds = sorted(ours.keys() & others.keys())
    gains = [ours[seed][1] - others[seed][1] for seed in seeds]
    if not gains:
        return "–"
    pairs = Comparison("", "", "", tuple(gains))
    low, high = pairs.mean - pairs.half_width, pairs.mean + pairs.half_width
    return f"{pairs.mean:+.1f}" + (f" ({low:.1f} to {high:.1f})" if pairs.varies else "")


def mean_and_spread(values: Sequence[float]) -> str:
    """`54.6 ± 4.4`, the mean alone of one, or a dash of none."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}" if values else "–"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["plan", "run", "table", "tables"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--teacher", default="sentence-transformers/all-MiniLM-L6-v2")
    add_arguments(parser)
    options = parser.parse_args()
    if options.what == "tables":
        make_tables(options.data, options.out)
        return 0
    if options.what == "table":
        print(table(options.out))
        return 0
    return plan_or_run(options, cells(options.data, options.out, options.teacher))


if __name__ == "__main__":
    sys.exit(main())
