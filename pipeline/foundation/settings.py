"""Settings: one frozen, validated dataclass per stage, whose fields are also its command line.

A field is declared once, with `setting`; its text becomes the `--help` line, its bounds are
checked on construction, and `record` writes it into `run.json` with the origin of its default.
"""

import dataclasses
import inspect
import math
import re
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pipeline.foundation.errors import SpeechkdError

Origin = Literal["paper", "assumed", "ours"]
Part = TypeVar("Part")

# what `pathlib` makes of s3://bucket/x; a setting that may be a URL is a str
URL_AS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


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
    formerly: str = "",
    operational: bool = False,
    idle_without: str = "",
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
        flag: name of the option, if it is not the field's own name.
        formerly: the option's old name, which is refused with a word on the new one.
        operational: the result does not depend on it, so it may change between two sittings.
        idle_without: a choice, in the words of `choices`, without which the setting changes
            nothing; "" for a setting that always counts.
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
        "formerly": formerly,
        "operational": operational,
        "idle_without": idle_without,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def like(kind: type["Settings"], name: str, default: Any = MISSING, **changes: Any) -> Any:
    """Declare a field again that another class has, with another default, origin or help.

    Args:
        kind: the class that declares it.
        name: of the field.
        default: the new default; the old one if it is left out.
        changes: arguments of `setting` that are new.
    """
    other = next(f for f in fields(kind) if f.name == name)
    same = {key: value for key, value in other.metadata.items() if key != "required"}
    if default is MISSING:  # required if it was
        factory: Any = other.default_factory
        default = other.default if factory is MISSING else factory()
    return setting(default, **{**same, **changes})


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

    def choices(self) -> set[str]:
        """What is chosen, of all that `idle_without` may name; overridden as needed."""
        return set()

    def without_effect(self) -> set[str]:
        """Settings that change nothing here, whatever their value."""
        choices = self.choices()
        needs = {f.name: f.metadata["idle_without"] for f in fields(self)}
        return {name for name, need in needs.items() if need and need not in choices}

    def set_in_vain(self) -> list[str]:
        """Options that were given another value than the default, but change nothing here."""
        idle = self.without_effect()
        return [
            flag_name(f)
            for f in fields(self)
            if f.name in idle and f.default is not MISSING and getattr(self, f.name) != f.default
        ]

    def assumed(self) -> dict[str, Any]:
        """Settings with an effect that are left at a default which the paper does not state."""
        return self._defaults_of("assumed")

    def stated_in_paper(self) -> dict[str, Any]:
        """Settings with an effect that are left at the value which the paper states."""
        return self._defaults_of("paper")

    def _defaults_of(self, origin: Origin) -> dict[str, Any]:
        idle = self.without_effect()
        return {
            f.name: _plain(getattr(self, f.name))
            for f in fields(self)
            if f.metadata["origin"] == origin
            and getattr(self, f.name) == f.default
            and f.name not in idle
        }

    def identity(self) -> dict[str, Any]:
        """The record of the settings that the result depends on."""
        free = self.operational()
        return {name: value for name, value in self.record().items() if name not in free}

    @classmethod
    def operational(cls) -> set[str]:
        """Names of the settings that the result does not depend on."""
        return {f.name for f in fields(cls) if f.metadata["operational"]}

    def part(self, kind: type[Part], **others: Any) -> Part:
        """A smaller dataclass, filled from the settings of the same names.

        Args:
            kind: the dataclass.
            others: its other fields, and those that are not to be as set. A field that is neither
                set nor among these keeps its default.
        """
        known = {f.name for f in fields(self)}
        names = {
            f.name
            for f in fields(kind)  # type: ignore[arg-type]
            if f.name in known or f.default is MISSING
        } - set(others)
        return kind(**{name: getattr(self, name) for name in names}, **others)


def in_order(kind: type[Settings]) -> list["dataclasses.Field[Any]"]:
    """The fields as `--help` lists them: a command's own, then those that it shares with others."""
    by_name = {f.name: f for f in fields(kind)}
    names = (name for part in kind.__mro__ for name in inspect.get_annotations(part))
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name]


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
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, Path) and URL_AS_PATH.match(str(item)):
            url = str(item).replace(":/", "://", 1)
            raise SpeechkdError(
                f"{flag} {url} is a URL, and this must be a path on a disk of this machine. Name "
                "one, and copy from there or to there: only manifests, tars and caches may be URLs."
            )
    choices = [a for a in (hint, *get_args(hint)) if get_origin(a) is Literal]
    if choices:
        allowed = get_args(choices[0])
        for item in value if isinstance(value, list) else [value]:
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
