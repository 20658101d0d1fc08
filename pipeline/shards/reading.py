"""One tar shard → clips of 16 kHz mono with their texts, and a record of each sample refused.

Every sample that the manifest promises comes out once: as a `Clip` or as a `Refusal`.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import CLIP_SAMPLES, CLIP_SECONDS, SAMPLE_RATE_HZ, Seconds
from pipeline.foundation.untrusted import has_control, is_unicode, parse_json
from pipeline.shards.decoding import resample
from pipeline.shards.manifest import Shard
from pipeline.shards.tar import MAX_MEMBERS, TarReader, TarSample

AUDIO_SUFFIXES = ("flac", "wav", "mp3", "ogg", "oga", "opus", "m4a", "aiff", "au")
TEXT_SUFFIXES = ("json", "txt")
PICKLED_SUFFIXES = ("pkl", "pickle", "pyd", "pth", "pt", "npy", "npz", "joblib")
MAX_RATE_HZ = 768_000
MAX_TEXT_BYTES = 2**20
MAX_KEY_BYTES = 4096
SHOWN_CHARACTERS = 300
BLOCK_VALUES = 2**22  # decoded at once, over all channels

# MP3 and Opus decode to whole frames, so a clip cut at 15 s may come out a little longer. Up to
# this much is cut off again; what is longer still is refused.
CODEC_PADDING_SECONDS: Seconds = 0.1

TRUNCATED = "truncated tar"


@dataclass(frozen=True)
class Clip:
    """A sample that can go to the teacher."""

    position: int
    """Its place in the tar, from 0; with the shard's first row, its row in the cache."""
    key: str
    text: str
    speaker: str | None
    recording: str | None
    wave_S: NDArray[np.float32]
    """16 kHz mono, full scale ±1, 1 to 240,000 samples."""

    def record(self) -> dict[str, Any]:
        """What the cache keeps of it beside the vector."""
        return {
            "position": self.position,
            "key": self.key,
            "text": self.text,
            "duration_s": len(self.wave_S) / SAMPLE_RATE_HZ,
            "speaker": self.speaker,
            "recording": self.recording,
        }


@dataclass(frozen=True)
class Refusal:
    """A sample that is left out. `reason` is one of few; `detail` is for people."""

    position: int
    key: str | None
    """None where the tar ends before the sample, so that nobody knows its key."""
    reason: str
    detail: str

    def record(self) -> dict[str, Any]:
        """As the shard's receipt keeps it."""
        return {
            "position": self.position,
            "key": self.key,
            "reason": self.reason,
            "detail": self.detail,
        }


class RefusedError(Exception):
    """Why one sample cannot be used."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class TarEnd:
    """What a tar turned out to be, once it has been read to its end."""

    sha256: str
    bytes: int


def read_shard(file: BinaryIO, shard: Shard, where: str) -> Iterator[Clip | Refusal | TarEnd]:
    """Read a tar to its end, then check it against the manifest.

    Args:
        file: the open tar.
        shard: the manifest's line for it.
        where: its path or URL, for messages.

    Yields:
        `shard.samples` clips and refusals in the tar's order, then one `TarEnd`. Of a tar that
        is shorter than the manifest says, the samples behind the cut are refusals.

    Raises:
        SpeechkdError: the tar is not the one of the manifest: as long or longer, but other
            bytes; or the manifest's count of samples is wrong.
    """
    reader = TarReader(file)
    seen: set[str] = set()
    found = 0
    held: TarSample | None = None  # one is held back: the last of a cut tar may be half a sample
    for sample in reader:
        if held is not None and found <= shard.samples:
            yield _judge(held, found - 1, seen)
        held = sample
        found += 1
    end = TarEnd(reader.sha256, reader.bytes_read)
    truncated = end.bytes < shard.bytes
    _check_identity(end, found, shard, where, truncated, reader.damage)
    cut = f"the tar ends after {end.bytes:,} of {shard.bytes:,} bytes"
    if held is not None:
        if truncated and not _is_whole(held):
            yield Refusal(found - 1, _printable(held.key), TRUNCATED, cut)
        else:
            yield _judge(held, found - 1, seen)
    for position in range(found, shard.samples):
        yield Refusal(position, None, TRUNCATED, cut)
    yield end


def decode(content: bytes) -> NDArray[np.float32]:
    """Decode audio to 16 kHz mono: channels averaged, band-limited resampling (soxr HQ).

    Args:
        content: a file in any format that libsndfile reads: FLAC, WAV, MP3, Ogg, Opus, AIFF, …

    Returns:
        float32, 1 to 240,000 samples. Up to 0.1 s over 15 s, a codec's padding, is cut off.

    Raises:
        RefusedError: undecodable, empty, not finite, or longer than the clip length.
    """
    if not content:
        raise RefusedError("empty audio", "no bytes")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate = file.samplerate
            if not 1 <= rate <= MAX_RATE_HZ:
                raise RefusedError("undecodable audio", f"a sample rate of {rate} Hz")
            longest = int((CLIP_SECONDS + CODEC_PADDING_SECONDS) * rate)
            # The header's length is not believed; one sample more shows that it is too long.
            mono_S = _read_mono(file, longest + 1)
    except soundfile.LibsndfileError as error:
        # not str(error), which has an address of this process in it: receipts must not differ
        raise RefusedError("undecodable audio", error.error_string) from None
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise RefusedError("undecodable audio", type(error).__name__) from None
    if not len(mono_S):
        raise RefusedError("empty audio", "no samples")
    if len(mono_S) > longest:
        raise RefusedError("longer than the clip length", f"over {CLIP_SECONDS} s")
    wave_S = resample(mono_S, rate)[:CLIP_SAMPLES]
    if not len(wave_S):
        raise RefusedError("empty audio", f"{len(mono_S)} samples at {rate} Hz are none at 16 kHz")
    return wave_S


def _read_mono(file: soundfile.SoundFile, samples: int) -> NDArray[np.float32]:
    """Up to `samples`, averaged over channels block by block: a header may claim 1,024 channels."""
    blocks = [np.zeros(0, np.float32)]
    wanted = max(1, BLOCK_VALUES // file.channels)
    while samples > 0:
        block_SC = file.read(min(wanted, samples), dtype="float32", always_2d=True)
        if not np.isfinite(block_SC).all():
            raise RefusedError("non-finite audio", "a sample is NaN or infinite")
        blocks.append(block_SC[:, 0] if file.channels == 1 else block_SC.mean(axis=1))
        samples -= len(block_SC)
        if len(block_SC) < wanted:
            break
    return np.concatenate(blocks)


def _check_identity(
    end: TarEnd, found: int, shard: Shard, where: str, truncated: bool, damage: str
) -> None:
    if not truncated and end.sha256 != shard.sha256:
        raise SpeechkdError(
            f"changed tar: {where} has sha256 {end.sha256} ({end.bytes:,} bytes), the manifest "
            f"says {shard.sha256} ({shard.bytes:,} bytes). Restore the tar, or make a new "
            "manifest and a new cache of what is there now."
        )
    if found > shard.samples or (found < shard.samples and not truncated):
        raise SpeechkdError(
            f"wrong count: {where} holds {found} samples (neighbouring members of one key), the "
            f"manifest says {shard.samples}{f', and behind them: {damage}' if damage else ''}. "
            "Correct the manifest; the members of a sample must stand side by side in the tar."
        )


def _is_whole(sample: TarSample) -> bool:
    return any(map(sample.holds, AUDIO_SUFFIXES)) and any(map(sample.holds, TEXT_SUFFIXES))


def _judge(sample: TarSample, position: int, seen: set[str]) -> Clip | Refusal:
    """Decode one sample, or say why not; `seen` gains its key."""
    try:
        _check_key(sample.key)
        if sample.key in seen:
            raise RefusedError("duplicate key", "an earlier sample of this tar has it")
        seen.add(sample.key)
        return _clip(sample, position)
    except RefusedError as refused:
        detail = refused.detail[:SHOWN_CHARACTERS]
        return Refusal(position, _printable(sample.key), refused.reason, detail)


def _check_key(key: str) -> None:
    if not is_unicode(key):
        raise RefusedError("not UTF-8", "the name in the tar")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise RefusedError("unusable key", f"its name in the tar is over {MAX_KEY_BYTES:,} bytes")
    if has_control(key):
        raise RefusedError("unusable key", "its name has a control character or a line break")


def _clip(sample: TarSample, position: int) -> Clip:
    pickled = [s for s in PICKLED_SUFFIXES if sample.holds(s)]
    if pickled:
        raise RefusedError("pickled member", f".{pickled[0]}: take such members out of the tar")
    if sample.surplus:
        raise RefusedError("too many members", f"over {MAX_MEMBERS} of one key")
    if sample.too_large:
        raise RefusedError("member too large", f".{sample.too_large[0]}")
    audio = [s for s in AUDIO_SUFFIXES if s in sample.members]
    has_text = any(s in sample.members for s in TEXT_SUFFIXES)
    if not audio:
        known = ", ".join(AUDIO_SUFFIXES)
        raise RefusedError("no audio member", f"has .{' .'.join(sample.members)}; known: {known}")
    if len(audio) > 1:
        raise RefusedError("several audio members", f".{' .'.join(audio)}")
    if not has_text:
        raise RefusedError("no text member", "has neither .json nor .txt")
    described = _description(sample)
    return Clip(
        position=position,
        key=sample.key,
        text=described["text"],
        speaker=described["speaker"],
        recording=described["recording"],
        wave_S=decode(sample.members[audio[0]]),
    )


def _description(sample: TarSample) -> dict[str, Any]:
    """Text, speaker and recording: from the .json, the text from the .txt where that has none."""
    record: dict[str, Any] = {}
    if "json" in sample.members:
        try:
            record = parse_json(_utf8(sample.members["json"], "json"))
        except ValueError as error:
            raise RefusedError("unreadable json", str(error)) from None
        if not isinstance(record, dict):
            raise RefusedError("unreadable json", "not an object")
    text = record.get("text")
    if text is None and "txt" in sample.members:
        text = _utf8(sample.members["txt"], "txt")
    if not isinstance(text, str) or not text.strip():
        raise RefusedError("missing text", f"text is {text!r}")
    found: dict[str, str | None] = {"text": text.strip()}
    for name in ("speaker", "recording"):
        value = record.get(name)
        found[name] = None if value is None else str(value)
    if not all(value is None or is_unicode(value) for value in found.values()):
        raise RefusedError("not UTF-8", "a lone surrogate in the .json")
    return found


def _utf8(content: bytes, suffix: str) -> str:
    if len(content) > MAX_TEXT_BYTES:
        raise RefusedError("member too large", f".{suffix}: {len(content):,} bytes of text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError("not UTF-8", f".{suffix}: {error.reason}") from None


def _printable(key: str) -> str:
    return key[:SHOWN_CHARACTERS].encode("utf-8", "backslashreplace").decode()
