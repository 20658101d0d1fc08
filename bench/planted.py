"""Does it distil? Students on a spoken corpus whose invented words differ in affect by voice alone.

    speechkd demo --out DEMO
    python bench/planted.py DEMO/cache.zarr DEMO/affect.csv --out DIR

Text says nothing of a word's affect, so a probe that learns affect from half of the words and is
right on the other half shows what the student took from the speech. Chance is 0.5.
"""

import argparse
import contextlib
import csv
import io
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers.utils import logging as transformers_logging

from pipeline.cache import TeacherCache
from pipeline.student import encode_packed, load_encoder, pack
from stages.distill import DistillSettings, run

FORMS = {
    "none": {"kd": ["none"]},
    "crd": {"kd": ["crd"]},
    "crd τ=0.1": {"kd": ["crd"], "temperature": 0.1},
    "crd both ways": {"kd": ["crd"], "crd_symmetric": True},
    "crd K=256": {"kd": ["crd"], "crd_negatives": 256},
    "crd learned bias": {"kd": ["crd"], "crd_bias": "learned"},
    "crd paper's bias": {"kd": ["crd"], "crd_bias": "paper"},
    "crd shuffled": {"kd": ["crd"], "control": "shuffled"},
    "infonce": {"kd": ["infonce"]},
    "infonce shuffled": {"kd": ["infonce"], "control": "shuffled"},
    "nst vector": {"kd": ["nst"]},
    "nst vector γ=3": {"kd": ["nst"], "gamma": [3.0]},
    "nst vector γ=10": {"kd": ["nst"], "gamma": [10.0]},
    "nst vector γ=30": {"kd": ["nst"], "gamma": [30.0]},
    "nst vector γ=100": {"kd": ["nst"], "gamma": [100.0]},
    "nst vector γ=1000": {"kd": ["nst"], "gamma": [1000.0]},
    "nst vector γ=10 shuffled": {"kd": ["nst"], "gamma": [10.0], "control": "shuffled"},
    "nst vector γ=10 standardized": {
        "kd": ["nst"], "gamma": [10.0], "teacher_side": "standardize",
    },
    "nst batch": {"kd": ["nst"], "nst_pattern": "batch"},
    "nst batch γ=10": {"kd": ["nst"], "nst_pattern": "batch", "gamma": [10.0]},
    "nst batch γ=100": {"kd": ["nst"], "nst_pattern": "batch", "gamma": [100.0]},
    "nst batch γ=10 shuffled": {
        "kd": ["nst"], "nst_pattern": "batch", "gamma": [10.0], "control": "shuffled",
    },
    "nst token γ=10": {"kd": ["nst"], "nst_pattern": "token", "gamma": [10.0]},
    "nst sequence γ=10": {"kd": ["nst"], "nst_pattern": "sequence", "gamma": [10.0]},
    "cosine": {"kd": ["cosine"]},
    "cosine γ=10": {"kd": ["cosine"], "gamma": [10.0]},
    "l1": {"kd": ["l1"]},
    "l1 γ=10": {"kd": ["l1"], "gamma": [10.0]},
}  # fmt: skip


def unseen_words(features_CD: np.ndarray, words: list[str], affect: np.ndarray) -> float:
    """Accuracy of a linear probe on words that it was not trained on, over ten halvings."""
    names = np.array(sorted(set(words)))
    by_word = np.array([affect[words.index(name)] for name in names])
    belongs = np.array(words)
    right = []
    for split in range(10):
        rng = np.random.default_rng(split)
        learn = np.concatenate(
            [rng.permutation(names[by_word == side])[: (by_word == side).sum() // 2]
             for side in (-1, 1)]
        )  # fmt: skip
        seen = np.isin(belongs, learn)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        probe.fit(features_CD[seen], affect[seen])
        right.append(probe.score(features_CD[~seen], affect[~seen]))
    return float(np.mean(right))


def student_features(folder: Path, texts: list[str]) -> np.ndarray:
    """Mean of a student's last hidden states, a text."""
    encoder, tokenizer = load_encoder(str(folder / "student"))
    encoder.eval()
    ids = [tokenizer(text)["input_ids"] for text in texts]
    packed = pack(
        torch.tensor([i for sequence in ids for i in sequence]), torch.tensor([len(i) for i in ids])
    )
    with torch.no_grad():
        hidden_ND = encode_packed(encoder, packed)
    return np.stack([part.mean(0).numpy() for part in hidden_ND.split(packed.lengths_B.tolist())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("labels", type=Path, help="CSV with video_id (the word) and label")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--forms", nargs="*", default=None)
    given = parser.parse_args()
    torch.set_num_threads(1)  # so small a student gains nothing from more
    transformers_logging.set_verbosity_error()
    with given.labels.open(newline="") as file:
        affect_of = {row["video_id"]: float(row["label"]) for row in csv.DictReader(file)}
    cache = TeacherCache.open(given.cache)
    samples = cache.samples()
    words = [key.rsplit("-", 1)[0] for key in samples.keys]
    affect = np.array([1 if affect_of[word] > 0 else -1 for word in words])
    teacher = unseen_words(cache.vectors().astype(np.float64), words, affect)
    print(f"{'teacher, a clip':32s} {teacher:.3f}", flush=True)
    results = {}
    for name, form in FORMS.items():
        if given.forms and name not in given.forms:
            continue
        scores = []
        for seed in range(given.seeds):
            out = given.out / f"{name.replace(' ', '_')}-{seed}"
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                run(
                    DistillSettings(
                        cache=given.cache, out=out, student="bert-tiny", epochs=given.epochs,
                        batch=64, learning_rate=5e-4, held_out=0.0, seed=seed, device="cpu", **form,
                    )
                )  # fmt: skip
            scores.append(unseen_words(student_features(out, samples.texts), words, affect))
        results[name] = scores
        shown = " ".join(f"{score:.3f}" for score in scores)
        print(f"{name:32s} {np.mean(scores):.3f}   ({shown})", flush=True)
    (given.out / "planted.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
