"""Drive a target by coverage, and count what came out.

    python -m tests.fuzz TARGET --inputs N [--out FOLDER] [--seed S]
    python -m tests.fuzz TARGET TARGET ... --inputs N    # of each; up to its first crash

The fuzzing itself runs in a process of its own, started again after every crash: what kills
libsndfile or HDF5 ends that process only. Each crashing input is kept in FOLDER/crashes. Several
targets are forked from one process, which is instrumented once.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

SECONDS_AN_INPUT = 60
"""By the clock, so that a machine that pauses is not taken for an input that does not end."""
MEGABYTES = 3000
COUNTED_EVERY = 500


def main() -> int:
    """Run until the inputs are done; 1 where any of them crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="keeps corpus and crashes")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _fuzz(given.targets, given.inputs, given.seed, given.out)
    with tempfile.TemporaryDirectory() as temporary:
        out = given.out or Path(temporary)
        if len(given.targets) > 1:
            return _watch_all(given.targets, given.inputs, given.seed, out)
        return _watch(given.targets[0], given.inputs, given.seed, out)


def _watch(target: str, inputs: int, seed: int, out: Path) -> int:
    """Start the fuzzing process as often as it takes, and add up its counts."""
    out.mkdir(parents=True, exist_ok=True)
    total: Counter[str] = Counter()
    crashes: Counter[str] = Counter()
    started = time.monotonic()
    while (left := inputs - total.total()) > 0:
        counts = out / "counts.json"
        counts.write_text("{}")
        done = _child([target], left, seed + crashes.total(), out)
        counted = Counter(json.loads(counts.read_text()))
        total += counted
        if done.returncode:
            if not counted and not re.search("Test unit written", done.stdout):
                sys.stderr.write(done.stdout[-3000:])
                return 2
            total["crash"] += 1
            crashes[_last_line(done.stdout)] += 1
            (out / f"crash-{crashes.total():03d}.txt").write_text(done.stdout[-6000:])
    seconds = time.monotonic() - started
    told = ", ".join(f"{n:,} {what}" for what, n in total.most_common())
    print(f"{target}: {total.total():,} inputs in {seconds:,.0f} s: {told}")
    for what, count in crashes.most_common():
        print(f"  crash: {count} × {what}")
    return int(bool(crashes))


def _watch_all(targets: list[str], inputs: int, seed: int, out: Path) -> int:
    """Fuzz targets in turn, and tell what came of each."""
    out.mkdir(parents=True, exist_ok=True)
    done = _child(targets, inputs, seed, out)
    crashed = False
    for target in targets:
        counts, said = out / target / "counts.json", out / target / "said.txt"
        total = Counter(json.loads(counts.read_text())) if counts.exists() else Counter[str]()
        told = ", ".join(f"{n:,} {what}" for what, n in total.most_common())
        print(f"{target}: {total.total():,} inputs: {told}")
        if total.total() < inputs:
            crashed = True
            print(f"  crash: {said.read_text(errors='replace')[-3000:] if said.exists() else ''}")
    if crashed:
        print("\n".join(line for line in done.stdout.splitlines() if not line.startswith("INFO")))
    return int(crashed)


def _child(
    targets: list[str], inputs: int, seed: int, out: Path
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz", *targets, "--child", "--inputs", str(inputs)),
            *("--seed", str(seed), "--out", str(out)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def _last_line(trace: str) -> str:
    lines = trace.splitlines()
    for n, line in enumerate(lines):
        if "Uncaught Python exception" in line:
            return " | ".join(
                [lines[n + 1][:200], *(x.strip() for x in lines if "/pipeline/" in x)][:6]
            )
    found = [x for x in lines if re.search(r"ERROR|SUMMARY|DEADLYSIGNAL", x)]
    return " | ".join(found[:3])[:300] or "died without a word"


def _fuzz(names: list[str], inputs: int, seed: int, out: Path) -> None:
    """Fuzz in this process, or, if there are several targets, in one forked for each; ends it."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install -e '.[fuzz]'")
    with atheris.instrument_imports(include=["pipeline", "stages", "tarfile", "pickle"]):
        from tests.fuzz import targets
    if len(names) == 1:
        _fuzz_one(targets.TARGETS[names[0]], inputs, seed, out)
    for name in names:
        (out / name).mkdir(exist_ok=True)
        if os.fork() == 0:
            with (out / name / "said.txt").open("w") as file:
                for stream in (1, 2):
                    os.dup2(file.fileno(), stream)
            _fuzz_one(targets.TARGETS[name], inputs, seed, out / name)
        os.wait()
    sys.exit()


def _fuzz_one(target: "Target", inputs: int, seed: int, out: Path) -> None:
    """Fuzz one target and end this process."""
    import atheris

    from tests.fuzz.targets import outcome

    shared = Path("/dev/shm")  # noqa: S108  files here cost no disk
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as temporary:
        folder = Path(temporary)
        corpus = out / "corpus"
        corpus.mkdir(exist_ok=True)
        (out / "crashes").mkdir(exist_ok=True)
        (folder / "seeds").mkdir()
        for number, content in enumerate(target.seeds(folder)):
            (corpus / f"seed-{number:03d}").write_bytes(content)
        counts: Counter[str] = Counter()

        def one(content: bytes) -> None:
            try:
                found = outcome(target, content, folder)
            except BaseException:
                _write(out, counts)
                name = f"crash-{hashlib.sha256(content).hexdigest()[:16]}"
                (out / "crashes" / name).write_bytes(content)
                raise
            counts[found] += 1
            if counts.total() % COUNTED_EVERY == 0 or counts.total() >= inputs:
                _write(out, counts)
            if counts.total() >= inputs:
                shutil.rmtree(folder)
                os._exit(0)

        atheris.Setup(
            [
                "fuzz",
                str(corpus),
                f"-seed={seed}",
                f"-timeout={SECONDS_AN_INPUT}",
                f"-rss_limit_mb={MEGABYTES}",
                f"-malloc_limit_mb={MEGABYTES}",
                f"-artifact_prefix={out}/crashes/",
                "-max_len=20000",
                "-verbosity=0",
            ],
            one,
        )
        atheris.Fuzz()
    os._exit(0)


def _write(out: Path, counts: Counter[str]) -> None:
    temporary = out / "counts.json.new"
    temporary.write_text(json.dumps(counts))
    temporary.rename(out / "counts.json")


if __name__ == "__main__":
    sys.exit(main())
