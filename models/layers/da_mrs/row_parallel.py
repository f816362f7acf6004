"""Row-parallel computation on CPU cores, one chunk of rows per core at a time.

PyTorch parallelises each operation by itself, which leaves the cores idle a third of the time if operations are short.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

PARTS = 8
"""Number of chunks of rows; constant, so that sums are the same on any number of cores."""

GPU_BLOCK = 2**24
"""Numbers of a matrix that a GPU processes at once, since few large operations are faster there."""

Result = TypeVar("Result")


def map_row_chunks(work: Callable[[Tensor], Result], rows: Tensor) -> list[Result]:
    """Map a function over chunks of rows [n, ...] without gradients, in order; on a GPU over a single chunk.

    Results are bitwise equal on any number of cores.

    Args:
        work: function of a chunk, without side effects on data that other chunks read.
        rows: split along their first dimension.
    """
    work = torch.no_grad()(work)  # gradient mode is local to a thread
    if rows.device.type != "cpu":
        return [work(rows)]
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, rows.chunk(PARTS)))
    finally:
        torch.set_num_threads(cores)  # for new threads, as the pool's initializer set PyTorch's default to 1


def rows_per_block(width: int, block: int, device: torch.device) -> int:
    """Number of rows per block of a matrix, at least one.

    Args:
        width: length of a row.
        block: number of values that fit in a core's cache.
        device: the matrix's device.
    """
    return max(1, (block if device.type == "cpu" else GPU_BLOCK) // width)
