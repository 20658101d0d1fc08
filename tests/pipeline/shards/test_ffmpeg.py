"""Recordings through ffmpeg: a stand-in shows the limits, the real one, where it is, the sound."""

import io
import shutil
import sys
import textwrap

import numpy as np
import pytest
import soundfile

from pipeline.shards import ffmpeg
from pipeline.shards.decoding import clip_seconds, decode, read_clip
from pipeline.shards.ffmpeg import is_for_ffmpeg
from pipeline.shards.refusals import RefusedError
from tests.helpers.processes import PATIENCE_SECONDS
from tests.helpers.whispers import speechlike

REAL = shutil.which("ffmpeg")
BOX = b"\0\0\0\x20ftypM4A \0\0\0\0"

# Gives the WAV beside the file, as ffmpeg would give what it decodes; its name says how it fails.
STAND_IN = """
    import io, pathlib, sys, time
    import soundfile
    words = sys.argv[1:]
    path = pathlib.Path(words[words.index("-i") + 1].removeprefix("file:"))
    pathlib.Path({log!r}).open("a").write(" ".join(words) + chr(10))
    if "slow" in path.name:
        time.sleep(600)
    if "endless" in path.name:
        while True:
            sys.stdout.buffer.write(b"x" * 2**16)
    if "complains" in path.name:
        print(f"[aac @ 0x55d0c0ffee] Input buffer exhausted file:{{path}}", file=sys.stderr)
    if "fails" in path.name:
        print("Invalid data found when processing input", file=sys.stderr)
        sys.exit(1)
    wave, rate = soundfile.read(str(path) + ".wav", dtype="float32", always_2d=True)
    if "framecrc" in words:
        print(f"#tb 0: 1/{{rate}}")
        step = 1024
        for at in range(0, len(wave), step):
            print(f"0, {{at}}, {{at}}, {{min(step, len(wave) - at)}}, 9, 0x0")
        sys.exit()
    seek = float(words[words.index("-ss") + 1]) if "-ss" in words else 0.0
    stop = seek + float(words[words.index("-t") + 1])
    part = io.BytesIO()
    cut = wave[round(seek * rate):round(stop * rate)]
    soundfile.write(part, cut, rate, format="WAV", subtype="FLOAT")
    sys.stdout.buffer.write(part.getvalue())
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """An `ffmpeg` on PATH; returns the file in which it notes its arguments."""
    program, log = tmp_path / "bin" / "ffmpeg", tmp_path / "log"
    program.parent.mkdir()
    code = textwrap.dedent(STAND_IN).format(log=str(log))
    program.write_text(f"#!{sys.executable}\n{code}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    ffmpeg._probe.cache_clear()
    return log


def recording(path, wave, rate=16_000):
    path.write_bytes(BOX)
    soundfile.write(f"{path}.wav", wave, rate, subtype="FLOAT")
    return path


def fault_of(path):
    with pytest.raises(RefusedError) as caught:
        read_clip(path)
    assert caught.value.reason == "undecodable audio"
    return caught.value.detail


def test_parts_and_channels_are_those_of_the_same_wav(tmp_path, stand_in):
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, (20 * 8_000, 2)).astype(np.float32)
    path = recording(tmp_path / "a b;$(c).m4a", wave, 8_000)
    wav = f"{path}.wav"
    for arguments in ((3.5, 9.25), (0.0, 4.0), (15.0, 20.0), (2.0, 3.0, 15, 1)):
        found = read_clip(path, *arguments)
        np.testing.assert_array_equal(found, read_clip(type(path)(wav), *arguments))
        assert clip_seconds(path, *arguments) == pytest.approx(len(found) / 16_000, abs=1e-4)
    calls = stand_in.read_text().splitlines()
    assert sum("framecrc" in call for call in calls) == 1
    assert all("-protocol_whitelist file" in call and "-nostdin" in call for call in calls)
    with pytest.raises(RefusedError, match="over 15 s"):
        read_clip(path)
    with pytest.raises(RefusedError, match="in a recording of 20"):
        read_clip(path, 19, 21)


def test_bytes_of_a_tar_go_through_a_file_that_is_gone_afterwards(tmp_path, stand_in, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    with pytest.raises(RefusedError, match=r"exit status|ffmpeg"):
        decode(BOX)  # the stand-in finds no WAV beside it
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_it_complains_of_is_refused_without_paths_and_addresses(tmp_path, stand_in):
    wave = speechlike(8_000)
    detail = fault_of(recording(tmp_path / "complains.m4a", wave))
    assert detail == "ffmpeg: Input buffer exhausted"
    assert fault_of(recording(tmp_path / "fails.webm", wave)).startswith("ffmpeg: Invalid data")


def test_time_and_size_are_bounded(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(ffmpeg, "SECONDS_PER_CALL", 0.5)
    detail = fault_of(recording(tmp_path / "slow.m4a", speechlike(8_000)))
    assert detail == "ffmpeg was stopped after 0.5 s"
    monkeypatch.setattr(ffmpeg, "SECONDS_PER_CALL", PATIENCE_SECONDS)
    monkeypatch.setattr(ffmpeg, "MOST_AUDIO_BYTES", 2**20)
    detail = fault_of(recording(tmp_path / "endless.m4a", speechlike(8_000)))
    assert "over 1,048,576 bytes" in detail


def test_the_message_names_ffmpeg_where_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(BOX)
    assert "ffmpeg, which is not installed" in fault_of(tmp_path / "a.m4a")
    with pytest.raises(RefusedError, match="ffmpeg, which is not installed"):
        decode(BOX)


def test_a_damaged_recording_of_libsndfile_is_not_given_to_it(tmp_path, stand_in):
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\x24\0\0\0WAVEjunk" * 3)
    assert "ffmpeg" not in fault_of(path)
    assert not stand_in.exists()
    assert not is_for_ffmpeg(b"fLaC" + b"\0" * 60, path)
    assert is_for_ffmpeg(b"\x1a\x45\xdf\xa3", b"")


def encoded(path, wave, rate, *options):
    import subprocess

    soundfile.write(path.with_suffix(".wav"), wave, rate)
    command = [REAL, "-v", "error", "-y", "-i", str(path.with_suffix(".wav")), *options, str(path)]
    subprocess.run(command, check=True)
    path.with_suffix(".wav").unlink()
    return path


@pytest.mark.skipif(REAL is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", ["m4a", "mp4", "webm", "mkv", "wma", "aac", "wv"])
def test_real_files_sound_as_what_was_encoded(tmp_path, suffix):
    rate, wave = 16_000, speechlike(16_000 * 6)
    path = encoded(tmp_path / f"a.{suffix}", wave, rate, "-ac", "1")
    whole_S = read_clip(path)
    slack = 0.2 if suffix in ("aac", "wma") else 0.1  # no list of cuts in these: padding stays
    assert len(whole_S) / 16_000 == pytest.approx(6, abs=slack)
    part_S = read_clip(path, 2.5, 4.0)
    assert len(part_S) == 24_000
    lag, match = best_lag(part_S, wave[40_000:64_000])
    assert match > 0.8
    assert abs(lag) <= (2_200 if suffix in ("aac", "wma") else 400)
    assert clip_seconds(path) == pytest.approx(len(whole_S) / 16_000, abs=0.05)
    assert len(decode(path.read_bytes())) == len(whole_S)


def best_lag(one, other):
    """The shift at which two waves agree most, in samples, and their correlation there."""
    size = 2 * len(one)
    spectrum = np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size))
    correlation = np.fft.irfft(spectrum, size) / np.linalg.norm(one) / np.linalg.norm(other)
    lag = int(np.argmax(correlation))
    return (lag if lag < len(one) else lag - size), float(correlation.max())


@pytest.mark.skipif(REAL is None, reason="ffmpeg is not installed")
def test_a_real_file_that_is_cut_off_or_a_playlist_is_refused(tmp_path):
    path = encoded(tmp_path / "a.m4a", speechlike(16_000 * 6), 16_000, "-movflags", "+faststart")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RefusedError):
        read_clip(path)
    (tmp_path / "b.wav").write_bytes(b"")
    playlist = tmp_path / "list.mp4"
    soundfile.write(tmp_path / "secret.wav", speechlike(8_000), 16_000)
    playlist.write_text("ffconcat version 1.0\nfile 'secret.wav'\n")
    with pytest.raises(RefusedError):
        read_clip(playlist)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(100), 16_000, format="WAV")
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n")
    with pytest.raises(RefusedError):
        read_clip(playlist)
