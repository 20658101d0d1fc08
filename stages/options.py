"""Settings as options: one declaration gives a command its options, its help and its parsing."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from pipeline.foundation.errors import KEPT, SpeechkdError
from pipeline.foundation.settings import Settings, flag_name, in_order

ORIGINS = {"paper": "The paper's.", "assumed": "Assumed: the paper is silent.", "ours": ""}

# Click's UsageError, the class of every wrong option. It cannot be imported by its name: older
# typers stand on click, newer ones on a private copy of it. Both export this one subclass.
UsageError: Any = typer.BadParameter.__base__

SomeSettings = TypeVar("SomeSettings", bound=Settings)


def register(
    group: typer.Typer, name: str, settings: type[Settings], run: Callable[[Any], None]
) -> None:
    """Make `run` a command of `group`, with one option for each field of `settings`."""
    hints = get_type_hints(settings)
    parameters = [_parameter(f, hints[f.name]) for f in in_order(settings)]
    renamed = [_renamed(f) for f in in_order(settings) if f.metadata["formerly"]]

    def invoke(**values: Any) -> None:
        values = {name: value for name, value in values.items() if name in hints}
        for name, hint in hints.items():
            if _listed_choices(hint):  # `--task a,b` is `--task a --task b`
                values[name] = [item for words in values[name] for item in words.split(",")]
            elif hint == list[float]:
                values[name] = [n for words in values[name] for n in _numbers(name, str(words))]
        try:
            run(settings(**values))
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; the same command carries on from what is finished\n")
            raise
        except EOFError as error:  # the connection to a process broke; typer would say "Aborted."
            raise SpeechkdError(
                "a process that this command had started is gone, perhaps killed for the memory "
                f"it took. {KEPT}"
            ) from error

    invoke.__signature__ = inspect.Signature([*parameters, *renamed])  # type: ignore[attr-defined]
    invoke.__annotations__ = {p.name: p.annotation for p in (*parameters, *renamed)}
    group.command(name, help=_flowing(inspect.cleandoc(run.__doc__ or "")))(invoke)


def parse(command: str, settings: type[SomeSettings], words: Sequence[str]) -> SomeSettings:
    """The settings with which `speechkd COMMAND WORDS` would run.

    Raises:
        SpeechkdError: the command does not take these words; the message is the command's own.
    """
    parsed: list[SomeSettings] = []
    app = typer.Typer(add_completion=False)
    register(app, command, settings, parsed.append)
    try:
        typer.main.get_command(app).main(
            list(words), prog_name=f"speechkd {command}", standalone_mode=False
        )
    except UsageError as error:
        raise SpeechkdError(
            f"speechkd {command} {' '.join(words)}: {error.format_message()} "
            f"(`speechkd {command} --help` lists what there is.)"
        ) from None
    if not parsed:
        raise SpeechkdError(f"speechkd {command}: leave --help out to submit it.")
    return parsed[0]


def _numbers(name: str, words: str) -> list[float]:
    """Numbers between commas; `--gamma 1,10` is `--gamma 1 --gamma 10`."""
    try:
        return [float(word) for word in words.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{words!r} is no number, or numbers with commas between them",
            param_hint=f"'--{name.replace('_', '-')}'",
        ) from None


def _path(text: str | Path) -> Path:
    """A path. An empty one is refused: an unset variable would name the current folder."""
    if text == "":
        raise typer.BadParameter("it is empty; is a variable of your script unset?")
    return Path(text)


def _flowing(text: str) -> str:
    """Put each paragraph on one line, for the terminal to break; leave indented lines alone."""
    return re.sub(r"(?<=\S)\n(?=\S)", " ", text)


def _listed_choices(hint: Any) -> tuple[str, ...]:
    """The choices of a `list[Literal[...]]`, which typer cannot read; else nothing."""
    if get_origin(hint) is list and get_origin(get_args(hint)[0]) is Literal:
        return get_args(get_args(hint)[0])
    return ()


def _parameter(f: "Field[Any]", hint: Any) -> inspect.Parameter:
    meta = f.metadata
    choices = _listed_choices(hint)
    notes = (
        meta["help"],
        f"One or more, separated by commas, of: {', '.join(choices)}." if choices else "",
        f"[{meta['unit']}]" if meta["unit"] else "",
        ORIGINS[meta["origin"]],
    )
    text = " ".join(note for note in notes if note).replace("[", r"\[")
    bounds: dict[str, Any] = {"min": meta["minimum"], "max": meta["maximum"]}
    if hint == list[float]:
        bounds = {"metavar": "NUMBER,…"}
    if choices or hint == list[float]:
        hint = list[str]
    if Path in (hint, *get_args(hint)):
        bounds = {"parser": _path, "metavar": "PATH"}
    if meta["argument"]:
        bounds["metavar"] = f.name.upper()
        info: Any = typer.Argument(help=text, show_default=True, **bounds)
    else:
        names = [meta["flag"]] if meta["flag"] else []
        info = typer.Option(*names, help=text, rich_help_panel=meta["panel"], **bounds)
    default = f.default
    if default is MISSING and f.default_factory is not MISSING:
        default = f.default_factory()
    if default is MISSING:
        default = inspect.Parameter.empty
    return inspect.Parameter(
        f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, info]
    )


def _renamed(f: "Field[Any]") -> inspect.Parameter:
    """The option's old name: it is hidden, and refused with the new name."""
    old, new = f.metadata["formerly"], flag_name(f)

    def refuse(value: str | None) -> None:
        if value is not None:
            raise typer.BadParameter(f"this option is called {new} now.")

    info = typer.Option(old, hidden=True, callback=refuse)
    name = "formerly_" + old.strip("-").replace("-", "_")
    hint = Annotated[str | None, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
