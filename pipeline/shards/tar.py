"""A tar shard → its samples in order, with the digest of every byte that was read.

It uses the standard library's reader, not webdataset's. If a tar is cut in a header or between two
members, webdataset gives the samples before the cut and no error; and it splits a name at its
first dot. Here bytes are counted and hashed, so that the caller can compare them with the
manifest. Names are only keys: nothing is unpacked to disk or unpickled. Links, devices and hidden
files are skipped.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

MAX_MEMBER_BYTES = 128 * 2**20  # 15 s of 8 channels at 192 kHz in 32 bits is 92 MB
MAX_MEMBERS = 32  # per sample
MAX_NAME_BYTES = 64 * 2**10  # per long name or extended header of a member
MAX_HEADERS = 1000  # keywords that a tar may set for all its members
MAX_EMPTY_READS = 8  # tarfile skips a member that claims 2**63 bytes block by block
DRAIN_BYTES = 2**20


@dataclass
class TarSample:
    """Members of one key that stand side by side.

    Attributes:
        key: name without its last suffix, folder included.
        members: content by suffix in lower case, without the dot.
        too_large: suffixes of members that were not read, because with them the sample would
            have over `MAX_MEMBER_BYTES`.
        surplus: number of members beyond `MAX_MEMBERS`, which were not read either.
    """

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    too_large: list[str] = field(default_factory=list)
    surplus: int = 0

    def holds(self, suffix: str) -> bool:
        """Whether a member with this suffix was there, read or not."""
        return suffix in self.members or suffix in self.too_large


def split_name(name: str) -> tuple[str, str]:
    """Key and suffix of a member, split at the last dot of its base name; keys may hold dots.

    >>> split_name("a.b/vid_1.0_2.5.FLAC")
    ('a.b/vid_1.0_2.5', 'flac')
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.rpartition(".")
    if not dot:
        return name, ""
    return f"{folder}{slash}{stem}", suffix.lower()


class TarReader:
    """Iterates once over the samples of a tar.

    Args:
        file: the tar, read from its current position to its end.

    Attributes:
        damage: what is wrong with the tar's structure, or ""; known once iteration is over.
        bytes_read: bytes so far; the tar's size once iteration is over.
        hidden: number of hidden members, which were passed over.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = _Hashing(file)
        self.damage = ""
        self.hidden = 0

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
        for tar, info in self._infos():
            if info.name.rpartition("/")[2].startswith("."):
                self.hidden += 1
                continue  # macOS puts a ._name beside each file, which is not what its suffix says
            key, suffix = split_name(info.name)
            if sample is not None and (sample.key != key or sample.holds(suffix)):
                yield sample
                sample = None
            if sample is None:
                sample = TarSample(key)
            if len(sample.members) + len(sample.too_large) >= MAX_MEMBERS:
                sample.surplus += 1
            elif sum(map(len, sample.members.values())) + info.size > MAX_MEMBER_BYTES:
                sample.too_large.append(suffix)
            elif (content := self._content(tar, info)) is not None:
                sample.members[suffix] = content
            elif not sample.members and not sample.too_large:
                sample = None
        if sample is not None:
            yield sample
        self._file.empty_reads = 0
        while self._file.read(DRAIN_BYTES):  # the padding after the last member counts too
            pass

    def _infos(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """The regular files, each while its content can be read."""
        try:
            with tarfile.open(fileobj=self._file, mode="r|", tarinfo=_Header) as tar:  # type: ignore[call-overload]
                for info in tar:
                    tar.members = []  # it would keep every header
                    if info.isreg():
                        yield tar, info
                    if self.damage:
                        break
        # tarfile lets through whatever its parsing of a broken header raises
        except (tarfile.TarError, EOFError, ValueError, RecursionError, OverflowError) as error:
            self.damage = str(error) or type(error).__name__

    def _content(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | None:
        """A member's content; None if the tar ends within it, and then `damage` says so."""
        try:
            opened = tar.extractfile(info)
            content = opened.read() if opened else b""
            if len(content) == info.size:  # tarfile may give less, in silence
                return content
            self.damage = "unexpected end of data"
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            self.damage = str(error)
        return None


class _Header(tarfile.TarInfo):
    """A header with bounded extensions, because tarfile reads them whole and keeps global ones.

    Sparse members are refused: no recording needs one, and their maps can be of any length.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        named = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        extended = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if self.type in (*named, *extended) and not 0 <= self.size <= MAX_NAME_BYTES:
            raise tarfile.ReadError(f"an extended header of {self.size:,} bytes")
        if len(tar.pax_headers) > MAX_HEADERS:
            raise tarfile.ReadError(f"over {MAX_HEADERS:,} global headers")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member

    def _refuse_sparse(self, *_: object) -> NoReturn:
        raise tarfile.ReadError("a sparse member")

    # The four ways of tarfile to read such a map: the GNU format's own, and PAX 0.0, 0.1 and 1.0.
    _proc_sparse = _refuse_sparse
    _proc_gnusparse_00 = _refuse_sparse
    _proc_gnusparse_01 = _refuse_sparse
    _proc_gnusparse_10 = _refuse_sparse


class _Hashing:
    """A file that counts and hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.count, self.digest = file, 0, hashlib.sha256()
        self.empty_reads = 0

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self.empty_reads += not content
        if self.empty_reads > MAX_EMPTY_READS:
            raise EOFError("unexpected end of data")
        self.count += len(content)
        self.digest.update(content)
        return content
