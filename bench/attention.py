"""What attention costs on a CPU in float32, in bf16, and in float32 between bf16 (as we train).

    python -m bench.attention --lengths 16 48 128

Prints milliseconds of processor time of one layer's attention, forwards and backwards, the least of
several rounds in which the ways take turns.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.foundation.provenance import git_commit
from pipeline.models.grids import attention

HEADS, WIDTH = 4, 64


def plain(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    """Attention in the type that it is given."""
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


WAYS: dict[str, tuple[torch.dtype, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]] = {
    "float32": (torch.float32, plain),
    "bf16": (torch.bfloat16, plain),
    "float32 between bf16": (torch.bfloat16, attention),
}


def once(way: str, texts: int, length: int) -> float:
    """Milliseconds of processor time of one pass there and back."""
    dtype, attend = WAYS[way]
    random = (torch.randn(texts, HEADS, length, WIDTH, dtype=dtype) for _ in range(3))
    query, key, value = (x.requires_grad_() for x in random)
    allowed = torch.ones(texts, 1, 1, length, dtype=torch.bool)
    allowed[::2, ..., length // 2 :] = False
    started = time.thread_time()
    mixed = attend(query, key, value, allowed)
    mixed.backward(torch.ones_like(mixed))  # type: ignore[no-untyped-call]
    return (time.thread_time() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 48, 128], help="tokens")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.texts} texts, {HEADS} heads of {WIDTH}, one thread, commit {git_commit()}")
    for length in options.lengths:
        least = dict.fromkeys(WAYS, float("inf"))
        for _ in range(options.rounds):
            for way in WAYS:
                least[way] = min(least[way], once(way, options.texts, length))
        print(f"{length} tokens: " + ", ".join(f"{way} {ms:.1f} ms" for way, ms in least.items()))


if __name__ == "__main__":
    main()
