"""What tars of others hold, for their manifest: samples, bytes, digest, and what is amiss."""

import fnmatch
import glob
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.storage import (
    absolute,
    file_size,
    files_below,
    local_path,
    open_stream,
)
from pipeline.foundation.untrusted import has_control, parse_json, read_text_file
from pipeline.shards.manifest import MAX_SAMPLES, Shard
from pipeline.shards.reading import fault_of
from pipeline.shards.tar import TarReader


@dataclass(frozen=True)
class Listed:
    """What one tar holds."""

    tar: str
    samples: int
    bytes: int
    sha256: str
    faults: Mapping[str, int]
    """Samples that stage one would refuse, by reason, as far as it shows without decoding."""
    examples: Mapping[str, str]
    """A sample of each reason, for people."""

    def shard(self, url: str, clip_seconds: int) -> Shard:
        """Its line of the manifest."""
        return Shard(url, self.samples, self.bytes, self.sha256, clip_seconds)

    @classmethod
    def from_record(cls, line: str) -> Self:
        """Read what was written for a command that was interrupted.

        Raises:
            ValueError: the line is half written.
        """
        try:
            return cls(**parse_json(line))
        except TypeError:
            raise ValueError(line) from None


def list_tar(tar: str) -> Listed:
    """Read a tar to its end.

    Raises:
        SpeechkdError: it is not there, is no tar, ends too early, or holds too many samples.
    """
    faults: Counter[str] = Counter()
    examples: dict[str, str] = {}
    keys: set[str] = set()
    with open_stream(tar) as file:
        reader = TarReader(file)
        samples = 0
        for sample in reader:
            refusal = fault_of(sample, samples, keys)
            samples += 1
            if refusal is not None:
                faults[refusal.reason] += 1
                examples.setdefault(refusal.reason, f"{refusal.key!r} of {tar}: {refusal.detail}")
    if reader.damage:
        raise Damaged(
            f"{tar} is no whole tar: {reader.damage}, after {counted(samples, 'sample')} and "
            f"{reader.bytes_read:,} bytes. Get it again, or leave it out. (A .tar.gz has to be "
            "unpacked to a .tar.)"
        )
    if samples > MAX_SAMPLES:
        raise SpeechkdError(
            f"{tar} holds {counted(samples, 'sample')}; a tar may have {MAX_SAMPLES:,}. Divide it."
        )
    return Listed(tar, samples, reader.bytes_read, reader.sha256, dict(faults), examples)


def lost_tar(tar: str) -> Listed:
    """For a tar whose reader died.

    Raises:
        SpeechkdError: always.
    """
    raise SpeechkdError(f"{tar}: the process that read it died, twice; for want of memory?")


def tars_named(names: Sequence[str]) -> list[str]:
    """The tars that names stand for: files, folders of tars, and patterns, also in object storage.

    Raises:
        SpeechkdError: a name stands for nothing, or a tar comes twice.
    """
    tars = [tar for name in names for tar in _named(name)]
    again = [tar for tar, count in Counter(tars).items() if count > 1]
    if again:
        raise SpeechkdError(f"{again[0]} is named twice; name each tar once.")
    for tar in tars:
        if has_control(tar):
            raise SpeechkdError(f"{tar!r} has a control character in its name; rename it.")
    return tars


def _named(name: str) -> list[str]:
    path = local_path(name)
    if path is not None and path.is_file():
        return [name]
    folder, _, pattern = name.rpartition("/")
    if not any(sign in name for sign in "*?["):
        if path is None and name.endswith(".tar"):
            return [name]
        if path is not None and not path.exists():
            raise NotThere(f"{name}: there is no such file or folder; check the path.")
        folder, pattern = name.rstrip("/"), "*.tar"
        found = [f"{folder}/{tar}" for tar in files_below(folder) if tar.endswith(".tar")]
    elif path is not None:
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (of any root)
    else:
        within = files_below(folder)
        found = [f"{folder}/{tar}" for tar in within if fnmatch.fnmatchcase(tar, pattern)]
    if not found:
        raise NotThere(f"{name}: no tar is there. Name tars, a folder of them, or a pattern.")
    return found


def url_from(manifest: Path, tar: str) -> str:
    """A tar as its manifest names it: relative if it lies beside or below it, else whole."""
    path = local_path(tar)
    if path is None:
        return tar
    whole, folder = Path(absolute(str(path))), manifest.absolute().parent
    return str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole)


class Progress:
    """The tars that an interrupted command has read, in a file beside the manifest.

    A tar counts as read if its size is still the same.

    Args:
        manifest: the manifest that is to be written.
    """

    def __init__(self, manifest: Path) -> None:
        self._path = manifest.with_name(f".{manifest.name}.unfinished")
        self._listed: dict[str, Listed] = {}
        try:
            lines = read_text_file(self._path).splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            try:
                listed = Listed.from_record(line)
            except ValueError:  # the last line of a command that was killed
                continue
            self._listed[listed.tar] = listed

    def __contains__(self, tar: str) -> bool:
        return tar in self._listed and self._listed[tar].bytes == file_size(tar)

    def __getitem__(self, tar: str) -> Listed:
        return self._listed[tar]

    def add(self, listed: Listed) -> None:
        """Note a tar that has been read."""
        self._listed[listed.tar] = listed
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(listed)) + "\n")

    def remove(self) -> None:
        """The manifest is there, so this is needed no more."""
        self._path.unlink(missing_ok=True)
