"""One shape for every batch: tokens filled up to a fixed count, so that compiled code fits always.

Shapes: B sequences, N tokens, L the longest sequence, G places of the grid.
"""

import os
import shlex
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from pipeline.models.packing import Band, Bands, Packed, encode_packed

COMPILER_PACKAGES = "install them (Debian and Ubuntu: g++ python3-dev)"


@dataclass(frozen=True)
class Shape:
    """The largest that any batch of a run is.

    Attributes:
        sequences: of a batch.
        tokens: of a batch, all sequences together.
        longest: tokens of the longest sequence.
    """

    sequences: int
    tokens: int
    longest: int

    def holds(self, packed: Packed) -> bool:
        """Whether a batch fits."""
        sequences, longest = packed.grid_BL.shape
        return (
            sequences <= self.sequences
            and len(packed.ids_N) <= self.tokens
            and longest <= self.longest
        )


@dataclass
class _Filled:
    """What an encoder's forward needs of a batch; stands in for `Packed`."""

    ids_N: Tensor
    offset_N: Tensor
    bands: Bands


def fill(packed: Packed, shape: Shape) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Ids, offsets and the grid of a batch, filled up to a shape.

    One more sequence than the shape has takes the filling: all filling tokens look at its single
    place, nobody looks at them, and no gradient comes back from them.
    """
    count, spare = len(packed.ids_N), shape.tokens - len(packed.ids_N)
    sequences, longest = packed.grid_BL.shape
    below, beside = shape.sequences + 1 - sequences, shape.longest - longest
    grid_BL = functional.pad(packed.grid_BL, (0, beside, 0, below))
    valid_BL = functional.pad(packed.valid_BL, (0, beside, 0, below))
    # rows without a sequence show one token to themselves: a softmax over nothing is not a number
    grid_BL[sequences:, 0] = min(count, shape.tokens - 1)
    valid_BL[sequences:, 0] = True
    place_N = packed.sequence_N * shape.longest + packed.offset_N
    return (
        functional.pad(packed.ids_N, (0, spare)),
        functional.pad(packed.offset_N, (0, spare)),
        grid_BL.flatten(),
        functional.pad(place_N, (0, spare), value=shape.sequences * shape.longest),
        valid_BL,
    )


def missing_for_compiling(device_type: str) -> str:
    """What `torch.compile` needs on a `cpu` or for a `cuda` device and is not here; else empty.

    Inductor writes C++ for a CPU, Triton a launcher in C for each of its GPU kernels; both are
    built on the spot and include Python.h.
    """
    compilers = {
        "cpu": [os.environ.get("CXX") or "g++"],
        "cuda": [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang"],
    }[device_type]
    missing = []
    if not any(shutil.which(shlex.split(one)[0]) for one in compilers):
        missing.append(f"the compiler {' or '.join(compilers)}")
    header = Path(sysconfig.get_config_var("INCLUDEPY"), "Python.h")
    if not header.is_file():
        missing.append(str(header))
    return " and ".join(missing)


def compiled(encoder: PreTrainedModel, shape: Shape) -> Callable[[Packed], Tensor]:
    """The encoder's forward, compiled once for a shape.

    Args:
        encoder: set to packed attention.
        shape: the largest that any batch is.

    Returns:
        From a packed batch to hidden states `[N, D]`; a batch that does not fit is run uncompiled.
    """

    def forward(
        ids_N: Tensor, offset_N: Tensor, source_G: Tensor, place_N: Tensor, valid_BL: Tensor
    ) -> Tensor:
        band = Band(shape.sequences + 1, shape.longest, valid_BL)
        filled = _Filled(ids_N, offset_N, Bands((band,), source_G, place_N))
        return encode_packed(encoder, cast(Packed, filled))

    fast: Callable[..., Tensor] = torch.compile(forward, dynamic=False, fullgraph=True)

    def run(packed: Packed) -> Tensor:
        if not shape.holds(packed):
            return encode_packed(encoder, packed)
        return fast(*fill(packed, shape))[: len(packed.ids_N)]

    return run
