"""What a user is told about an error, and which errors mean that memory ran out."""

import errno
import socket

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
    if short:
        with pytest.raises(MemoryError, match="no primitive") as raised:
            errors.unless_of_memory(RuntimeError("no primitive"))
        assert explanation(raised.value).startswith("out of memory (no primitive)")
    else:
        errors.unless_of_memory(RuntimeError("no primitive"))


def test_whatever_fails_while_memory_is_short_is_told_as_that(monkeypatch):
    monkeypatch.setattr(errors, "ROOM", 2**60)
    said = explanation(SystemError("error return without exception set"))
    assert said.startswith("out of memory (error return without exception set)")
    assert explanation(NotThere("no cache x")) == "no cache x"


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
