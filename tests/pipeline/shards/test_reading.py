"""Every sample of a tar comes out once, as a clip that is right or as a refusal that says why."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.units import CLIP_SAMPLES
from pipeline.shards.decoding import decode
from pipeline.shards.manifest import Shard
from pipeline.shards.reading import Clip, TarEnd, read_shard
from pipeline.shards.recordings import DECODED_SUFFIXES
from pipeline.shards.refusals import Refusal, RefusedError
from pipeline.shards.tar import split_name
from pipeline.shards.words import Word
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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty audio"),
        (b"RIFF\x00\x00\x00\x00WAVEnonsense", "undecodable audio"),
        (bytes(1000), "undecodable audio"),
        (audio(0, kind="WAV"), "empty audio"),
        (encoded(np.array([0, np.nan, 0.1]), kind="WAV", subtype="FLOAT"), "non-finite audio"),
        (encoded(np.array([0, np.inf, 0.1]), kind="WAV", subtype="FLOAT"), "non-finite audio"),
        (audio(CLIP_SAMPLES + 1_601), "too long"),
        (encoded(speechlike(8_000 * 16), 8_000), "too long"),
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
        ([("x.flac", audio())], "missing text"),
        ([("x.json", TEXT)], "missing audio"),
        ([("x.flac", audio()), ("x.json", b'{"text": ""}')], "missing text"),
        ([("x.flac", audio()), ("x.json", b'{"text": "  "}')], "missing text"),
        ([("x.flac", audio()), ("x.json", b'{"text": 7}')], "missing text"),
        ([("x.flac", audio()), ("x.json", b"{}")], "missing text"),
        ([("x.flac", audio()), ("x.txt", b"\n")], "missing text"),
        ([("x.flac", audio()), ("x.json", b"{")], "unreadable json"),
        ([("x.flac", audio()), ("x.json", b"[" * 100_000)], "unreadable json"),
        ([("x.flac", audio()), ("x.json", b'["text"]')], "unreadable json"),
        ([("x.flac", audio()), ("x.txt", b"caf\xe9")], "unusable text"),
        ([("x.flac", audio()), ("x.json", b'{"text": "caf\xe9"}')], "unreadable json"),
        ([("x.flac", audio()), ("x.json", b'{"text": "\\ud800"}')], "unusable text"),
        (
            [("x.flac", audio()), ("x.json", b'{"text": "a", "speaker": "\\ud800"}')],
            "unreadable json",
        ),
        ([("x.flac", audio()), ("x.txt", b"a" * (2**20 + 1))], "unusable text"),
        ([("x.m4a", b"\0\0\0 ftypM4A "), ("x.json", TEXT)], "undecodable audio"),
        ([("x.flac", audio()), ("x.wav", audio()), ("x.json", TEXT)], "several audio members"),
        ([("x.flac", audio()), ("x.json", TEXT), ("x.pkl", b"cos\nsystem\n")], "pickled member"),
        ([("x.flac", audio()), ("x.json", TEXT), ("x.npy", b"")], "pickled member"),
    ],
)
def test_unusable_samples_are_refused(members, reason):
    assert reason_for(*members) == reason


SUFFIXES = {  # of recordings, and how libsndfile calls what they hold
    **{"flac": "FLAC", "wav": "WAV", "aif": "AIFF", "aifc": "AIFF", "aiff": "AIFF", "au": "AU"},
    **{"caf": "CAF", "w64": "W64", "rf64": "RF64", "mp3": "MP3", "ogg": "OGG", "oga": "OGG"},
    **{"opus": "OGG", "sph": "NIST"},
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_tar_may_hold_whatever_a_folder_to_be_sharded_may(suffix):
    assert set(SUFFIXES) == {suffix.removeprefix(".") for suffix in DECODED_SUFFIXES}
    options = {"subtype": "OPUS"} if suffix == "opus" else {}
    recording = audio(kind=SUFFIXES[suffix], **options)
    content = tar_bytes([(f"x.{suffix}", recording), ("x.json", TEXT)])
    (clip,) = outcomes(content, line(content, 1))
    assert np.array_equal(clip.wave_S, decode(recording))


def test_a_video_beside_the_recording_is_no_second_recording():
    content = tar_bytes([("x.mp4", b"video"), *sample("x")])
    (clip,) = outcomes(content, line(content, 1))
    assert len(clip.wave_S) == 4_000


def test_hidden_members_of_a_tar_are_passed_over():
    """macOS puts its own files beside, with the same suffixes, and between the members of a key."""
    apple = [("._x.flac", b"\0\5\x16\7"), ("a/._x.json", b"\0\5"), (".DS_Store", b"Bud1")]
    (flac, described), second = sample("x"), sample("b/y")
    content = tar_bytes([*apple, flac, ("._x.json", b"\0"), described, *second, ("b/.z.txt", b"")])
    clips = outcomes(content, line(content, 2))
    assert [clip.key for clip in clips] == ["x", "b/y"]
    with pytest.raises(SpeechkdError, match=r"holds 2 samples .*5 hidden .*manifest says 3"):
        outcomes(content, line(content, 3))


def test_text_comes_from_the_txt_where_the_json_has_none():
    content = tar_bytes(
        [("x.flac", audio()), ("x.json", b"{}"), ("x.txt", "\ufeffnaïve\n".encode())]
    )
    (clip,) = outcomes(content, line(content, 1))
    assert clip.text == "naïve"


def test_words_of_the_json_come_with_the_clip():
    words = [{"text": "Hello", "start_s": 0.05, "end_s": 0.2}]
    members = [
        ("x.flac", audio()),
        ("x.json", json.dumps({"text": "hello", "words": words}).encode()),
    ]
    content = tar_bytes(members)
    (clip,) = outcomes(content, line(content, 1))
    assert clip.words == (Word("Hello", 0.05, 0.2),)
    assert clip.words_fault == ""


def test_words_that_cannot_be_used_are_told_and_the_clip_stays():
    members = [("x.flac", audio()), ("x.json", b'{"text": "hello", "words": ["hello"]}')]
    content = tar_bytes(members)
    (clip,) = outcomes(content, line(content, 1))
    assert (clip.text, clip.words) == ("hello", ())
    assert clip.words_fault == "word 1 is 'hello', not an object"


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
    assert (refusal.reason, refusal.key) == ("unusable key", r"caf\udce9")
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
