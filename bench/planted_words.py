"""Does a word's own vector carry what the mean of its clip cannot? Students on pairs of words.

    python -m bench.planted_words corpora --out DIR
    python -m bench.planted_words students --out DIR
    python -m bench.planted_words table --out DIR

Every sentence holds one bright and one flat invented word. The affect of a word is asked from the
students' states of that word, by a linear probe that learns from half of the words and answers for
the other half. All goes through the commands' own code; a finished corpus or student is never made
again. docs/word-by-word.md describes the experiment and its figures.
"""

import argparse
import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from bench.planted import distil
from bench.planted_grid import CORPORA, SEEDS, STUDENT
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import vectors_by_key
from pipeline.extraction.settings import ExtractSettings
from pipeline.foundation.atomic import write_json
from pipeline.foundation.hashing import json_sha256
from pipeline.foundation.progress import say
from pipeline.foundation.provenance import git_commit
from pipeline.tasks.planted.answers import probe_by_word, share
from pipeline.tasks.planted.folder import SPLIT_COLUMNS
from pipeline.tasks.planted.sentences import PAIRS, plant_pairs, write_sentences
from stages import extract_teacher

WORDS = 40
PARTS = {"A": PAIRS[:4], "B": PAIRS[4:8], "C": PAIRS[8:]}
TIMES = {"exact": 0.0, "own": None, "50ms": 0.05, "100ms": 0.1, "200ms": 0.2}
"""Where word times come from: eSpeak NG's events, the teacher itself, events that were moved."""
STEPS = 360
"""Of each student, whatever the number of sentences."""
CRD: dict[str, Any] = {"kd": ["crd"], "temperature": 0.1}
WORD = {**CRD, "level": "word"}
ARMS: dict[str, dict[str, Any]] = {
    "none": {"kd": ["none"]},
    "crd, clip": CRD,
    "crd, word": WORD,
    "crd, word, shuffled": {**WORD, "control": "shuffled"},
    "crd, word, shuffled words": {**WORD, "control": "shuffled-words"},
    "crd, word, random": {**WORD, "control": "random"},
    "infonce, word": {**WORD, "kd": ["infonce"]},
    "crd, word, mean of tokens": {**WORD, "word_tokens": "mean"},
    "crd, word, same word too": {**WORD, "same_word_negatives": True},
    "crd, word, within-speaker": {**WORD, "teacher_side": "within-speaker"},
    "crd, word, within-word": {**WORD, "teacher_side": "within-word"},
    "nst sequence, word": {**WORD, "kd": ["nst"], "nst_pattern": "sequence"},
    "cosine, word": {**WORD, "kd": ["cosine"]},
    "crd, clip+word": {**CRD, "level": "clip+word"},
}
LATER = {f"crd, word, times {times}": WORD for times in TIMES if times != "exact"}


def folder_of(out: Path, corpus: str, times: str = "exact") -> Path:
    return out / f"{corpus}-{times}"


def make_corpus(out: Path, corpus: str, times: str) -> None:
    """Speak a corpus, let the teacher hear its words, and of exact times also its clips."""
    folder, seed = folder_of(out, corpus, times), CORPORA[corpus].seed
    sentences = plant_pairs(WORDS, PARTS[corpus], seed, voices=CORPORA[corpus].voices)
    manifest, _ = write_sentences(sentences, folder, seed, jitter_s=TIMES[times])
    for keep in ("words", "vector") if times == "exact" else ("words",):
        extract_teacher.run(
            ExtractSettings(
                manifest=str(manifest), cache=str(folder / keep), teacher="offline:tiny.en",
                keep=keep, context="15s", pooling="length" if keep == "vector" else "fixed750",
            )
        )  # fmt: skip
    if times == "exact":
        rows = read_labels(folder)
        write_json(
            out / f"ceiling-{corpus}.json",
            {
                "teacher, its vector of the word": probe_by_word(
                    word_vectors(folder / "words", rows), rows, SPLIT_COLUMNS
                ),
                "teacher, its vector of the clip": probe_by_word(
                    clip_vectors(folder / "vector", rows), rows, SPLIT_COLUMNS
                ),
            },
        )


def read_labels(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def word_vectors(cache: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """The teacher's vector of the word of each row."""
    reader = SequenceReader(TeacherCache.open(cache, kinds=["words"]))
    clips = reader.clips
    place_of = {key: place for place, key in enumerate(clips.key)}
    first = []
    for row in rows:
        clip = place_of[row["key"]]
        before = row["text"][: int(row["place"])].split()
        first.append(int(clips.row[clip]) + len(before))
    return reader.read(first, [1] * len(first)).float().numpy()


def clip_vectors(cache: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """The teacher's vector of the clip of each row."""
    keys = sorted({row["key"] for row in rows})
    places, vectors = vectors_by_key(TeacherCache.open(cache), keys)
    at = {keys[place]: vector for place, vector in zip(places, vectors, strict=True)}
    return np.stack([at[row["key"]] for row in rows])


@torch.no_grad()
def word_states(student: Path, rows: list[dict[str, str]], at_once: int = 64) -> np.ndarray:
    """The student's states of the word of each row: the mean over its tokens."""
    tokenizer = AutoTokenizer.from_pretrained(student)
    model = AutoModel.from_pretrained(student, add_pooling_layer=False).eval()
    states = []
    for first in range(0, len(rows), at_once):
        part = rows[first : first + at_once]
        encoded = tokenizer(
            [row["text"] for row in part],
            return_offsets_mapping=True, padding=True, return_tensors="pt",
        )  # fmt: skip
        offsets = encoded.pop("offset_mapping")
        hidden = model(**encoded).last_hidden_state
        for place, row in enumerate(part):
            begin = int(row["place"])
            end = begin + len(row["word"])
            mine = (offsets[place, :, 0] < end) & (offsets[place, :, 1] > begin)
            states.append(hidden[place][mine].mean(0))
    return torch.stack(states).numpy()


def jobs(corpora: list[str], seeds: int) -> list[tuple[str, int, str, str, dict[str, Any]]]:
    """Corpus, seed, arm, times and settings of every student, one seed after the other."""
    return [
        (corpus, seed, arm, times, settings)
        for seed in SEEDS[:seeds]
        for arm, settings in {**ARMS, **LATER}.items()
        for corpus in corpora
        for times in [arm.rpartition("times ")[2] if "times" in arm else "exact"]
    ]


def train(
    out: Path, corpus: str, seed: int, arm: str, times: str, settings: dict[str, Any]
) -> None:
    """Distil a student, probe it, and write its line."""
    started = time.monotonic()
    digest = json_sha256([corpus, seed, arm, settings])[:16]
    lines = out / "students.jsonl"
    text = lines.read_text(encoding="utf-8") if lines.exists() else ""
    if any(json.loads(line)["digest"] == digest for line in text.splitlines()):
        return
    source, run = folder_of(out, corpus, times), out / "students" / digest
    by_clip = settings.get("level", "clip") != "word" and settings["kd"] != ["none"]
    work = out / "students" / f"{digest}-cache"
    work.mkdir(parents=True, exist_ok=True)
    link = work / "cache"
    if not link.exists():
        link.symlink_to((source / ("vector" if by_clip else "words")).resolve())
    words = {"words": str(source / "words")} if settings.get("level") == "clip+word" else {}
    rows = read_labels(source)
    batches = len(rows) // 2 // STUDENT["batch"]
    options = {"epochs": STEPS / batches, "prepared": source / "prepared"}
    distil(work, run, seed, {**options, **settings, **words})
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    right = probe_by_word(word_states(run / "student", rows), rows, SPLIT_COLUMNS)
    line = {
        "digest": digest, "corpus": corpus, "seed": seed, "student": arm, "settings": settings,
        "commit": git_commit(), "losses": {n: v for n, v in last.items() if n.startswith("loss")},
        "probe": right,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    descriptor = os.open(lines, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(line, ensure_ascii=False) + "\n").encode())
    finally:
        os.close(descriptor)
    shutil.rmtree(run)
    shutil.rmtree(work)
    say(f"{corpus} {seed} {arm}: {np.mean(list(right.values())):.3f}, {line['seconds']} s")


def table(out: Path) -> str:
    """Right answers per arm in per cent, with intervals over corpora, seeds and words."""
    by_arm: dict[str, dict[str, list[dict[str, float]]]] = {}
    for path in sorted(out.glob("ceiling-*.json")):
        corpus = path.stem.removeprefix("ceiling-")
        for name, right in json.loads(path.read_text(encoding="utf-8")).items():
            by_arm.setdefault(name, {}).setdefault(corpus, []).append(right)
    for text in (out / "students.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        by_arm.setdefault(line["student"], {}).setdefault(line["corpus"], []).append(line["probe"])
    corpora = sorted({corpus for one in by_arm.values() for corpus in one})
    lines = [
        f"| student | {' | '.join(corpora)} | all (95 %) | students |",
        f"|---|{'---|' * len(corpora)}---|---|",
    ]
    for arm, per_corpus in by_arm.items():
        means = [
            f"{100 * np.mean([np.mean(list(r.values())) for r in per_corpus[c]]):.1f}"
            if c in per_corpus else "–"
            for c in corpora
        ]  # fmt: skip
        students = sum(map(len, per_corpus.values()))
        every = share(list(per_corpus.values()))
        lines.append(f"| {arm} | {' | '.join(means)} | {every} | {students} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["corpora", "students", "table"], help="what to make")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpora", nargs="*", default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds of students")
    parser.add_argument("--times", nargs="*", default=list(TIMES), help="where times come from")
    parser.add_argument("--arms", nargs="*", help="names of the students; all by default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # such a small student gains nothing from more
    transformers_logging.set_verbosity_error()
    if options.what == "table":
        print(table(options.out))
    for corpus in options.corpora if options.what == "corpora" else ():
        for times in options.times:
            make_corpus(options.out, corpus, times)
    for job in jobs(options.corpora, options.seeds) if options.what == "students" else ():
        wanted = not options.arms or job[2] in options.arms
        if wanted and folder_of(options.out, job[0], job[3]).exists():
            train(options.out, *job)


if __name__ == "__main__":
    main()
