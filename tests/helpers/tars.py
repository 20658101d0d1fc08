"""Tars and manifests made by code, good ones and bad ones."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.shards.manifest import Shard, write_manifest
from tests.helpers.whispers import speechlike

Members = Iterable[tuple[str, bytes]]


def audio(samples: int = 4_000, seed: int = 0, kind: str = "FLAC", **options: Any) -> bytes:
    """Made-up speech as the bytes of an audio file."""
    return encoded(speechlike(samples, seed), kind=kind, **options)


def encoded(wave: np.ndarray, rate: int = 16_000, kind: str = "FLAC", **options: Any) -> bytes:
    """A wave `[S]` or `[S, C]` as the bytes of an audio file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind, **options)
    return buffer.getvalue()


def sample(key: str, seed: int = 0, samples: int = 4_000, text: str | None = None) -> Members:
    """The two members of a good sample."""
    described = {"text": text or f"this is clip {key}", "speaker": f"s{seed % 3}", "recording": key}
    return [
        (f"{key}.flac", audio(samples, seed)),
        (f"{key}.json", json.dumps(described).encode()),
    ]


def tar_bytes(members: Members) -> bytes:
    """A tar of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def line(content: bytes, samples: int, url: str = "a.tar") -> Shard:
    """The manifest's line for a tar."""
    return Shard(url, samples, len(content), hashlib.sha256(content).hexdigest())


def write_corpus(folder: Path, counts: list[int], samples: int = 4_000) -> Path:
    """Good tars of `counts` clips each, and their manifest, whose path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    shards, seed = [], 0
    for number, count in enumerate(counts):
        members: list[tuple[str, bytes]] = []
        for place in range(count):
            members += sample(f"clip-{number}-{place}", seed, samples + 97 * (seed % 13))
            seed += 1
        content = tar_bytes(members)
        (folder / f"{number}.tar").write_bytes(content)
        shards.append(line(content, count, f"{number}.tar"))
    write_manifest(folder / "manifest.jsonl", shards)
    return folder / "manifest.jsonl"
