"""The command line: each command's options are its stage's settings. Imports nothing heavy."""

import sys
from typing import Annotated

import typer

from pipeline.distillation.settings import DistillSettings
from pipeline.extraction.settings import ExtractSettings
from pipeline.foundation.errors import explanation
from pipeline.foundation.untrusted import shown
from stages import (
    cache,
    demo,
    distill,
    doctor,
    extract_teacher,
    finetune_mosei,
    finetune_table,
    mosei_convert,
    probe_blimp,
    report,
    shard,
    slurm,
)
from stages.options import register

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
slurm_app = typer.Typer(
    help="Hand the stages to Slurm as job arrays, and watch them.", no_args_is_help=True
)
mosei_app = typer.Typer(help="Prepare CMU-MOSEI.", no_args_is_help=True)
probe_app = typer.Typer(help="Judge encoders as they are, without training.", no_args_is_help=True)


register(app, "shard", shard.ShardSettings, shard.run)
register(app, "extract-teacher", ExtractSettings, extract_teacher.run)
register(app, "distill", DistillSettings, distill.run)
register(finetune_app, "mosei", finetune_mosei.MoseiSettings, finetune_mosei.run)
register(finetune_app, "table", finetune_table.TableSettings, finetune_table.run)
register(probe_app, "blimp", probe_blimp.BlimpSettings, probe_blimp.run)
register(app, "report", report.ReportSettings, report.run)
register(app, "demo", demo.DemoSettings, demo.run)
register(app, "doctor", doctor.DoctorSettings, doctor.run)
for verb, (settings, run) in cache.COMMANDS.items():
    register(cache_app, verb, settings, run)
for verb, (settings, run) in mosei_convert.COMMANDS.items():
    register(mosei_app, verb, settings, run)
for verb, (settings, run) in slurm.COMMANDS.items():
    register(slurm_app, verb, settings, run)
app.add_typer(cache_app, name="cache")
app.add_typer(finetune_app, name="finetune")
app.add_typer(mosei_app, name="mosei")
app.add_typer(probe_app, name="probe")
app.add_typer(slurm_app, name="slurm")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("speechkd"))
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; what a user can mend becomes one message and exit status 1."""
    try:
        app()
    except KeyboardInterrupt:  # before or after a command, which says more itself
        sys.exit(130)
    except Exception as error:
        message = explanation(error)
        if message is None:
            raise
        sys.stderr.write(f"error: {shown(message)}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
