"""What a user is told about an error, and which errors mean that memory ran out."""

import ast
import errno
import socket
from pathlib import Path

import pytest
import torch

from pipeline.foundation import errors
from pipeline.foundation.errors import (
    Damaged,
    NotThere,
    SpeechkdError,
    Unreachable,
    explanation,
    first_line,
    is_out_of_memory,
)


class PanicException(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize("kind", [NotThere, Damaged, Unreachable])
def test_each_kind_is_an_error_of_ours_and_keeps_its_message(kind):
    assert issubclass(kind, SpeechkdError)
    assert explanation(kind("cache x is torn")) == "cache x is torn"
    others = {NotThere, Damaged, Unreachable} - {kind}
    assert not any(issubclass(kind, other) for other in others)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one  \ntwo"), "one  "),
        (ValueError(""), "ValueError"),
        (ValueError("  \n "), "ValueError"),
        (KeyError("name"), "'name'"),
    ],
)
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line


def too_much_on_the_cpu():
    try:
        torch.empty(2**60)
    except RuntimeError as error:
        return error
    pytest.fail("2**60 floats were had")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("x.so: failed to map segment from shared object"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("NCCL Error: Cuda failure 2 'out of memory'"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("out of resource: shared memory, Required: 262144"), False),
        (RuntimeError("INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp"), False),
        (RuntimeError("non-zero number of elements, but its data is not allocated yet"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (PanicException("No thread pool: ThreadPoolBuildError { kind: IOError }"), True),
        (PanicException("called `Option::unwrap()` on a `None` value"), False),
        (ValueError("out of memory"), False),
        (SpeechkdError("out of memory"), False),
    ],
)
def test_which_errors_are_of_memory(error, is_one):
    assert is_out_of_memory(error) is is_one


@pytest.mark.parametrize("short", [False, True])
def test_what_was_read_is_not_at_fault_where_memory_ran_out(monkeypatch, short):
    """Whether the error says so, or memory is short as it comes."""
    monkeypatch.setattr(errors, "ROOM", 2**60 if short else 1)
    with pytest.raises(RuntimeError, match="new thread"):
        errors.unless_of_memory(RuntimeError("can't start new thread"))
    with pytest.raises(MemoryError, match="ThreadPoolBuildError"):
        errors.unless_of_memory(PanicException("ThreadPoolBuildError"))
    if short:
        with pytest.raises(MemoryError, match="no primitive") as raised:
            errors.unless_of_memory(RuntimeError("no primitive"))
        assert explanation(raised.value).startswith("out of memory (no primitive)")
    else:
        errors.unless_of_memory(RuntimeError("no primitive"))


def test_an_error_that_says_nothing_is_of_memory_where_that_is_short(monkeypatch):
    nothing = SystemError("error return without exception set"), OSError("codec error")
    assert explanation(nothing[0]) is None
    assert "out of memory" not in explanation(nothing[1])
    monkeypatch.setattr(errors, "ROOM", 2**60)
    for error in nothing:
        assert explanation(error).startswith(f"out of memory ({error})")
    assert explanation(NotThere("no cache x")) == "no cache x"
    assert "Is a directory" in explanation(IsADirectoryError(errno.EISDIR, "Is a directory", "x"))
    assert explanation(KeyError("x")) is None, "a defect keeps its traceback"


@pytest.mark.parametrize("shown", [False, True])
def test_memory_is_told_though_a_file_was_blamed(shown):
    """Also where the error that it came of is kept out of a traceback."""

    def read():
        try:
            raise ImportError("x.so: failed to map segment from shared object")
        except ImportError as error:
            raise Damaged("x.parquet is broken") from (error if shown else None)

    with pytest.raises(Damaged) as raised:
        read()
    assert explanation(raised.value).startswith("out of memory (x.so: failed to map segment")


def test_memory_that_was_told_already_is_told_as_it_was():
    error = SpeechkdError("out of memory in a training step. Lower it.")
    error.__cause__ = MemoryError()
    assert explanation(error) == "out of memory in a training step. Lower it."


def test_whoever_catches_every_error_asks_first_whether_memory_ran_out():
    """Otherwise a file would be blamed, and a checkpoint taken for a torn one."""
    handlers = [
        (path.name, handler)
        for path in (Path(errors.__file__).parents[1]).rglob("*.py")
        for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(handler, ast.ExceptHandler)
        and isinstance(handler.type, ast.Name)
        and handler.type.id == "Exception"
    ]
    assert len(handlers) > 10
    for name, handler in handlers:
        assert ast.unparse(handler.body[0]) == "unless_of_memory(error)", name


def test_threads_have_a_limit_of_their_own():
    assert "ulimit -u" in explanation(RuntimeError("can't start new thread"))


def test_what_torch_raises_without_memory_is_known():
    error = too_much_on_the_cpu()
    assert is_out_of_memory(error)
    assert "--batch-size" in explanation(error)


def test_a_file_that_no_memory_is_left_to_open_is_out_of_memory():
    no_memory = OSError(errno.ENOMEM, "Cannot allocate memory", "a/folder")
    assert (explanation(no_memory) or "").startswith("out of memory")
    assert is_out_of_memory(no_memory)
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device", "a/folder"))


def test_a_folder_for_temporary_files_with_too_long_a_name_is_told(tmp_path):
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(OSError, match="too long") as raised:
        one.bind(str(tmp_path / ("long" * 40)))
    assert "Set TMPDIR to a shorter one" in (explanation(raised.value) or "")


def test_a_defect_is_not_explained_away():
    assert explanation(KeyError("x")) is None
    assert explanation(RuntimeError("shapes cannot be multiplied")) is None
