"""One tar shard → clips of 16 kHz mono with their texts, and refusals.

Every sample that the manifest promises comes out once: as a `Clip` or as a `Refusal`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.foundation.errors import Damaged
from pipeline.foundation.progress import counted
from pipeline.foundation.units import SAMPLE_RATE_HZ
from pipeline.foundation.untrusted import is_unicode, parse_json
from pipeline.shards.decoding import read_sound
from pipeline.shards.manifest import Shard
from pipeline.shards.recordings import (
    AUDIO_SUFFIXES,
    DECODED_SUFFIXES,
    MAX_TEXT_BYTES,
    key_fault,
)
from pipeline.shards.refusals import Reason, Refusal, RefusedError
from pipeline.shards.remarks import Remark
from pipeline.shards.tar import MAX_MEMBERS, TarReader, TarSample
from pipeline.shards.words import Word, words_of

TEXT_SUFFIXES = ("json", "txt")
PICKLED_SUFFIXES = ("pkl", "pickle", "pyd", "pth", "pt", "npy", "npz", "joblib")
SHOWN_CHARACTERS = 300


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
    """16 kHz mono, full scale ±1, at most as many seconds as the manifest allows."""
    words: tuple[Word, ...] = ()
    """When each word is said, if the .json tells it."""
    words_fault: str = ""
    """Why the .json's words cannot be used. A clip is refused for it where words are wanted."""
    remarks: tuple[Remark, ...] = ()
    """What is odd about the sound."""

    def record(self) -> dict[str, Any]:
        """What the cache keeps of the clip beside its vector."""
        return {
            "position": self.position,
            "key": self.key,
            "text": self.text,
            "duration_s": len(self.wave_S) / SAMPLE_RATE_HZ,
            "speaker": self.speaker,
            "recording": self.recording,
        }


@dataclass(frozen=True)
class TarEnd:
    """Digest and size of a tar, known once it has been read to its end."""

    sha256: str
    bytes: int


def read_shard(
    file: BinaryIO, shard: Shard, where: str, channel: int | None = None
) -> Iterator[Clip | Refusal | TarEnd]:
    """Read a tar to its end, then check it against the manifest.

    Args:
        file: the open tar.
        shard: the manifest's line for it.
        where: its path or URL, for messages.
        channel: the one channel to take of each clip, from 0; None for the mean of all.

    Yields:
        `shard.samples` clips and refusals in the tar's order, then one `TarEnd`. If the tar is
        shorter than the manifest says, every sample after the cut is yielded as a refusal.

    Raises:
        SpeechkdError: the tar is not the one of the manifest: it is as long or longer and has
            other bytes; or the manifest's count of samples is wrong.
    """
    reader = TarReader(file)
    keys: set[str] = set()
    count = 0
    last: TarSample | None = None  # yielded one late, because a cut tar may end in half a sample
    for sample in reader:
        if last is not None and count <= shard.samples:
            yield _read_sample(last, count - 1, keys, shard.clip_seconds, channel)
        last = sample
        count += 1
    end = TarEnd(reader.sha256, reader.bytes_read)
    is_cut = end.bytes < shard.bytes
    _check_identity(end, count, shard, where, is_cut, reader)
    cut = f"the tar ends after {end.bytes:,} of {shard.bytes:,} bytes"
    if last is not None:
        if is_cut and not _is_whole(last):
            yield Refusal(Reason.TRUNCATED_TAR, cut, _printable(last.key), count - 1)
        else:
            yield _read_sample(last, count - 1, keys, shard.clip_seconds, channel)
    for position in range(count, shard.samples):
        yield Refusal(Reason.TRUNCATED_TAR, cut, None, position)
    yield end


def _check_identity(
    end: TarEnd, count: int, shard: Shard, where: str, is_cut: bool, reader: TarReader
) -> None:
    if not is_cut and end.sha256 != shard.sha256:
        raise Damaged(
            f"changed tar: {where} has sha256 {end.sha256} ({end.bytes:,} bytes), the manifest "
            f"says {shard.sha256} ({shard.bytes:,} bytes). Restore the tar, or make a new "
            "manifest and a new cache of what is there now."
        )
    if count > shard.samples or (count < shard.samples and not is_cut):
        damage = f", and after them: {reader.damage}" if reader.damage else ""
        hidden = f", {reader.hidden} hidden members aside" if reader.hidden else ""
        raise Damaged(
            f"wrong count: {where} holds {counted(count, 'sample')} (neighbouring members of one "
            f"key{hidden}), the manifest says {shard.samples}{damage}. "
            "Correct the manifest; the members of a sample must stand side by side in the tar."
        )


def _is_whole(sample: TarSample) -> bool:
    suffixes = (*sample.members, *sample.too_large)
    has_audio = any(f".{suffix}" in DECODED_SUFFIXES for suffix in suffixes)
    return has_audio and any(map(sample.holds, TEXT_SUFFIXES))


def fault_of(sample: TarSample, position: int, keys: set[str]) -> Refusal | None:
    """Why a sample would be refused, as far as it shows without decoding its audio.

    Args:
        sample: the sample.
        position: its place in the tar.
        keys: those of the tar so far; its key is added.
    """
    try:
        _check_key(sample, keys)
        _members(sample)
    except RefusedError as refused:
        return _refusal(sample, position, refused)
    return None


def _read_sample(
    sample: TarSample, position: int, keys: set[str], limit_s: int, channel: int | None
) -> Clip | Refusal:
    """Decode one sample, or say why not; its key is added to `keys`, those of the tar so far."""
    try:
        _check_key(sample, keys)
        return _clip(sample, position, limit_s, channel)
    except RefusedError as refused:
        return _refusal(sample, position, refused)


def _refusal(sample: TarSample, position: int, refused: RefusedError) -> Refusal:
    detail = refused.detail[:SHOWN_CHARACTERS]
    return Refusal(refused.reason, detail, _printable(sample.key), position)


def _check_key(sample: TarSample, keys: set[str]) -> None:
    if fault := key_fault(sample.key, as_path=False):
        raise RefusedError(Reason.UNUSABLE_KEY, f"the name in the tar: {fault}")
    if sample.key in keys:
        raise RefusedError(Reason.DUPLICATE_KEY, "an earlier sample of this tar has it")
    keys.add(sample.key)


def _members(sample: TarSample) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """The audio of a sample, its description, and its whole .json.

    Raises:
        RefusedError: a member is missing, too many, too large, or unusable.
    """
    pickled = [suffix for suffix in PICKLED_SUFFIXES if sample.holds(suffix)]
    if pickled:
        detail = f".{pickled[0]}: take such members out of the tar"
        raise RefusedError(Reason.PICKLED_MEMBER, detail)
    if sample.surplus:
        raise RefusedError(Reason.TOO_MANY_MEMBERS, f"over {MAX_MEMBERS} of one key")
    if sample.too_large:
        raise RefusedError(Reason.MEMBER_TOO_LARGE, f".{sample.too_large[0]}")
    return _audio_member(sample), *_description(sample)


def _clip(sample: TarSample, position: int, limit_s: int, channel: int | None) -> Clip:
    audio, description, record = _members(sample)
    sound = read_sound(audio, limit_s=limit_s, channel=channel)
    words, fault = _words(record, description["text"], len(sound.wave_S) / SAMPLE_RATE_HZ)
    return Clip(
        position=position,
        key=sample.key,
        text=description["text"],
        speaker=description["speaker"],
        recording=description["recording"],
        wave_S=sound.wave_S,
        words=words,
        words_fault=fault,
        remarks=sound.remarks,
    )


def _words(record: dict[str, Any], text: str, duration_s: float) -> tuple[tuple[Word, ...], str]:
    try:
        return words_of(record, text, duration_s), ""
    except RefusedError as refused:
        return (), refused.detail


def _audio_member(sample: TarSample) -> bytes:
    """The sample's one recording. A video beside a recording that can be decoded does not count."""
    decoded = [suffix for suffix in sample.members if f".{suffix}" in DECODED_SUFFIXES]
    audio = decoded or [suffix for suffix in sample.members if f".{suffix}" in AUDIO_SUFFIXES]
    if not audio:
        detail = f"has .{' .'.join(sample.members)}; known: {' '.join(AUDIO_SUFFIXES)}"
        raise RefusedError(Reason.MISSING_AUDIO, detail)
    if len(audio) > 1:
        raise RefusedError(Reason.SEVERAL_AUDIO_MEMBERS, f".{' .'.join(audio)}")
    return sample.members[audio[0]]


def _description(sample: TarSample) -> tuple[dict[str, Any], dict[str, Any]]:
    """Text, speaker and recording, and the whole .json; the text is the .txt's if that has none."""
    if not any(suffix in sample.members for suffix in TEXT_SUFFIXES):
        raise RefusedError(Reason.MISSING_TEXT, "has neither .json nor .txt")
    record: dict[str, Any] = {}
    if "json" in sample.members:
        record = _json(sample.members["json"])
    text = record.get("text")
    if text is None and "txt" in sample.members:
        text = _utf8(sample.members["txt"], "txt", Reason.UNUSABLE_TEXT)
    if not isinstance(text, str) or not text.strip():
        raise RefusedError(Reason.MISSING_TEXT, f"text is {text!r}")
    description: dict[str, str | None] = {"text": text.strip()}
    for name in ("speaker", "recording"):
        value = record.get(name)
        description[name] = None if value is None else str(value)
    for name, value in description.items():
        if value is not None and not is_unicode(value):
            reason = Reason.UNUSABLE_TEXT if name == "text" else Reason.UNREADABLE_JSON
            raise RefusedError(reason, f"the {name} in the .json has a lone surrogate")
    return description, record


def _json(content: bytes) -> dict[str, Any]:
    text = _utf8(content, "json", Reason.UNREADABLE_JSON)
    try:
        record = parse_json(text)
    except ValueError as error:
        raise RefusedError(Reason.UNREADABLE_JSON, str(error)) from None
    if not isinstance(record, dict):
        raise RefusedError(Reason.UNREADABLE_JSON, "not an object")
    return record


def _utf8(content: bytes, suffix: str, reason: Reason) -> str:
    if len(content) > MAX_TEXT_BYTES:
        detail = f".{suffix} has {len(content):,} bytes, at most {MAX_TEXT_BYTES:,} are read"
        raise RefusedError(Reason.UNUSABLE_TEXT, detail)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(reason, f".{suffix} is not UTF-8: {error.reason}") from None


def _printable(key: str) -> str:
    return key[:SHOWN_CHARACTERS].encode("utf-8", "backslashreplace").decode()
