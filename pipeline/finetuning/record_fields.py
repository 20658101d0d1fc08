"""The fields of a record that somebody else may have written, each checked as it is read."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.foundation.errors import Damaged

_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


@dataclass(frozen=True)
class Fields:
    """A JSON object, or a list, whose values are taken one by one and checked."""

    values: dict[str, Any]
    message: Callable[[str], str]
    path: str = ""

    def wrong(self, name: str, wanted: str) -> Damaged:
        """The error that says what is wrong with a value."""
        what = f"is not {wanted}" if name in self.values else "is missing"
        return Damaged(self.message(f"{self.path}{name} {what}"))

    def get(self, name: str, *kinds: type) -> Any:
        """A value of one of these types; a bool is no number, NaN is none either."""
        value = self.values.get(name)
        if name not in self.values or type(value) not in kinds:
            raise self.wrong(name, " or ".join(_NAMES[kind] for kind in kinds))
        if isinstance(value, float) and not math.isfinite(value):
            raise self.wrong(name, "a finite number")
        return value

    def optional(self, name: str, absent: Any, *kinds: type) -> Any:
        """A value that records of earlier versions do not have."""
        return self.get(name, *kinds) if name in self.values else absent

    def part(self, name: str) -> "Fields":
        """An object inside this one."""
        return Fields(self.get(name, dict), self.message, f"{self.path}{name}.")

    def items(self, name: str) -> "Fields":
        """A list inside this object; its values are named by their places, from 0."""
        values = {str(place): value for place, value in enumerate(self.get(name, list))}
        return Fields(values, self.message, f"{self.path}{name}.")

    def every(self, *kinds: type) -> list[Any]:
        """All values, each of one of these types."""
        return [self.get(name, *kinds) for name in self.values]
