"""What a recording's container says of its length, against the bytes that are there.

libsndfile reads a file that was cut off as a shorter one, and of most formats it does not say so.
"""

import io
from dataclasses import dataclass
from typing import BinaryIO, Literal

from pipeline.shards.refusals import Reason, RefusedError

STREAMED_BYTES = 0x7FFF_0000  # a WAV that claims more than this was written to a pipe
MOST_BYTES = 2**62  # of a chunk; a stream of unknown length claims more
SPARE_BYTES = 4096  # of tags and padding after the sound
MAX_CHUNKS = 1000  # before the sound; a file of empty ones would take for ever to read
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
NIST_SIZES = (b"sample_count", b"channel_count", b"sample_n_bytes")
OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # the longest page


@dataclass(frozen=True)
class _Chunks:
    """How the chunks of a format are headed."""

    first: int
    """Offset of the first one."""
    name_bytes: int
    size_bytes: int
    order: Literal["big", "little"]
    counts_header: bool = False
    """Whether a chunk's size includes its header."""
    aligned: int = 2


def check_whole(content: BinaryIO) -> None:
    """Refuse no bytes, and a recording that ends before its own header says.

    Known are WAV, RF64, AIFF, CAF, W64, AU and Ogg; MP3 and FLAC are counted when they are read.
    Afterwards `content` stands at its start again.

    Raises:
        RefusedError: as said.
    """
    size = content.seek(0, io.SEEK_END)
    if not size:
        raise RefusedError(Reason.EMPTY_AUDIO, "no bytes")
    content.seek(0)
    head = content.read(32)
    missing = _missing_bytes(content, head, size)
    if missing > 0:
        fault = f"its last {missing} bytes are missing"
        raise RefusedError(Reason.UNDECODABLE_AUDIO, fault)
    content.seek(0)


def _missing_bytes(content: BinaryIO, head: bytes, size: int) -> int:
    kind, form = head[:4], head[8:12]
    if kind in (b"RIFF", b"RIFX", b"RF64", b"BW64") and form == b"WAVE":
        chunks = _Chunks(12, 4, 4, "big" if kind == b"RIFX" else "little")
        end = _sound_end(content, chunks, b"data")
        if kind == b"RIFF" and 0 < end < size:
            _check_surplus(content, end, size)
    elif kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        end = _sound_end(content, _Chunks(12, 4, 4, "big"), b"SSND")
    elif kind == b"caff":
        end = _sound_end(content, _Chunks(8, 4, 8, "big", aligned=1), b"data")
    elif head[:16] == W64_RIFF:
        end = _sound_end(content, _Chunks(40, 16, 8, "little", True, 8), W64_DATA)
    elif kind == b".snd":
        length = int.from_bytes(head[8:12], "big")
        end = 0 if length == 2**32 - 1 else int.from_bytes(head[4:8], "big") + length
    elif kind == b"OggS":
        end = _last_page_end(content, size)
    elif head[:8] == b"NIST_1A\n":
        end = _nist_end(content)
    else:
        return 0
    return end - size


def _sound_end(content: BinaryIO, chunks: _Chunks, sound: bytes) -> int:
    """Where the sound ends according to the header; 0 if that says nothing."""
    content.seek(chunks.first)
    header_bytes = chunks.name_bytes + chunks.size_bytes
    long_size = 0
    for _ in range(MAX_CHUNKS):
        header = content.read(header_bytes)
        if len(header) < header_bytes:
            return 0
        name = header[: chunks.name_bytes]
        length = int.from_bytes(header[chunks.name_bytes :], chunks.order)
        if name == b"ds64":  # RF64 keeps the size of its sound there
            fields = content.read(16)
            content.seek(-len(fields), io.SEEK_CUR)
            long_size = int.from_bytes(fields[8:16], "little")
        if name == sound:
            if length == 2**32 - 1 and long_size:
                length = long_size
            elif chunks.size_bytes == 4 and length >= STREAMED_BYTES:
                return 0  # a stream's header holds the largest number, since it knew no better
            if length >= MOST_BYTES:
                return 0
            return content.tell() + length - (header_bytes if chunks.counts_header else 0)
        if chunks.counts_header:
            length -= header_bytes
        if not 0 <= length < MOST_BYTES:
            return 0
        content.seek(length + -length % chunks.aligned, io.SEEK_CUR)
    fault = f"over {MAX_CHUNKS:,} chunks and no sound"
    raise RefusedError(Reason.UNDECODABLE_AUDIO, fault)


def _check_surplus(content: BinaryIO, end: int, size: int) -> None:
    """Refuse a WAV after whose sound more follows than the chunks of a WAV.

    It was not closed by its recorder, or two were joined byte by byte; libsndfile would read it up
    to the length in the first header.
    """
    at = end + end % 2
    while at + 8 <= size:
        content.seek(at)
        name = content.read(4)
        length = int.from_bytes(content.read(4), "little")
        if name == b"RIFF" or (not name.isalnum() and not name.strip(b" ").isalnum()):
            break
        if at + 8 + length > size:
            break
        at += 8 + length + length % 2
    content.seek(at)
    if size - at > SPARE_BYTES and any(content.read(SPARE_BYTES)):
        fault = f"its header ends the sound at byte {end:,}, and {size - at:,} bytes more follow"
        raise RefusedError(Reason.UNDECODABLE_AUDIO, f"{fault}; mend its header, or divide it")


def _last_page_end(content: BinaryIO, size: int) -> int:
    """Where the last page of an Ogg file ends according to its header.

    A file that lacks its last pages cannot be told from a stream that nobody has closed, which
    must be read (RFC 7845, section 5). A cut nearly always falls within a page.
    """
    begin = max(0, size - OGG_PAGE_BYTES)
    content.seek(begin)
    tail = content.read(OGG_PAGE_BYTES)
    at = tail.rfind(b"OggS")
    header = tail[at : at + 27]
    if at < 0 or len(header) < 27:
        return size + 1
    if header[14:18] not in _first_serials(content):
        fault = "several Ogg streams follow each other, of which only the first would be read"
        remedy = "make one of them (`ffmpeg -i in.ogg out.flac`)"
        raise RefusedError(Reason.UNDECODABLE_AUDIO, f"{fault}; {remedy}")
    segments = header[26]
    lacing = tail[at + 27 : at + 27 + segments]
    return begin + at + 27 + segments + sum(lacing)


def _first_serials(content: BinaryIO) -> set[bytes]:
    """Serial numbers of the streams that an Ogg file begins with."""
    serials: set[bytes] = set()
    content.seek(0)
    while True:
        header = content.read(27)
        if len(header) < 27 or not header[5] & 2 or len(serials) > MAX_CHUNKS:
            return serials
        serials.add(header[14:18])
        content.seek(sum(content.read(header[26])), io.SEEK_CUR)


def _nist_end(content: BinaryIO) -> int:
    """Where the sound of an uncompressed SPHERE file ends; 0 if its header does not say."""
    content.seek(8)
    header_bytes = content.readline(16).strip()
    if not header_bytes.isdigit() or int(header_bytes) > 2**16:
        return 0
    content.seek(16)
    fields = {
        words[0]: words[2]
        for line in content.read(int(header_bytes) - 16).split(b"\n")
        if len(words := line.split(None, 2)) == 3
    }
    sizes = [fields.get(name, b"") for name in NIST_SIZES]
    if b"shorten" in fields.get(b"sample_coding", b"") or not all(map(bytes.isdigit, sizes)):
        return 0
    samples, channels, sample_bytes = map(int, sizes)
    return int(header_bytes) + samples * channels * sample_bytes
