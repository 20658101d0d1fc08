"""Recordings that libsndfile does not read (M4A, MP4, WebM, AMR, …), through ffmpeg.

ffmpeg is a program of its own, found on PATH. It is started without a shell, may open the one file
and nothing else (no playlists, no network), and is bounded in time, memory and output. What it
complains of is refused: it would otherwise go on and leave out what it cannot read.
"""

import functools
import io
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import soundfile

from pipeline.foundation.units import Hertz, Samples, Seconds
from pipeline.shards.recordings import CONVERTED_SUFFIXES
from pipeline.shards.refusals import Reason, RefusedError

PROGRAM = "ffmpeg"
SECONDS_PER_CALL: Seconds = 120
MOST_AUDIO_BYTES = 2**29  # decoded: 120 s of 8 channels at 48 kHz in 32 bits are 184 MB
MOST_LISTED_BYTES = 2**30  # a line of some 50 bytes per packet: 100 h of packets of 20 ms
MOST_ALLOCATED_BYTES = 2**28  # in one piece, by ffmpeg's own count
HEAD_BYTES = 192
SHOWN_CHARACTERS = 200
PREROLL_SECONDS = 1  # a lossy frame needs earlier ones
DEMUXERS = (
    "aac,ac3,eac3,adts,aiff,alp,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,caf,dsf,dts,dtshd,flac,flv,"
    "g722,g726,g726le,g729,gsm,iff,iss,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,"
    "mpeg,mpegts,nistsphere,nsv,nut,ogg,oma,paf,rm,shn,sln,sox,spdif,tak,truehd,tta,voc,vqf,w64,"
    "wav,wtv,wv,xwma"
)
"""Demuxers of single files. Those that open other files or addresses (HLS, concat, DASH) are not
among them, whatever suffix such a file has."""


@dataclass(frozen=True)
class Probe:
    """What a file holds, by its packets and by a moment of it that was decoded."""

    rate: Hertz
    channels: int
    samples: Samples


def is_for_ffmpeg(head: bytes, source: Path | bytes) -> bool:
    """Whether ffmpeg may read what libsndfile does not.

    It is asked for what begins like one of its formats, and for a file whose suffix is none of
    libsndfile's. A damaged WAV is not given to it: it would make something of that.

    Args:
        head: the first `HEAD_BYTES`.
        source: the file, or its bytes.
    """
    by_name = isinstance(source, Path) and source.suffix.lower() in CONVERTED_SUFFIXES
    return (
        by_name
        or head[4:8] == b"ftyp"
        or head.startswith(
            (
                b"\x1a\x45\xdf\xa3",  # Matroska, WebM
                b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: WMA, WMV
                b"#!AMR",
                b"wvpk",
                b"MAC ",
                b"TTA1",
                b"tBaK",
                b"MPCK",
                b"MP+",
                b"FLV\x01",
                b"\x0b\x77",  # AC-3
                b"\x00\x00\x01\xba",  # MPEG program stream
                b"OggS",  # Speex in Ogg
                b"NIST_1A\n",  # Shorten in SPHERE
            )
        )
        or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0)  # AAC in ADTS
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (head[:1] == b"\x47" and head[188:189] == b"\x47")  # MPEG transport stream
    )


@dataclass(frozen=True)
class OpenThroughFfmpeg:
    """A recording of which each part is decoded by a call of its own."""

    path: Path
    probe: Probe

    @property
    def rate(self) -> Hertz:
        """Samples per second."""
        return self.probe.rate

    @property
    def channels(self) -> int:
        """Channels."""
        return self.probe.channels

    @property
    def promised(self) -> Samples:
        """Samples according to its packets."""
        return self.probe.samples

    @property
    def present(self) -> Samples:
        """The same: nothing else is known before they are decoded."""
        return self.probe.samples

    @contextmanager
    def part(self, begin: Samples, stop: Samples) -> Iterator[tuple[soundfile.SoundFile, Samples]]:
        """An open WAV of the samples from up to a second before `begin`, and its first one."""
        first = max(0, begin - PREROLL_SECONDS * self.rate)
        content = _decoded(self.path, first / self.rate, (stop - first) / self.rate)
        with _wav(content) as audio:
            if (audio.samplerate, audio.channels) != (self.rate, self.channels):
                fault = "its rate or number of channels changes on the way"
                raise RefusedError(Reason.UNDECODABLE_AUDIO, fault)
            yield audio, first


@contextmanager
def opened_through_ffmpeg(source: Path | bytes) -> Iterator[OpenThroughFfmpeg]:
    """Open a recording through ffmpeg.

    Args:
        source: a file, or the bytes of one, which are put into a temporary file.

    Raises:
        RefusedError: ffmpeg is not installed, does not read it, complains, or takes too long.
    """
    if isinstance(source, Path):
        stat = source.stat()
        yield OpenThroughFfmpeg(source, _probe(source.absolute(), stat.st_size, stat.st_mtime_ns))
        return
    with tempfile.NamedTemporaryFile(prefix="speechkd-") as file:
        file.write(source)
        file.flush()
        path = Path(file.name)
        yield OpenThroughFfmpeg(path, _probe.__wrapped__(path, len(source), 0))


@functools.lru_cache(maxsize=8)
def _probe(path: Path, size: int, changed_ns: int) -> Probe:  # noqa: ARG001  they tell versions
    """Look at a file once, though its segments are decoded one by one."""
    with _wav(_decoded(path, 0, 0.1)) as audio:
        rate, channels = audio.samplerate, audio.channels
    listing = _run(
        ["-i", f"file:{path}", "-map", "0:a:0", "-c", "copy", "-f", "framecrc", "pipe:1"],
        MOST_LISTED_BYTES,
    )
    return Probe(rate, channels, round(_length(listing) * rate))


def _length(listing: bytes) -> Fraction:
    """Where the last packet ends, in seconds, from the lines of ffmpeg's muxer `framecrc`."""
    base, end = Fraction(0), 0
    for line in io.BytesIO(listing):
        if line.startswith(b"#tb 0:"):
            base = Fraction(line.partition(b":")[2].strip().decode())
        elif not line.startswith(b"#"):
            cells = line.split(b",", 4)
            end = max(end, int(cells[2]) + int(cells[3]))
    return base * end


def _decoded(path: Path, start_s: Seconds, length_s: Seconds) -> bytes:
    """A WAV of some seconds of a file."""
    seek = ["-ss", f"{start_s:.9f}"] if start_s else []
    return _run(
        [
            *seek,
            *("-i", f"file:{path}", "-t", f"{length_s:.9f}", "-map", "0:a:0", "-vn", "-sn", "-dn"),
            # a track that begins late, or a frame that is lost in a seek, leaves silence: else all
            # that follows would lie too early
            *("-af", "aresample=first_pts=0"),
            *("-c:a", "pcm_f32le", "-bitexact", "-f", "wav", "pipe:1"),
        ],
        MOST_AUDIO_BYTES,
    )


def _wav(content: bytes) -> soundfile.SoundFile:
    """A WAV that was written to a pipe, opened."""
    if not content:
        raise RefusedError(Reason.EMPTY_AUDIO, "ffmpeg finds no sound in it")
    return soundfile.SoundFile(io.BytesIO(content))


def _run(arguments: Sequence[str], most_bytes: int) -> bytes:
    """What ffmpeg writes, if it has nothing to complain of.

    Raises:
        RefusedError: it is not installed, complains, writes too much or takes too long.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        fault = f"it needs {PROGRAM}, which is not installed here; install it, or convert the file"
        raise RefusedError(Reason.UNDECODABLE_AUDIO, fault)
    command = [
        *(program, "-nostdin", "-hide_banner", "-v", "error", "-xerror"),
        *("-max_alloc", str(MOST_ALLOCATED_BYTES)),
        *("-protocol_whitelist", "file", "-format_whitelist", DEMUXERS),
        *arguments,
    ]
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
        ) as process,
    ):
        timer = threading.Timer(SECONDS_PER_CALL, process.kill)
        timer.start()
        try:
            content = process.stdout.read(most_bytes + 1) if process.stdout else b""
            if len(content) > most_bytes:
                process.kill()
            process.wait()
        finally:
            timer.cancel()
            process.kill()
        if len(content) > most_bytes:
            fault = f"{PROGRAM} gives over {most_bytes:,} bytes"
            raise RefusedError(Reason.UNDECODABLE_AUDIO, fault)
        complaints.seek(0)
        complaint = complaints.read(4096).decode("utf-8", "replace")
    if process.returncode or complaint.strip():
        raise RefusedError(Reason.UNDECODABLE_AUDIO, _fault(complaint, process.returncode))
    return content


def _fault(complaint: str, status: int) -> str:
    """The complaint without names of this machine and addresses of this process."""
    if status == -9:
        return f"{PROGRAM} was stopped after {SECONDS_PER_CALL:g} s"
    lines = [line for line in complaint.splitlines() if line.strip()]
    line = lines[0] if lines else f"exit status {status}"
    if line.startswith("["):  # [mov,mp4 @ 0x55d0c0ffee]
        line = line.partition("]")[2]
    return f"{PROGRAM}: {line.partition('file:')[0].strip().rstrip(':')[:SHOWN_CHARACTERS]}"
