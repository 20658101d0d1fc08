"""The library that makes calls to the file system fail, and the orders for it."""

import errno
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("shim.c")

OPEN, MAKE, WRITE, SYNC, RENAME, REMOVE, MODE, READ = (1 << bit for bit in range(8))
KIND_OF = {
    "open": OPEN, "fopen": OPEN, "mkdir": MAKE, "link": MAKE, "write": WRITE, "writev": WRITE,
    "pwrite": WRITE, "truncate": WRITE, "fsync": SYNC, "rename": RENAME, "unlink": REMOVE,
    "rmdir": REMOVE, "chmod": MODE,
}  # fmt: skip
"""The kind of each call, by its name in a trace; calls that read are not among them."""
COUNT, ONCE, LASTING, KILL, TEAR = range(5)


class Fault(NamedTuple):
    """A way in which calls fail.

    Attributes:
        name: for tables.
        kinds: which calls can fail so.
        error: number of the error.
        manner: once, or from then on.
    """

    name: str
    kinds: int
    error: int
    manner: int

    def order(self, folder: Path, at: int, trace: Path | None = None) -> list[str | int]:
        """What to hand to `Warm.start` as `fault`, to strike at the `at`-th call under a folder."""
        return [str(folder), self.kinds, at, self.error, self.manner, str(trace or "")]


ROOM = OPEN | MAKE | WRITE | SYNC | RENAME
CHANGES = OPEN | MAKE | RENAME | REMOVE | MODE
EVERYTHING = ROOM | REMOVE | MODE
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("disk full", ROOM, errno.ENOSPC, LASTING),
        Fault("quota, once", ROOM, errno.EDQUOT, ONCE),
        Fault("input/output error", EVERYTHING, errno.EIO, ONCE),
        Fault("permission lost", CHANGES, errno.EACCES, LASTING),
        Fault("read-only", CHANGES, errno.EROFS, LASTING),
        Fault("too many open files", OPEN | READ, errno.EMFILE, LASTING),
        Fault("killed", EVERYTHING, 0, KILL),
        Fault("killed in a write", WRITE, 0, TEAR),
    )
}


def build(folder: Path) -> Path | None:
    """The library, compiled into `folder`; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "shim.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([compiler, *options, "-o", library, SOURCE, "-ldl"], check=True)
    return library
