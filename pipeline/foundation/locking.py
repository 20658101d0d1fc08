"""Folders that one process at a time may write."""

import fcntl
import os
from pathlib import Path

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import say


def hold(folder: Path, busy: str) -> int:
    """Be alone in a folder until the handle that is returned is closed, or the process ends.

    The lock is on the folder itself, so it needs no file. Where the file system has no locks,
    that is said and the work goes on.

    Args:
        folder: which exists.
        busy: what to tell a user where another process is there.

    Raises:
        SpeechkdError: another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise SpeechkdError(busy) from None
    except OSError:
        say(f"{folder}: this file system has no locks; run one command at a time on it")
    return handle
