"""What came from somebody else: read within bounds, shown without secrets and control codes."""

import hashlib
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from pipeline.foundation.errors import SpeechkdError

MAX_TEXT_FILE_BYTES = 2**29
"""Largest text file that is read as a whole; larger ones have to be split."""

SECRET_KEYS = re.compile(
    r"[?&](x-amz-|x-goog-|signature|sig=|token|access_token|awsaccesskeyid|key=|password)",
    re.IGNORECASE,
)
"""Parts of a query that let in whoever has the URL."""

# one slash is enough: a URL that went through `Path` has lost the other
_USER = re.compile(r"(:/{1,2})[^/\s?#@'\"]*@")
_QUERY = re.compile(r"(:/[^\s?'\"<>]*\?)[^\s'\"<>)]+")
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY")
_SHORTEST_SECRET = 8
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def parse_json(text: str | bytes) -> Any:
    """`json.loads`, whose every failure is a `ValueError`, nesting beyond bounds included.

    Raises:
        ValueError: the text is not JSON, or not UTF-8.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def has_control(text: str) -> bool:
    """Whether a name has a control character or a line break, or cannot be written as UTF-8."""
    return not text.isprintable() and any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text
    )


def read_text_file(path: Path, encoding: str = "utf-8") -> str:
    """The whole text of a file of bounded size.

    Raises:
        SpeechkdError: it is over `MAX_TEXT_FILE_BYTES`.
        OSError: as `Path.read_text`.
        UnicodeDecodeError: it is not text in this encoding.
    """
    check_size(str(path), path.stat().st_size)
    return path.read_text(encoding=encoding)


def check_size(where: str, size: int) -> None:
    """Refuse a text file that would not fit into memory several times over.

    Raises:
        SpeechkdError: it is over `MAX_TEXT_FILE_BYTES`.
    """
    if size > MAX_TEXT_FILE_BYTES:
        raise SpeechkdError(
            f"{where} has {size:,} bytes; text files are read up to {MAX_TEXT_FILE_BYTES:,}. "
            "Split it, or check that it is the file that is meant."
        )


def holds_secret(location: str) -> bool:
    """Whether a URL holds a password, or is signed."""
    user = _USER.search(location)
    return bool(user and ":" in user.group()) or (
        "://" in location and bool(SECRET_KEYS.search(location))
    )


def printable(text: str) -> str:
    """Text that may stand on a terminal, in a log or in a record.

    Codes that make a terminal act or turn the direction of writing are replaced; tabs and line
    breaks stay. Secrets are replaced as well: the user and the query of URLs, and the values of
    environment variables whose names speak of secrets.
    """
    text = _CONTROL.sub("\ufffd", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and value in text and _SECRET_NAME.search(name.upper()):
            text = text.replace(value, "***")
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text)) if ":/" in text else text


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it holds no lone surrogate, as JSON may."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def file_part(text: str) -> str:
    """Text of any origin as part of a file name, which leads into no other folder.

    Of letters beyond ASCII a digest remains, so that two names in another script stay two.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[-60:] or "x"
    if not any(letter.isalnum() and not letter.isascii() for letter in text):
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain[-50:]}-{digest[:8]}"
