"""Entries of a source, from which samples are made; rules for suffixes, texts and keys."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.units import Seconds
from pipeline.foundation.untrusted import has_control, is_unicode
from pipeline.shards.transcripts.segment import TimedWord

DECODED_SUFFIXES = (
    *(".flac", ".wav", ".mp3", ".ogg", ".oga", ".opus"),
    *(".aif", ".aifc", ".aiff", ".au", ".caf", ".rf64", ".w64", ".sph"),
)
"""Suffixes of recordings that libsndfile reads, in a folder as in a tar."""
CONVERTED_SUFFIXES = (
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".asf", ".avi", ".flv", ".m4a", ".m4b", ".m4v"),
    *(".mka", ".mkv", ".mov", ".mp4", ".mpc", ".mpeg", ".mpg", ".spx", ".tta", ".webm", ".wma"),
    *(".wmv", ".wv"),
)
"""Suffixes of recordings and films that ffmpeg reads, where it is installed."""
AUDIO_SUFFIXES = (*DECODED_SUFFIXES, *CONVERTED_SUFFIXES)
MAX_TEXT_BYTES = 2**20
"""Largest .json or .txt of a sample, as it lies in the tar."""
MAX_KEY_BYTES = 4096
MAX_KEY_PART_BYTES = 240  # so that with a suffix it is a legal file name once the tar is unpacked


@dataclass(frozen=True)
class Entry:
    """What a sample is made from: a recording, or a segment of one, and what is said in it."""

    key: str
    """Name in the tar: the source's own id if it has one, else the path without its suffix."""
    path: Path
    text: str
    speaker: str | None
    recording: str
    """What the entry is a part of; samples of one recording are not independent."""
    where: str
    """File and line that the entry comes from, for messages."""
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    words: tuple[TimedWord, ...] = ()
    """Its words with their times from the start of the segment, if the source tells them."""
    channel: int | None = None
    """The one channel it is said on, from 0; None for the mean of all."""


def key_fault(key: str, *, as_path: bool) -> str:
    """What forbids `key` as the name of a sample, or "" if nothing does.

    Args:
        key: the name of a sample's members without their suffix.
        as_path: whether it must also be a safe relative path, because `speechkd shard` is about
            to write it. In the tars of other tools a key is only an id: nothing is unpacked.
    """
    if not is_unicode(key):
        return "it is not valid Unicode"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"it is longer than {MAX_KEY_BYTES:,} bytes"
    if has_control(key):
        return "it has a control character or a line break"
    if not as_path:
        return ""
    if not key:
        return "it is empty"
    if "\\" in key:
        return "it has a backslash"
    parts = key.split("/")
    if any(part in ("", ".", "..") or part != part.strip() for part in parts):
        return "it has an empty part, '.', '..' or blanks at an end of a part"
    if parts[-1].startswith("."):
        return "it begins with a dot, and hidden members of a tar are passed over"
    if max(len(part.encode()) for part in parts) > MAX_KEY_PART_BYTES:
        return f"a part of it is longer than {MAX_KEY_PART_BYTES} bytes"
    return ""


def is_file(path: Path) -> bool:
    """Whether there is such a file; False for a path too long to be one, where `Path` raises."""
    return os.path.isfile(path)  # noqa: PTH113


def key_of_path(path: str) -> str:
    """Key of a recording without an id: its path as a relative one, without the suffix."""
    parts = [part for part in Path(path).parts if part not in ("/", "//", ".", "..")]
    name = "/".join(parts)
    stem, _, suffix = name.rpartition(".")
    is_named = bool(stem.rpartition("/")[2].strip("."))  # not so ".wav", "a/.wav", "...wav"
    return stem if is_named and f".{suffix.lower()}" in AUDIO_SUFFIXES else name
