"""One or two shapes for all batches, so that an encoder is compiled so often and no more.

Shapes: B sequences, N tokens, L tokens of the longest sequence, G places of the grid.
"""

import os
import shlex
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from pipeline.models.dropout import Draws
from pipeline.models.lengths import Band, Bands
from pipeline.models.packing import Packed, encode_packed, without_cudnn_attention

COMPILER_PACKAGES = "install them (Debian and Ubuntu: g++ python3-dev; Triton: pip install triton)"
TRITON_FROM = (7, 0)
"""The compute capability that Triton begins with."""


@dataclass(frozen=True)
class BatchShape:
    """A size that batches are padded up to.

    Attributes:
        sequences: sequences per batch.
        tokens: tokens per batch, all sequences together.
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
class _Padded:
    """What an encoder's forward reads of a batch; stands in for `Packed`."""

    ids_N: Tensor
    offset_N: Tensor
    bands: Bands


def pad_to_shape(
    packed: Packed, shape: BatchShape
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Pad a batch to a shape.

    The padding belongs to one sequence more than the shape has. All padding tokens attend to its
    single place, no token attends to them, and no gradient comes back from them.

    Returns:
        Token ids, their offsets, the source of each place of the grid, the place of each token,
        and which places of the grid hold a token.
    """
    count, spare = len(packed.ids_N), shape.tokens - len(packed.ids_N)
    sequences, longest = packed.grid_BL.shape
    below, beside = shape.sequences + 1 - sequences, shape.longest - longest
    grid_BL = functional.pad(packed.grid_BL, (0, beside, 0, below))
    valid_BL = functional.pad(packed.valid_BL, (0, beside, 0, below))
    # a row without a sequence attends to one token: a softmax over nothing is not a number
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


def missing_for_compiling(device_type: str, capability: tuple[int, int] | None = None) -> str:
    """What `torch.compile` lacks on this machine for a `cpu` or a `cuda` device, in words.

    Inductor writes C++ for a CPU; Triton writes a launcher in C for each of its GPU kernels. Both
    are built on the spot and include Python.h.

    Args:
        device_type: `cpu` or `cuda`.
        capability: the GPU's compute capability, if it is known.

    Returns:
        Names of the missing things; empty if nothing is missing.
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
    if device_type == "cuda" and find_spec("triton") is None:
        missing.append("Triton")
    if capability and capability < TRITON_FROM:
        missing.append(f"a GPU of compute capability 7.0, not {'.'.join(map(str, capability))},")
    return " and ".join(missing)


def compile_forward(
    encoder: PreTrainedModel, shapes: Sequence[BatchShape], draws: Draws
) -> Callable[[Packed], Tensor]:
    """Compile an encoder's forward pass, once per shape, when a batch first takes it.

    Args:
        encoder: an encoder set to packed attention.
        shapes: the sizes that batches are padded up to, the smallest first.
        draws: what its dropout drops.

    Returns:
        A function from a packed batch to hidden states `[N, D]`. It pads the batch up to the first
        shape that holds it, and runs one that fits none uncompiled.
    """

    def forward(
        ids_N: Tensor, offset_N: Tensor, source_G: Tensor, place_N: Tensor, valid_BL: Tensor
    ) -> Tensor:
        sequences, longest = valid_BL.shape
        band = Band(sequences, longest, valid_BL)
        padded = _Padded(ids_N, offset_N, Bands((band,), source_G, place_N))
        return encode_packed(encoder, cast(Packed, padded))

    compiled_forward: Callable[..., Tensor] = torch.compile(forward, dynamic=False, fullgraph=True)

    def run(packed: Packed) -> Tensor:
        shape = next((shape for shape in shapes if shape.holds(packed)), None)
        if shape is None:
            return encode_packed(encoder, packed)
        draws.pad(shape.tokens)
        with without_cudnn_attention():
            return compiled_forward(*pad_to_shape(packed, shape))[: len(packed.ids_N)]

    return run
