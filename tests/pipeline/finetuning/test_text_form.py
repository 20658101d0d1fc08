"""Texts in lower case, and without punctuation, as transcripts of speech recognition are."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.finetuning.text_form import in_form


@pytest.mark.parametrize(
    ("text", "lower", "bare"),
    [
        ("It was GREAT!", "it was great!", "it was great"),
        ("I don't, won’t - 'can't' do it.", "i don't, won’t - 'can't' do it.",
         "i don't won't can't do it"),
        ("well-known (twice)", "well-known (twice)", "well known twice"),
        ("¿Qué? «Très»", "¿qué? «très»", "qué très"),
        ("你好。ÄÖÜ", "你好。äöü", "你好 äöü"),
        ("5 % of $3.50", "5 % of $3.50", "5 of $3 50"),
        ("rock 'n' roll", "rock 'n' roll", "rock n roll"),
        ("?!", "?!", ""),
        ("", "", ""),
        ("a\0b", "a\0b", "a b"),
    ],
)  # fmt: skip
def test_forms(text, lower, bare):
    assert in_form(text, "as-is") == text
    assert in_form(text, "lower") == lower
    assert in_form(text, "no-punctuation") == bare


@given(st.text())
def test_no_punctuation_is_left_and_a_second_time_changes_nothing(text):
    bare = in_form(text, "no-punctuation")
    assert not [c for c in bare if unicodedata.category(c).startswith("P") and c != "'"]
    assert in_form(bare, "no-punctuation") == bare
