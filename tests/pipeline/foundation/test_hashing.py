"""Digests depend on content alone."""

from pipeline.foundation.hashing import json_sha256


def test_digest_depends_on_content_not_on_order():
    assert json_sha256({"a": 1, "b": [2]}) == json_sha256({"b": [2], "a": 1})
    assert json_sha256({"a": 1}) != json_sha256({"a": 2})
