"""The form in which texts are read: as they are, or as speech recognition writes them.

A student that learnt from transcripts without case and punctuation does not know either. If the
texts that judge it have both, some of what it reads is unknown to it.
"""

import re
import unicodedata
from typing import Literal, TypeAlias

TextForm: TypeAlias = Literal["as-is", "lower", "no-punctuation"]
AS_IS: TextForm = "as-is"

_APOSTROPHES = "'’ʼ＇"
_INSIDE_WORDS = re.compile(rf"(?<=\w)[{_APOSTROPHES}](?=\w)")
_KEPT = "\0"


def in_form(text: str, form: TextForm) -> str:
    """A text in a form.

    Args:
        text: the text.
        form: `as-is`; `lower` for lower case; `no-punctuation` for lower case without what
            Unicode calls punctuation, a space in its place. Apostrophes inside words stay, as `'`.
    """
    if form == "as-is":
        return text
    text = text.lower()
    if form == "lower":
        return text
    marked = _INSIDE_WORDS.sub(_KEPT, text.replace(_KEPT, " "))
    letters = (" " if unicodedata.category(c).startswith("P") else c for c in marked)
    return " ".join("".join(letters).replace(_KEPT, "'").split())
