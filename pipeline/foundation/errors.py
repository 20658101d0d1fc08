"""What a user is meant to read when something fails: what was got, where, and what to do next."""

KEPT = "What is finished is kept; the same command carries on."

# Errors of these packages are those of a network or of what is behind it.
NETWORK_PACKAGES = {
    *("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google"),
    *("httpx", "huggingface_hub", "requests", "s3fs", "urllib3"),
}
# So it reads where memory, or room for a thread or a library, cannot be had.
NO_MEMORY = (
    *("alloc", "out of memory", "can't start new thread", "failed to map segment"),
    "unable to open shared memory",
)


class SpeechkdError(Exception):
    """A failure caused by input, settings or the machine, not by a defect in speechkd.

    The message says what was got, where (file, shard, key, setting), what was wanted, and
    what to do next. The command line prints it without a traceback and exits with status 1.
    """


def told(error: BaseException) -> str | None:
    """What to tell a user of an error, or None for one that only a defect can raise.

    Beside `SpeechkdError` these are what the machine may do anywhere: disks, networks, memory.
    """
    if isinstance(error, SpeechkdError):
        return str(error)
    text = str(error).strip()
    if isinstance(error, MemoryError) or (
        isinstance(error, (RuntimeError, ImportError))
        and any(sign in text.lower() for sign in NO_MEMORY)
    ):
        reason = f" ({text.splitlines()[0]})" if text else ""
        return (
            f"out of memory{reason}. Give the job more memory, or lower --batch, --batch-size, "
            f"--workers or --jobs. {KEPT}"
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror or text or type(error).__name__}. Check the path (is it the "
            "file or folder that is meant?), its permissions and the room on the disk, and of "
            f"object storage the network and the credentials. {KEPT}"
        )
    if any(kind.__module__.partition(".")[0] in NETWORK_PACKAGES for kind in type(error).__mro__):
        return (
            f"{type(error).__name__}: {text or 'no further word'}. Check the network, the "
            f"location and the credentials. {KEPT}"
        )
    return None
