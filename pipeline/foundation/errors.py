"""What a user reads when something fails: what was got, where, and what to do next."""

import errno

KEPT = "What is finished is kept; the same command carries on."

# Errors of these packages are those of a network or of what is behind it.
NETWORK_PACKAGES = {
    *("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google"),
    *("httpx", "huggingface_hub", "requests", "s3fs", "urllib3"),
}
# How libraries word it when memory runs out, or room for a thread or a library.
NO_MEMORY = (
    *("allocate ", "bad_alloc", "alloc_failed", "allocation_failed", "out of memory"),
    *("can't start new thread", "failed to map segment", "unable to open shared memory"),
    "threadpoolbuilderror",
)

ROOM = 16 * 2**20
"""Bytes that a process can have that is far from its limit of addresses (`ulimit -v`)."""


class SpeechkdError(Exception):
    """A failure caused by input, settings or the machine, not by a defect in speechkd.

    The message says what was got, where (file, shard, key, setting), what was wanted, and
    what to do next. The command line prints it without a traceback and exits with status 1.
    Three kinds have classes of their own, because code must tell them apart.
    """


class NotThere(SpeechkdError):  # noqa: N818
    """What was named does not exist: a file, a folder, a cache, a run. It may come later."""


class Damaged(SpeechkdError):  # noqa: N818
    """What was named exists, but it is torn, forged or not what it should be."""


class Unreachable(SpeechkdError):  # noqa: N818
    """Whether it exists is not known: network, credentials or permissions are in the way."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the kind of the error if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of a device or of the machine.

    torch has a class for a GPU's memory. On a CPU, and for threads and libraries, a plain
    RuntimeError or ImportError comes, or a panic of a library in Rust, which only its words tell
    apart. A file cannot be opened or listed without memory either: that is an OSError with a number
    of its own.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        (isinstance(error, (RuntimeError, ImportError)) or is_panic(error))
        and any(words in str(error).lower() for words in NO_MEMORY)
    )


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust panicked; the class cannot be imported, and is no `Exception`."""
    return type(error).__name__ == "PanicException"


def is_memory_short() -> bool:
    """Whether `ROOM` more bytes of memory cannot be had."""
    try:
        bytearray(ROOM)
    except MemoryError:
        return True
    return False


def memory_error_behind(error: BaseException) -> BaseException | None:
    """The error itself, or the one that it came of, that says that memory ran out."""
    one: BaseException | None = error
    while one is not None and not is_out_of_memory(one):
        one = one.__cause__ or one.__context__
    return one


def unless_of_memory(error: BaseException) -> None:
    """Raise an error on if memory ran out: what was being read or made is not at fault then.

    Some libraries turn memory that they lack into errors that say something else, so one that comes
    while memory is short counts as well.

    Raises:
        MemoryError: memory ran out, and the error does not say so, or is a panic.
    """
    lack = memory_error_behind(error)
    if lack is error and not is_panic(error):
        raise error
    if lack is not None or is_memory_short():
        raise MemoryError(first_line(lack or error)) from error


def explanation(error: BaseException) -> str | None:
    """What to tell a user about an error, or None for one that only a defect can raise.

    Besides `SpeechkdError` these are the errors of the machine: disks, networks, memory. That
    memory ran out is told whatever the error was turned into, by a library or by code that says
    which file is at fault.
    """
    text = str(error).strip()
    lack = memory_error_behind(error)
    if isinstance(error, SpeechkdError) and (lack is None or "out of memory" in text):
        return str(error)
    # errors that say nothing of what is wrong: the interpreter's own, and pictures' that fail
    nothing = isinstance(error, SystemError) or (isinstance(error, OSError) and not error.errno)
    if lack is None and nothing and is_memory_short():
        lack = error
    if lack is not None:
        reason = f" ({first_line(lack)})" if str(lack).strip() else ""
        if "thread" in reason.lower():  # processes and threads have a limit of their own
            return (
                f"out of memory, or of threads{reason}. Give the job more memory, raise its limit "
                f"of processes (`ulimit -u`; of a container, its pids), or lower --workers. {KEPT}"
            )
        return (
            f"out of memory{reason}. Give the job more memory, or lower --batch-size or "
            f"--workers. {KEPT}"
        )
    if isinstance(error, OSError) and text.startswith("AF_UNIX path too long"):
        return (
            "the folder for temporary files has too long a name for the sockets by which processes "
            f"speak with each other (about 80 letters). Set TMPDIR to a shorter one. {KEPT}"
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror or text or type(error).__name__}. Check the path (is it the "
            "file or folder that is meant?), its permissions and the room on the disk. For object "
            f"storage check the network and the credentials. {KEPT}"
        )
    if any(kind.__module__.partition(".")[0] in NETWORK_PACKAGES for kind in type(error).__mro__):
        return (
            f"{type(error).__name__}: {text or 'no further word'}. Check the network, the "
            f"location and the credentials. {KEPT}"
        )
    return None
