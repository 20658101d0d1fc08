"""What a linear layer costs on a CPU by how the number of its rows changes from batch to batch.

    python -m bench.rows --width 256 1024

Prints milliseconds of processor time of one layer, forwards and backwards, in float32 and under
autocast to bf16: always the same number of rows, another one each time, and that rounded up to
`BF16_ROWS`, as we do.
"""

import argparse
import time
from collections.abc import Sequence

import torch
from torch.nn import functional

from pipeline.foundation.provenance import git_commit
from pipeline.models.packing import BF16_ROWS

ROWS = 768
BATCHES = 120


def milliseconds(rows: Sequence[int], width: int, out: int, *, bf16: bool) -> float:
    """Processor time of one layer there and back, the mean over batches."""
    weight, bias = torch.randn(out, width).requires_grad_(), torch.zeros(out).requires_grad_()
    seconds = 0.0
    for count in rows:
        x = torch.randn(count, width).requires_grad_()
        started = time.thread_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = functional.linear(x, weight, bias)
        y.backward(torch.ones_like(y))  # type: ignore[no-untyped-call]
        seconds += time.thread_time() - started
    return seconds / len(rows) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, nargs=2, default=[256, 1024], help="in and out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.width[0]} to {options.width[1]}, one thread, commit {git_commit()}")
    other = [ROWS - 68 + 37 * i % 137 for i in range(BATCHES)]
    for name, rows in {
        "one number of rows": [ROWS] * BATCHES,
        "another each time": other,
        f"rounded up to {BF16_ROWS}": [n + -n % BF16_ROWS for n in other],
    }.items():
        f32, bf16 = (milliseconds(rows, *options.width, bf16=on) for on in (False, True))
        print(f"{name}: float32 {f32:.2f} ms, bf16 {bf16:.2f} ms")


if __name__ == "__main__":
    main()
