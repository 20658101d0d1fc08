"""Commands started in a moment: a process that has everything imported forks one for each.

`Warm` is used by the tests; run as a program this file is the process itself. It reads orders,
one JSON line each, and answers with the number of the process started and, when it has ended,
with its status. What it starts leads a session of its own, by which all of its descendants are
found.
"""

import atexit
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.helpers.instants import signal_at
from tests.helpers.rights import give_up_powers

ROOT = Path(__file__).parents[2]
IMPORTS = """
    librosa.filters matplotlib.figure matplotlib.pyplot safetensors.torch soundfile webdataset
    transformers.models.bert.modeling_bert transformers.models.whisper.modeling_whisper
    torch.utils.tensorboard sklearn.metrics zarr.storage s3fs aiobotocore.session
    pipeline.extraction.batches pipeline.cache.store pipeline.distillation.module
    pipeline.cache.export pipeline.extraction.loop pipeline.finetuning.grid
    pipeline.cache.merging pipeline.distillation.model_card pipeline.tasks.mosei.reading
    pipeline.distillation.objectives pipeline.reports.page pipeline.training.run_folder
    pipeline.shards.writing pipeline.models.packing pipeline.models.student
    pipeline.extraction.teacher pipeline.corpus.tokenization pipeline.training.loop
    pipeline.training.log pipeline.cache.verification stages.cli
""".split()  # noqa: SIM905
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Running:
    """A command at work, or ended.

    Attributes:
        pid: of its main process, which leads its session.
        log: file of what it says.
        status: as `subprocess` has it: negative for a signal; None while it runs.
    """

    pid: int
    log: Path
    started: float = field(default_factory=time.monotonic)
    status: int | None = None

    @property
    def said(self) -> str:
        """Everything it wrote to standard output and the error stream."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def family(self) -> list[int]:
        """Processes of its session that are alive; the first is the main one if that lives."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(after_name[3]) == self.pid and after_name[0] not in "ZX":
                    found.append(int(entry.name))
        return sorted(found)


class Warm:
    """The process that forks commands; a context.

    Args:
        folder: where logs go.
        preload: library to load before all others.
        environment: changes to this process's own.
    """

    def __init__(
        self, folder: Path, preload: Path | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._logs = 0
        variables = {
            **os.environ,
            **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")},
            "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of pyarrow, a thread of its own
            "TMPDIR": str(folder),
            **(environment or {}),
        }
        if preload:
            variables["LD_PRELOAD"] = str(preload)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # what has been read is told from what has not by select
        )
        self._running: dict[int, Running] = {}
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._running.values():
            for pid in running.family():
                self.kill(pid)
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def start(self, words: list[str], **order: Any) -> Running:
        """Start `speechkd WORDS`.

        Args:
            words: the command line.
            order: `folder` (to run in), `environment` (changes), `limits` (resource → value),
                `fault` (arguments of the shim's `arm`), `clock` (seconds that each reading of the
                clock goes back), `powerless` (root without its powers: the rights of files count),
                `instant` (arguments of `signal_at`).
        """
        self._logs += 1
        log = self._folder / f"{self._logs:05d}.log"
        log.touch()
        assert self._process.stdin
        message = {"words": words, "log": str(log), **order}
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        while "started" not in (answer := self._read()):
            pass
        running = Running(int(answer["started"]), log)
        self._running[running.pid] = running
        return running

    def wait(self, running: Running, seconds: float = 300) -> int | None:
        """Its status, or None if it has not ended after so many seconds."""
        limit = time.monotonic() + seconds
        while running.status is None:
            left = limit - time.monotonic()
            assert self._process.stdout
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return None
            self._read()
        self._running.pop(running.pid, None)
        return running.status

    def run(self, words: list[str], **order: Any) -> Running:
        """Start a command and wait for its end."""
        running = self.start(words, **order)
        if self.wait(running) is None:
            raise TimeoutError(f"{' '.join(words)} did not end; it said: {running.said[-2000:]}")
        return running

    @staticmethod
    def kill(pid: int) -> None:
        """End a process, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Addresses in use in the process that forks: what a command starts with."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[0])
        return pages * resource.getpagesize()

    def _read(self) -> dict[str, Any]:
        """The next answer; the end of a command is noted."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that forks commands has ended")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("ended") in self._running:
            self._running[answer["ended"]].status = answer["status"]
        return answer


def serve() -> None:
    """Body of the process: import, then fork a process for each order until there are no more."""
    import importlib

    for name in IMPORTS:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    from pipeline.foundation.provenance import git_commit

    git_commit()
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
        raise SystemExit("an import has started a thread: forking is not safe")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    tell = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_inheritable(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    tell.write("{}\n")
    pending = b""
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            with suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    status = os.waitstatus_to_exitcode(ended[1])
                    tell.write(json.dumps({"ended": ended[0], "status": status}) + "\n")
        if 0 in readable:
            content = os.read(0, 65536)
            if not content:
                return
            *orders, pending = (pending + content).split(b"\n")
            for order in orders:
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    _be_command(json.loads(order))
                tell.write(json.dumps({"started": pid}) + "\n")


def _be_command(order: dict[str, Any]) -> None:
    """Become `speechkd WORDS` in all that it and its descendants can see, and end."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the command begins
    os.environ.update(order.get("environment", {}))
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.closerange(3, 256)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.modules["__main__"] = types.ModuleType("__main__")  # not this file, for processes of work
    sys.argv = ["speechkd", *order["words"]]
    os.chdir(order.get("folder", ROOT))
    if order.get("powerless"):
        give_up_powers()
    for name, value in order.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    library = ctypes.CDLL(None)
    if "clock" in order:
        library.clock_backwards(ctypes.c_long(order["clock"]))
    if "instant" in order:
        signal_at(*order["instant"])
    if "fault" in order:
        folder, kinds, first, error, manner, trace = order["fault"]
        library.arm(folder.encode(), kinds, ctypes.c_long(first), error, manner, trace.encode())
    os._exit(_end(_main))


def _main() -> None:
    from stages.cli import main

    main()


def _end(main: Callable[[], None]) -> int:
    """Run to the very end, as the interpreter does it, and return the status."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
        code = 0
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException as error:  # what the interpreter would do with it
        code = 1
        if isinstance(error, KeyboardInterrupt) and _is_outside(error):
            code = 130  # between its start or its end and what is here
        else:
            sys.excepthook(*sys.exc_info())
    with suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _is_outside(error: BaseException) -> bool:
    """Whether an exception was raised here, before or after the command's own function."""
    files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    return files <= {__file__, signal.__file__}


if __name__ == "__main__":
    serve()
