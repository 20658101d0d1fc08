"""The one decoder: a recording, a segment of one, or a member of a tar → 16 kHz mono, or FLAC.

Shapes: S samples, C channels. Audio that cannot be used raises a `RefusedError`.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

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
from pipeline.shards.opening import Recording, opened
from pipeline.shards.refusals import Reason, RefusedError
from pipeline.shards.remarks import ChannelPowers, Remark, remarks_of

Float = TypeVar("Float", np.float32, np.float64)

BLOCK_VALUES = 2**22  # decoded at once, over all channels: a header may claim 1,024 of them
EMPTY_S = np.zeros(0, np.float32)
END_SLACK_SECONDS: Seconds = 0.05  # times are often rounded: such an end is the file's end
LOST_SECONDS: Seconds = 0.1  # MP3 headers count a few frames more than there are

# Codecs decode to whole frames, and cutters cut at frames, so a clip cut at the limit may come
# out a little longer. Up to this much is cut off again, and anything longer is refused.
TOLERANCE_SECONDS: Seconds = 0.1


@dataclass(frozen=True)
class Sound:
    """A clip as `read_sound` gives it."""

    wave_S: NDArray[np.float32]
    """16 kHz mono, at most as long as a clip may be."""
    remarks: tuple[Remark, ...]
    """What is odd about it."""


def decode(content: bytes, limit_s: int = CLIP_SECONDS) -> NDArray[np.float32]:
    """Decode a member of a tar to 16 kHz mono, as `read_clip` decodes a whole recording.

    Args:
        content: a file in any format that libsndfile reads: FLAC, WAV, MP3, Ogg, Opus, AIFF, …
        limit_s: seconds of the longest clip.

    Returns:
        float32, 1 to `limit_s` × 16,000 samples. Up to 0.1 s over the limit is cut off.

    Raises:
        RefusedError: undecodable, cut off, empty, not finite, or longer than a clip.
    """
    return _read(content, None, None, limit_s, None, "").wave_S


def read_clip(
    source: Path | bytes,
    start_s: Seconds | None = None,
    end_s: Seconds | None = None,
    limit_s: int = CLIP_SECONDS,
    channel: int | None = None,
) -> NDArray[np.float32]:
    """The wave of `read_sound`."""
    return read_sound(source, start_s, end_s, limit_s, channel).wave_S


def read_sound(
    source: Path | bytes,
    start_s: Seconds | None = None,
    end_s: Seconds | None = None,
    limit_s: int = CLIP_SECONDS,
    channel: int | None = None,
) -> Sound:
    """Decode a recording, or exactly the samples of one segment of it, to 16 kHz mono.

    Channels are averaged, then the rate is converted by soxr's band-limited HQ resampler (as
    `librosa.resample` does). A segment covers the samples from `round(start_s * rate)` up to
    `round(end_s * rate)` of the recording at its own rate. What is up to 0.1 s longer than a clip
    may be is cut at the limit.

    Args:
        source: a file in any format that libsndfile reads, or its content.
        start_s: start of the segment in seconds; None for the start of the recording.
        end_s: its end; None for the end of the recording.
        limit_s: seconds of the longest clip.
        channel: the one channel to take, from 0; None for the mean of all.

    Raises:
        RefusedError: the audio is missing, undecodable, cut off, empty, not finite or longer
            than `limit_s`, it has no such channel, or the segment is not within it.
    """
    return _read(source, start_s, end_s, limit_s, channel, ", and no segment times")


def clip_seconds(
    path: Path,
    start_s: Seconds | None = None,
    end_s: Seconds | None = None,
    limit_s: int = CLIP_SECONDS,
    channel: int | None = None,
) -> Seconds:
    """Length of the clip that `read_clip` would give, as far as this is known without decoding.

    Raises:
        RefusedError: as `read_clip`, as far as can be told.
    """
    with opened(path) as recording:
        _check_channel(recording, channel)
        begin, stop = _bounds(recording, start_s, end_s, limit_s)
        _check_lost(recording, stop, recording.present)
        samples = max(0, min(stop, recording.present) - begin)
        _check_length(samples, recording.rate, limit_s, ", and no segment times")
        return float(min(samples / recording.rate, limit_s))


def _read(
    source: Path | bytes,
    start_s: Seconds | None,
    end_s: Seconds | None,
    limit_s: int,
    channel: int | None,
    remedy: str,
) -> Sound:
    with opened(source) as recording:
        _check_channel(recording, channel)
        begin, stop = _bounds(recording, start_s, end_s, limit_s)
        mono_S, powers = _read_mono(recording, begin, stop, channel)
        _check_length(len(mono_S), recording.rate, limit_s, remedy)
        wave_S = resample(mono_S, recording.rate)[: limit_s * SAMPLE_RATE_HZ]
        if not len(wave_S):
            fault = f"{len(mono_S)} samples at {recording.rate} Hz are none at 16 kHz"
            raise RefusedError(Reason.EMPTY_AUDIO, fault)
        return Sound(wave_S, remarks_of(wave_S, powers))


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
        scaled_S = mono_S * 32_768
        np.rint(scaled_S, out=scaled_S)
        whole_S = np.clip(scaled_S, -32_768, 32_767, out=scaled_S).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, whole_S, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _bounds(
    recording: Recording, start_s: Seconds | None, end_s: Seconds | None, limit_s: int
) -> tuple[Samples, Samples]:
    """The first sample to read and the one after the last; too long by one for a long recording."""
    rate = recording.rate
    if start_s is None and end_s is None:
        return 0, _longest(rate, limit_s) + 1  # no length is believed before it is decoded
    recording_s = recording.promised / rate
    start_s = 0.0 if start_s is None else start_s
    end_s = recording_s if end_s is None else end_s
    segment = f"{start_s:g} to {end_s:g} s"
    if start_s < 0 or end_s <= start_s or end_s > recording_s + END_SLACK_SECONDS:
        raise RefusedError(Reason.OUTSIDE, f"{segment}, in a recording of {recording_s:.3f} s")
    if end_s - start_s > limit_s + TOLERANCE_SECONDS:
        raise RefusedError(Reason.TOO_LONG, f"the segment {segment} is over {limit_s} s")
    begin = round(start_s * rate)
    return begin, min(round(end_s * rate), begin + limit_s * rate)


def _check_channel(recording: Recording, channel: int | None) -> None:
    if channel is not None and channel >= recording.channels:
        fault = f"channel {channel + 1} is wanted, and the recording has {recording.channels}"
        raise RefusedError(Reason.OUTSIDE, fault)


def _read_mono(
    recording: Recording, begin: Samples, stop: Samples, channel: int | None
) -> tuple[NDArray[np.float32], ChannelPowers | None]:
    """Samples `begin` to `stop` of one channel, or averaged over all, and what those were like."""
    blocks: list[NDArray[np.float32]] = []
    with recording.part(begin, stop) as (audio, position):
        averages = audio.channels > 1 and channel is None
        powers = ChannelPowers(recording.rate) if averages else None
        block_samples = max(1, BLOCK_VALUES // audio.channels)
        end = min(stop, recording.present)
        while position < end:
            wanted = min(block_samples, end - position)
            block_SC = audio.read(wanted, dtype="float32", always_2d=True)
            wanted_SC = block_SC[max(0, begin - position) :]
            mono_S = _averaged(wanted_SC) if channel is None else wanted_SC[:, channel]
            if not np.isfinite(mono_S).all():
                raise RefusedError(Reason.NON_FINITE_AUDIO, "a sample is NaN or infinite")
            if powers and len(wanted_SC):
                powers.add(wanted_SC, mono_S)
            blocks.append(mono_S)
            position += len(block_SC)
            if len(block_SC) < wanted:
                break
    _check_lost(recording, stop, position)
    return blocks[0] if len(blocks) == 1 else np.concatenate([EMPTY_S, *blocks]), powers


def _averaged(block_SC: NDArray[np.float32]) -> NDArray[np.float32]:
    if block_SC.shape[1] == 1:
        return block_SC[:, 0]
    mean_S: NDArray[np.float32]
    with np.errstate(over="ignore", invalid="ignore"):  # infinite values are refused next
        if block_SC.shape[1] == 2:  # the same numbers as `mean` gives, several times faster
            mean_S = np.add(block_SC[:, 0], block_SC[:, 1])
            mean_S /= 2
        else:
            mean_S = block_SC.mean(axis=1)
    return mean_S


def _check_lost(recording: Recording, stop: Samples, end: Samples) -> None:
    """Refuse a recording that ends before its header says, and before what is wanted of it."""
    lost_s = (min(stop, recording.promised) - end) / recording.rate
    if lost_s > LOST_SECONDS:
        raise RefusedError(Reason.UNDECODABLE_AUDIO, f"{lost_s:.1f} s of it are missing")


def _longest(rate: Hertz, limit_s: int) -> Samples:
    return int((limit_s + TOLERANCE_SECONDS) * rate)


def _check_length(samples: Samples, rate: Hertz, limit_s: int, remedy: str) -> None:
    if samples > _longest(rate, limit_s):
        raise RefusedError(Reason.TOO_LONG, f"over {limit_s} s{remedy}")
    if not samples:
        raise RefusedError(Reason.EMPTY_AUDIO, "no samples")
