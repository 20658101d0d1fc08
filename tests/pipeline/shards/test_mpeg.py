"""MP3s whose header does not say how long they are, against the same sound with a right header."""

import io

import numpy as np
import pytest
import soundfile

from pipeline.shards import mpeg
from pipeline.shards.decoding import clip_seconds, decode, read_clip
from pipeline.shards.mpeg import find_frames, part
from pipeline.shards.refusals import RefusedError


def encoded(rate=22_050, seconds=6.0, channels=1, mode="VARIABLE", seed=0):
    """An MP3 that begins quietly, so that its first frames are the shortest."""
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 0.1, (round(rate * seconds), channels)).astype(np.float32)
    wave[:rate] *= 1e-4
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format="MP3", bitrate_mode=mode)
    return buffer.getvalue()


def decoded(content):
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]


def without_header(content):
    """The same frames without the one that holds the length, and samples dropped with it."""
    mp3 = find_frames(content)
    assert b"Xing" in content[:200] or b"Info" in content[:200]
    return content[mp3.starts[0] :], mp3.skipped


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_without_a_header_every_frame_is_counted_and_decoded(rate, channels):
    whole = encoded(rate, channels=channels)
    bare, skipped = without_header(whole)
    mp3 = find_frames(bare)
    assert mp3.claimed_samples == 0
    assert mp3.samples == len(find_frames(whole).starts[1:]) * mp3.frame_samples
    content, before = part(io.BytesIO(bare), mp3, 0, mp3.samples)
    ours, reference = decoded(content)[before:], decoded(whole)
    assert len(reference) == 6 * rate
    assert np.abs(ours[skipped : skipped + len(reference)] - reference).max() < 1e-6


def test_a_clip_without_a_header_has_its_true_length(tmp_path):
    bare, _ = without_header(encoded())
    assert soundfile.info(io.BytesIO(bare)).duration > 20  # so libsndfile estimates
    (tmp_path / "a.mp3").write_bytes(bare)
    wave = read_clip(tmp_path / "a.mp3")
    assert 6 <= len(wave) / 16_000 < 6.2
    assert np.array_equal(decode(bare), wave)
    assert clip_seconds(tmp_path / "a.mp3") == pytest.approx(len(wave) / 16_000, abs=1e-4)
    assert len(read_clip(tmp_path / "a.mp3", 5.0, 6.0)) == 16_000
    with pytest.raises(RefusedError, match=r"in a recording of 6\."):
        read_clip(tmp_path / "a.mp3", 5.0, 7.0)


def test_two_mp3s_one_after_the_other_are_both_read(tmp_path):
    first, second = encoded(seconds=2, seed=1), encoded(seconds=3, seed=2)
    (tmp_path / "a.mp3").write_bytes(first + second)
    wave = read_clip(tmp_path / "a.mp3")
    assert 5 <= len(wave) / 16_000 < 5.3
    assert clip_seconds(tmp_path / "a.mp3") == pytest.approx(len(wave) / 16_000, abs=1e-4)


def test_tags_before_between_and_after_the_frames_are_passed_over():
    plain = encoded()
    id3 = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
    mp3 = find_frames(plain)
    middle = mp3.starts[40]
    tagged = id3 + plain[:middle] + id3 + plain[middle:] + b"TAG" + bytes(125)
    assert find_frames(tagged).samples == mp3.samples
    content, before = part(io.BytesIO(tagged), find_frames(tagged), 0, mp3.samples)
    assert np.abs(decoded(content)[before:][: mp3.samples] - decoded(plain)).max() < 1e-6


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_any_part_is_the_same_as_in_the_whole_and_the_decoder_is_silent(rate, mode, capfd):
    content = encoded(rate, mode=mode)
    mp3, whole = find_frames(content), decoded(content)
    assert mp3.samples == len(whole)
    rng = np.random.default_rng(3)
    for begin in (0, len(whole) - 1, *rng.integers(0, len(whole), 20)):
        end = min(len(whole), int(begin) + int(rng.integers(1, rate)))
        piece, before = part(io.BytesIO(content), mp3, int(begin), end)
        ours = decoded(piece)[before : before + end - begin]
        assert np.abs(ours - whole[begin:end]).max() < 1e-6
    assert capfd.readouterr() == ("", "")


def test_a_long_file_is_not_read_whole_and_gives_the_same(tmp_path, monkeypatch):
    content, _ = without_header(encoded())
    (tmp_path / "a.mp3").write_bytes(content)
    (tmp_path / "b.mp3").write_bytes(content)
    whole = read_clip(tmp_path / "a.mp3", 2.0, 4.0)
    monkeypatch.setattr(mpeg, "READ_WHOLE_BYTES", 0)
    assert np.array_equal(read_clip(tmp_path / "b.mp3", 2.0, 4.0), whole)


def test_a_whole_mp3_is_the_same_as_it_is_and_frame_by_frame():
    content = encoded(channels=2)
    assert find_frames(content).is_plain
    tagged = content[: len(content) // 2]
    assert not find_frames(tagged).is_plain
    without, _ = without_header(content)
    assert not find_frames(without).is_plain
    mp3 = find_frames(content)
    piece, before = part(io.BytesIO(content), mp3, 0, mp3.samples)
    assert np.abs(decoded(piece)[before:][: mp3.samples] - decoded(content)).max() < 1e-6


def test_an_mp3_that_ends_before_its_header_says_is_refused(tmp_path):
    content = encoded()
    (tmp_path / "a.mp3").write_bytes(content[: len(content) // 2])
    for read in (read_clip, clip_seconds):
        with pytest.raises(RefusedError, match=r"\d\.\d s of it are missing"):
            read(tmp_path / "a.mp3")
    assert len(read_clip(tmp_path / "a.mp3", 1.0, 2.0)) == 16_000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"\xff\xfb",
        bytes(5000),
        b"\xff" * 5000,
        b"ID3",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
    ],
)
def test_what_is_no_mp3(content):
    assert find_frames(content) is None
