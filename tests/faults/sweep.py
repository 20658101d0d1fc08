"""Every call by which a stage changes files is made to fail, one after the other.

    python -m tests.faults.sweep --stage distill --fault "disk full"

Without options: every stage, every fault, every call (tens of minutes). After each: the command has
ended with status 1 and one message that says what to do, or with 0 and the right result where the
call did not matter; the same command, undisturbed, then ends with 0 and the reference's content.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.faults.shim import FAULTS, Fault, build
from tests.faults.workshop import Stage, Workshop, leftovers, make_old
from tests.helpers.warm import Running, Warm

REMEDY = re.compile(
    r"\b(check|mend|fetch|make room|free some|remove|delete|lower|raise|restore|put|name|use|give|"
    r"choose|the same command carries on|run .* again|wait|start anew)\b",
    re.IGNORECASE,
)


def faults_of(running: Running, allowed: Iterable[int] = (1,)) -> list[str]:
    """What is wrong with how a disturbed command ended."""
    said = running.said
    found = []
    if running.status not in allowed:
        found.append(f"status {running.status}")
    if "Traceback" in said:
        found.append("a traceback")
    if running.status == 1:
        message = said.rpartition("error: ")[2] if "error: " in said else ""
        if not message:
            found.append("no message")
        elif not REMEDY.search(message):
            found.append("no remedy")
    return [f"{', '.join(found)}: {said[-1500:]}"] if found else []


def strike(
    warm: Warm, shop: Workshop, stage: Stage, fault: Fault, at: int, folder: Path
) -> list[str]:
    """Let one call fail, then run the command again; what is wrong, empty where nothing is."""
    out = folder / "out"
    trace = folder.with_suffix(".trace")
    running = warm.run(stage.command(out), fault=fault.order(folder, at, trace))
    killed = fault.name.startswith("killed")
    found = faults_of(running, (0, -9) if killed else (0, 1))
    if running.status == 0 and not found:
        found += [f"status 0, but {fault}" for fault in shop.check(stage, out)]
    again = warm.run(stage.command(out))
    found += [f"then {fault}" for fault in faults_of(again, (0,))]
    make_old(leftovers(out))
    if leftovers(out):
        warm.run(stage.command(out))
    found += [f"then {fault}" for fault in shop.check(stage, out)]
    found += [f"then left: {path}" for path in leftovers(out)]
    struck = trace.read_text().strip() if trace.exists() else "not reached"
    trace.unlink(missing_ok=True)
    shutil.rmtree(folder)
    return [f"{stage.name}, {fault.name} at {struck}: {text}" for text in found]


def calls_of(warm: Warm, stage: Stage, fault: Fault, folder: Path) -> list[str]:
    """The calls of an undisturbed run that a fault could strike, as `number call path`."""
    trace = folder.with_suffix(".trace")
    folder.mkdir(parents=True)
    order = fault._replace(manner=0).order(folder, 0, trace)
    running = warm.run(stage.command(folder / "out"), fault=order)
    assert running.status == 0, running.said
    lines = trace.read_text().splitlines() if trace.exists() else []
    trace.unlink(missing_ok=True)
    shutil.rmtree(folder)
    return lines


def kinds_of_calls(calls: list[str]) -> dict[str, int]:
    """The first call of each kind: what is called, on what sort of name."""
    first: dict[str, int] = {}
    for line in calls:
        number, call, path = line.split(" ", 2)
        sort = re.sub(r"\.[a-z0-9_]{8}\.partial|[0-9a-f]{32}|\d+", "#", path)
        first.setdefault(f"{call} {sort}", int(number))
    return first


def main() -> None:
    """Read the options, sweep, print the counts, and end with status 1 where something broke."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", action="append")
    parser.add_argument("--fault", action="append", choices=list(FAULTS))
    parser.add_argument("--kinds", action="store_true", help="only the first call of each kind")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sweep-"))
    library = build(folder)
    if library is None:
        raise SystemExit("a C compiler is needed")
    broken: Counter[str] = Counter()
    with Warm(folder / "logs", library) as warm:

        def run(words: list[str]) -> None:
            running = warm.run(words)
            assert running.status == 0, running.said

        shop = Workshop(folder / "reference", run)
        for name in options.stage or shop.stages:
            stage = shop.need(name)
            for fault in (FAULTS[name] for name in options.fault or FAULTS):
                calls = calls_of(warm, stage, fault, folder / "count")
                chosen = (
                    sorted(kinds_of_calls(calls).values())
                    if options.kinds
                    else range(1, len(calls) + 1)
                )
                for at in chosen:
                    found = strike(warm, shop, stage, fault, at, folder / "strike")
                    broken[name] += bool(found)
                    for text in found:
                        print(text)
                print(f"{name}: {fault.name}: {len(list(chosen))} calls", flush=True)
    print(f"{sum(broken.values())} calls after which something was wrong")
    shutil.rmtree(folder)
    sys.exit(bool(sum(broken.values())))


if __name__ == "__main__":
    main()
