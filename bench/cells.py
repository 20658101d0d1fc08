"""Long experiments as cells: one command each, done once, resumed anywhere, divided over an array.

A cell is done once `DIR/cells/NAME.json` says that this very command ended well, and all cells that
it needs are done. All commands carry on where they stopped, and so does a list of cells. An array
task does its share of what is ready and leaves what waits for others; run it again when they are
done, or with a wait.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.foundation.atomic import write_json
from pipeline.foundation.progress import say
from pipeline.foundation.provenance import git_commit

START_S = 10.0
"""Core seconds of a command before its first step, measured: docs/natural-speech.md says how."""


@dataclass(frozen=True)
class Cell:
    """One command.

    Attributes:
        name: of the cell; `/` parts its kind.
        command: the words after `python -m`.
        needs: names of cells that must be done before.
        core_s: expected core seconds.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    core_s: float = 0.0

    @property
    def kind(self) -> str:
        """What comes before the first `/` of its name."""
        return self.name.partition("/")[0]


def speechkd(
    name: str, words: Sequence[str], needs: Sequence[str] = (), core_s: float = 0.0
) -> Cell:
    """A cell that is a command of speechkd."""
    return Cell(name, ("stages.cli", *words), tuple(needs), START_S + core_s)


def record_of(out: Path, cell: Cell) -> dict[str, Any]:
    """What is known of a cell's command if it ended well; empty if not, or if it was another."""
    path = out / "cells" / f"{cell.name.replace('/', '--')}.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return record if record.get("command") == list(cell.command) else {}


def records_of(out: Path, every: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """The records of the cells that are done, by name.

    Args:
        out: the folder of the cells.
        every: the cells, each behind what it needs; needs that are not among them count as done.
    """
    names, done = {cell.name for cell in every}, dict[str, dict[str, Any]]()
    for cell in every:
        record = record_of(out, cell)
        if record and all(name in done or name not in names for name in cell.needs):
            done[cell.name] = record
    return done


def carry_out(out: Path, cell: Cell) -> bool:
    """Run a cell's command; whether it ended well. Its output goes to `DIR/logs/`."""
    file = cell.name.replace("/", "--")
    log = out / "logs" / f"{file}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ python -m {shlex.join(cell.command)}\n")
        output.flush()
        process = subprocess.run(
            [sys.executable, "-m", *cell.command], stdout=output, stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    core_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode:
        say(f"{cell.name}: ended with {process.returncode}; see {log}")
        return False
    (out / "cells").mkdir(exist_ok=True)
    write_json(
        out / "cells" / f"{file}.json",
        {"command": list(cell.command), "core_s": round(core_s, 1),
         "wall_s": round(time.time() - start, 1), "commit": git_commit()},
    )  # fmt: skip
    return True


def run(out: Path, every: Sequence[Cell], part: tuple[int, int], wait_s: float) -> int:
    """Carry out this part's cells that are ready, again and again; the exit code.

    Returns:
        0 if all of this part is done, 1 if a command failed, 3 if some wait for other parts.
    """
    index, count = part
    mine = [cell for place, cell in enumerate(every) if place % count == index]
    names = {cell.name for cell in every}
    failed: set[str] = set()
    while True:
        done = records_of(out, every)
        todo = [cell for cell in mine if cell.name not in done.keys() | failed]
        ready = [c for c in todo if all(n in done or n not in names for n in c.needs)]
        if not todo:
            return 1 if failed else 0
        if not ready:
            if failed or not wait_s:
                say(f"{len(todo)} cells wait, the first for {', '.join(todo[0].needs)}")
                return 1 if failed else 3
            time.sleep(wait_s)
            continue
        say(f"{ready[0].name} ({len(done)} of {len(every)} done)")
        if not carry_out(out, ready[0]):
            failed.add(ready[0].name)


def overview(out: Path, every: Sequence[Cell], *, commands: bool) -> str:
    """What is to do and what is done, kind by kind; with the command of each cell if asked for."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0, 0.0])
    lines, records = [], records_of(out, every)
    for cell in every:
        record = records.get(cell.name, {})
        row = sums[cell.kind]
        row[0] += 1
        row[1] += bool(record)
        row[2] += cell.core_s
        row[3] += record.get("core_s", 0.0)
        state = f"done in {record['core_s']:,.0f} s" if record else f"{cell.core_s:,.0f} s expected"
        lines.append(f"# {cell.name}: {state}\npython -m {shlex.join(cell.command)}")
    table = ["| kind | cells | done | expected, core-hours | used by those done |",
             "|---|--:|--:|--:|--:|"]  # fmt: skip
    whole = [sum(column) for column in zip(*sums.values(), strict=True)]
    for kind, (count, done, expected, used) in [*sums.items(), ("all", whole)]:
        table.append(
            f"| {kind} | {count:.0f} | {done:.0f} | {expected / 3600:.2f} | {used / 3600:.2f} |"
        )
    return "\n".join([*(lines if commands else []), *table])


def part_of(text: str) -> tuple[int, int]:
    """`I/N` as two numbers."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 0/4")
    return int(index), int(count)


def with_needs(every: Sequence[Cell], beginnings: Sequence[str]) -> list[Cell]:
    """Cells whose names begin in one of these ways, and all that they need."""
    by_name = {cell.name: cell for cell in every}
    names: set[str] = set()
    look = [name for name in by_name if name.startswith(tuple(beginnings))]
    if not look:
        raise SystemExit(f"no cell begins with {' or '.join(beginnings)}")
    while look:
        name = look.pop()
        if name not in names:
            names.add(name)
            look += by_name[name].needs
    return [cell for cell in every if cell.name in names]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every such experiment is asked for, beside its own arguments."""
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", type=part_of, default=(0, 1), help="I/N: this array task's share")
    parser.add_argument("--only", nargs="*", help="cells whose names begin so, and their needs")
    parser.add_argument("--wait", type=float, default=0.0, help="s between looks at other parts")


def plan_or_run(options: argparse.Namespace, every: list[Cell]) -> int:
    """Carry out cells for `run`, and print what is done otherwise; the exit code.

    Args:
        options: those of `add_arguments`, and `what`: `plan` shows each cell's command, too.
        every: all cells.
    """
    if options.only:
        every = with_needs(every, options.only)
    if options.what == "run":
        return run(options.out, every, options.part, options.wait)
    print(overview(options.out, every, commands=options.what == "plan"))
    return 0
