"""Kills at random instants, over every stage, until time is up.

    python tests/faults/soak.py --minutes 60 --seed 0

An episode starts a stage on a small corpus (`tests/faults/workshop.py`), kills it a few times, each
time starting the same command again, then lets it finish. It fails where

- the command does not end with status 0 in the end, or a traceback is in anything it said;
- a file of the output differs from that of a run which nothing disturbed (what is not compared:
  times, speeds, versions of the checkout, TensorBoard's event files);
- a half-written file or folder is left, in the output or beside it. A cache and a results folder
  may be written by several machines at once, so theirs count once they are an hour old: they are
  made to look old, and the command is run once more;
- a process is left five minutes after the main one has ended (a fork server first ends its
  imports).

Killed is the process group, the main process alone, or one of its others alone; some episodes send
SIGTERM or SIGINT instead, which must end the command with status 143 or 130. Instants are uniform
over the stage's time, or near its start or its end by a log-uniform draw. Commands are forked from
a process that has everything imported; one in ten is started cold. A failed episode keeps its
folder, and `--only STAGE/NUMBER` with the same seed does it again with the same draws.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).absolute().parents[2]
sys.path.insert(0, str(ROOT))

from tests.faults.workshop import Stage, Workshop, leftovers, make_old  # noqa: E402
from tests.helpers.warm import Running, Warm  # noqa: E402

TARGETS = {"group": 5, "main": 3, "other": 2, "SIGTERM": 1, "SIGINT": 1}
"""How often, relatively, each kind of stop is drawn."""
STATUS_OF = {"SIGTERM": {143, -15}, "SIGINT": {130}}
COLD_SHARE = 0.1
COLD_SECONDS = 5.0
"""What a cold start takes longer; only where instants are drawn from."""
KILLS_AT_MOST = 5
ORPHANS_SECONDS = 300
PYTHONS_OWN = ("resource_tracker: process died", "Exception ignored in atexit callback")
"""What the interpreter says itself where its own helper is killed, or its end interrupted."""
SHARED = ("extract-teacher", "cache merge", "cache export", "finetune", "report")
"""Stages whose output several machines may write at once: young leftovers may be theirs."""


class Episode:
    """One output, brought about against kills.

    Args:
        warm: starts commands.
        shop: stages and what they must give.
        stage: which of them.
        seconds: what an undisturbed run takes.
        folder: for the output and logs.
        rng: draws everything.
    """

    def __init__(
        self,
        warm: Warm,
        shop: Workshop,
        stage: Stage,
        seconds: float,
        folder: Path,
        rng: random.Random,
    ) -> None:
        self.warm, self.shop, self.stage, self.rng = warm, shop, stage, rng
        self.seconds, self.out = seconds, folder / "out"
        self.kills: Counter[str] = Counter()
        self.starts = 0
        self.faults: list[str] = []
        folder.mkdir(parents=True)

    def play(self) -> None:
        """Kill and restart, then finish and check."""
        for _ in range(self.rng.randint(1, KILLS_AT_MOST)):
            if not self._disturbed():
                break
        self._checked(self._start(choice=0), {0}, "the last run")
        if self.stage.name in SHARED:
            make_old(leftovers(self.out))
            self._checked(self._start(choice=0), {0}, "a run on a finished output")
        self.faults += self.shop.check(self.stage, self.out)
        self.faults += [f"left: {path}" for path in leftovers(self.out)]

    def _disturbed(self) -> bool:
        """Start the command and disturb it; False if it was done before that."""
        (target,) = self.rng.choices(list(TARGETS), list(TARGETS.values()))
        # nothing can say a word while an interpreter that was started cold imports the command
        cold = self.rng.random() < COLD_SHARE and target != "SIGINT"
        choice = self.rng.randrange(len(self.stage.alternatives))
        wait = self._instant(self.seconds + (COLD_SECONDS if cold else 0))
        running = self._start(choice, cold=cold)
        if self._wait(running, wait) is not None:
            self._checked(running, {0}, "a run that was not reached")
            return False
        family = [pid for pid in running.family() if pid != running.pid]
        if target == "other" and not family:
            target = "main"
        where = f"{target} after {wait:.3f} s"
        if target == "other":
            self._signal(self.rng.choice(family), signal.SIGKILL)
            # its work is done again, or the command says what happened
            self._checked(running, {0, 1}, where)
        elif target in STATUS_OF:
            self._signal(running.pid, getattr(signal, target))
            self._checked(running, {0, *STATUS_OF[target]}, where)
        else:
            if target == "group":
                with suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
            self._signal(running.pid, signal.SIGKILL)
            self._checked(running, {0, -9}, where)
        self.kills[target + (", cold" if cold else "")] += 1
        return running.status != 0

    def _instant(self, seconds: float) -> float:
        kind = self.rng.random()
        if kind < 0.5:
            return self.rng.uniform(0, seconds)
        short = 0.001 * (seconds / 0.001) ** self.rng.random()
        return short if kind < 0.7 else max(0.0, seconds - short)

    def _start(self, choice: int, *, cold: bool = False) -> Running:
        self.starts += 1
        words = self.stage.command(self.out, choice)
        if not cold:
            return self.warm.start(words)
        log = self.out.parent / f"cold-{self.starts}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "stages.cli", *words],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._process = process
        return Running(process.pid, log)

    def _wait(self, running: Running, seconds: float) -> int | None:
        if running.log.parent != self.out.parent:
            return self.warm.wait(running, seconds)
        with suppress(subprocess.TimeoutExpired):
            running.status = self._process.wait(seconds)
        return running.status

    def _checked(self, running: Running, allowed: set[int], where: str) -> None:
        """Wait for the end, and note what should not be."""
        status = self._wait(running, 300)
        if status not in allowed:
            self.faults.append(f"{where}: status {status}; {running.said[-2000:]}")
        if "Traceback" in running.said and not any(text in running.said for text in PYTHONS_OWN):
            self.faults.append(f"{where}: traceback; {running.said[-2000:]}")
        limit = time.monotonic() + ORPHANS_SECONDS
        while family := running.family():
            if time.monotonic() > limit:
                self.faults.append(f"{where}: processes left: {family}")
                for pid in family:
                    self._signal(pid, signal.SIGKILL)
                return
            time.sleep(0.05)

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def soak(
    folder: Path,
    seed: int,
    seconds: float,
    only: str = "",
    stages: tuple[str, ...] = (),
    stops: int = 0,
) -> int:
    """Play episodes until time is up, print the counts, and return how many failed.

    Args:
        folder: kept only where an episode failed.
        seed: of all draws.
        seconds: time for episodes, without what preparing takes.
        only: `STAGE/NUMBER` of a single episode.
        stages: names of the stages; all by default.
        stops: how many commands must be stopped, whatever the time it takes.
    """
    kills: defaultdict[str, Counter[str]] = defaultdict(Counter)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with Warm(folder / "logs") as warm:
        undisturbed: dict[str, float] = {}

        def run(words: list[str]) -> None:
            running = warm.run(words)
            if running.status != 0:
                raise RuntimeError(f"{' '.join(words)} failed undisturbed: {running.said}")

        shop = Workshop(folder / "reference", run)
        chosen = [shop.need(name) for name in stages or shop.stages]
        for stage in chosen:
            start = time.monotonic()
            run(stage.command(folder / "warm-up" / stage.name.replace(" ", "-")))
            undisturbed[stage.name] = time.monotonic() - start
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end or sum(count.total() for count in kills.values()) < stops:
            stage = chosen[number % len(chosen)]
            name = f"{stage.name}/{number // len(chosen)}"
            number += 1
            if only and name != only:
                continue
            place = folder / name.replace(" ", "-").replace("/", "-")
            rng = random.Random(f"{seed}/{name}")
            episode = Episode(warm, shop, stage, undisturbed[stage.name], place, rng)
            episode.play()
            kills[stage.name].update(episode.kills)
            counts[stage.name].update(
                episodes=1, starts=episode.starts, failures=bool(episode.faults)
            )
            if episode.faults:
                print(f"FAILED {name} (seed {seed}), see {place}:", *episode.faults, sep="\n  ")
            else:
                shutil.rmtree(place)
                for log in (folder / "logs").glob("*.log"):
                    log.unlink()
            sys.stdout.flush()
            if only:
                break
    _print_counts(seed, kills, counts)
    return sum(count["failures"] for count in counts.values())


def _print_counts(
    seed: int, kills: dict[str, Counter[str]], counts: dict[str, Counter[str]]
) -> None:
    names = [*TARGETS, *(f"{target}, cold" for target in TARGETS)]
    print(f"seed {seed}: episodes, starts, failures; stops of " + ", ".join(names))
    total: Counter[str] = Counter()
    for stage, count in [*counts.items(), ("all", total)]:
        if stage != "all":
            total.update(count + kills[stage])
        stops = kills.get(stage, total)
        print(
            f"{stage:16} {count['episodes']:5} {count['starts']:6} {count['failures']:4}   "
            + " ".join(f"{stops[name]:5}" for name in names)
        )
    print(f"{sum(total[name] for name in names):,} stops, {total['failures']} episodes failed")


def main() -> None:
    """Read the options, soak, and end with status 1 where an episode failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="STAGE/NUMBER")
    parser.add_argument("--folder", type=Path, help="a new folder; a temporary one by default")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    failed = soak(folder.absolute(), options.seed, options.minutes * 60, options.only)
    if failed:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
