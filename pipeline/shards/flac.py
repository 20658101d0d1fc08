"""FLAC's own length against its frames: streams that were written without knowing their end.

libsndfile believes STREAMINFO. A FLAC from a pipe has 0 there, and a piece that ffmpeg cut from a
stream has the end of the stream, counted from the beginning of another piece. The last frame's
header says where the sound really ends.

Source: RFC 9639, sections 8.2 (STREAMINFO) and 9.1 (frame headers).
"""

import io
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.foundation.units import Samples
from pipeline.shards.refusals import Reason, RefusedError

STREAMINFO_BYTES = 34
MAX_BLOCKS = 1000
HEADER_BYTES = 16  # the longest frame header
FIRST_WINDOW = 2**16
LAST_WINDOW = 2**24  # a frame has at most 65,535 samples of 8 channels of 32 bits
ID3V1_BYTES = 128  # a tag that may follow the last frame
MAX_CANDIDATES = 2_000
MAX_SUMMED_BYTES = 2**22
MAX_TOTAL = 2**36 - 1
RATE_SUFFIX = {12: 1, 13: 2, 14: 2}


@dataclass(frozen=True)
class Flac:
    """The length of a FLAC."""

    samples: Samples
    """Samples that are there."""
    claimed: Samples
    """Samples that STREAMINFO promises, from the first frame on; 0 if it promises nothing."""
    head: bytes
    """The file's first bytes, with the length that is there, for libsndfile to read."""
    is_believable: bool
    """Whether these are the file's own."""
    is_seekable: bool
    """Whether its first frame is the first of its stream; libsndfile finds no place otherwise."""


@dataclass(frozen=True)
class _Frame:
    first: Samples
    samples: Samples


def read_flac(content: BinaryIO) -> Flac | None:
    """Compare the length in a FLAC's header with its last frame.

    Returns:
        None if `content` is no FLAC, or its frames cannot be followed.

    Raises:
        RefusedError: its header does not say how long it is, and it ends within a frame.
    """
    content.seek(0)
    head = content.read(8 + STREAMINFO_BYTES)
    if head[:4] != b"fLaC" or len(head) < 8 + STREAMINFO_BYTES or head[4] & 0x7F:
        return None
    block_samples = int.from_bytes(head[10:12], "big")
    total = int.from_bytes(head[18:26], "big") & MAX_TOTAL
    at = _first_frame_at(content)
    if at is None:
        return None
    content.seek(at)
    first = _frame(content.read(HEADER_BYTES), 0, block_samples)
    if first is None:
        return None
    size = content.seek(0, io.SEEK_END)
    largest = int.from_bytes(head[15:18], "big")
    end = _end(content, at, size, block_samples, total, largest)
    if end is None:
        return None
    samples = end - first.first
    true_head = _with_total(head, samples)
    claimed = max(0, total - first.first) if total else 0
    return Flac(samples, claimed, true_head, true_head == head, first.first == 0)


def _end(
    content: BinaryIO, at: int, size: int, block_samples: Samples, total: Samples, largest: int
) -> Samples | None:
    """The sample after the last one, counted as the frames count."""
    window = min(largest + HEADER_BYTES, LAST_WINDOW) if largest else FIRST_WINDOW
    while True:
        begin = max(at, size - window)
        content.seek(begin)
        tail = content.read(size - begin)
        frames = list(_frames_in(tail, block_samples))
        if total and any(frame.first + frame.samples == total for _, frame in frames):
            return total
        whole = _last_whole(tail, frames)
        if whole is not None:
            if not total and _is_cut(frames, whole):
                fault = "it ends within a frame, and its header does not say how long it is"
                raise RefusedError(Reason.UNDECODABLE_AUDIO, fault)
            return whole[1]
        if begin == at or window >= LAST_WINDOW:
            return None
        window = max(window * 4, FIRST_WINDOW)


def _frames_in(tail: bytes, block_samples: Samples) -> list[tuple[int, _Frame]]:
    """Offsets of what looks like frames, in order; none if there is more than any sound has."""
    frames: list[tuple[int, _Frame]] = []
    for sync in (b"\xff\xf8", b"\xff\xf9"):
        at = tail.find(sync)
        while at >= 0 and len(frames) <= MAX_CANDIDATES:
            frame = _frame(tail, at, block_samples)
            if frame is not None:
                frames.append((at, frame))
            at = tail.find(sync, at + 1)
    if len(frames) > MAX_CANDIDATES:
        return []
    return sorted(frames, key=lambda placed: placed[0])


def _last_whole(tail: bytes, frames: list[tuple[int, _Frame]]) -> tuple[int, Samples] | None:
    """Where the last frame whose checksum is right ends, and its end in samples."""
    ends = [len(tail), len(tail) - ID3V1_BYTES]
    summed = 0
    for at, frame in reversed(frames):
        for end in ends:
            if end > at:
                summed += end - at
                if summed > MAX_SUMMED_BYTES:
                    return None
                if _crc16(tail[at:end]) == 0:
                    return end, frame.first + frame.samples
        ends.append(at)
    return None


def _is_cut(frames: list[tuple[int, _Frame]], whole: tuple[int, Samples]) -> bool:
    return any(at >= whole[0] for at, _ in frames)


def _first_frame_at(content: BinaryIO) -> int | None:
    content.seek(4)
    for _ in range(MAX_BLOCKS):
        header = content.read(4)
        if len(header) < 4:
            return None
        position = content.seek(int.from_bytes(header[1:], "big"), io.SEEK_CUR)
        if header[0] & 0x80:
            return position
    return None


def _frame(content: bytes, at: int, block_samples: Samples) -> _Frame | None:
    """The frame whose header is at `at`, if there is one."""
    head = content[at : at + HEADER_BYTES]
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    if size_code == 0 or rate_code == 15 or head[3] >> 4 > 10 or head[3] & 1:
        return None
    number_bytes = 1 if head[4] < 0x80 else 8 - (head[4] ^ 0xFF).bit_length()
    if number_bytes == 8 or (number_bytes == 1 and head[4] >= 0x80):
        return None
    number = head[4] if number_bytes == 1 else head[4] & (0x7F >> number_bytes)
    for byte in head[5 : 4 + number_bytes]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    end = 4 + number_bytes
    if size_code in (6, 7):
        extra = size_code - 5
        samples = int.from_bytes(head[end : end + extra], "big") + 1
        end += extra
    elif size_code == 1:
        samples = 192
    elif size_code < 6:
        samples = 576 << (size_code - 2)
    else:
        samples = 256 << (size_code - 8)
    end += RATE_SUFFIX.get(rate_code, 0)
    if end >= len(head) or _crc8(head[: end + 1]):
        return None
    variable = head[1] & 1
    return _Frame(number if variable else number * block_samples, samples)


def _with_total(head: bytes, samples: Samples) -> bytes:
    fields = int.from_bytes(head[18:26], "big") & ~MAX_TOTAL | min(samples, MAX_TOTAL)
    return head[:18] + fields.to_bytes(8, "big") + head[26:]


def _table(polynomial: int, bits: int) -> list[int]:
    top, mask = 1 << (bits - 1), (1 << bits) - 1
    table = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(value)
    return table


CRC8, CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(content: bytes) -> int:
    value = 0
    for byte in content:
        value = CRC8[value ^ byte]
    return value


def _crc16(content: bytes) -> int:
    value = 0
    for byte in content:
        value = (value << 8 & 0xFFFF) ^ CRC16[value >> 8 ^ byte]
    return value
