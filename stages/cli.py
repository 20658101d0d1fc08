"""The command line: the commands of all stages. It imports nothing heavy."""

import os
import signal
import sys
import threading
from typing import Annotated

# Ctrl-C while the rest is imported ends the program as it does afterwards, without a traceback.
_alone = threading.current_thread() is threading.main_thread()
_handler = signal.signal(signal.SIGINT, lambda *_: os._exit(130)) if _alone else None

import typer

from pipeline.foundation.errors import explanation
from pipeline.foundation.untrusted import printable
from stages import (
    cache,
    demo,
    distill,
    doctor,
    extract_features,
    extract_heard,
    extract_teacher,
    extract_text,
    finetune_audio,
    finetune_audio_spans,
    finetune_audio_text,
    finetune_mosei,
    finetune_table,
    iemocap_convert,
    manifest,
    mosei_convert,
    pretrain_ctal,
    pretrain_splat,
    pretrain_whisbert,
    probe_blimp,
    probe_hearing,
    report,
    shard,
    slurm,
    spoken_squad,
    switchboard_convert,
)
from stages.options import register

if _alone:
    signal.signal(signal.SIGINT, _handler)

app = typer.Typer(
    name="speechkd",
    help="Distil what a speech encoder hears into text-only encoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
GROUPS = {
    "cache": "Look into, check, export or merge caches.",
    "finetune": "Fine-tune encoders on a task and score them.",
    "iemocap": "Prepare IEMOCAP.",
    "mosei": "Prepare CMU-MOSEI.",
    "pretrain": "Train encoders of speech, or of speech and text, from caches of rows.",
    "probe": "Score encoders as they are, without training.",
    "switchboard": "Prepare Switchboard's dialogue acts.",
    "spoken-squad": "Prepare Spoken SQuAD.",
    "slurm": "Hand the stages to Slurm as job arrays, and watch them.",
}
STAGES = (
    *(
        shard,
        manifest,
        extract_teacher,
        extract_features,
        extract_text,
        extract_heard,
        distill,
        pretrain_splat,
        pretrain_ctal,
        pretrain_whisbert,
        finetune_mosei,
        finetune_table,
        finetune_audio,
        finetune_audio_spans,
        finetune_audio_text,
        report,
        demo,
        doctor,
    ),
    *(cache, iemocap_convert, mosei_convert, probe_blimp, probe_hearing, slurm),
    spoken_squad,
    switchboard_convert,
)

RESERVE = 4 * 2**20
"""Bytes that are given back when a command fails, because to say why takes memory, too."""

groups = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in GROUPS.items()}
for stage in STAGES:
    for words, (settings, run) in stage.COMMANDS.items():
        group, _, name = words.rpartition(" ")
        register(groups[group] if group else app, name, settings, run)
for name, group_app in groups.items():
    app.add_typer(group_app, name=name)


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
    """Run the command line; an error that a user can mend becomes one message and exit status 1."""
    reserve = bytearray()
    try:
        reserve = bytearray(RESERVE)
        app()
    except KeyboardInterrupt:  # before or after a command, which says more itself
        sys.exit(130)
    except SystemExit:
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        reserve.clear()
        message = explanation(error)
        if message is None:
            raise
        sys.stderr.write(f"error: {printable(message)}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
