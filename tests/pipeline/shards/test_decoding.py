import io
import os
import struct

import librosa
import numpy as np
import pytest
import soundfile

from pipeline.foundation.units import CLIP_SAMPLES
from pipeline.shards.decoding import ClipError, clip_seconds, encode_flac, read_clip

FORMATS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "wav24": {"format": "WAV", "subtype": "PCM_24"},
    "float": {"format": "WAV", "subtype": "FLOAT"},
    "flac": {"format": "FLAC", "subtype": "PCM_24"},
    "mp3": {"format": "MP3"},
    "vorbis": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
EXACT = ("wav", "wav24", "float", "flac")


def chirp(rate, seconds, channels=1, seed=0):
    """Sound with something at every frequency up to the half of `rate`, each channel its own."""
    time = np.arange(round(rate * seconds)) / rate
    sweep = 0.4 * np.sin(np.pi * rate * 0.45 * time**2 / max(seconds, 1e-9))
    noise = np.random.default_rng(seed).normal(0, 0.03, (len(time), channels))
    return (sweep[:, None] * np.linspace(1, 0.3, channels) + noise).astype(np.float32)


def written(tmp_path, rate, wave, kind="wav"):
    path = tmp_path / f"{kind}.bin"  # the format is read from the bytes, not from the name
    soundfile.write(path, wave, rate, **FORMATS[kind])
    return path


def reason(path, *times):
    with pytest.raises(ClipError) as caught:
        read_clip(path, *times)
    return caught.value.reason


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_decoded_mixed_and_resampled_as_librosa_does(tmp_path, kind, rate):
    if kind == "opus" and rate == 44_100:
        pytest.skip("Opus has no 44.1 kHz")
    path = written(tmp_path, rate, chirp(rate, 1.234, channels=2), kind)
    decoded, decoded_rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = librosa.to_mono(decoded.T)
    reference = librosa.resample(
        mono, orig_sr=decoded_rate, target_sr=16_000, res_type="soxr_hq", fix=False
    )
    ours = read_clip(path)
    assert ours.dtype == np.float32
    assert len(ours) == len(reference)
    assert np.abs(ours - reference).max() < 1e-6
    assert clip_seconds(path) == pytest.approx(len(ours) / 16_000, abs=1e-4)


def test_nothing_above_half_the_new_rate_folds_back(tmp_path):
    time = np.arange(48_000) / 48_000
    path = written(tmp_path, 48_000, 0.5 * np.sin(2 * np.pi * 11_000 * time), "float")
    assert np.abs(read_clip(path)[800:-800]).max() < 1e-4


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_a_segment_holds_exactly_its_samples(tmp_path, kind, rate):
    path = written(tmp_path, rate, chirp(rate, 20), kind)
    whole = soundfile.read(path, dtype="float32")[0]
    rng = np.random.default_rng(1)
    for start in (0.0, 0.3, 1.00003, *rng.uniform(1, 18, 5)):
        end = start + rng.uniform(0.2, 2)
        part = whole[round(start * rate) : round(end * rate)]
        if rate != 16_000:
            part = librosa.resample(
                part, orig_sr=rate, target_sr=16_000, res_type="soxr_hq", fix=False
            )
        ours = read_clip(path, start, end)
        assert len(ours) == len(part)
        assert np.abs(ours - part).max() <= (0 if kind in EXACT and rate == 16_000 else 1e-6)


@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_mp3_segments_do_not_depend_on_where_the_decoder_starts(tmp_path, rate):
    path = tmp_path / "a.mp3"
    soundfile.write(path, chirp(rate, 20), rate, bitrate_mode="VARIABLE")
    whole = soundfile.read(path, dtype="float32")[0]
    for start in np.random.default_rng(2).uniform(0.5, 19, 20):
        part = whole[round(start * rate) : round((start + 0.5) * rate)]
        part = librosa.resample(part, orig_sr=rate, target_sr=16_000, res_type="soxr_hq", fix=False)
        assert np.abs(read_clip(path, start, start + 0.5) - part).max() < 1e-6


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_fifteen_seconds_is_the_longest(tmp_path, rate):
    wave = chirp(rate, 15)
    assert len(read_clip(written(tmp_path, rate, wave))) == CLIP_SAMPLES
    path = written(tmp_path, rate, np.concatenate([wave, wave[:1]]))
    assert reason(path) == "too long"
    with pytest.raises(ClipError, match="over 15 s"):
        clip_seconds(path)


def test_segments_at_the_limits(tmp_path):
    path = written(tmp_path, 16_000, chirp(16_000, 40))
    assert len(read_clip(path, 10, 25)) == CLIP_SAMPLES
    third = 1 / 3  # both ends round up
    assert len(read_clip(path, third, third + 15)) == CLIP_SAMPLES
    assert len(read_clip(path, 30)) == 160_000
    assert len(read_clip(path, None, 10)) == 160_000
    assert len(read_clip(path, 39, 40.05)) == 16_000  # a rounded end is the file's
    assert reason(path, 10, 25.001) == "too long"
    assert reason(path, None, 16.0) == "too long"
    assert reason(path, 20) == "too long"
    for times in ((39, 40.06), (-0.01, 1), (5, 5), (5, 4), (41, 42), (40.01, 40.03)):
        assert reason(path, *times) in ("segment outside the recording", "empty audio"), times


def test_what_is_no_clip(tmp_path):
    assert reason(tmp_path / "none.wav") == "missing audio"
    assert reason(tmp_path) == "missing audio"
    os.mkfifo(tmp_path / "pipe.wav")
    assert reason(tmp_path / "pipe.wav") == "missing audio"
    noise = np.random.default_rng(0).bytes(5_000)
    for name in ("noise.wav", "noise.flac", "noise.mp3", "noise.raw", "empty.wav"):
        path = tmp_path / name
        path.write_bytes(noise if "noise" in name else b"")
        assert reason(path) == "undecodable audio", name
    assert reason(written(tmp_path, 16_000, np.zeros(0))) == "empty audio"
    for value in (np.nan, np.inf, -np.inf):
        wave = chirp(16_000, 1)
        wave[77] = value
        assert reason(written(tmp_path, 16_000, wave, "float")) == "non-finite audio"


def test_one_sample_silence_and_full_scale_are_clips(tmp_path):
    for wave in (np.ones(1), np.zeros(16_000), np.sign(chirp(16_000, 1))):
        path = written(tmp_path, 16_000, wave.astype(np.float32), "float")
        assert len(read_clip(path)) == len(wave)
    assert read_clip(written(tmp_path, 48_000, np.ones(1))).dtype == np.float32


def test_a_header_that_claims_hours_is_read_no_further_than_its_bytes(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, chirp(16_000, 1), 16_000, format="WAV", subtype="PCM_16")
    content = bytearray(buffer.getvalue())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", 0xFFFFFF00)
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert len(read_clip(path)) == 16_000


@pytest.mark.parametrize("kind", ["flac", "mp3"])
@pytest.mark.parametrize("times", [(), (1.0, 4.9)])
def test_audio_that_ends_before_its_header_says_is_refused(tmp_path, kind, times):
    path = written(tmp_path, 16_000, chirp(16_000, 5), kind)
    assert len(read_clip(path, *times)) > 60_000
    os.truncate(path, path.stat().st_size // 2)
    assert reason(path, *times) == "undecodable audio"


@pytest.mark.parametrize("rate", [1, 100, 1_000_000, 2_000_000_000])
def test_a_rate_that_nothing_records_at_is_refused(tmp_path, rate):
    assert reason(written(tmp_path, rate, np.zeros(100))) == "undecodable audio"


def test_flac_gives_16_bit_audio_back_unchanged():
    every = np.arange(-32_768, 32_768, dtype=np.int16)
    content = encode_flac(every.astype(np.float32) / 32_768)
    back, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    assert rate == 16_000
    assert np.array_equal(back, every)
    assert soundfile.info(io.BytesIO(content)).subtype == "PCM_16"


def test_flac_clips_what_is_beyond_full_scale():
    back, _ = soundfile.read(
        io.BytesIO(encode_flac(np.array([1.5, -1.5], np.float32))), dtype="int16"
    )
    assert back.tolist() == [32_767, -32_768]
