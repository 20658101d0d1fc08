"""Names that all parts of a hearing share, and reports of it."""

from typing import Literal

Level = Literal["clip", "word"]
WORDS = "word counts"
UNTRAINED = "untrained"
