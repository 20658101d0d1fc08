"""Keys: which may be written, which may be read, and those made of paths."""

import io
import tarfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards.recordings import key_fault, key_of_path

anything = st.text(st.characters(), max_size=300)
pathlike = st.lists(
    st.one_of(st.sampled_from(["..", ".", "", "a.b", "x.flac", "a b"]), anything), max_size=6
).map("/".join)


@given(key=st.one_of(anything, pathlike))
def test_an_accepted_key_is_a_path_inside_any_folder(key):
    if key_fault(key, as_path=True):
        return
    folder = Path("/out")
    inside = Path(f"/out/{key}.flac")
    assert inside.is_relative_to(folder)
    assert ".." not in inside.parts
    assert str(inside) == f"/out/{key}.flac"  # no part is dropped, so no two keys become one
    assert key.encode().decode() == key
    assert len(key.splitlines()) == 1


@given(key=pathlike.filter(lambda key: not key_fault(key, as_path=True)))
def test_an_accepted_key_survives_the_tar_and_the_last_dot(key):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w|") as tar:
        tar.addfile(tarfile.TarInfo(f"{key}.flac"))
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        assert tar.getnames()[0].rpartition(".")[0] == key


def test_what_is_refused():
    for key in (
        "",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "./a",
        "a\0b",
        "a\nb",
        "a\\b",
        "a\x85b",
        "a\u2028b",
        " a",
        "a ",
        ".hidden",
        "a/._b",
        "\ud800",
        "é" * 121,
    ):
        assert key_fault(key, as_path=True), repr(key)


def test_what_is_accepted():
    for key in ("vid_1.0_2.5", "a.b/c.d", "é" * 120, "a b", "日本", ".hidden/x", "x" * 240 + "/y"):
        assert not key_fault(key, as_path=True), repr(key)


def test_only_a_key_to_be_written_must_be_a_safe_path():
    for key in ("", "/a", "a//b", "..", "a\\b", " a", "é" * 121, "/".join(["a" * 240] * 16)):
        assert not key_fault(key, as_path=False), repr(key)
    for key in ("\ud800", "a\nb", "a\0b", "a\u2028b", "/".join(["a" * 240] * 17 + ["b"])):
        assert key_fault(key, as_path=False), repr(key)
        assert key_fault(key, as_path=True), repr(key)


@given(st.one_of(pathlike, pathlike.map(lambda path: f"/{path}.wav")))
def test_keys_made_of_paths_are_relative(path):
    key = key_of_path(path)
    assert not key.startswith("/")
    assert not {"..", "."} & set(key.split("/"))


def test_key_of_path_drops_only_an_audio_suffix():
    assert key_of_path("clips/vid_1.0_2.5.wav") == "clips/vid_1.0_2.5"
    assert key_of_path("vid_1.0_2.5") == "vid_1.0_2.5"
    assert key_of_path("a/b.FLAC") == "a/b"
    assert key_of_path("../x/a.mp3") == "x/a"
    assert key_of_path("/data/x/a.mp3") == "data/x/a"
    assert key_of_path(".wav") == ".wav"
    assert key_of_path("a/.wav") == "a/.wav"
    assert key_of_path("...wav") == "...wav"
