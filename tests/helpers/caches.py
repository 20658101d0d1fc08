"""Small made-up corpora for tests: teacher caches without audio or a teacher."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.cache.identity import Dtype, Identity, Kind, Value, sequence_identity, vector_identity
from pipeline.cache.store import TeacherCache
from pipeline.cache.vectors import ShardResult, write_vectors
from pipeline.cache.writing import ShardWriter
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


def identity(d_model: int = 8, **changes: Any) -> Identity:
    fields: dict[str, Any] = {
        "teacher": "made-up",
        "teacher_sha256": "0" * 64,
        "pooling": "fixed750",
    }
    return vector_identity(**{**fields, "d_model": d_model, "dtype": "float32", **changes})


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
    written = [
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
    return ShardResult(vectors, written, bad, hashlib.sha256(bytes([seed])).hexdigest(), 10_240)


def make_cache(
    location: Path, samples_per_shard: list[int], d_model: int = 8, words: int = 12, **changes: Any
) -> TeacherCache:
    """A finished cache of random vectors, and of texts of up to so many words."""
    cache = TeacherCache.create_or_open(
        location, manifest(samples_per_shard), identity(d_model, **changes), {}
    )
    for shard, samples in enumerate(samples_per_shard):
        write_vectors(cache, shard, shard_result(samples, d_model, shard, words=words), {})
    return cache


def make_sequence_cache(
    location: Path,
    samples_per_shard: list[int],
    kind: Kind = "whisper-mel",
    width: int = 8,
    *,
    most_rows: int = 20,
    hop_samples: int = 160,
    dtype: Dtype = "float16",
    rows_per_object: int = 64,
    words: int = 12,
    only: list[int] | None = None,
    unfinished: tuple[int, ...] = (),
    **settings: Value,
) -> TeacherCache:
    """A finished cache of 1 to `most_rows` random rows per clip.

    Keys, texts, speakers and recordings are those of `make_cache`, so that two made caches can be
    joined. Of kind `words` a clip has a row per word of its text; of kind `text` ids are random.

    Args:
        location: where to make it.
        samples_per_shard: clips of each shard.
        kind: any but `vector`.
        width: of a row.
        most_rows: of a clip.
        hop_samples: samples from one row to the next.
        dtype: of the stored values.
        rows_per_object: few, so that clips cross the ends of objects.
        words: the most of a text.
        only: positions of the clips that each shard has; the others are refused. None for all.
        unfinished: shards that are left out.
        settings: of the kind.
    """
    identity = sequence_identity(
        kind,
        width=width,
        most_rows=most_rows,
        hop_samples=hop_samples,
        dtype=dtype,
        rows_per_object=rows_per_object,
        settings=settings,
    )
    cache = TeacherCache.create_or_open(location, manifest(samples_per_shard), identity, {})
    for shard, samples in enumerate(samples_per_shard):
        if shard not in unfinished:
            refused = tuple(p for p in range(samples) if only is not None and p not in only)
            write_sequences(cache, shard, shard_result(samples, 1, shard, refused, words))
    return cache


def write_sequences(cache: TeacherCache, shard: int, result: ShardResult, seed: int = 0) -> None:
    """Write random rows of a result's samples."""
    rng, identity = np.random.default_rng([seed, shard]), cache.identity
    writer = ShardWriter(cache, shard)
    for sample in result.samples:
        count = int(rng.integers(1, identity.most_rows + 1))
        record: dict[str, Any] = {}
        if identity.kind == "words":
            record = {"words": spoken(sample["text"], sample["duration_s"])}
            count = len(record["words"])
        rows = rng.standard_normal((count, identity.width)).astype(np.float32)
        ids = rng.integers(0, 1000, count) if identity.kind == "text" else None
        writer.append([sample["position"]], rows, [count], records=[record], ids_N=ids)
    receipt = writer.finish(
        result.samples, result.refused, result.input_sha256, result.input_bytes, {}
    )
    assert receipt.sound


def spoken(text: str, duration_s: float) -> list[dict[str, Any]]:
    """The words of a text, said one after the other, each as long as the others."""
    words = text.split()
    each = duration_s / len(words)
    return [
        {"text": word, "start_s": i * each, "end_s": (i + 1) * each, "trusted": True}
        for i, word in enumerate(words)
    ]


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
    blocks = [np.empty((0, cache.identity.width), cache.identity.dtype)]
    for shard in cache.receipts():
        rows = np.array([r["row"] for r in cache.shard_samples(shard)], dtype=np.int64)
        blocks.append(cache.block(shard)[rows - cache.rows_of(shard).start])
    return np.concatenate(blocks)


def wordpiece(cache: TeacherCache) -> PreTrainedTokenizerBase:
    """A tokenizer of 200 pieces trained on a cache's texts."""
    texts = samples_of(cache).texts
    return train_wordpiece(lambda: texts, 200, lowercase=True, max_tokens=32)
