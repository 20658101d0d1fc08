"""Signals that a process sends to itself at a named instant of its work, whatever its pace.

Python tells an audit hook (PEP 578) of each file before it opens, renames or removes it.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = "open|os.rename|os.mkdir|os.remove|os.rmdir"
HOLDS = "HOLD_AT"
"""Names the folder of the rules for `hold_where_asked`."""


def signal_at(
    event: str, path: str, count: int = 1, number: signal.Signals = signal.SIGKILL
) -> None:
    """Send this process a signal before it does something for the n-th time.

    Args:
        event: a regular expression of the audit event, `open` or `os.rename` for instance.
        path: a regular expression, searched in the path; of a renamed file in the new one.
        count: how many such events it takes.
        number: the signal.
    """
    events, paths, seen = re.compile(event), re.compile(path), 0

    def look(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if seen < count and events.fullmatch(name):
            of = arguments[name == "os.rename"]
            if isinstance(of, str | bytes | os.PathLike) and paths.search(os.fsdecode(of)):
                seen += 1
                if seen == count:
                    os.kill(os.getpid(), number)

    sys.addaudithook(look)


def hold_where_asked() -> None:
    """Stop this process where the rules say that are there as it starts."""
    for rule in Path(os.environ[HOLDS]).glob("*.json"):
        try:
            event, path, count = json.loads(rule.read_text())
        except FileNotFoundError:  # taken back since; the others hold all the same
            continue
        signal_at(event, path, count, signal.SIGSTOP)


def main_with(event: str, path: str, count: int, number: signal.Signals) -> str:
    """Python code of the command line that sends itself a signal."""
    return (
        "from tests.helpers.instants import signal_at\n"
        f"signal_at({event!r}, {path!r}, {count}, {int(number)})\n"
        "from stages.cli import main\n"
        "main()\n"
    )
