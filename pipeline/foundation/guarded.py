"""What may end its process is done in another one, so that a file that does so is told by name.

A C++ library with a defect dies of a hostile file by a signal, which nothing in Python catches.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any, ParamSpec, TypeVar

from pipeline.foundation.errors import KEPT, Damaged, SpeechkdError
from pipeline.foundation.workers import begin_worker, is_worker

Item = TypeVar("Item")
Arguments = ParamSpec("Arguments")

# not a crash: somebody else, or the system for want of memory, has ended the process
STOPPED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
SECONDS_TO_DIE = 5.0


def guarded(
    what: str,
    make: Callable[Arguments, Iterable[Item]],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Generator[Item, None, None]:
    """Yield what `make(…)` yields, computed in a process of its own.

    That process is at most one item, and what a pipe holds, ahead. It is kept for the next call,
    because a new one takes some tenths of a second to start. In a worker process `make` is simply
    called: whoever started the worker tells of its death.

    Args:
        what: the input, for messages.
        make: importable by name, and not from `__main__`; its items can be pickled.
        arguments: of `make`, which can be pickled.
        options: of `make`, likewise.

    Raises:
        Damaged: the process died.
        Exception: what `make` raises.
    """
    if is_worker():
        yield from make(*arguments, **options)
        return
    process = _taken()
    done = False
    try:
        process.send((make, arguments, options))
        while not done:
            kind, value = process.receive(what)
            if kind == "item":
                yield value
            elif kind == "error":
                done = True
                raise value
            else:
                done = True
    finally:
        if done:
            _idle.append(process)
        else:  # it is at work on what nobody waits for any more, or dead
            process.end()


def guarded_call(
    what: str,
    call: Callable[Arguments, Item],
    *arguments: Arguments.args,
    **options: Arguments.kwargs,
) -> Item:
    """The value of `call(…)`, computed as `guarded` does."""
    (value,) = guarded(what, _once, call, arguments, options)
    return value


def _once(
    call: Callable[..., Item], arguments: tuple[Any, ...], options: dict[str, Any]
) -> Iterator[Item]:
    yield call(*arguments, **options)


@dataclass(frozen=True)
class _Guarded:
    """A process that makes what it is asked for, the pipe to it, and what tells it that we live."""

    process: "subprocess.Popen[bytes]"
    pipe: Connection
    alive: int

    @classmethod
    def start(cls) -> "_Guarded":
        """Start one, in a third of the time that multiprocessing's `spawn` takes.

        That one imports the main module again, which is all commands. A fork server would have the
        environment of long ago (credentials, for instance).
        """
        ours, theirs = Pipe()
        their_alive, alive = os.pipe()
        fds = (theirs.fileno(), their_alive)
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve{fds}"
        ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # left to us
        process = subprocess.Popen(
            [sys.executable, "-c", f"{ignored}; {code}"], pass_fds=fds, stdin=subprocess.DEVNULL
        )
        theirs.close()  # so that its death ends the pipe
        os.close(their_alive)
        return cls(process, ours, alive)

    def send(self, request: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it is dead, as the answer will show
            self.pipe.send(request)

    def receive(self, what: str) -> tuple[str, Any]:
        try:
            answer: tuple[str, Any] = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._death(what) from None
        return answer

    def end(self) -> None:
        self.pipe.close()
        os.close(self.alive)
        self.process.kill()
        self.process.wait()

    def _death(self, what: str) -> SpeechkdError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(SECONDS_TO_DIE)
        status = self.process.returncode or 0
        if -status in STOPPED:
            return SpeechkdError(
                f"{what}: the process that read it was ended by {signal.Signals(-status).name}, "
                f"perhaps because memory ran out. {KEPT}"
            )
        of = f"of {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return Damaged(
            f"{what} cannot be read: the process that read it died {of}. The file is damaged, or "
            "made to do that. Get it again, or leave it out."
        )


_idle: list[_Guarded] = []


@atexit.register
def end_idle() -> None:
    """End the processes that wait for the next call."""
    while _idle:
        _idle.pop().end()


def _taken() -> _Guarded:
    """A process that waits, or a new one."""
    while _idle:
        waiting = _idle.pop()
        if waiting.process.poll() is None:
            return waiting
        waiting.end()
    return _Guarded.start()


def serve(pipe_fd: int, alive_fd: int) -> None:
    """The life of a process that `guarded` starts: it answers until the other end is closed."""
    begin_worker()
    threading.Thread(target=_end_with_parent, args=(alive_fd,), daemon=True).start()
    pipe = Connection(pipe_fd)
    while True:
        try:
            make, arguments, options = pipe.recv()
        except EOFError:
            return
        try:
            for item in make(*arguments, **options):
                pipe.send(("item", item))
            answer: tuple[str, Any] = ("done", None)
        except BrokenPipeError:  # nobody waits for it
            return
        except BaseException as error:
            if not isinstance(error, SpeechkdError):
                error.add_note(traceback.format_exc())
            answer = ("error", error)
        pipe.send(answer)


def _end_with_parent(alive_fd: int) -> None:
    os.read(alive_fd, 1)  # until its other end is closed, by us or by our death
    os._exit(1)
