"""Processes of tests that are up in a moment, because their server has everything imported."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver


@contextmanager
def quick_processes(*modules: str) -> Iterator[None]:
    """A fork server that has these modules imported."""
    forkserver._forkserver._stop()  # another test may have started one without
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *modules])
    forkserver.ensure_running()
    try:
        yield
    finally:
        forkserver._forkserver._stop()
