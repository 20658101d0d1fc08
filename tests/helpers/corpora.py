"""Small corpora in the layouts of others, as files of text and made-up speech."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.shards.corpora import open_source
from pipeline.shards.timed import Cutting


def put(path: Path, text: str | bytes = "") -> Path:
    """Write a file, its folders too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def put_audio(path: Path, seconds: float = 2.0, channels: int = 1, kind: str = "WAV") -> Path:
    """Write a recording of noise at 8 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(0).normal(0, 0.1, (round(8_000 * seconds), channels))
    soundfile.write(path, wave, 8_000, format=kind)
    return path


def read(source: Path, layout: str = "", **options: Any) -> list[Any]:
    """The entries and refusals of a source, whose layout must be detected as this one."""
    cutting = Cutting(**{n: options.pop(n) for n in ("tiers", "join_s") if n in options})
    opened = open_source(source, cutting=cutting, **options)
    assert opened.layout == layout
    first, second = list(opened.read()), list(opened.read())
    assert first == second
    return first


def told(entries: list[Any]) -> list[tuple[Any, ...]]:
    """Key, text and speaker of each entry; key and reason of each refusal."""
    return [
        (e.key, e.text, e.speaker) if hasattr(e, "text") else (e.key, str(e.reason))
        for e in entries
    ]
