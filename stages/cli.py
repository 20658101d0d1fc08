"""The command line: each command's options are its stage's settings. Imports nothing heavy."""

import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from pipeline.errors import SpeechkdError
from pipeline.settings import Settings
from stages import cache, demo, distill, extract_teacher, finetune, mosei_convert, report, shard

ORIGINS = {"paper": "The paper's.", "assumed": "Assumed: the paper is silent.", "ours": ""}

app = typer.Typer(
    name="speechkd",
    help="Distil what a speech encoder hears into text-only encoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = typer.Typer(
    help="Look into, check, export or merge teacher caches.", no_args_is_help=True
)
finetune_app = typer.Typer(help="Fine-tune and judge encoders on a task.", no_args_is_help=True)
mosei_app = typer.Typer(help="Prepare CMU-MOSEI.", no_args_is_help=True)


def register(
    group: typer.Typer, name: str, settings: type[Settings], run: Callable[[Any], None]
) -> None:
    """Make `run` a command of `group`, with one option for each field of `settings`."""
    hints = get_type_hints(settings)
    parameters = [_parameter(f, hints[f.name]) for f in fields(settings)]

    def invoke(**values: Any) -> None:
        for name, hint in hints.items():
            if _listed_choices(hint):  # `--task a,b` is `--task a --task b`
                values[name] = [item for given in values[name] for item in given.split(",")]
        run(settings(**values))

    invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    invoke.__annotations__ = {p.name: p.annotation for p in parameters}
    group.command(name, help=_flowing(inspect.cleandoc(run.__doc__ or "")))(invoke)


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
    bounds = {"min": meta["minimum"], "max": meta["maximum"]}
    if meta["argument"]:
        info: Any = typer.Argument(help=text, show_default=True)
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


register(app, "shard", shard.ShardSettings, shard.run)
register(app, "extract-teacher", extract_teacher.ExtractSettings, extract_teacher.run)
register(app, "distill", distill.DistillSettings, distill.run)
register(finetune_app, "mosei", finetune.MoseiSettings, finetune.run)
register(app, "report", report.ReportSettings, report.run)
register(app, "demo", demo.DemoSettings, demo.run)
for verb, (settings, run) in cache.COMMANDS.items():
    register(cache_app, verb, settings, run)
for verb, (settings, run) in mosei_convert.COMMANDS.items():
    register(mosei_app, verb, settings, run)
app.add_typer(cache_app, name="cache")
app.add_typer(finetune_app, name="finetune")
app.add_typer(mosei_app, name="mosei")


def main() -> None:
    """Run the command line; a `SpeechkdError` becomes one message and exit status 1."""
    try:
        app()
    except SpeechkdError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command carries on from what is finished\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
