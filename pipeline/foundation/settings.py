"""Settings: one frozen, validated dataclass a stage, whose fields are also its command line.

A field is declared once, with `setting`; its text becomes the `--help` line, its bounds are
checked on construction, and `record` writes it into `run.json` with the origin of its default.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from pipeline.foundation.errors import SpeechkdError

Origin = Literal["paper", "assumed", "ours"]


def setting(
    default: Any = MISSING,
    *,
    help: str,
    unit: str = "",
    origin: Origin = "ours",
    panel: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    argument: bool = False,
    flag: str | None = None,
) -> Any:
    """Declare a field of a `Settings` class.

    Args:
        default: the default value; a required setting has none. A list is copied.
        help: what it does, in one sentence.
        unit: unit of the value, shown in `--help`.
        origin: where the default comes from: `paper` (stated there), `assumed` (the paper is
            silent and this is our reading of it), or `ours`.
        panel: the heading of `--help` it stands under.
        minimum: smallest value allowed.
        maximum: largest value allowed.
        argument: positional on the command line instead of an option.
        flag: name of the option, where it is not the field's own name.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "origin": origin,
        "panel": panel,
        "minimum": minimum,
        "maximum": maximum,
        "argument": argument,
        "required": default is MISSING,
        "flag": flag,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of every stage's settings: checks choices, bounds and finiteness on construction."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            _check(flag_name(f), getattr(self, f.name), hints[f.name], f.metadata)
        self.check()

    def check(self) -> None:
        """Raise `SpeechkdError` where settings contradict each other; overridden as needed."""

    def record(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}

    def assumed(self) -> dict[str, Any]:
        """Settings left at a default that the paper does not state."""
        return {
            f.name: _plain(getattr(self, f.name))
            for f in fields(self)
            if f.metadata.get("origin") == "assumed" and getattr(self, f.name) == f.default
        }

    def stated_in_paper(self) -> dict[str, Any]:
        """Settings left at the value that the paper states."""
        return {
            f.name: _plain(getattr(self, f.name))
            for f in fields(self)
            if f.metadata.get("origin") == "paper" and getattr(self, f.name) == f.default
        }

    @classmethod
    def from_record(cls, record: dict[str, Any], where: str) -> Self:
        """Rebuild settings from `record`; a key that is not a setting is an error."""
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(record) - names)
        if unknown:
            raise SpeechkdError(
                f"{where}: unknown setting {', '.join(unknown)}; known ones are "
                f"{', '.join(sorted(names))}. Correct the name or remove it."
            )
        hints = get_type_hints(cls)
        values = {
            name: Path(value) if Path in (hints[name], *get_args(hints[name])) and value else value
            for name, value in record.items()
        }
        return cls(**values)


def digest(content: Any) -> str:
    """SHA-256 (hexadecimal) of plain values in canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def flag_name(f: "dataclasses.Field[Any]") -> str:
    """The option by which a user sets a field."""
    if f.metadata.get("argument"):
        return f.name.upper()
    return f.metadata.get("flag") or "--" + f.name.replace("_", "-")


def _check(flag: str, value: Any, hint: Any, metadata: Any) -> None:
    if value is None:
        return
    if value == "" and metadata.get("required"):
        raise SpeechkdError(f"{flag} is empty; is a variable of your script unset?")
    choices = [a for a in (hint, *get_args(hint)) if get_origin(a) is Literal]
    if choices:
        allowed = get_args(choices[0])
        given = value if isinstance(value, list) else [value]
        for item in given:
            if item not in allowed:
                wanted = ", ".join(map(str, allowed))
                raise SpeechkdError(f"{flag} is {item!r}; it must be one of: {wanted}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise SpeechkdError(f"{flag} is {value}; it must be a finite number.")
    low, high = metadata.get("minimum"), metadata.get("maximum")
    if low is not None and value < low:
        raise SpeechkdError(f"{flag} is {value}; it must be at least {low}.")
    if high is not None and value > high:
        raise SpeechkdError(f"{flag} is {value}; it must be at most {high}.")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
