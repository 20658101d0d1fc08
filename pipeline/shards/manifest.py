"""The data manifest: the list of tar shards, and how many samples and bytes each has."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline.foundation.atomic import write_text
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.progress import counted
from pipeline.foundation.storage import read_file, scheme_of
from pipeline.foundation.units import CLIP_SECONDS, MOST_CLIP_SECONDS
from pipeline.foundation.untrusted import has_control, parse_json

FIELDS = ("url", "samples", "bytes", "sha256")
MAX_SAMPLES = 1_000_000  # per tar; `speechkd shard` writes no more either
MAX_BYTES = 2**50


@dataclass(frozen=True)
class Shard:
    """One tar of the corpus, as the manifest lists it."""

    url: str
    """Path or URL; a relative one is relative to the manifest."""
    samples: int
    """Number of samples the tar holds."""
    bytes: int
    """Size of the tar."""
    sha256: str
    """SHA-256 of the tar, hexadecimal."""
    clip_seconds: int = CLIP_SECONDS
    """Seconds of the longest clip that the tar may hold; its line says so if it is not 15."""

    def record(self) -> dict[str, Any]:
        """The line of the manifest, as JSON values."""
        record = {name: getattr(self, name) for name in FIELDS}
        if self.clip_seconds != CLIP_SECONDS:
            record["clip_seconds"] = self.clip_seconds
        return record


@dataclass(frozen=True)
class Manifest:
    """An ordered list of shards. Their order decides which rows of a cache each one owns."""

    shards: tuple[Shard, ...]
    location: str
    """Path or URL of the manifest file, which relative urls of shards start from."""

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.shards)

    def __len__(self) -> int:
        return len(self.shards)

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes in all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def clip_seconds(self) -> int:
        """Seconds of the longest clip that any shard may hold."""
        return max((shard.clip_seconds for shard in self.shards), default=CLIP_SECONDS)

    @property
    def sha256(self) -> str:
        """Digest of the list of shards, hexadecimal.

        Only the base name of each url counts, so moving the tars does not change it.
        """
        return hashlib.sha256("".join(map(_digested, self.shards)).encode()).hexdigest()

    def resolve(self, shard: Shard) -> str:
        """Path or URL of a shard's tar; relative urls are completed by the manifest's folder."""
        if "://" in shard.url or Path(shard.url).is_absolute():
            return shard.url
        folder = self.location.rpartition("/")[0] or "."
        return f"{folder}/{shard.url}"


def read_manifest(location: str | Path) -> Manifest:
    """Read and check a data manifest: JSON lines of `url`, `samples`, `bytes`, `sha256`.

    A line may have `clip_seconds`, a whole number: the longest clip of its tar, if not 15 s.

    Raises:
        NotThere: there is no such file.
        Damaged: it is not JSON lines, a field is missing or of the wrong type, a shard is listed
            twice, or there is no shard. The message names file and line.
        SpeechkdError: it is a folder, or a url is of a kind that is not read.
    """
    location = str(location)
    try:
        text = read_file(location).decode()
    except FileNotFoundError:
        raise NotThere(
            f"{location}: there is no such data manifest. `speechkd shard` writes one beside "
            "its tars."
        ) from None
    except IsADirectoryError:
        raise SpeechkdError(
            f"{location} is a folder, not a data manifest. `speechkd shard` makes tars and their "
            "manifest from recordings; of a folder of tars name the manifest.jsonl in it."
        ) from None
    except UnicodeDecodeError as error:
        raise Damaged(
            f"{location} is not UTF-8 text ({error}); is it a manifest? "
            "`speechkd manifest` makes one of tars."
        ) from None
    return parse_manifest(text, location)


def parse_manifest(text: str, location: str) -> Manifest:
    """Parse the text of a data manifest.

    Args:
        text: its lines.
        location: its path or URL, for messages and for relative urls.

    Raises:
        SpeechkdError: as `read_manifest`.
    """
    shards = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            shards.append(_parse_line(line, f"{location}, line {number}"))
    if not shards:
        raise Damaged(f"{location} lists no shard; write it with `speechkd shard`.")
    url, times = Counter(shard.url for shard in shards).most_common(1)[0]
    if times > 1:
        raise Damaged(f"{location} lists {url} more than once; remove the repetition.")
    return Manifest(tuple(shards), location)


def write_manifest(path: Path, shards: Iterable[Shard]) -> None:
    """Write a data manifest, whole or not at all."""
    write_text(path, "".join(json.dumps(shard.record()) + "\n" for shard in shards))


def difference(before: Manifest, now: Manifest) -> str:
    """In which way two lists of tars differ, in words."""
    for line, (old, new) in enumerate(zip_longest(before, now), start=1):
        if old is None:
            return f"line {line} and on are new ({new.url} …); it had {counted(line - 1, 'tar')}"
        if new is None:
            return f"{old.url} and what follows it, from line {line} on, are no longer listed"
        if os.path.basename(old.url) != os.path.basename(new.url):
            return f"line {line} was {old.url}, and is {new.url} now"
        if (old.samples, old.sha256, old.clip_seconds) != (
            new.samples,
            new.sha256,
            new.clip_seconds,
        ):
            return (
                f"{new.url} (line {line}) has other content now: {counted(old.samples, 'sample')} "
                "then, "
                f"{new.samples:,} now"
            )
    return "only places differ"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digested(shard: Shard) -> str:
    limit = "" if shard.clip_seconds == CLIP_SECONDS else f" {shard.clip_seconds}"
    return f"{os.path.basename(shard.url)} {shard.samples} {shard.sha256}{limit}\n"


def _parse_line(line: str, where: str) -> Shard:
    try:
        record = parse_json(line)
    except ValueError as error:
        reason = getattr(error, "msg", error)
        raise Damaged(f"{where}: not JSON ({reason}); a manifest is JSON lines.") from None
    if not isinstance(record, dict):
        raise Damaged(f"{where}: expected an object with the fields {', '.join(FIELDS)}.")
    missing = [name for name in FIELDS if name not in record]
    if missing:
        raise Damaged(
            f"{where}: no field {', '.join(missing)}; each line needs {', '.join(FIELDS)}."
        )
    for name, most in (("samples", MAX_SAMPLES), ("bytes", MAX_BYTES)):
        value = record[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Damaged(f"{where}: {name} is {value!r}; it must be a positive integer.")
        if value > most:
            raise Damaged(f"{where}: {name} is {value:,}; a tar has at most {most:,}.")
    for name in ("url", "sha256"):
        if not isinstance(record[name], str) or not record[name]:
            raise Damaged(f"{where}: {name} is {record[name]!r}; it must be text.")
    if has_control(record["url"]):
        raise Damaged(f"{where}: url is {record['url']!r}; it has a control character.")
    scheme_of(record["url"])
    if len(record["sha256"]) != 64:
        raise Damaged(f"{where}: sha256 has {len(record['sha256'])} characters, not 64.")
    limit = record.get("clip_seconds", CLIP_SECONDS)
    if type(limit) is not int or not 1 <= limit <= MOST_CLIP_SECONDS:
        raise Damaged(
            f"{where}: clip_seconds is {limit!r}; it must be a whole number from 1 to "
            f"{MOST_CLIP_SECONDS}."
        )
    return Shard(**{name: record[name] for name in FIELDS}, clip_seconds=limit)
