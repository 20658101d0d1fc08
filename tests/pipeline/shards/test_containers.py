"""A recording that was cut off is refused, as a file and in a tar, in every format that tells."""

import io

import numpy as np
import pytest
import soundfile

from pipeline.shards.containers import W64_RIFF, check_whole
from pipeline.shards.decoding import clip_seconds, decode, read_clip
from pipeline.shards.refusals import RefusedError

FORMATS = [
    *[("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16")],
    *[("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16")],
    *[("CAF", "ALAC_16"), ("NIST", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")],
]


def encoded(kind, subtype, seconds=2.0, seed=0):
    wave = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_cut_off_anywhere(tmp_path, kind, subtype):
    whole = encoded(kind, subtype)
    assert len(decode(whole)) == 32_000
    path = tmp_path / "clip"
    smallest = 64 if subtype == "ALAC_16" else 1  # its packets' table says no more
    for missing in (smallest, len(whole) // 4, len(whole) // 2):
        cut = whole[: len(whole) - missing]
        path.write_bytes(cut)
        for read, source in ((decode, cut), (read_clip, path), (clip_seconds, path)):
            with pytest.raises(RefusedError, match=r"last \d+ bytes are missing") as caught:
                read(source)
            assert caught.value.reason == "undecodable audio"


@pytest.mark.parametrize("kind", ["AU", "WAV"])
def test_a_stream_whose_header_knows_no_length_is_read_to_its_end(kind):
    content = bytearray(encoded(kind, "PCM_16"))
    match kind:
        case "AU":
            content[8:12] = b"\xff" * 4
        case "WAV":
            at = content.index(b"data")
            content[at + 4 : at + 8] = b"\xff" * 4
    assert len(decode(bytes(content))) == 32_000


def test_sound_behind_the_length_of_a_wavs_header_is_not_left_out_in_silence():
    """A recorder that did not close its file, and two files joined byte by byte."""
    whole = encoded("WAV", "PCM_16")
    at = whole.index(b"data") + 4
    for length in (0, 2_000):
        unclosed = whole[:at] + length.to_bytes(4, "little") + whole[at + 4 :]
        with pytest.raises(RefusedError, match=r"its header ends the sound .*bytes more follow"):
            decode(unclosed)
    with pytest.raises(RefusedError, match="bytes more follow"):
        decode(whole + whole)


@pytest.mark.parametrize(
    "tail",
    [
        b"LIST" + (20_000).to_bytes(4, "little") + b"x" * 20_000,
        b"id3 " + (5_001).to_bytes(4, "little") + b"x" * 5_002 + b"TAG" + b"x" * 125,
        bytes(50_000),
        b"x" * 300,
    ],
)
def test_what_may_follow_the_sound_of_a_wav(tail):
    assert len(decode(encoded("WAV", "PCM_16") + tail)) == 32_000


def test_an_ogg_that_nobody_closed_is_read():
    """Its last page does not say that it is the last one (RFC 7845, section 5)."""
    whole = encoded("OGG", "OPUS")
    last = whole.rfind(b"OggS")
    check_whole(io.BytesIO(whole[:last]))
    with pytest.raises(RefusedError, match="missing"):
        check_whole(io.BytesIO(whole[: last + 20]))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_streams_that_follow_each_other_are_not_read_as_the_first_alone(subtype):
    with pytest.raises(RefusedError, match=r"several Ogg streams .*ffmpeg"):
        decode(encoded("OGG", subtype, seed=1) + encoded("OGG", subtype, seed=2))


def test_bytes_of_no_format_are_left_to_the_decoder():
    endless = W64_RIFF + bytes(24) + b"junk" + bytes(12) + b"\xff" * 8 + bytes(8)
    for content in (
        endless,
        b"\0" * 100,
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"OggX",
        b"NIST_1A\n   zzz\n",
    ):
        check_whole(io.BytesIO(content))
