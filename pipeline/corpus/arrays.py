"""Arrays in a folder: written in pieces, mapped or loaded as a whole, checked when opened."""

import hashlib
import json
import mmap
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.foundation.errors import Damaged
from pipeline.foundation.progress import Meter
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.foundation.workers import cores

FORMAT_VERSION = 1
BLOCK_BYTES = 2**24
"""Size of the blocks that each have a digest of their own."""
CHECKED_BLOCKS = 16
"""How many blocks, evenly spread, are checked when an array is mapped: to read all of them is what
mapping avoids."""
METER_FROM_BYTES = 2**30
READERS = 4


class ArrayWriter:
    """Writes arrays into a new folder piece by piece, so that none is ever whole in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pieces: dict[str, _Pieces] = {}

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Add rows to an array; the first piece decides its type and width."""
        if name not in self._pieces:
            self._pieces[name] = _Pieces(self._folder / f"{name}.bin", values)
        self._pieces[name].append(values)

    def close(self, facts: dict[str, Any]) -> None:
        """Finish, and record what the arrays are, with facts about them (plain JSON values)."""
        arrays = {name: pieces.close() for name, pieces in self._pieces.items()}
        record = {"format_version": FORMAT_VERSION, "arrays": arrays, "facts": facts}
        (self._folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


class _Pieces:
    def __init__(self, path: Path, first: NDArray[Any]) -> None:
        self._file = path.open("wb")
        self._dtype, self._beyond = first.dtype, list(first.shape[1:])
        self._rows = self._in_block = 0
        self._block = hashlib.sha256()
        self._digests: list[str] = []

    def append(self, values: NDArray[Any]) -> None:
        if values.dtype != self._dtype or list(values.shape[1:]) != self._beyond:
            raise ValueError(f"{values.dtype} {values.shape} after {self._dtype} {self._beyond}")
        self._rows += len(values)
        rest = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        while rest:
            part, rest = rest[: BLOCK_BYTES - self._in_block], rest[BLOCK_BYTES - self._in_block :]
            self._file.write(part)
            self._block.update(part)
            self._in_block += len(part)
            if self._in_block == BLOCK_BYTES:
                self._end_block()

    def _end_block(self) -> None:
        self._digests.append(self._block.hexdigest())
        self._block, self._in_block = hashlib.sha256(), 0

    def close(self) -> dict[str, Any]:
        if self._in_block:
            self._end_block()
        self._file.close()
        shape = [self._rows, *self._beyond]
        return {"dtype": self._dtype.str, "shape": shape, "sha256": self._digests}


class ArrayStore:
    """The arrays of a folder that an `ArrayWriter` filled.

    Args:
        folder: the folder.

    Raises:
        Damaged: its record or a file's size is wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            record = parse_json(read_text_file(folder / "record.json"))
            if record["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format {record['format_version']!r}")
            self.facts: dict[str, Any] = record["facts"]
            self._arrays: dict[str, dict[str, Any]] = record["arrays"]
            for name in self._arrays:
                if not name.isidentifier():
                    raise ValueError(f"{name!r} is no name of an array")
                size = (folder / f"{name}.bin").stat().st_size
                if size != self.nbytes(name):
                    raise ValueError(f"{name}.bin has {size:,} bytes, not {self.nbytes(name):,}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(str(error)) from None

    def nbytes(self, *names: str) -> int:
        """Bytes of these arrays together, all by default."""
        return sum(
            int(np.prod(a["shape"])) * np.dtype(a["dtype"]).itemsize
            for name, a in self._arrays.items()
            if not names or name in names
        )

    def rows(self, name: str) -> int:
        """Rows of an array; 0 if nothing was written to it."""
        return int(self._arrays[name]["shape"][0]) if name in self._arrays else 0

    def map(self, name: str) -> Tensor:
        """Map an array's file, which is read where it is touched; not to be written to.

        Raises:
            Damaged: one of the blocks that are checked is damaged.
        """
        array, size = self._arrays[name], self.nbytes(name)
        blocks = len(array["sha256"])
        for block in sorted(
            {blocks * i // CHECKED_BLOCKS for i in range(CHECKED_BLOCKS)} - {blocks}
        ):
            self._read(
                name, block, np.empty(min(BLOCK_BYTES, size - block * BLOCK_BYTES), np.uint8)
            )
        if size == 0:
            return torch.from_numpy(np.empty(array["shape"], array["dtype"]))
        with (self.folder / f"{name}.bin").open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        values = np.frombuffer(content, array["dtype"]).reshape(array["shape"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(values)

    def load(self, name: str, device: torch.device) -> Tensor:
        """Load an array into the memory of a device and check every block of it.

        Raises:
            Damaged: a block is damaged.
        """
        array, size = self._arrays[name], self.nbytes(name)
        like = torch.from_numpy(np.empty((0, *array["shape"][1:]), array["dtype"]))
        whole = torch.empty(array["shape"], dtype=like.dtype, device=device)
        flat = whole.reshape(-1).view(torch.uint8)
        blocks = range(len(array["sha256"]))

        def read(block: int) -> int:
            part = flat[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
            # straight to its place if that is in this machine's memory
            content = part if part.device.type == "cpu" else torch.empty_like(part, device="cpu")
            self._read(name, block, content.numpy())
            if content is not part:
                part.copy_(content)
            return len(part)

        meter = Meter(f"reading {name}", size / 1e9, "GB") if size >= METER_FROM_BYTES else None
        with ThreadPoolExecutor(min(READERS, cores())) as readers, meter or nullcontext():
            for done in readers.map(read, blocks):
                if meter:
                    meter.advance(done / 1e9)
        return whole

    def _read(self, name: str, block: int, into: NDArray[np.uint8]) -> None:
        start = block * BLOCK_BYTES
        with (self.folder / f"{name}.bin").open("rb", buffering=0) as file:
            file.seek(start)
            rest = into.data
            while rest and (count := file.readinto(rest)):
                rest = rest[count:]
        if hashlib.sha256(into.data).hexdigest() != self._arrays[name]["sha256"][block]:
            raise self._damaged(f"{name}.bin differs from what was written at byte {start:,}")

    def _damaged(self, reason: str) -> Damaged:
        return Damaged(
            f"{self.folder} is damaged ({reason}). Delete this folder; it is made anew from the "
            "cache."
        )
