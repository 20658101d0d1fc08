"""Does it distil? Students on spoken corpora whose invented words differ in affect by voice alone.

    python -m bench.planted corpora --out DIR
    python -m bench.planted students --out DIR       # several may run at once
    python -m bench.planted_tables DIR

Each student goes through the commands' own code: wav → shard → extract-teacher (tiny.en) → distill
→ finetune table. A finished corpus or student is never made again, so the same command carries on.
docs/does-it-distil.md describes the experiment and its figures.
"""

import argparse
import csv
import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from bench.planted_grid import CONFIG, CORPORA, FINE_TUNING, STUDENT, WORDS, Job, jobs
from pipeline.cache.store import TeacherCache
from pipeline.distillation.settings import DistillSettings
from pipeline.extraction.settings import ExtractSettings
from pipeline.finetuning.inputs import tokenize
from pipeline.finetuning.projection import vectors
from pipeline.foundation.atomic import write_json
from pipeline.foundation.progress import say
from pipeline.foundation.provenance import git_commit
from pipeline.models.encoders import load_pretrained
from pipeline.shards.settings import ShardSettings
from pipeline.tasks.planted.answers import probe_by_word, right_by_word, teacher_vectors
from pipeline.tasks.planted.corpus import plant
from pipeline.tasks.planted.folder import SPLIT_COLUMNS, write_corpus
from stages import distill, extract_teacher, finetune_table, shard


def make_corpus(name: str, out: Path) -> None:
    """Speak a corpus, cut it into tars, let the teacher hear it, and probe its vectors."""
    corpus, folder = CORPORA[name], out / name
    if not (folder / "cache").exists() or not (out / f"corpus-{name}.json").exists():
        utterances = plant(
            WORDS, corpus.carriers, corpus.seed, voices=corpus.voices, strength=corpus.strength
        )
        table, _ = write_corpus(utterances, folder, corpus.seed)
        shard.run(ShardSettings(source=str(table), out=folder / "shards"))
        extract_teacher.run(
            ExtractSettings(
                manifest=str(folder / "shards" / "manifest.jsonl"), cache=str(folder / "cache"),
                teacher="offline:tiny.en", pooling="length",
            )
        )  # fmt: skip
    rows = read_labels(folder)
    clip_CE, mean_CE = teacher_vectors(TeacherCache.open(str(folder / "cache")), rows)
    size_C1, mean_size_C1 = mean_squares(clip_CE, rows)
    voice_C4 = np.array(
        [[float(row[q]) for q in ("pitch", "range", "rate_wpm", "volume")] for row in rows]
    )
    write_json(
        out / f"corpus-{name}.json",
        {
            "corpus": name,
            "commit": git_commit(),
            "voice": probe_by_word(voice_C4, rows, SPLIT_COLUMNS),
            "teacher": probe_by_word(clip_CE, rows, SPLIT_COLUMNS),
            "teacher, a word": probe_by_word(clip_CE, rows, SPLIT_COLUMNS, test_CD=mean_CE),
            "mean square": probe_by_word(size_C1, rows, SPLIT_COLUMNS),
            "mean square, a word": probe_by_word(
                size_C1, rows, SPLIT_COLUMNS, test_CD=mean_size_C1
            ),
        },
    )


def mean_squares(clip_CE: np.ndarray, rows: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """The one number that nst `token` sees of a clip, and its mean over the clips of its word."""
    size_C1 = np.square(clip_CE).mean(1, keepdims=True)
    word_C = np.array([row["word"] for row in rows])
    return size_C1, np.stack([size_C1[word_C == word].mean(0) for word in word_C])


def read_labels(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def distil(corpus: Path, folder: Path, seed: int, settings: Mapping[str, Any]) -> None:
    settings = {**STUDENT, **settings}
    if settings["student"] == STUDENT["student"]:
        settings["student"] = str(corpus / "student.json")
        write_json(Path(settings["student"]), CONFIG)
    distill.run(DistillSettings(cache=str(corpus / "cache"), out=folder, seed=seed, **settings))


def fine_tune(student: Path, corpus: Path, seed: int, out: Path) -> dict[str, float]:
    """Share of right answers per word: fine-tune on each half of the words, ask for the other."""
    for split in SPLIT_COLUMNS:
        finetune_table.run(
            finetune_table.TableSettings(
                data=[str(corpus / "labels.csv")],
                checkpoint=[f"student={student}"], seeds=str(seed),
                label_column="affect", id_column="key", group_column="word", split_column=split,
                out=out / split, **FINE_TUNING,
            )
        )  # fmt: skip
    return right_by_word(out.glob("split_*/predictions/*.csv"))


def hidden_states(student: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """Mean of the student's last hidden states, per sentence."""
    _, encoder, tokenizer = load_pretrained(str(student))
    inputs = tokenize(tokenizer, [row["text"] for row in rows], 128)
    return vectors(encoder, inputs, range(len(rows)))


def train(job: Job, out: Path) -> None:
    """Distil a student, fine-tune it both ways, probe it, and write its line."""
    started = time.monotonic()
    folder = out / "students" / job.digest
    test_corpus = out / job.corpus.rstrip("124")
    settings = {**STUDENT, **job.settings}
    clips = WORDS * len(CORPORA[job.corpus].carriers)
    if clips != 10 * WORDS:  # as many steps, whatever the amount of audio
        steps = settings["epochs"] * (10 * WORDS // settings["batch"])
        settings["epochs"] = float(steps / max(1, clips // settings["batch"]))
    distil(out / job.corpus, folder, job.seed, settings)
    rows = read_labels(test_corpus)
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    line = {
        "digest": job.digest, "group": job.group, "student": job.name,
        "corpus": job.corpus, "seed": job.seed,
        "settings": settings, "commit": git_commit(),
        "losses": {n: v for n, v in last.items() if n.startswith("loss") and math.isfinite(v)},
        "probe": probe_by_word(hidden_states(folder, rows), rows, SPLIT_COLUMNS),
        "fine_tuned": fine_tune(folder, test_corpus, job.seed, folder),
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


def claim(out: Path) -> tuple[Job, TextIO] | None:
    """The first student that is not finished, that no other process has, and whose corpus exists.

    This process has it for as long as the file that comes with it stays open.
    """
    (out / "students").mkdir(exist_ok=True)
    done = finished(out)
    for job in jobs():
        if job.digest in done or not (out / f"corpus-{job.corpus}.json").exists():
            continue
        lock = (out / "students" / f"{job.digest}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        if job.digest not in finished(out):
            return job, lock
        lock.close()
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["corpora", "students"], help="what to make")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpora", nargs="*", default=list(CORPORA))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # such a small student gains nothing from more
    transformers_logging.set_verbosity_error()
    if options.what == "corpora":
        for name in options.corpora:
            make_corpus(name, options.out)
        return
    while claimed := claim(options.out):
        job, lock = claimed
        with lock:
            unfinished = {one.digest for one in jobs()} - finished(options.out)
            say(f"{len(unfinished)} students left: {job.corpus}, {job.name}, seed {job.seed}")
            train(job, options.out)


if __name__ == "__main__":
    main()
