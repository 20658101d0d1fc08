"""Caches meet by key; what one lacks is counted, and what cannot belong together is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.joining import Listing, join
from pipeline.foundation.errors import SpeechkdError


def listing(keys, texts=None, location="there"):
    return Listing(location, list(keys), list(texts) if texts else [f"text {k}" for k in keys])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, unique=True),
    st.lists(st.integers(0, 30), min_size=1, unique=True),
)
def test_keys_decide_who_meets_whom(one, other):
    first, second = (listing(list(map(str, keys))) for keys in (one, other))
    common = [k for k in one if k in other]
    if len(common) * 2 <= min(len(one), len(other)):
        with pytest.raises(SpeechkdError, match="hardly meet"):
            join({"a": first, "b": second})
        return
    joined = join({"a": first, "b": second})
    assert [one[place] for place in joined.places["a"]] == common
    assert [other[place] for place in joined.places["b"]] == common
    assert joined.missing == {"a": len(one) - len(common), "b": len(other) - len(common)}
    assert bool(joined.in_words()) == (set(one) != set(other))
    assert len(joined) == len(common)


def test_what_is_missing_is_said():
    joined = join({"frames": listing("abcd"), "text": listing("xbcdyz")})
    assert joined.in_words() == "3 clips in all caches, 1 of frames alone, 3 of text alone"


def test_caches_that_hardly_meet_are_named():
    with pytest.raises(SpeechkdError, match=r"here and there hardly meet: 1 of the 2 clips of b "):
        join({"a": listing("abcdef", location="here"), "b": listing("az")})


def test_other_words_under_one_key_are_refused():
    one, other = listing("abc"), listing("cba", ["text c", "text b", "TEXT A"], "elsewhere")
    with pytest.raises(SpeechkdError, match=r"1 of 3 clips .*'a' is 'TEXT A' there and 'text a'"):
        join({"one": one, "other": other})


def test_a_key_that_is_there_twice_is_refused():
    with pytest.raises(SpeechkdError, match="has the key 'a' twice"):
        join({"one": listing("aba"), "other": listing("ab")})
