"""The one decoder: a recording, a segment of one, or a member of a tar → 16 kHz mono, or FLAC.

Shapes: S samples, C channels. Audio that cannot be used raises a `RefusedError`.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pipeline.foundation.units import (
    CLIP_SECONDS,
    SAMPLE_RATE_HZ,
    Hertz,
    Samples,
    Seconds,
)
from pipeline.shards.recordings import is_file
from pipeline.shards.refusals import Reason, RefusedError

Float = TypeVar("Float", np.float32, np.float64)

SLOWEST_RATE_HZ: Hertz = 2_000
FASTEST_RATE_HZ: Hertz = 768_000
BLOCK_VALUES = 2**22  # decoded at once, over all channels: a header may claim 1,024 of them
PREROLL_SECONDS = 1  # an MP3 frame needs earlier ones, so a seek alone gives wrong samples
END_SLACK_SECONDS: Seconds = 0.05  # times are often rounded: such an end is the file's end
ROUNDING_SECONDS: Seconds = 1e-6
STREAMED_BYTES = 0x7FFF_0000  # a WAV that claims more than this was written to a pipe
MAX_WAV_CHUNKS = 1000  # before the sound; a file of empty ones would take for ever to read
LOST_SECONDS: Seconds = 0.1  # MP3 headers count a few frames more than there are

# MP3 and Opus decode to whole frames, so a clip cut at the limit may come out a little longer. In a
# tar up to this much is cut off again, and anything longer is refused.
CODEC_PADDING_SECONDS: Seconds = 0.1


def decode(content: bytes, limit_s: int = CLIP_SECONDS) -> NDArray[np.float32]:
    """Decode a member of a tar to 16 kHz mono, as `read_clip` decodes a whole recording.

    Args:
        content: a file in any format that libsndfile reads: FLAC, WAV, MP3, Ogg, Opus, AIFF, …
        limit_s: seconds of the longest clip.

    Returns:
        float32, 1 to `limit_s` × 16,000 samples. Up to 0.1 s over the limit, a codec's padding,
        is cut off.

    Raises:
        RefusedError: undecodable, cut off, empty, not finite, or longer than a clip.
    """
    with _opened(content) as audio:
        longest = int((limit_s + CODEC_PADDING_SECONDS) * audio.samplerate)
        mono_S = _read_mono(audio, 0, longest + 1)  # the header's length is not believed
        _check_length(len(mono_S), longest, limit_s)
        return _clip(mono_S, audio.samplerate, limit_s)


def read_clip(
    path: Path,
    start_s: Seconds | None = None,
    end_s: Seconds | None = None,
    limit_s: int = CLIP_SECONDS,
    channel: int | None = None,
) -> NDArray[np.float32]:
    """Decode a recording, or exactly the samples of one segment of it, to 16 kHz mono.

    Channels are averaged, then the rate is converted by soxr's band-limited HQ resampler (as
    `librosa.resample` does). A segment covers the samples from `round(start_s * rate)` up to
    `round(end_s * rate)` of the recording at its own rate.

    Args:
        path: a file in any format that libsndfile reads.
        start_s: start of the segment in seconds; None for the start of the recording.
        end_s: its end; None for the end of the recording.
        limit_s: seconds of the longest clip.
        channel: the one channel to take, from 0; None for the mean of all.

    Returns:
        float32, 1 to `limit_s` × 16,000 samples.

    Raises:
        RefusedError: the audio is missing, undecodable, cut off, empty, not finite or longer
            than `limit_s`, or the segment is not within the recording.
    """
    with _opened(path) as audio:
        _check_channel(audio, channel)
        mono_S = _read_mono(audio, *_bounds(audio, start_s, end_s, limit_s), channel)
        _check_length(len(mono_S), limit_s * audio.samplerate, limit_s, ", and no segment times")
        return _clip(mono_S, audio.samplerate, limit_s)


def clip_seconds(
    path: Path,
    start_s: Seconds | None = None,
    end_s: Seconds | None = None,
    limit_s: int = CLIP_SECONDS,
    channel: int | None = None,
) -> Seconds:
    """Length of the clip that `read_clip` would give, according to the file's header.

    Raises:
        RefusedError: as `read_clip`, as far as a header can tell.
    """
    with _opened(path) as audio:
        _check_channel(audio, channel)
        begin, stop = _bounds(audio, start_s, end_s, limit_s)
        samples = max(0, min(stop, audio.frames) - begin)
        _check_length(samples, limit_s * audio.samplerate, limit_s, ", and no segment times")
        return float(samples / audio.samplerate)


def resample(mono_S: NDArray[Float], rate: Hertz) -> NDArray[Float]:
    """Bring mono audio from `rate` to 16 kHz, band-limited."""
    if rate == SAMPLE_RATE_HZ:
        return mono_S
    resampled_S: NDArray[Float] = soxr.resample(mono_S, rate, SAMPLE_RATE_HZ, quality="HQ")
    return resampled_S


def encode_flac(mono_S: NDArray[np.float32]) -> bytes:
    """Encode 16 kHz mono as 16-bit FLAC.

    Audio that came from 16 bits comes back unchanged. Values beyond ±1 are clipped.
    """
    # libsndfile itself would scale by 32,767 on the way out and by 32,768 on the way in
    with np.errstate(over="ignore"):  # the largest floats become infinite, and are clipped
        whole_S = np.clip(np.rint(mono_S * 32_768), -32_768, 32_767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, whole_S, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


@contextmanager
def _opened(source: Path | bytes) -> Iterator[soundfile.SoundFile]:
    """The open audio. Whatever libsndfile objects to becomes a `RefusedError`."""
    if isinstance(source, Path) and not is_file(source):  # nor a pipe, which might never end
        raise RefusedError(Reason.MISSING_AUDIO, "not a file")
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as content:
            _check_whole(content)
            with soundfile.SoundFile(source if isinstance(source, Path) else content) as audio:
                rate: Hertz = audio.samplerate
                if not SLOWEST_RATE_HZ <= rate <= FASTEST_RATE_HZ:
                    raise RefusedError(Reason.UNDECODABLE_AUDIO, f"a sample rate of {rate} Hz")
                yield audio
    except soundfile.LibsndfileError as error:
        # not str(error), which has an address of this process in it, and receipts must not differ
        raise RefusedError(Reason.UNDECODABLE_AUDIO, error.error_string) from None
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError, TypeError) as error:
        fault = getattr(error, "strerror", None) or type(error).__name__
        raise RefusedError(Reason.UNDECODABLE_AUDIO, fault) from None


def _check_whole(content: BinaryIO) -> None:
    """Refuse no bytes, and a WAV that ends before its own header says.

    libsndfile would silently shorten such a WAV. Afterwards `content` stands at its start again.
    """
    size = content.seek(0, io.SEEK_END)
    if not size:
        raise RefusedError(Reason.EMPTY_AUDIO, "no bytes")
    content.seek(0)
    head = content.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        _check_wav(content, size)
    content.seek(0)


def _check_wav(content: BinaryIO, size: int) -> None:
    for _ in range(MAX_WAV_CHUNKS):
        if len(chunk := content.read(8)) < 8:
            return
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            missing = content.tell() + length - size
            # a stream's header holds 0 or the largest number, since it knew no better
            if length < STREAMED_BYTES and missing > 0:
                fault = f"its last {missing} bytes are missing"
                raise RefusedError(Reason.UNDECODABLE_AUDIO, fault)
            return
        content.seek(length + length % 2, io.SEEK_CUR)
    raise RefusedError(Reason.UNDECODABLE_AUDIO, f"over {MAX_WAV_CHUNKS:,} chunks and no sound")


def _bounds(
    audio: soundfile.SoundFile, start_s: Seconds | None, end_s: Seconds | None, limit_s: int
) -> tuple[Samples, Samples]:
    """The first sample to read and the one after the last; too long by one for a long recording."""
    rate: Hertz = audio.samplerate
    longest = limit_s * rate
    if start_s is None and end_s is None:
        return 0, longest + 1  # the header's length is not believed
    recording_s = audio.frames / rate
    start_s = 0.0 if start_s is None else start_s
    end_s = recording_s if end_s is None else end_s
    segment = f"{start_s:g} to {end_s:g} s"
    if start_s < 0 or end_s <= start_s or end_s > recording_s + END_SLACK_SECONDS:
        raise RefusedError(Reason.OUTSIDE, f"{segment}, in a recording of {recording_s:.3f} s")
    if end_s - start_s > limit_s + ROUNDING_SECONDS:
        raise RefusedError(Reason.TOO_LONG, f"the segment {segment} is over {limit_s} s")
    begin = round(start_s * rate)
    return begin, min(round(end_s * rate), begin + longest)


def _check_channel(audio: soundfile.SoundFile, channel: int | None) -> None:
    if channel is not None and channel >= audio.channels:
        fault = f"channel {channel + 1} is wanted, and the recording has {audio.channels}"
        raise RefusedError(Reason.OUTSIDE, fault)


def _read_mono(
    audio: soundfile.SoundFile, begin: Samples, stop: Samples, channel: int | None = None
) -> NDArray[np.float32]:
    """Samples `begin` to `stop` of one channel, or averaged over all, block by block."""
    position = max(0, begin - PREROLL_SECONDS * audio.samplerate)
    if position:
        audio.seek(position)
    blocks = [np.zeros(0, np.float32)]
    block_samples = max(1, BLOCK_VALUES // audio.channels)
    while position < stop:
        wanted = min(block_samples, stop - position)
        block_SC = audio.read(wanted, dtype="float32", always_2d=True)
        wanted_SC = block_SC[max(0, begin - position) :]
        mono_S = _averaged(wanted_SC) if channel is None else wanted_SC[:, channel]
        if not np.isfinite(mono_S).all():
            raise RefusedError(Reason.NON_FINITE_AUDIO, "a sample is NaN or infinite")
        blocks.append(mono_S)
        position += len(block_SC)
        if len(block_SC) < wanted:
            break
    lost_s = (min(stop, audio.frames) - position) / audio.samplerate
    if lost_s > LOST_SECONDS:
        raise RefusedError(Reason.UNDECODABLE_AUDIO, f"{lost_s:.1f} s of it are missing")
    return np.concatenate(blocks)


def _averaged(block_SC: NDArray[np.float32]) -> NDArray[np.float32]:
    if block_SC.shape[1] == 1:
        return block_SC[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):  # infinite values are refused next
        mean_S: NDArray[np.float32] = block_SC.mean(axis=1)
    return mean_S


def _check_length(samples: Samples, longest: Samples, limit_s: int, remedy: str = "") -> None:
    if samples > longest:
        raise RefusedError(Reason.TOO_LONG, f"over {limit_s} s{remedy}")
    if not samples:
        raise RefusedError(Reason.EMPTY_AUDIO, "no samples")


def _clip(mono_S: NDArray[np.float32], rate: Hertz, limit_s: int) -> NDArray[np.float32]:
    wave_S = resample(mono_S, rate)[: limit_s * SAMPLE_RATE_HZ]
    if not len(wave_S):
        fault = f"{len(mono_S)} samples at {rate} Hz are none at 16 kHz"
        raise RefusedError(Reason.EMPTY_AUDIO, fault)
    return wave_S
