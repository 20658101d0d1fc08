"""Digests that stand for content."""

import hashlib
import json
from typing import Any


def json_sha256(content: Any) -> str:
    """SHA-256 (hexadecimal) of plain values in canonical JSON: the order of keys does not count."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
