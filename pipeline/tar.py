"""A tar shard → its samples in order, with the digest of every byte that was read.

The standard library's reader is used, not webdataset's: of a tar cut in a header or between two
members webdataset gives the samples before the cut and no error, and it splits a name at its
first dot. Here bytes are counted and hashed, so the caller can hold them against the manifest.
Names are keys only: nothing is unpacked to disk, links and devices are passed over, and nothing
is unpickled.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

MAX_MEMBER_BYTES = 128 * 2**20  # 15 s of 8 channels at 192 kHz in 32 bits is 92 MB
DRAIN_BYTES = 2**20


@dataclass
class TarSample:
    """Adjacent members of one key.

    Attributes:
        key: name without its last suffix, folder included.
        members: content by suffix in lower case, without the dot.
        too_large: suffixes of members that were over `MAX_MEMBER_BYTES` and not read.
    """

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    too_large: list[str] = field(default_factory=list)

    def holds(self, suffix: str) -> bool:
        """Whether a member with this suffix was there, read or not."""
        return suffix in self.members or suffix in self.too_large


def split_name(name: str) -> tuple[str, str]:
    """Key and suffix of a member: split at the last dot of the base name, so keys keep theirs.

    >>> split_name("a.b/vid_1.0_2.5.FLAC")
    ('a.b/vid_1.0_2.5', 'flac')
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.rpartition(".")
    if not dot:
        return name, ""
    return f"{folder}{slash}{stem}", suffix.lower()


class TarReader:
    """Iterates over the samples of a tar once.

    Args:
        file: the tar, read from its current position to its end.

    Attributes:
        damage: what was wrong with the tar's structure, once iteration is over, or "".
        bytes_read: its size, once iteration is over.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = _Hashing(file)
        self.damage = ""

    @property
    def bytes_read(self) -> int:
        """Bytes read so far."""
        return self._file.count

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes read so far, hexadecimal."""
        return self._file.digest.hexdigest()

    def __iter__(self) -> Iterator[TarSample]:
        sample: TarSample | None = None
        for name, content in self._members():
            key, suffix = split_name(name)
            if sample is not None and (sample.key != key or sample.holds(suffix)):
                yield sample
                sample = None
            if sample is None:
                sample = TarSample(key)
            if content is None:
                sample.too_large.append(suffix)
            else:
                sample.members[suffix] = content
        if sample is not None:
            yield sample
        while self._file.read(DRAIN_BYTES):  # the padding after the last member counts too
            pass

    def _members(self) -> Iterator[tuple[str, bytes | None]]:
        """Names and contents of regular files; the content is None where it is too large."""
        try:
            with tarfile.open(fileobj=self._file, mode="r|") as tar:  # type: ignore[call-overload]
                for info in tar:
                    tar.members = []  # it would keep every header
                    if not info.isreg():
                        continue
                    if info.size > MAX_MEMBER_BYTES:
                        yield info.name, None
                        continue
                    opened = tar.extractfile(info)
                    content = opened.read() if opened else b""
                    if len(content) != info.size:  # tarfile may give less, in silence
                        raise tarfile.ReadError("unexpected end of data")
                    yield info.name, content
        except (tarfile.TarError, EOFError) as error:
            self.damage = str(error)


class _Hashing:
    """A file that counts and hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.count, self.digest = file, 0, hashlib.sha256()

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self.count += len(content)
        self.digest.update(content)
        return content
