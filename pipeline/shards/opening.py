"""An open recording with its true length, whatever its header says of it.

Shapes: S samples, C channels.
"""

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import soundfile

from pipeline.foundation.units import Hertz, Samples
from pipeline.shards.containers import check_whole
from pipeline.shards.ffmpeg import HEAD_BYTES, is_for_ffmpeg, opened_through_ffmpeg
from pipeline.shards.flac import read_flac
from pipeline.shards.mpeg import Mp3, find_frames, part, read_mp3
from pipeline.shards.recordings import is_file
from pipeline.shards.refusals import Reason, RefusedError

SLOWEST_RATE_HZ: Hertz = 2_000
FASTEST_RATE_HZ: Hertz = 768_000
PREROLL_SECONDS = 1  # a lossy frame needs earlier ones, so a seek alone gives wrong samples


class Recording(Protocol):
    """An open recording."""

    @property
    def rate(self) -> Hertz:
        """Samples per second."""

    @property
    def channels(self) -> int:
        """Channels."""

    @property
    def promised(self) -> Samples:
        """Samples according to its header, or those that are there if they are more."""

    @property
    def present(self) -> Samples:
        """Samples that are there, as far as this is known before they are decoded."""

    def part(
        self, begin: Samples, stop: Samples
    ) -> AbstractContextManager[tuple[soundfile.SoundFile, Samples]]:
        """An open file that is read on from some sample before `begin`, and that sample."""


@dataclass(frozen=True)
class _Opened:
    """A recording as libsndfile reads it."""

    audio: soundfile.SoundFile
    present: Samples
    promised: Samples
    seekable: bool = True

    @property
    def rate(self) -> Hertz:
        rate: Hertz = self.audio.samplerate
        return rate

    @property
    def channels(self) -> int:
        channels: int = self.audio.channels
        return channels

    def part(
        self,
        begin: Samples,
        stop: Samples,  # noqa: ARG002
    ) -> AbstractContextManager[tuple[soundfile.SoundFile, Samples]]:
        position = max(0, begin - PREROLL_SECONDS * self.rate) if self.seekable else 0
        if position:
            self.audio.seek(position)
        return nullcontext((self.audio, position))


@dataclass(frozen=True)
class _OpenMp3:
    """An MP3, of which each part is read as an MP3 of its own."""

    file: BinaryIO
    mp3: Mp3
    path: Path | None

    @property
    def rate(self) -> Hertz:
        return self.mp3.rate

    @property
    def channels(self) -> int:
        return self.mp3.channels

    @property
    def present(self) -> Samples:
        return self.mp3.samples

    @property
    def promised(self) -> Samples:
        return max(self.mp3.claimed_samples, self.mp3.samples)

    @contextmanager
    def part(self, begin: Samples, stop: Samples) -> Iterator[tuple[soundfile.SoundFile, Samples]]:
        if not begin and stop >= self.present and self.mp3.is_plain:
            self.file.seek(0)
            with soundfile.SoundFile(self.path or self.file) as audio:
                yield audio, 0
            return
        content, before = part(self.file, self.mp3, begin, stop)
        with soundfile.SoundFile(io.BytesIO(content)) as audio:
            yield audio, begin - before


class _Patched:
    """A file whose first bytes are others."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head, self._file = head, file

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        at = self._file.tell()
        content = self._file.read(size)
        if at < len(self._head):
            patch = self._head[at : at + len(content)]
            content = patch + content[len(patch) :]
        return content


@contextmanager
def opened(source: Path | bytes) -> Iterator[Recording]:
    """Open a recording. Whatever is wrong with it, and was not expected, becomes a `RefusedError`.

    Args:
        source: a file, or the bytes of one, in any format that libsndfile reads, or else ffmpeg.

    Raises:
        RefusedError: it is missing, undecodable, empty, or cut off according to its container.
    """
    if isinstance(source, Path) and not is_file(source):  # nor a pipe, which might never end
        raise RefusedError(Reason.MISSING_AUDIO, "not a file")
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            check_whole(file)
            with _recording(source, file) as recording:
                if not SLOWEST_RATE_HZ <= recording.rate <= FASTEST_RATE_HZ:
                    fault = f"a sample rate of {recording.rate} Hz"
                    raise RefusedError(Reason.UNDECODABLE_AUDIO, fault)
                yield recording
    except soundfile.LibsndfileError as error:
        # not str(error), which has an address of this process in it, and receipts must not differ
        raise RefusedError(Reason.UNDECODABLE_AUDIO, error.error_string) from None
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError, TypeError) as error:
        fault = getattr(error, "strerror", None) or type(error).__name__
        raise RefusedError(Reason.UNDECODABLE_AUDIO, fault) from None


@contextmanager
def _recording(source: Path | bytes, file: BinaryIO) -> Iterator[Recording]:
    head = file.read(4)
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] > b"\xe0"):
        mp3 = read_mp3(source) if isinstance(source, Path) else find_frames(source)
        if mp3 is not None:
            yield _OpenMp3(file, mp3, source if isinstance(source, Path) else None)
            return
    flac = read_flac(file) if head == b"fLaC" else None
    file.seek(0)
    if flac is None or flac.is_believable:
        try:
            audio = soundfile.SoundFile(source if isinstance(source, Path) else file)
        except soundfile.LibsndfileError:
            file.seek(0)
            if not is_for_ffmpeg(file.read(HEAD_BYTES), source):
                raise
            with opened_through_ffmpeg(source) as recording:
                yield recording
            return
        with audio:
            yield _Opened(audio, audio.frames, audio.frames)
        return
    with soundfile.SoundFile(_Patched(flac.head, file)) as audio:
        promised = max(flac.claimed, flac.samples)
        yield _Opened(audio, flac.samples, promised, flac.is_seekable)
