"""MP3 frame by frame: how long one really is, and any part of it as an MP3 of its own.

libsndfile takes an MP3's length from a header (Xing, Info, VBRI). Where there is none it estimates
it from the first frames, and then reads no further than that. Here every frame is counted.

A part of an MP3 that begins in its middle lacks the bits that its first frames have left in earlier
ones (the reservoir). libsndfile's decoder complains about each on the terminal. In the parts made
here such frames are silent, and lie before what is wanted.

Source: ISO/IEC 11172-3 and 13818-3 (frames, side information); LAME 3.100's and Fraunhofer's tags.
"""

import mmap
from array import array
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

from pipeline.foundation.units import Hertz, Samples

Bytes: TypeAlias = "bytes | mmap.mmap"

BITRATES_KBPS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG-1
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2 and 2.5
)
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
SAME_BITS = 0xFFFE0C00  # sync, version, layer and rate: alike in all frames of a file
JUNK_BYTES = 2**16  # at most, before the first frame or between two
DECODER_DELAY: Samples = 529  # of a Layer III decoder; LAME's tag gives the encoder's alone
READ_WHOLE_BYTES = 2**23  # at most; of a longer file only the headers are touched
TAG_BYTES = 4 + 32 + 120 + 24  # a header, its side information, Xing's fields, LAME's
RESERVOIR_BYTES = 511  # the farthest that a frame refers back, past headers and side information
MOST_SIDE_BYTES = 4 + 2 + 32
PREROLL_FRAMES = 8  # a frame depends on the one before, and on what the filters remember of it


@dataclass(frozen=True)
class Mp3:
    """Where the frames of an MP3 lie, and what its header says of its length."""

    header: int
    """The first frame's, 32 bits."""
    starts: "array[int]"
    """Offset of each frame that holds sound, and at the end that of the last one's end."""
    claimed_frames: int
    """Frames according to a Xing, Info or VBRI header; 0 without one."""
    skipped: Samples
    """Samples that decoders drop at the start, because an encoder put them there."""
    padding: Samples
    """Samples that the encoder put at the end, and its decoder's delay."""
    without_gaps: bool
    """Whether the frames follow each other without anything between."""

    @property
    def is_plain(self) -> bool:
        """Whether libsndfile reads all of it as it is, because its header says how long it is."""
        return self.without_gaps and self.claimed_frames == len(self.starts) - 1

    @property
    def rate(self) -> Hertz:
        """Samples per second."""
        return RATES_HZ[self.header >> 19 & 3][self.header >> 10 & 3]

    @property
    def channels(self) -> int:
        """Channels of the first frame, and of the decoded sound."""
        return 1 if _is_mono(self.header) else 2

    @property
    def frame_samples(self) -> Samples:
        """Samples per frame."""
        return 1152 if _is_mpeg1(self.header) else 576

    @property
    def samples(self) -> Samples:
        """Samples that are there, without those that decoders drop."""
        frames = len(self.starts) - 1
        whole = frames * self.frame_samples
        if frames == self.claimed_frames:
            whole -= max(0, self.padding - DECODER_DELAY)
        return max(0, whole - self.skipped)

    @property
    def claimed_samples(self) -> Samples:
        """Samples that the header promises; 0 if it promises nothing."""
        whole = self.claimed_frames * self.frame_samples
        return max(0, whole - self.skipped - max(0, self.padding - DECODER_DELAY))


def read_mp3(path: Path) -> Mp3 | None:
    """The frames of an MP3 file; None if it is no MP3, or one that cannot be followed."""
    stat = path.stat()
    return _read_mp3(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)  # the segments of a recording come one after the other
def _read_mp3(path: Path, size: int, modified: int) -> Mp3 | None:  # noqa: ARG001
    with path.open("rb") as file:
        if size <= READ_WHOLE_BYTES:
            return find_frames(file.read())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return find_frames(content)


def find_frames(content: Bytes) -> Mp3 | None:
    """The frames of an MP3 (Layer III); None if it is none, or one that cannot be followed."""
    begin = _after_id3(content, 0)
    first = None if content[begin : begin + 4] == b"fLaC" else _next_frame(content, begin, None)
    if first is None:
        return None
    header = _header(content, first)
    lengths: dict[int, int] = {}
    starts = array("Q")
    at, size, gaps = first, len(content), False
    while at + 4 <= size:
        bits = int.from_bytes(content[at : at + 4], "big")
        length = lengths.get(bits)
        if length is None:
            length = _frame_bytes(bits) if (bits ^ header) & SAME_BITS == 0 else 0
            lengths[bits] = length
        if length and at + length <= size:
            starts.append(at)
            at += length
            continue
        following = None if length else _next_frame(content, _after_id3(content, at), header)
        if following is None:
            break
        at, gaps = following, True
    if not starts:
        return None
    last = starts[-1]
    starts.append(last + _frame_bytes(_header(content, last)))
    claimed, skipped, padding = _tag(content, starts[0], header)
    if claimed is None:
        return Mp3(header, starts, 0, 0, 0, not gaps)
    return Mp3(header, starts[1:], claimed, skipped, padding, not gaps)


def part(file: BinaryIO, mp3: Mp3, begin: Samples, end: Samples) -> tuple[bytes, Samples]:
    """Frames of an MP3 as an MP3 of its own.

    Args:
        file: the MP3.
        mp3: its frames.
        begin: the first sample wanted.
        end: the one after the last.

    Returns:
        An MP3, and how many of its decoded samples lie before the first one wanted.
    """
    size, frames = mp3.frame_samples, len(mp3.starts) - 1
    wanted = first = min((begin + mp3.skipped) // size, frames)
    reservoir = 0  # bytes before the frames that are decoded on the way to the wanted one
    while first > 0 and (wanted - first < PREROLL_FRAMES or reservoir < RESERVOIR_BYTES):
        first -= 1
        if wanted - first > PREROLL_FRAMES:
            reservoir += max(0, mp3.starts[first + 1] - mp3.starts[first] - MOST_SIDE_BYTES)
    last = max(first, min(-(-(end + mp3.skipped) // size) + 2, frames))
    file.seek(mp3.starts[first])
    content = file.read(mp3.starts[last] - mp3.starts[first])
    pieces = [_tag_frame(mp3.header, last - first + 1), _silent_frame(mp3.header)]
    reservoir = 0
    for number in range(first, last):
        at = mp3.starts[number] - mp3.starts[first]
        if reservoir >= RESERVOIR_BYTES and mp3.without_gaps:
            pieces.append(content[at:])
            break
        frame = content[at : at + _frame_bytes(_header(content, at))]
        if reservoir < RESERVOIR_BYTES:
            frame, own = _soundable(frame, reservoir)
            reservoir = min(RESERVOIR_BYTES, reservoir + own)
        pieces.append(frame)
    # the tag makes decoders drop their delay, which here is a part of the silent frame
    before = size - DECODER_DELAY + begin + mp3.skipped - first * size
    return b"".join(pieces), before


def _soundable(frame: bytes, reservoir: int) -> tuple[bytes, int]:
    """The frame, silent if it needs more than `reservoir` bytes before it; and its own bytes.

    A silent one still refers to the bytes before it, because otherwise decoders forget them.
    """
    bits = int.from_bytes(frame[:4], "big")
    side, length = _side_at(bits), _side_bytes(bits)
    own = max(0, len(frame) - side - length)
    field = int.from_bytes(frame[side : side + 2], "big")
    shift = 7 if _is_mpeg1(bits) else 8  # the field has 9 bits or 8
    if field >> shift > reservoir:
        silence = min(reservoir, 0xFFFF >> shift) << shift + 8 * (length - 2)
        frame = frame[:side] + silence.to_bytes(length, "big") + frame[side + length :]
    return frame, own


def _tag_frame(header: int, frames: int) -> bytes:
    """A frame that tells a decoder how many others follow."""
    frame = _silent_frame(header)
    at = 4 + _side_bytes(header)
    tag = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return frame[:at] + tag + frame[at + len(tag) :]


def _silent_frame(header: int) -> bytes:
    """A frame of zeros behind a header like this one, without a checksum, long enough for a tag."""
    for index in range(1, 15):
        bits = (header & ~0xF200) | 0x10000 | index << 12
        length = _frame_bytes(bits)
        if length >= TAG_BYTES:
            break
    return bits.to_bytes(4, "big") + bytes(length - 4)


def _tag(content: Bytes, at: int, header: int) -> tuple[int | None, Samples, Samples]:
    """Frames, delay and padding of the header frame at `at`; None if it is an ordinary frame."""
    frame = content[at : at + _frame_bytes(header)]
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big"), 0, 0
    here = 4 + _side_bytes(header)
    if frame[here : here + 4] not in (b"Xing", b"Info"):
        return None, 0, 0
    flags = int.from_bytes(frame[here + 4 : here + 8], "big")
    if not flags & 1:
        return 0, DECODER_DELAY, 0
    frames = int.from_bytes(frame[here + 8 : here + 12], "big")
    lame = here + 12 + (4 if flags & 2 else 0) + (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    delays = int.from_bytes(frame[lame + 21 : lame + 24], "big")
    return frames, (delays >> 12) + DECODER_DELAY, delays & 0xFFF


def _next_frame(content: Bytes, at: int, header: int | None) -> int | None:
    """The first frame from `at` on that another one, or the end, follows."""
    size = len(content)
    stop = min(size, at + JUNK_BYTES)
    while (at := content.find(b"\xff", at, stop)) >= 0:
        bits = _header(content, at) if at + 4 <= size else 0
        length = _frame_bytes(bits)
        if length and (header is None or (bits ^ header) & SAME_BITS == 0):
            after = at + length
            if after == size:
                return at
            if after + 4 <= size:
                following = _header(content, after)
                if (following ^ bits) & SAME_BITS == 0 and _frame_bytes(following):
                    return at
        at += 1
    return None


def _after_id3(content: Bytes, at: int) -> int:
    """The place after an ID3v2 tag at `at`, if there is one."""
    head = content[at : at + 10]
    if head[:3] != b"ID3" or len(head) < 10:
        return at
    size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return at + 10 + size


def _header(content: Bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "big")


def _frame_bytes(header: int) -> int:
    """Length of the frame with this header; 0 if it heads no frame of Layer III."""
    version, layer = header >> 19 & 3, header >> 17 & 3
    bitrate, rate = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0
    mpeg1 = version == 3
    kbps = BITRATES_KBPS[0 if mpeg1 else 1][bitrate]
    return (144_000 if mpeg1 else 72_000) * kbps // RATES_HZ[version][rate] + (header >> 9 & 1)


def _is_mpeg1(header: int) -> bool:
    return header >> 19 & 3 == 3


def _is_mono(header: int) -> bool:
    return header >> 6 & 3 == 3


def _side_at(header: int) -> int:
    return 4 if header >> 16 & 1 else 6  # after the checksum, if there is one


def _side_bytes(header: int) -> int:
    if _is_mpeg1(header):
        return 17 if _is_mono(header) else 32
    return 9 if _is_mono(header) else 17
