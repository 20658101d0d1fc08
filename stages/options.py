"""Settings as command-line options: one declaration gives the command, its help and its parsing."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from pipeline.foundation.errors import KEPT, SpeechkdError
from pipeline.foundation.settings import Settings, flag_name

ORIGINS = {"paper": "The paper's.", "assumed": "Assumed: the paper is silent.", "ours": ""}

# what every wrong option is; the click it is from may be click itself or typer's own copy
USAGE_ERROR: Any = typer.BadParameter.__base__

Given = TypeVar("Given", bound=Settings)


def register(
    group: typer.Typer, name: str, settings: type[Settings], run: Callable[[Any], None]
) -> None:
    """Make `run` a command of `group`, with one option for each field of `settings`."""
    hints = get_type_hints(settings)
    parameters = [_parameter(f, hints[f.name]) for f in fields(settings)]
    renamed = [_renamed(f) for f in fields(settings) if f.metadata["formerly"]]

    def invoke(**values: Any) -> None:
        values = {name: value for name, value in values.items() if name in hints}
        for name, hint in hints.items():
            if _listed_choices(hint):  # `--task a,b` is `--task a --task b`
                values[name] = [item for given in values[name] for item in given.split(",")]
        try:
            run(settings(**values))
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; the same command carries on from what is finished\n")
            raise
        except EOFError as error:  # of a connection to it; typer would say "Aborted." and no more
            raise SpeechkdError(
                "a process that this command had started is gone, perhaps killed for the memory "
                f"it took. {KEPT}"
            ) from error

    invoke.__signature__ = inspect.Signature([*parameters, *renamed])  # type: ignore[attr-defined]
    invoke.__annotations__ = {p.name: p.annotation for p in (*parameters, *renamed)}
    group.command(name, help=_flowing(inspect.cleandoc(run.__doc__ or "")))(invoke)


def parse(command: str, settings: type[Given], words: Sequence[str]) -> Given:
    """The settings that `speechkd COMMAND WORDS` would run with.

    Raises:
        SpeechkdError: the words are not that command's, said as the command itself would.
    """
    taken: list[Given] = []
    app = typer.Typer(add_completion=False)
    register(app, command, settings, taken.append)
    try:
        typer.main.get_command(app).main(
            list(words), prog_name=f"speechkd {command}", standalone_mode=False
        )
    except USAGE_ERROR as error:
        raise SpeechkdError(
            f"speechkd {command} {' '.join(words)}: {error.format_message()} "
            f"(`speechkd {command} --help` lists what there is.)"
        ) from None
    if not taken:
        raise SpeechkdError(f"speechkd {command}: leave --help out to submit it.")
    return taken[0]


def _path(text: str | Path) -> Path:
    """A path; an empty one, which an unset variable gives, would be the current folder."""
    if text == "":
        raise typer.BadParameter("it is empty; is a variable of your script unset?")
    return Path(text)


def _flowing(text: str) -> str:
    """Each paragraph on one line, for the terminal to break; indented lines stay as they are."""
    return re.sub(r"(?<=\S)\n(?=\S)", " ", text)


def _listed_choices(hint: Any) -> tuple[str, ...]:
    """The choices of a `list[Literal[...]]`, which typer itself does not read; else nothing."""
    if get_origin(hint) is list and get_origin(get_args(hint)[0]) is Literal:
        return get_args(get_args(hint)[0])
    return ()


def _parameter(f: "Field[Any]", hint: Any) -> inspect.Parameter:
    meta = f.metadata
    choices = _listed_choices(hint)
    notes = (
        meta["help"],
        f"One or more, by commas, of: {', '.join(choices)}." if choices else "",
        f"[{meta['unit']}]" if meta["unit"] else "",
        ORIGINS[meta["origin"]],
    )
    text = " ".join(note for note in notes if note).replace("[", r"\[")
    if choices:
        hint = list[str]
    bounds: dict[str, Any] = {"min": meta["minimum"], "max": meta["maximum"]}
    if Path in (hint, *get_args(hint)):
        metavar = f.name.upper() if meta["argument"] else "PATH"
        bounds = {"parser": _path, "metavar": metavar}
    if meta["argument"]:
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
    """The option's old name: hidden, and refused with the new one."""
    old, new = f.metadata["formerly"], flag_name(f)

    def refuse(value: str | None) -> None:
        if value is not None:
            raise typer.BadParameter(f"this option is called {new} now.")

    info = typer.Option(old, hidden=True, callback=refuse)
    name = "formerly_" + old.strip("-").replace("-", "_")
    hint = Annotated[str | None, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
