"""Every sample of a tar comes out once, as a clip that is right or as a refusal that says why."""

import io
import json
import tarfile

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import CLIP_SAMPLES
from pipeline.shards.manifest import Shard
from pipeline.shards.reading import Clip, Refusal, RefusedError, TarEnd, decode, read_shard
from pipeline.shards.tar import split_name
from tests.helpers.tars import audio, encoded, line, sample, tar_bytes
from tests.helpers.whispers import speechlike

TEXT = b'{"text": "hello"}'


def outcomes(content: bytes, shard: Shard) -> list[Clip | Refusal]:
    """All that a tar gives but its end, which must come once and last."""
    *found, end = read_shard(io.BytesIO(content), shard, "a.tar")
    assert isinstance(end, TarEnd)
    assert not any(isinstance(item, TarEnd) for item in found)
    assert [item.position for item in found] == list(range(shard.samples))
    return found


def reason_for(*members: tuple[str, bytes]) -> str:
    """Why a sample of these members is refused, between two good ones that must come through."""
    content = tar_bytes([*sample("first"), *members, *sample("last")])
    first, middle, last = outcomes(content, line(content, 3))
    assert isinstance(first, Clip)
    assert isinstance(last, Clip)
    assert isinstance(middle, Refusal)
    assert middle.key == "x"
    again = outcomes(content, line(content, 3))[1]
    assert json.dumps(middle.record()) == json.dumps(again.record())  # no address, no time
    return middle.reason


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype("f4")


def test_good_samples_keep_key_text_and_wave():
    content = tar_bytes([*sample("a/vid_1.0_2.5", 1), *sample("b", 2)])
    first, second = outcomes(content, line(content, 2))
    assert first.key == "a/vid_1.0_2.5"
    assert first.text == "this is clip a/vid_1.0_2.5"
    assert (first.speaker, first.recording) == ("s1", "a/vid_1.0_2.5")
    expected, _ = soundfile.read(io.BytesIO(audio(4_000, 1)), dtype="float32")
    assert np.array_equal(first.wave_S, expected)
    assert first.record()["duration_s"] == 0.25
    assert second.key == "b"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vid_1.0_2.5.flac", ("vid_1.0_2.5", "flac")),
        ("a.b/c.WAV", ("a.b/c", "wav")),
        ("a.b/c", ("a.b/c", "")),
        ("x.tar.gz", ("x.tar", "gz")),
    ],
)
def test_names_are_split_at_their_last_dot(name, expected):
    assert split_name(name) == expected


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_resampling_equals_librosa(rate):
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
def test_formats_are_read(kind, options, tolerance):
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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty audio"),
        (b"RIFF\x00\x00\x00\x00WAVEnonsense", "undecodable audio"),
        (bytes(1000), "undecodable audio"),
        (audio(0, kind="WAV"), "empty audio"),
        (encoded(np.array([0, np.nan, 0.1]), kind="WAV", subtype="FLOAT"), "non-finite audio"),
        (encoded(np.array([0, np.inf, 0.1]), kind="WAV", subtype="FLOAT"), "non-finite audio"),
        (audio(CLIP_SAMPLES + 1_601), "longer than the clip length"),
        (encoded(speechlike(8_000 * 16), 8_000), "longer than the clip length"),
    ],
)
def test_unusable_audio_is_refused(content, reason):
    with pytest.raises(RefusedError) as refused:
        decode(content)
    assert refused.value.reason == reason
    assert reason_for(("x.wav", content), ("x.json", TEXT)) == reason


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("x.flac", audio())], "no text member"),
        ([("x.json", TEXT)], "no audio member"),
        ([("x.flac", audio()), ("x.json", b'{"text": ""}')], "missing text"),
        ([("x.flac", audio()), ("x.json", b'{"text": "  "}')], "missing text"),
        ([("x.flac", audio()), ("x.json", b'{"text": 7}')], "missing text"),
        ([("x.flac", audio()), ("x.json", b"{}")], "missing text"),
        ([("x.flac", audio()), ("x.txt", b"\n")], "missing text"),
        ([("x.flac", audio()), ("x.json", b"{")], "unreadable json"),
        ([("x.flac", audio()), ("x.json", b"[" * 100_000)], "unreadable json"),
        ([("x.flac", audio()), ("x.json", b'["text"]')], "unreadable json"),
        ([("x.flac", audio()), ("x.txt", b"caf\xe9")], "not UTF-8"),
        ([("x.flac", audio()), ("x.json", b'{"text": "caf\xe9"}')], "not UTF-8"),
        ([("x.flac", audio()), ("x.json", b'{"text": "\\ud800"}')], "not UTF-8"),
        ([("x.flac", audio()), ("x.wav", audio()), ("x.json", TEXT)], "several audio members"),
        ([("x.flac", audio()), ("x.json", TEXT), ("x.pkl", b"cos\nsystem\n")], "pickled member"),
        ([("x.flac", audio()), ("x.json", TEXT), ("x.npy", b"")], "pickled member"),
    ],
)
def test_unusable_samples_are_refused(members, reason):
    assert reason_for(*members) == reason


def test_text_comes_from_the_txt_where_the_json_has_none():
    content = tar_bytes(
        [("x.flac", audio()), ("x.json", b"{}"), ("x.txt", "\ufeffnaïve\n".encode())]
    )
    (clip,) = outcomes(content, line(content, 1))
    assert clip.text == "naïve"


def test_the_second_sample_of_a_key_is_refused():
    content = tar_bytes([*sample("a"), *sample("b"), *sample("a", 1), *sample("a", 2)])
    found = outcomes(content, line(content, 4))
    assert [getattr(item, "reason", "") for item in found] == [
        "",
        "",
        "duplicate key",
        "duplicate key",
    ]


def test_a_name_that_is_not_utf8_is_refused():
    members = [(name.replace("x", "caf\udce9"), content) for name, content in sample("x")]
    content = tar_bytes(members)
    (refusal,) = outcomes(content, line(content, 1))
    assert (refusal.reason, refusal.key) == ("not UTF-8", r"caf\udce9")
    json.dumps(refusal.record()).encode()


def test_links_and_devices_are_passed_over():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in (
            ("a.json", tarfile.SYMTYPE),
            ("b.flac", tarfile.LNKTYPE),
            ("null.flac", tarfile.CHRTYPE),
            ("folder", tarfile.DIRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name, content in sample("good"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    content = buffer.getvalue()
    (clip,) = outcomes(content, line(content, 1))
    assert clip.key == "good"


def test_a_member_that_says_it_is_huge_is_not_read(monkeypatch):
    monkeypatch.setattr("pipeline.shards.tar.MAX_MEMBER_BYTES", 50_000)
    assert reason_for(("x.flac", bytes(50_001)), ("x.json", TEXT)) == "member too large"


GOOD = tar_bytes([*sample("a.1", 1, 2_000), *sample("b", 2, 2_000), *sample("c", 3, 2_000)])
with tarfile.open(fileobj=io.BytesIO(GOOD)) as opened:
    INFOS = opened.getmembers()
BOUNDARIES = sorted(
    {place for i in INFOS for place in (i.offset, i.offset_data, i.offset_data + i.size)}
)
SAMPLE_ENDS = [i.offset_data + i.size for i in INFOS if i.name.endswith(".json")]


def check_cut(cut: int) -> None:
    whole = outcomes(GOOD, line(GOOD, 3))
    found = outcomes(GOOD[:cut], line(GOOD, 3))
    for item, original in zip(found, whole, strict=True):
        if isinstance(item, Clip):
            assert item.record() == original.record()
            assert np.array_equal(item.wave_S, original.wave_S)
        else:
            assert item.reason == "truncated tar"
            assert item.key in (original.key, None)
    complete = sum(isinstance(item, Clip) for item in found)
    assert complete == sum(end <= cut for end in SAMPLE_ENDS)


@pytest.mark.parametrize("cut", [0, 1, 511, 512, *BOUNDARIES, *(b + 100 for b in BOUNDARIES)])
def test_a_cut_tar_gives_what_is_whole_and_refuses_the_rest(cut):
    check_cut(min(cut, len(GOOD) - 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD) - 1))
def test_a_tar_cut_anywhere_is_accounted_for(cut):
    check_cut(cut)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_flipped_byte_anywhere_is_a_changed_tar(place, change):
    changed = bytearray(GOOD)
    changed[place] ^= change
    with pytest.raises(SpeechkdError, match="changed tar"):
        list(read_shard(io.BytesIO(bytes(changed)), line(GOOD, 3), "a.tar"))


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_a_manifest_with_another_count_is_an_error(samples):
    with pytest.raises(SpeechkdError, match=f"holds 3 samples.*says {samples}"):
        list(read_shard(io.BytesIO(GOOD), line(GOOD, samples), "a.tar"))


def test_a_longer_tar_is_a_changed_tar():
    with pytest.raises(SpeechkdError, match="changed tar"):
        list(read_shard(io.BytesIO(GOOD + bytes(512)), line(GOOD, 3), "a.tar"))


def test_members_that_are_not_side_by_side_are_an_error():
    a, b = list(sample("a")), list(sample("b"))
    content = tar_bytes([a[0], b[0], a[1], b[1]])
    with pytest.raises(SpeechkdError, match="side by side"):
        list(read_shard(io.BytesIO(content), line(content, 2), "a.tar"))
