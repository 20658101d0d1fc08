"""How near cheaper ways of encoding come to the exact vectors, on real speech.

    python bench/fidelity.py shards/manifest.jsonl --teacher offline:tiny.en --clips 64

Per way it prints the cosine of each clip's vector to the exact one (float32, 30 s of context), as
it is and with the exact vectors' mean taken from both, as a student that standardises its teacher
sees them. It also prints how often the nearest exact vector is the clip's own.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.extraction.batches import WaveBatch, Work, load
from pipeline.extraction.teacher import load_teacher
from pipeline.foundation.provenance import git_commit, hardware
from pipeline.shards.manifest import read_manifest

WAYS: dict[str, dict[str, Any]] = {
    "exact": {},
    "exact, stored as float16": {},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "--context 15s": {"context": "15s"},
}


def cosines(vectors_NE: np.ndarray, exact_NE: np.ndarray) -> np.ndarray:
    """Cosine of each row with its row of the other."""
    lengths_N = np.linalg.norm(vectors_NE, axis=1) * np.linalg.norm(exact_NE, axis=1)
    cosine_N: np.ndarray = (vectors_NE * exact_NE).sum(axis=1) / lengths_N
    return cosine_N


def compare(vectors_NE: np.ndarray, exact_NE: np.ndarray) -> dict[str, float]:
    """Cosines as they are and centred; share of rows whose nearest exact row is their own."""
    mean_E = exact_NE.mean(axis=0)
    centred_NE, centred_exact_NE = vectors_NE - mean_E, exact_NE - mean_E
    plain_N, centred_N = cosines(vectors_NE, exact_NE), cosines(centred_NE, centred_exact_NE)
    shifted_N = cosines(vectors_NE - vectors_NE.mean(axis=0), centred_exact_NE)
    distances_NN = np.linalg.norm(vectors_NE[:, None] - exact_NE[None], axis=2)
    return {
        "cosine_mean": float(plain_N.mean()),
        "cosine_min": float(plain_N.min()),
        "centred_mean": float(centred_N.mean()),
        "centred_min": float(centred_N.min()),
        "own_centre_mean": float(shifted_N.mean()),
        "nearest_is_own": float((distances_NN.argmin(axis=1) == np.arange(len(exact_NE))).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest")
    parser.add_argument("--teacher", default="offline:tiny.en")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    manifest = read_manifest(options.manifest)
    work = [Work(i, shard, manifest.resolve(shard)) for i, shard in enumerate(manifest)]
    items = (i for i in load(work, options.batch_size, 0, pin=False) if isinstance(i, WaveBatch))
    batches = list(itertools.islice(items, -(-options.clips // options.batch_size)))
    vectors: dict[str, np.ndarray] = {}
    for name, changes in WAYS.items():
        if name == "exact, stored as float16":
            vectors[name] = vectors["exact"].astype(np.float16).astype(np.float64)
            continue
        teacher = load_teacher(options.teacher, device=options.device, **changes)
        parts = [teacher.encode(b.waves_BS, b.lengths_B).cpu().numpy() for b in batches]
        vectors[name] = np.concatenate(parts).astype(np.float64)
    rows = {name: compare(vectors_NE, vectors["exact"]) for name, vectors_NE in vectors.items()}
    print(f"{len(vectors['exact'])} clips of {options.manifest}, {options.teacher}")
    print(
        "| way | cosine, mean | least | centred, mean | least | own centre | nearest is its own |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, row in rows.items():
        values = [f"{row[k]:.6f}" for k in list(row)[:5]]
        print(f"| {name} | {' | '.join(values)} | {row['nearest_is_own']:.0%} |")
    if options.out:
        record: dict[str, Any] = {
            "settings": {**vars(options), "out": str(options.out)},
            "ways": rows,
        }
        record |= {"hardware": hardware(), "commit": git_commit()}
        options.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
