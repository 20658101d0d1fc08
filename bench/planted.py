"""Does it distil? Students on spoken corpora whose invented words differ in affect by voice alone.

    python bench/planted.py corpora --out DIR
    python bench/planted.py students --out DIR       # may run several times at once
    python bench/planted_tables.py DIR

Each student goes through the commands' own code: wav → shard → extract-teacher (tiny.en) → distill
→ finetune table. A finished corpus or student is never made again, so the same command carries on.
docs/does-it-distil.md tells the experiment and its figures.
"""

import argparse
import csv
import fcntl
import itertools
import json
import math
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from pipeline.atomic import write_json
from pipeline.cache import TeacherCache
from pipeline.finetuning import tokenize, vectors
from pipeline.linear_probe import probe
from pipeline.planted import CARRIERS, plant
from pipeline.planted_folder import SPLITS, write_corpus
from pipeline.pretrained import load_pretrained
from pipeline.progress import say
from pipeline.provenance import git_commit
from pipeline.settings import digest
from pipeline.speech_synthesis import VOICES
from stages import distill, extract_teacher, finetune_table, shard

WORDS = 40
SEEDS = (7816, 9573, 7788, 6782, 8588)
"""Seeds of students, drawn ahead of everything: default_rng(231107014).integers(1, 10000, 5)."""


@dataclass(frozen=True)
class Corpus:
    """What is drawn for one corpus: forty words in each of the carriers."""

    seed: int
    carriers: tuple[str, ...]
    voices: tuple[str, ...]
    strength: float = 1.0


# fmt: off
VOICES_B = (
    "en-us+Annie", "en-us+edward", "en-us+Alicia", "en-us+antonio", "en-gb-x-rp+belinda",
    "en-gb-x-gbclan+Michael", "en-gb-x-gbcwmd+benjamin", "en-us-nyc+Mike", "en-gb-scotland+f3",
    "en-029+m3",
)
VOICES_C = (
    "en-us+f2", "en-us+m7", "en-us+Andrea", "en-gb-x-rp+steph3", "en-gb-x-rp+david",
    "en-gb-scotland+aunty", "en-gb-x-gbclan+grandpa", "en-gb-x-gbcwmd+paul", "en-us-nyc+max",
    "en-029+f4",
)
# fmt: on
CORPORA = {
    "A": Corpus(0, CARRIERS[:10], VOICES),
    "B": Corpus(1301, CARRIERS[10:20], VOICES_B),
    "C": Corpus(2602, CARRIERS[20:], VOICES_C),
    "weak": Corpus(3903, CARRIERS[5:15], VOICES_B[:5] + VOICES_C[:5], strength=0.5),
    "A1": Corpus(0, CARRIERS[:1], VOICES),
    "A2": Corpus(0, CARRIERS[:2], VOICES),
    "A4": Corpus(0, CARRIERS[:4], VOICES),
}
"""A is the demo's, on which the settings below were chosen. A1, A2 and A4 have its words, their
affects, and fewer sentences; their students are judged on the sentences of A."""

STUDENT = {
    "student": "bert-tiny", "epochs": 60.0, "batch": 64, "learning_rate": 1e-3, "held_out": 0.0,
    "device": "cpu", "log_every": 100, "measure_every": 100, "checkpoint_minutes": 0.0,
}  # fmt: skip
FINE_TUNING = {"epochs": 10, "learning_rate": 5e-4, "device": "cpu"}

NONE = {"kd": ["none"]}
CRD = {"kd": ["crd"], "gamma": [1.0], "temperature": 0.1, "teacher_side": "standardize"}
INFONCE = {**CRD, "kd": ["infonce"]}
NST = {"kd": ["nst"], "gamma": [10.0], "teacher_side": "none"}
VECTOR = {**NST, "nst_pattern": "vector", "gamma": [100.0]}
BATCH = {**NST, "nst_pattern": "batch", "teacher_side": "standardize"}
CARRYING = {"crd": CRD, "infonce": INFONCE, "nst batch": BATCH, "nst vector": VECTOR}
MAIN = {
    "none": NONE,
    **CARRYING,
    "nst token": {**NST, "nst_pattern": "token"},
    "nst sequence": {**NST, "nst_pattern": "sequence"},
    "crd, τ = 0.01": {**CRD, "temperature": 0.01},
    "crd, Eq. 5's bias": {**CRD, "crd_bias": "paper"},
    "nst vector, γ = 1": {**VECTOR, "gamma": [1.0]},
    "nst vector, standardised": {**VECTOR, "teacher_side": "standardize"},
    **{
        f"{name}, {control}": {**settings, "control": control}
        for control in ("shuffled", "random")
        for name, settings in CARRYING.items()
    },
}
WEAK = {name: MAIN[name] for name in ("none", *CARRYING)}
CURVES = {
    "γ": {
        f"{name}, γ = {gamma:g}": {**settings, "gamma": [gamma]}
        for name, settings in (("nst vector", VECTOR), ("nst batch", BATCH), ("crd", CRD))
        for gamma in (1.0, 10.0, 100.0, 1000.0)
    },
    "teacher side": {
        f"{name}, {side}": {**settings, "teacher_side": side}
        for side in ("none", "center", "standardize")
        for name, settings in CARRYING.items()
    },
    "τ": {
        f"{name}, τ = {tau:g}": {**settings, "temperature": tau}
        for tau in (0.01, 0.03, 0.1, 1.0)
        for name, settings in (("crd", CRD), ("infonce", INFONCE))
    },
    "NST's patterns": {
        f"nst {pattern}, not normalised": {**NST, "nst_pattern": pattern, "nst_normalize": False}
        for pattern in ("batch", "vector", "sequence")
    },
    "negatives": {
        f"crd, {k} more negatives": {**CRD, "crd_negatives": k} for k in (64, 256)
    },
    "rate and epochs": {
        f"{name}, {rate:g}, {epochs:g} epochs": {
            **settings, "learning_rate": rate, "epochs": epochs,
        }
        for rate, epochs in ((5e-4, 60.0), (1e-3, 100.0))
        for name, settings in CARRYING.items()
    },
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One student: where it is trained, how, and with which seed."""

    group: str
    name: str
    corpus: str
    seed: int
    settings: dict

    @property
    def digest(self) -> str:
        """What a student is known by, whatever it is called."""
        return settings_digest(self.corpus, self.seed, self.settings)


def settings_digest(corpus: str, seed: int, settings: dict) -> str:
    """A short digest of all that a student depends on."""
    return digest([corpus, seed, {**STUDENT, **settings}, FINE_TUNING])[:12]


def jobs() -> list[Job]:
    """Every student of the experiment, what matters most first; equal ones are trained once."""
    main = lambda corpora, seeds, forms=MAIN: [  # noqa: E731
        Job("main", name, corpus, seed, settings)
        for seed, corpus, (name, settings) in itertools.product(seeds, corpora, forms.items())
    ]
    curve = lambda seeds: [  # noqa: E731
        Job(group, name, "A", seed, settings)
        for seed, (group, forms) in itertools.product(seeds, CURVES.items())
        for name, settings in forms.items()
    ]
    amount = lambda seeds: [  # noqa: E731
        Job("clips a word", name, corpus, seed, settings)
        for seed, corpus, (name, settings) in itertools.product(
            seeds, ("A1", "A2", "A4"), WEAK.items()
        )
    ]
    return [
        *main("ABC", SEEDS[:1]),
        *main(["weak"], SEEDS[:1], WEAK),
        *curve(SEEDS[:1]),
        *amount(SEEDS[:1]),
        *main("ABC", SEEDS[1:2]),
        *main(["weak"], SEEDS[1:2], WEAK),
        *main("ABC", SEEDS[2:3]),
        *main(["weak"], SEEDS[2:3], WEAK),
        *curve(SEEDS[1:2]),
        *amount(SEEDS[1:2]),
    ]


def make_corpus(name: str, out: Path) -> None:
    """Speak a corpus, cut it into tars, let the teacher hear it, and probe the teacher."""
    record = out / f"corpus-{name}.json"
    if record.exists():
        return
    corpus, folder = CORPORA[name], out / name
    utterances = plant(
        WORDS, corpus.carriers, corpus.seed, voices=corpus.voices, strength=corpus.strength
    )
    table, _ = write_corpus(utterances, folder, corpus.seed)
    shard.run(shard.ShardSettings(source=table, out=folder / "shards"))
    extract_teacher.run(
        extract_teacher.ExtractSettings(
            manifest=str(folder / "shards" / "manifest.jsonl"), cache=str(folder / "cache"),
            teacher="offline:tiny.en", pooling="length",
        )
    )  # fmt: skip
    rows = read_labels(folder)
    cache = TeacherCache.open(str(folder / "cache"))
    place = {key: i for i, key in enumerate(cache.samples().keys)}
    clip_CD = cache.vectors()[[place[row["key"]] for row in rows]]
    voice_C4 = np.array(
        [[float(row[q]) for q in ("pitch", "range", "rate_wpm", "volume")] for row in rows]
    )
    words = [row["word"] for row in rows]
    mean_CD = np.stack([clip_CD[[w == word for w in words]].mean(0) for word in words])
    write_json(
        record,
        {
            "corpus": name,
            "commit": git_commit(),
            "voice": probed(voice_C4, rows),
            "teacher": probed(clip_CD, rows),
            "teacher, a word": probed(clip_CD, rows, mean_CD),
        },
    )


def read_labels(folder: Path) -> list[dict]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def probed(features_CD: np.ndarray, rows: list[dict], judged_CD: np.ndarray | None = None) -> dict:
    """Share of right answers a word, of probes that learn from the other half of the words."""
    judged_CD = features_CD if judged_CD is None else judged_CD
    affect_C = np.array([row["affect"] for row in rows])
    right: dict[str, list[bool]] = defaultdict(list)
    for split in SPLITS:
        train = np.array([row[split] == "train" for row in rows])
        found = probe(features_CD[train], affect_C[train], judged_CD[~train])
        for i, answer in zip(np.flatnonzero(~train), found, strict=True):
            right[rows[i]["word"]].append(answer == affect_C[i])
    return shares(right)


def shares(right: dict[str, list[bool]]) -> dict[str, float]:
    return {word: float(np.mean(found)) for word, found in sorted(right.items())}


def train(job: Job, out: Path) -> None:
    """Distil a student, fine-tune it both ways, probe it, and write its line."""
    started = time.monotonic()
    folder = out / "students" / job.digest
    judged = out / job.corpus[0] if job.corpus.startswith("A") else out / job.corpus
    settings = {**STUDENT, **job.settings}
    clips = WORDS * len(CORPORA[job.corpus].carriers)
    if clips != 10 * WORDS:  # equal numbers of steps, whatever the amount of audio
        steps = settings["epochs"] * (10 * WORDS // settings["batch"])
        settings["epochs"] = float(steps / max(1, clips // settings["batch"]))
    distill.run(
        distill.DistillSettings(
            cache=out / job.corpus / "cache", out=folder, seed=job.seed, **settings
        )
    )
    rows = read_labels(judged)
    right: dict[str, list[bool]] = defaultdict(list)
    for split in SPLITS:
        finetune_table.run(
            finetune_table.TableSettings(
                data=judged / "labels.csv", checkpoint=[f"student={folder}"], seeds=str(job.seed),
                label_column="affect", id_column="key", group_column="word", split_column=split,
                out=folder / split, **FINE_TUNING,
            )
        )  # fmt: skip
        (found,) = (folder / split / "predictions").glob("*.csv")
        with found.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                right[row["group"]].append(row["prediction"] == row["label"])
    _, encoder, tokenizer = load_pretrained(str(folder))
    states_CD = vectors(encoder, tokenize(tokenizer, [row["text"] for row in rows], 128).ids)
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    line = {
        "digest": job.digest, "group": job.group, "student": job.name,
        "corpus": job.corpus, "seed": job.seed,
        "settings": settings, "commit": git_commit(),
        "losses": {n: v for n, v in last.items() if n.startswith("loss") and math.isfinite(v)},
        "probe": probed(states_CD, rows), "fine_tuned": shares(right),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    descriptor = os.open(out / "students.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(line, ensure_ascii=False) + "\n").encode())
    finally:
        os.close(descriptor)
    shutil.rmtree(folder)


def finished(out: Path) -> set[str]:
    """Digests of the students that have their line."""
    path = out / "students.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {json.loads(line)["digest"] for line in lines}


@contextmanager
def claimed(out: Path) -> Iterator[Job | None]:
    """The first student that is not finished, is no other process's, and whose corpus is there."""
    done = finished(out)
    (out / "students").mkdir(exist_ok=True)
    for job in jobs():
        if job.digest in done or not (out / f"corpus-{job.corpus}.json").exists():
            continue
        with (out / "students" / f"{job.digest}.lock").open("w") as lock:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if job.digest not in finished(out):
                    yield job
                    return
    yield None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["corpora", "students"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpora", nargs="*", default=list(CORPORA))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # so small a student gains nothing from more
    transformers_logging.set_verbosity_error()
    if given.what == "corpora":
        for name in given.corpora:
            make_corpus(name, given.out)
        return
    while True:
        with claimed(given.out) as job:
            if job is None:
                break
            left = {one.digest for one in jobs()} - finished(given.out)
            say(f"{len(left)} students left: {job.corpus}, {job.name}, seed {job.seed}")
            train(job, given.out)


if __name__ == "__main__":
    main()
