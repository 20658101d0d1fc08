"""One clip: a recording, or a part of one, as 16 kHz mono, and its FLAC."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.foundation.units import CLIP_SECONDS, SAMPLE_RATE_HZ, Hertz, Samples, Seconds
from pipeline.shards.recordings import is_file

if TYPE_CHECKING:
    import numpy as np
    import soundfile

SLOWEST_RATE_HZ: Hertz = 2_000
FASTEST_RATE_HZ: Hertz = 768_000
BLOCK_SAMPLES: Samples = 65_536
PREROLL_SECONDS = 1  # an MP3 frame leans on earlier ones, so a seek alone lands on wrong samples
END_SLACK_SECONDS: Seconds = 0.05  # segment times are often rounded: such an end is the file's end
ROUNDING_SECONDS: Seconds = 1e-6
STREAMED_BYTES = 0x7FFF_0000  # a WAV that claims more than this was written to a pipe
MAX_WAV_CHUNKS = 1000  # before the sound; a file of empty ones would keep a reader busy for ever
LOST_SECONDS: Seconds = 0.1  # MP3 headers count a few frames more than there are


class ClipError(Exception):
    """A clip that cannot be made. `reason` is one of few, the message is the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_clip(
    path: Path, start_s: Seconds | None = None, end_s: Seconds | None = None
) -> "np.ndarray":
    """Decode a recording, or exactly the samples of one segment of it, to 16 kHz mono.

    Channels are averaged, then the rate is converted by soxr's band-limited HQ resampler (as
    `librosa.resample` does). A segment covers the samples from `round(start_s * rate)` up to
    `round(end_s * rate)` of the recording at its own rate.

    Args:
        path: a file in any format that libsndfile reads.
        start_s: start of the segment in seconds; without it the recording's start.
        end_s: its end; without it the recording's end.

    Returns:
        float32, at most `CLIP_SECONDS` at 16 kHz.

    Raises:
        ClipError: missing or undecodable audio, no samples, a sample that is not finite,
            longer than `CLIP_SECONDS`, or a segment that is not within the recording.
    """
    import numpy as np

    with _opened(path) as file:
        rate: Hertz = file.samplerate
        mono = _read_mono(file, *_bounds(file, start_s, end_s))
    _check_length(len(mono), rate, path)
    if not np.isfinite(mono).all():
        raise ClipError("non-finite audio", f"{path}: a sample is NaN or infinite")
    return resample(mono, rate)


def clip_seconds(
    path: Path, start_s: Seconds | None = None, end_s: Seconds | None = None
) -> Seconds:
    """Length of the clip that `read_clip` would give, as the file's header has it.

    Raises:
        ClipError: as `read_clip`, as far as a header can tell.
    """
    with _opened(path) as file:
        begin, stop = _bounds(file, start_s, end_s)
        samples = max(0, min(stop, file.frames) - begin)
        rate: Hertz = file.samplerate
    _check_length(samples, rate, path)
    return float(samples / rate)


def resample(mono: "np.ndarray", rate: Hertz) -> "np.ndarray":
    """Bring mono audio from `rate` to 16 kHz, band-limited; float32 in and out."""
    import soxr

    if rate == SAMPLE_RATE_HZ:
        return mono
    resampled: np.ndarray = soxr.resample(mono, rate, SAMPLE_RATE_HZ, quality="HQ")
    return resampled


def encode_flac(mono: "np.ndarray") -> bytes:
    """FLAC, 16-bit, 16 kHz mono. 16-bit input comes back unchanged; beyond ±1 is clipped."""
    import numpy as np
    import soundfile

    # not left to libsndfile: it scales by 32,767 on the way out and by 32,768 on the way in
    with np.errstate(over="ignore"):  # the largest floats become infinite, and are clipped
        whole = np.clip(np.rint(mono * 32_768), -32_768, 32_767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, whole, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


@contextmanager
def _opened(path: Path) -> "Iterator[soundfile.SoundFile]":
    """The open recording; whatever libsndfile says against it becomes a `ClipError`."""
    import soundfile

    if not is_file(path):  # nor a pipe or a device, which might never end
        raise ClipError("missing audio", f"{path} is not a file")
    try:
        with soundfile.SoundFile(path) as file:
            _check_whole(path)
            yield file
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise ClipError("undecodable audio", f"{path}: {str(error).rstrip('.')}") from None


def _check_whole(path: Path) -> None:
    """Refuse a WAV that ends before its own header says: libsndfile would shorten it silently."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        size = path.stat().st_size
        for _ in range(MAX_WAV_CHUNKS):
            if len(chunk := file.read(8)) < 8:
                return
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                # a stream's header holds 0 or the largest number, since it knew no better
                if length < STREAMED_BYTES and file.tell() + length > size:
                    missing = file.tell() + length - size
                    raise ClipError(
                        "undecodable audio", f"{path}: its last {missing} bytes are missing"
                    )
                return
            file.seek(length + length % 2, 1)
    raise ClipError("undecodable audio", f"{path}: over {MAX_WAV_CHUNKS:,} chunks and no sound")


def _check_length(samples: Samples, rate: Hertz, path: Path) -> None:
    if samples > CLIP_SECONDS * rate:
        raise ClipError("too long", f"{path}: over {CLIP_SECONDS} s, and no segment times")
    if not samples:
        raise ClipError("empty audio", f"{path}: no samples")


def _bounds(
    file: "soundfile.SoundFile", start_s: Seconds | None, end_s: Seconds | None
) -> tuple[Samples, Samples]:
    """First sample, and the one after the last, to read; one past the longest where too long."""
    rate: Hertz = file.samplerate
    if not SLOWEST_RATE_HZ <= rate <= FASTEST_RATE_HZ:
        raise ClipError("undecodable audio", f"{file.name}: a sample rate of {rate} Hz")
    longest = CLIP_SECONDS * rate
    if start_s is None and end_s is None:
        return 0, longest + 1  # the header's length is not believed
    recording_s = file.frames / rate
    start_s = 0.0 if start_s is None else start_s
    end_s = recording_s if end_s is None else end_s
    segment = f"{start_s:g} to {end_s:g} s"
    if start_s < 0 or end_s <= start_s or end_s > recording_s + END_SLACK_SECONDS:
        raise ClipError(
            "segment outside the recording",
            f"{file.name}: {segment}, in a recording of {recording_s:.3f} s",
        )
    if end_s - start_s > CLIP_SECONDS + ROUNDING_SECONDS:
        raise ClipError("too long", f"{file.name}: the segment {segment} is over {CLIP_SECONDS} s")
    begin = round(start_s * rate)
    return begin, min(round(end_s * rate), begin + longest)


def _read_mono(file: "soundfile.SoundFile", begin: Samples, stop: Samples) -> "np.ndarray":
    import numpy as np

    position = max(0, begin - PREROLL_SECONDS * file.samplerate)
    if position:
        file.seek(position)
    blocks = [np.zeros(0, np.float32)]
    while position < stop:
        wanted = min(BLOCK_SAMPLES, stop - position)
        block = file.read(wanted, dtype="float32", always_2d=True)
        blocks.append(block[max(0, begin - position) :].mean(axis=1))
        position += len(block)
        if len(block) < wanted:
            break
    lost_s = (min(stop, file.frames) - position) / file.samplerate
    if lost_s > LOST_SECONDS:
        raise ClipError("undecodable audio", f"{file.name}: {lost_s:.1f} s of it are missing")
    return np.concatenate(blocks)
