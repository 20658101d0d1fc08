"""FLACs whose header does not say how long they are, against libsndfile on whole ones."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.shards.decoding import clip_seconds, decode, read_clip
from pipeline.shards.flac import read_flac
from pipeline.shards.refusals import RefusedError

TOTAL = slice(21, 26)  # the low 36 bits of these bytes of STREAMINFO


def encoded(samples, channels=1, seed=0):
    wave = np.random.default_rng(seed).normal(0, 0.1, (samples, channels)).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format="FLAC")
    return buffer.getvalue()


def with_total(content, samples):
    total = (content[21] >> 4 << 36 | samples).to_bytes(5, "big")
    return content[: TOTAL.start] + total + content[TOTAL.stop :]


def frame_at(content, number):
    """Where the frame of this number begins; libsndfile's have 4,096 samples each."""
    at = content.find(b"\xff\xf8", 42)
    while content[at + 4] != number:
        at = content.find(b"\xff\xf8", at + 1)
    return at


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 60_000), channels=st.integers(1, 3))
def test_the_last_frame_says_how_long_it_is(samples, channels):
    content = encoded(samples, channels)
    flac = read_flac(io.BytesIO(content))
    assert (flac.samples, flac.claimed, flac.is_believable) == (samples, samples, True)
    streamed = read_flac(io.BytesIO(with_total(content, 0) + b"TAG" + bytes(125)))
    assert (streamed.samples, streamed.claimed, streamed.is_believable) == (samples, 0, False)
    assert streamed.head == content[:42]


@pytest.mark.parametrize("total", [0, 20_000])
def test_a_header_that_says_nothing_or_too_little(tmp_path, total):
    whole = encoded(50_000, channels=2)
    path = tmp_path / "a.flac"
    path.write_bytes(with_total(whole, total))
    reference = decode(whole)
    assert np.array_equal(read_clip(path), reference)
    assert np.array_equal(decode(path.read_bytes()), reference)
    assert clip_seconds(path) == len(reference) / 16_000
    assert np.array_equal(read_clip(path, 2.0, 3.0), reference[32_000:48_000])


def test_a_piece_of_a_stream_whose_frames_count_on(tmp_path):
    whole = encoded(50_000)
    piece = whole[: frame_at(whole, 0)] + whole[frame_at(whole, 3) :]
    path = tmp_path / "a.flac"
    path.write_bytes(piece)
    reference = decode(whole)[3 * 4096 :]
    assert np.array_equal(read_clip(path), reference)
    assert np.array_equal(decode(piece), reference)
    assert np.array_equal(read_clip(path, 2.0, 2.3), reference[32_000:36_800])


def test_a_flac_that_is_cut_off_is_refused_whatever_its_header_knows(tmp_path):
    whole = encoded(50_000)
    half = len(whole) // 2
    path = tmp_path / "a.flac"
    for content, message in (
        (whole[:half], r"\d\.\d s of it are missing"),
        (with_total(whole, 0)[:half], "ends within a frame"),
    ):
        path.write_bytes(content)
        for read in (read_clip, clip_seconds):
            with pytest.raises(RefusedError, match=message):
                read(path)
        with pytest.raises(RefusedError, match=message):
            decode(content)


@pytest.mark.parametrize("content", [b"", b"fLaC", b"fLaC" + bytes(80), b"RIFF" + bytes(80)])
def test_what_is_no_flac(content):
    assert read_flac(io.BytesIO(content)) is None


def test_a_file_of_nothing_but_headers_of_frames_takes_no_time():
    whole = encoded(8_000)
    header = whole[frame_at(whole, 0) :][:8]
    assert (
        read_flac(io.BytesIO(with_total(whole, 0)[: frame_at(whole, 0)] + header * 300_000)) is None
    )
