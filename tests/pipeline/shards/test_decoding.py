"""The decoder against librosa, for files, segments and bytes; and what it refuses."""

import io
import os
import struct

import librosa
import numpy as np
import pytest
import soundfile

from pipeline.foundation.units import CLIP_SAMPLES
from pipeline.shards.decoding import clip_seconds, decode, encode_flac, read_clip
from pipeline.shards.refusals import RefusedError
from tests.helpers.tars import audio, encoded
from tests.helpers.whispers import speechlike

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


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype("f4")


def written(tmp_path, rate, wave, kind="wav"):
    path = tmp_path / f"{kind}.bin"  # the format is read from the bytes, not from the name
    soundfile.write(path, wave, rate, **FORMATS[kind])
    return path


def reason(path, *times):
    with pytest.raises(RefusedError) as caught:
        read_clip(path, *times)
    return caught.value.reason


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        (kind, rate)
        for kind in FORMATS
        for rate in (8_000, 16_000, 24_000, 44_100, 48_000)
        if (kind, rate) != ("opus", 44_100)  # which Opus does not have
    ],
)
def test_decoded_mixed_and_resampled_as_librosa_does(tmp_path, kind, rate):
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
def test_fifteen_seconds_is_the_longest_and_a_tenth_more_is_cut_off(tmp_path, rate):
    wave = chirp(rate, 15.2)
    spare = int(0.1 * rate)
    for samples in (15 * rate, 15 * rate + 4, 15 * rate + spare):
        path = written(tmp_path, rate, wave[:samples])
        assert len(read_clip(path)) == len(decode(path.read_bytes())) == CLIP_SAMPLES
        assert clip_seconds(path) == 15
    path = written(tmp_path, rate, wave[: 15 * rate + spare + 1])
    assert reason(path) == "too long"
    with pytest.raises(RefusedError, match="over 15 s"):
        decode(path.read_bytes())
    with pytest.raises(RefusedError, match="over 15 s"):
        clip_seconds(path)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_longest_clip_is_a_setting(tmp_path, rate):
    wave = chirp(rate, 4)
    path = written(tmp_path, rate, wave)
    assert len(read_clip(path, limit_s=4)) == len(decode(path.read_bytes(), 4)) == 64_000
    with pytest.raises(RefusedError, match="over 3 s"):
        read_clip(path, limit_s=3)
    with pytest.raises(RefusedError, match="over 3 s"):
        clip_seconds(path, limit_s=3)
    with pytest.raises(RefusedError, match="over 3 s"):
        decode(path.read_bytes(), 3)
    with pytest.raises(RefusedError, match=r"0 to 3\.5 s is over 3 s"):
        read_clip(path, 0, 3.5, limit_s=3)
    assert len(read_clip(path, 0.25, 3.25, limit_s=3)) == 48_000
    long = written(tmp_path, 16_000, chirp(16_000, 40))
    assert len(read_clip(long, 5, 35, limit_s=30)) == len(read_clip(long, 5, limit_s=35)) - 80_000


def test_segments_at_the_limits(tmp_path):
    path = written(tmp_path, 16_000, chirp(16_000, 40))
    assert len(read_clip(path, 10, 25)) == CLIP_SAMPLES
    third = 1 / 3  # both ends round up
    assert len(read_clip(path, third, third + 15)) == CLIP_SAMPLES
    assert len(read_clip(path, 30)) == 160_000
    assert len(read_clip(path, None, 10)) == 160_000
    assert len(read_clip(path, 39, 40.05)) == 16_000  # a rounded end is the file's
    whole = soundfile.read(path, dtype="float32")[0]
    assert np.array_equal(read_clip(path, 10, 25.09), whole[160_000:400_000])
    assert reason(path, 10, 25.11) == "too long"
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
    for name in ("noise.wav", "noise.flac", "noise.mp3", "noise.raw"):
        path = tmp_path / name
        path.write_bytes(noise)
        assert reason(path) == "undecodable audio", name
    (tmp_path / "empty.wav").write_bytes(b"")
    assert reason(tmp_path / "empty.wav") == "empty audio"
    assert reason(written(tmp_path, 16_000, np.zeros(0))) == "empty audio"
    for value in (np.nan, np.inf, -np.inf):
        wave = chirp(16_000, 1)
        wave[77] = value
        assert reason(written(tmp_path, 16_000, wave, "float")) == "non-finite audio"


def test_one_sample_silence_and_full_scale_are_clips(tmp_path):
    for wave in (np.ones(1), np.zeros(16_000), np.sign(chirp(16_000, 1))):
        path = written(tmp_path, 16_000, wave.astype(np.float32), "float")
        assert len(read_clip(path)) == len(wave)
    assert reason(written(tmp_path, 48_000, np.ones(1))) == "empty audio"  # none at 16 kHz


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


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_a_member_of_a_tar_is_resampled_as_librosa_does(rate):
    wave = speechlike(2 * rate)[: 2 * rate]
    got = decode(encoded(wave, rate, "WAV", subtype="FLOAT"))
    expected = librosa.resample(wave, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    assert abs(len(got) - 32_000) <= 1
    assert np.abs(got[: len(expected)] - expected[: len(got)]).max() < 1e-5


def test_resampling_is_band_limited():
    too_high = decode(encoded(tone(48_000, hertz=12_000), 48_000, "WAV", subtype="FLOAT"))
    assert np.abs(too_high[200:-200]).max() < 1e-3  # it would fold down to 4 kHz at full level


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("FLAC", {}, 1e-4),
        ("FLAC", {"subtype": "PCM_24"}, 1e-6),
        ("WAV", {"subtype": "PCM_16"}, 1e-4),
        ("WAV", {"subtype": "PCM_24"}, 1e-6),
        ("WAV", {"subtype": "FLOAT"}, 1e-7),
        ("WAV", {"subtype": "PCM_U8"}, 1e-2),
        ("OGG", {"subtype": "VORBIS"}, 0.1),
        ("OGG", {"subtype": "OPUS"}, 0.1),
        ("MP3", {}, 0.1),
        ("AIFF", {}, 1e-4),
    ],
)
def test_members_of_every_format_are_read(kind, options, tolerance):
    wave = tone(16_000)
    got = decode(encoded(wave, 16_000, kind, **options))
    assert abs(len(got) - len(wave)) <= 0.1 * 16_000
    middle = slice(4_000, 12_000)
    assert np.abs(got[middle] - wave[middle]).max() < tolerance


def test_channels_are_averaged():
    left, right = tone(16_000), tone(16_000, hertz=660)
    got = decode(encoded(np.stack([left, right], axis=1), 16_000, "WAV", subtype="FLOAT"))
    assert np.allclose(got, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("kind", ["FLAC", "MP3", "OGG"])
def test_a_full_clip_is_exactly_fifteen_seconds_whatever_the_codec_adds(kind):
    got = decode(audio(CLIP_SAMPLES, kind=kind))
    assert CLIP_SAMPLES - 2 <= len(got) <= CLIP_SAMPLES


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
def test_a_file_and_the_same_bytes_in_a_tar_are_the_same_clip(tmp_path, kind, rate):
    path = written(tmp_path, rate, chirp(rate, 1.234, channels=2), kind)
    assert np.array_equal(read_clip(path), decode(path.read_bytes()))


def test_a_file_and_the_same_bytes_in_a_tar_are_refused_alike(tmp_path):
    whole = audio(kind="WAV")
    infinite = np.full((160, 2), 3e38, np.float32)  # whose sum over channels is no float
    for content in (
        b"",
        bytes(1000),
        whole[:4_000],
        audio(40_000, kind="MP3")[:2_000],
        audio(0, kind="WAV"),
        audio(16_000 * 16),
        encoded(np.array([0, np.nan]), kind="WAV", subtype="FLOAT"),
        encoded(infinite, kind="WAV", subtype="FLOAT"),
        encoded(np.zeros(100), 1_999, "WAV"),
        encoded(np.zeros(100), 768_001, "WAV"),
        encoded(np.zeros(1), 48_000, "WAV"),
    ):
        path = tmp_path / "clip"
        path.write_bytes(content)
        with pytest.raises(RefusedError) as refused:
            decode(content)
        assert refused.value.reason == reason(path)


def test_many_channels_are_decoded_block_by_block(monkeypatch):
    wave = chirp(16_000, 0.5, channels=7)
    content = encoded(wave, kind="WAV", subtype="FLOAT")
    whole = decode(content)
    monkeypatch.setattr("pipeline.shards.decoding.BLOCK_VALUES", 7 * 100 + 3)
    assert np.array_equal(decode(content), whole)
    assert np.abs(whole - wave.mean(axis=1)).max() < 1e-6
