"""Small made-up corpora for tests: teacher caches without audio or a teacher."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.cache.store import Identity, ShardResult, TeacherCache
from pipeline.corpus.tokenization import train_wordpiece
from pipeline.shards.manifest import Manifest, Shard
from pipeline.shards.refusals import Reason, Refusal

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "far",
    "near",
    "on",
    "under",
    "red",
    "blue",
    "sang",
]


def identity(d_model: int = 8, **changes) -> Identity:
    fields = {"teacher": "made-up", "teacher_sha256": "0" * 64, "pooling": "fixed750"}
    return Identity(**{**fields, "d_model": d_model, "dtype": "float32", **changes})


def manifest(samples_per_shard: list[int], location: str = "manifest.jsonl") -> Manifest:
    shards = [
        Shard(f"s-{i:06d}.tar", samples, 10_240, hashlib.sha256(bytes([i])).hexdigest())
        for i, samples in enumerate(samples_per_shard)
    ]
    return Manifest(tuple(shards), location)


def shard_result(
    samples: int, d_model: int, seed: int, refused: tuple[int, ...] = (), words: int = 12
) -> ShardResult:
    """A result with random vectors, texts of 3 words to `words`, and some samples refused."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((samples, d_model)).astype(np.float32)
    vectors[list(refused)] = np.nan
    kept = [
        {
            "position": position,
            "key": f"clip-{seed}-{position}",
            "text": " ".join(rng.choice(WORDS, rng.integers(3, words + 1))),
            "duration_s": float(rng.integers(10, 150)) / 10,
            "speaker": f"speaker-{position % 3}",
            "recording": f"recording-{seed}-{position // 4}",
        }
        for position in range(samples)
        if position not in refused
    ]
    bad = [Refusal(Reason.UNDECODABLE_AUDIO, "", f"clip-{seed}-{p}", p) for p in refused]
    return ShardResult(vectors, kept, bad, hashlib.sha256(bytes([seed])).hexdigest(), 10_240)


def make_cache(
    location: Path, samples_per_shard: list[int], d_model: int = 8, words: int = 12, **changes
) -> TeacherCache:
    """A finished cache of random vectors, and of texts of up to so many words."""
    cache = TeacherCache.create_or_open(
        location, manifest(samples_per_shard), identity(d_model, **changes), {}
    )
    for shard, samples in enumerate(samples_per_shard):
        cache.write_shard(shard, shard_result(samples, d_model, shard, words=words), {})
    return cache


@dataclass(frozen=True)
class Samples:
    """The samples of a cache in manifest order, refused ones left out, as columns."""

    rows: np.ndarray = field(repr=False)
    keys: list[str] = field(repr=False)
    texts: list[str] = field(repr=False)
    durations_s: np.ndarray = field(repr=False)
    speakers: list[str | None] = field(repr=False)
    recordings: list[str | None] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)


def samples_of(cache: TeacherCache) -> Samples:
    """Keys, texts, durations and rows of everything written, in manifest order."""
    records = [record for shard in cache.receipts() for record in cache.shard_samples(shard)]
    return Samples(
        rows=np.array([r["row"] for r in records], dtype=np.int64),
        keys=[r["key"] for r in records],
        texts=[r["text"] for r in records],
        durations_s=np.array([r["duration_s"] for r in records], dtype=np.float32),
        speakers=[r["speaker"] for r in records],
        recordings=[r["recording"] for r in records],
    )


def vectors_of(cache: TeacherCache) -> np.ndarray:
    """Vectors `[n, d_model]` of everything written, in the order of `samples_of`."""
    blocks = [np.empty((0, cache.identity.d_model), cache.identity.dtype)]
    for shard in cache.receipts():
        rows = np.array([r["row"] for r in cache.shard_samples(shard)], dtype=np.int64)
        blocks.append(cache.block(shard)[rows - cache.rows_of(shard).start])
    return np.concatenate(blocks)


def wordpiece(cache: TeacherCache):
    """A tokenizer of 200 pieces trained on a cache's texts."""
    texts = samples_of(cache).texts
    return train_wordpiece(lambda: texts, 200, lowercase=True, max_tokens=32)
