"""Does what CTAL hears at each token reach a student that only reads? Invented words with affect.

    python -m bench.planted_heard corpora --out DIR --corpora A
    python -m bench.planted_heard students --out DIR --corpora A --seeds 3
    python -m bench.planted_heard table --out DIR

The corpora are those of bench.planted: the affect of forty invented words is in the voice alone. A
small CTAL is pre-trained on a corpus, writes a vector per token (extract-heard), and teaches
students by distill --level token. A linear probe learns the affect of half of the words from a
student's states and answers for the other half; `probe hearing` asks the same students of new
sentences with the same words. A finished corpus, model or student is never made again.
docs/ctal.md has the figures.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from bench.planted import distil, hidden_states, read_labels
from bench.planted_grid import CORPORA, SEEDS, WORDS
from bench.planted_words import word_states
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.extraction.settings import ExtractSettings, FeatureSettings
from pipeline.foundation.atomic import write_json
from pipeline.foundation.progress import say
from pipeline.foundation.provenance import git_commit
from pipeline.pretraining.ctal.settings import CtalSettings
from pipeline.shards.settings import ShardSettings
from pipeline.tasks.planted.answers import probe_by_word, share
from pipeline.tasks.planted.corpus import plant
from pipeline.tasks.planted.folder import SPLIT_COLUMNS, write_corpus
from stages import extract_features, extract_heard, extract_teacher, pretrain_ctal, probe_hearing
from stages import shard as sharding

NEW_SENTENCES = 5
"""Carriers of another corpus in which the same words are said for `probe hearing`."""
CTAL: dict[str, Any] = {
    "layers": 2, "width": 64, "heads": 4, "vocab_size": 500, "stack": 4, "normalisation": "corpus",
    "batch": 32, "epochs": 60.0, "learning_rate": 2e-3, "held_out": 0.1, "hold_out_by": "recording",
    "device": "cpu", "log_every": 40, "measure_every": 120, "checkpoint_minutes": 0.0,
}  # fmt: skip
TOKEN: dict[str, Any] = {"kd": ["crd"], "temperature": 0.1, "level": "token"}
HEARD: dict[str, dict[str, Any]] = {
    "heard": {},
    "heard, shuffled audio": {"control": "shuffled-audio"},
    "heard, nothing taken away": {"less": "none"},
    "heard, nothing taken away, shuffled audio": {"less": "none", "control": "shuffled-audio"},
}
"""What is heard: each a cache, by the settings of `extract-heard`."""
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("heard", {"kd": ["none"]}),
    **{name: (name, TOKEN) for name in HEARD},
    "heard, shuffled rows": ("heard", {**TOKEN, "control": "shuffled"}),
}
"""Students: the cache that teaches, and the settings of `distill`."""


def features(manifest: Path, out: Path, kind: Literal["ctal-mel", "prosody"]) -> None:
    extract_features.run(FeatureSettings(manifest=str(manifest), features=kind, cache=str(out)))


def make_corpus(name: str, out: Path) -> None:
    """Speak a corpus, and its words in new sentences; cache frames, and what Whisper hears."""
    corpus, folder = CORPORA[name], out / name
    others = next(c.carriers for n, c in CORPORA.items() if n in "ABC" and n != name)
    for part, carriers in (("heard", corpus.carriers), ("new", others[:NEW_SENTENCES])):
        utterances = plant(
            WORDS, carriers, corpus.seed, voices=corpus.voices, strength=corpus.strength
        )
        utterances = [replace(u, key=f"{u.key}-{part}") for u in utterances]
        table, _ = write_corpus(utterances, folder / part, corpus.seed)
        shards = folder / part / "shards"
        sharding.run(ShardSettings(source=str(table), out=shards, workers=1))
        manifest = shards / "manifest.jsonl"
        if part == "heard":
            features(manifest, folder / "mels", "ctal-mel")
            continue
        features(manifest, folder / "prosody", "prosody")
        extract_teacher.run(
            ExtractSettings(
                manifest=str(manifest), cache=str(folder / "whisper"), teacher="offline:tiny.en",
                context="15s", pooling="length",
            )
        )  # fmt: skip


def cache_name(name: str, seed: int) -> str:
    return f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"


def make_model(folder: Path, seed: int) -> Path:
    """Pre-train CTAL, and write what it hears."""
    model = folder / "ctal" / str(seed)
    pretrain_ctal.run(CtalSettings(cache=str(folder / "mels"), out=model, seed=seed, **CTAL))
    for name, changes in HEARD.items():
        extract_heard.run(
            extract_heard.HeardSettings(
                cache=str(folder / "mels"), model=model, device="cpu",
                out=str(folder / "tokens" / cache_name(name, seed)), **changes,
            )
        )  # fmt: skip
    return model


def clip_means(cache: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """The mean of a clip's vectors, for each row."""
    reader = SequenceReader(TeacherCache.open(str(cache), kinds=["text"]))
    place_of = {key: place for place, key in enumerate(reader.clips.key)}
    return np.stack([reader.values([place_of[row["key"]]]).float().mean(0).numpy() for row in rows])


def with_places(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows, with the place of each one's word in its text."""
    return [{**row, "place": str(row["text"].index(row["word"]))} for row in rows]


def train(out: Path, corpus: str, seed: int) -> None:
    """Pre-train, distil each arm, probe it, ask it what it hears, and write the figures."""
    folder, answers_file = out / corpus, out / f"answers-{corpus}-{seed}.json"
    if answers_file.exists():
        return
    rows = with_places(read_labels(folder / "heard"))
    model = make_model(folder, seed)
    answers: dict[str, dict[str, dict[str, float]]] = {
        f"the vectors themselves: {name}": {
            "sentence": probe_by_word(
                clip_means(folder / "tokens" / cache_name(name, seed), rows), rows, SPLIT_COLUMNS
            )
        }
        for name in HEARD
    }
    students = folder / "students" / str(seed)
    for arm, (source, settings) in ARMS.items():
        work = students / f"{cache_name(arm, seed)}-cache"
        work.mkdir(parents=True, exist_ok=True)
        if not (work / "cache").exists():
            (work / "cache").symlink_to((folder / "tokens" / cache_name(source, seed)).resolve())
        run = students / cache_name(arm, seed)
        tokenizer = str(model / "model" / "text")
        distil(work, run, seed, {**settings, "tokenizer": tokenizer})
        shutil.rmtree(work)
        answers[arm] = {
            "sentence": probe_by_word(hidden_states(run, rows), rows, SPLIT_COLUMNS),
            "word": probe_by_word(word_states(run / "student", rows), rows, SPLIT_COLUMNS),
        }
        say(f"{corpus} {seed} {arm}: {np.mean(list(answers[arm]['word'].values())):.3f}")
    probe_hearing.run(
        probe_hearing.HearingSettings(
            cache=str(folder / "whisper"), prosody=str(folder / "prosody"), device="cpu",
            checkpoint=[f"{arm}={students / cache_name(arm, seed)}" for arm in ARMS],
            out=out / f"hearing-{corpus}-{seed}", unheard="recording",
        )
    )  # fmt: skip
    record = json.loads((model / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    losses = {name: value for name, value in record.items() if "mcam" in name or "line/" in name}
    write_json(answers_file, {"answers": answers, "ctal": losses, "commit": git_commit()})


def table(out: Path) -> str:
    """Right answers in per cent, with intervals over corpora, seeds and words."""
    by_arm: dict[str, dict[str, dict[str, list[dict[str, float]]]]] = {}
    files = sorted(out.glob("answers-*.json"))
    for path in files:
        corpus = path.stem.split("-")[1]
        for arm, by_unit in json.loads(path.read_text(encoding="utf-8"))["answers"].items():
            for unit, right in by_unit.items():
                by_arm.setdefault(arm, {}).setdefault(unit, {}).setdefault(corpus, []).append(right)
    lines = ["| student | states of the sentence | states of the word |", "|---|---|---|"]
    for arm, by_unit in by_arm.items():
        cells = [
            str(share(list(by_unit[unit].values()))) if unit in by_unit else "–"
            for unit in ("sentence", "word")
        ]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join([f"{len(files)} runs: {', '.join(path.stem for path in files)}", "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["corpora", "students", "table"], help="what to make")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpora", nargs="*", default=["A", "B", "C"])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # such small models gain nothing from more
    transformers_logging.set_verbosity_error()
    if options.what == "table":
        print(table(options.out))
    for corpus in options.corpora if options.what == "corpora" else ():
        make_corpus(corpus, options.out)
    if options.what == "students":
        for seed in SEEDS[: options.seeds]:
            for corpus in options.corpora:
                train(options.out, corpus, seed)


if __name__ == "__main__":
    main()
