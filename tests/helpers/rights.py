"""Root without its powers: the rights of files bind it as they bind others."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def give_up_powers() -> None:
    """Drop all capabilities of this thread, capset(2)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def without_powers(run: Callable[[], T]) -> T:
    """What a function returns in a thread that has given up root's powers, where there are any."""
    with ThreadPoolExecutor(1, initializer=give_up_powers if os.geteuid() == 0 else None) as pool:
        return pool.submit(run).result()
