"""What came from somebody else is read within bounds and shown without secrets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.foundation import untrusted
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.untrusted import (
    file_part,
    has_control,
    holds_secret,
    parse_json,
    printable,
    read_text_file,
)


@pytest.mark.parametrize("text", ["[" * 200_000, "1" * 5000, "{", b"\xff", ""])
def test_whatever_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011  of whatever kind
        parse_json(text)


@given(st.recursive(st.none() | st.text() | st.integers(-(2**60), 2**60), st.lists))
def test_what_is_json_is_read(value):
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [("a b é 🙂 שלום", False), ("a\tb", True), ("a\u2028b", True), ("\ud800", True), ("", False)],
)
def test_control_characters(text, found):
    assert has_control(text) == found


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("s3://bucket/a@b:c/d", False),
        ("user@host:/path", False),
        ("https://host/a.tar?download=1", False),
        ("hf://datasets/x@main/y", False),
        ("s3://k:s@bucket/a", True),
        ("https://h/a?x=1&X-Amz-Signature=abc", True),
        ("https://h/a?sig=abc", True),
    ],
)
def test_which_urls_hold_a_secret(location, found):
    assert holds_secret(location) == found


@given(st.text())
def test_what_is_shown_can_be_shown_again(text):
    once = printable(text)
    assert printable(once) == once
    assert "\x1b" not in once


def test_a_text_file_beyond_bounds_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("12345")
    assert read_text_file(tmp_path / "a") == "12345"
    monkeypatch.setattr(untrusted, "MAX_TEXT_FILE_BYTES", 4)
    with pytest.raises(SpeechkdError, match="has 5 bytes; text files are read up to 4"):
        read_text_file(tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "part"),
    [("a b", "a-b"), ("../x", "x"), ("...", "x"), ("a/b=c", "a-b-c"), ("€", "x")],
)
def test_names_become_parts_of_file_names(text, part):
    assert file_part(text) == part


def test_names_of_other_scripts_stay_apart_in_file_names():
    names = ["语音", "文本", "ένα", "één", "eén", "een"]
    parts = [file_part(name) for name in (*names, "语" * 99, "a語" * 99)]
    assert len(set(parts)) == len(parts)
    assert all(part.isascii() and len(part) < 61 for part in parts)
    assert file_part("een") == "een"
    assert file_part("\ud800é")
