"""What encoders give the loop of stage one: rows of each clip of a batch.

Shapes: B clips of a batch, T positions of the longest, N rows of all clips, E width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.cache.identity import Dtype, Identity
from pipeline.extraction.batches import WaveBatch
from pipeline.shards.refusals import Reason

SomeBatch = TypeVar("SomeBatch", contravariant=True)


@dataclass
class Rows:
    """The rows of a batch of clips, those of one clip behind those of the clip before.

    Attributes:
        rows_NE: float32 or float16, on any device.
        counts: rows of each clip, known without waiting for the device; 0 for a refused one.
        records: what the cache keeps of each clip beside its rows; nothing by default.
        refused: why there are no rows, by the place in the batch of each clip without any.
        ids_N: of kind `text`, the token of each row.
    """

    rows_NE: torch.Tensor
    counts: Sequence[int]
    records: Sequence[Mapping[str, Any]] = ()
    refused: Mapping[int, tuple[Reason, str]] = field(default_factory=dict)
    ids_N: NDArray[np.int32] | None = None


class EncodesBatches(Protocol[SomeBatch]):
    """What turns batches of waves, or of texts, into rows of one kind of cache."""

    @property
    def device(self) -> torch.device:
        """Device that it computes on."""

    @property
    def beside_reading(self) -> bool:
        """Whether the processes that read and decode shall compute the rows too.

        It is so for what is computed on a CPU without a large model: each core then does all the
        work of its own clips, and rows take less memory between processes than waves do. It must
        be possible to send such an encoder to other processes.
        """

    def identity(self, dtype: Dtype, clip_seconds: int) -> Identity:
        """Of the cache that these rows make.

        Args:
            dtype: in which they are stored.
            clip_seconds: the longest clip that the manifest allows.

        Raises:
            SpeechkdError: such clips cannot be encoded.
        """

    def rows_of(self, batch: SomeBatch) -> Rows:
        """The rows of a batch of clips. A clip's rows do not depend on the others."""


class Encodes(EncodesBatches[WaveBatch], Protocol):
    """What turns waves into rows of one kind of cache."""


def packed(grid_BTE: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """The first rows of each clip, one clip behind the other; `[N, E]`. The device is not waited
    for.

    Args:
        grid_BTE: rows of each clip, padded to those of the longest.
        counts: rows of each clip.
    """
    longest = grid_BTE.shape[1]
    index_N = torch.cat(
        [torch.arange(count) + place * longest for place, count in enumerate(counts)]
    )
    flat_NE = grid_BTE.reshape(-1, grid_BTE.shape[2])
    return flat_NE.index_select(0, index_N.to(grid_BTE.device, non_blocking=True))
