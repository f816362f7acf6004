"""Rows worked on by all cores of a CPU, each core with its own.

PyTorch shares every single operation among the cores, which for many short ones leaves them idle a third of the time.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

PARTS = 8
"""In how many parts the cores have the rows; always as many, so that sums are the same on any number of cores."""

GPU_BLOCK = 2**24
"""How many numbers of a matrix a GPU is given at once: it wants few operations, and large ones."""

Result = TypeVar("Result")


def map_row_chunks(work: Callable[[Tensor], Result], rows: Tensor) -> list[Result]:
    """The results of the parts of rows [n, ...], in their order, computed without gradients; not on a CPU, of one part.

    They are the same bits on any number of cores.

    Args:
        work: a function of some of the rows that changes nothing which it reads of others.
        rows: split along their first dimension.
    """
    work = torch.no_grad()(work)  # which is a thread's own switch
    if rows.device.type != "cpu":
        return [work(rows)]
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, rows.chunk(PARTS)))
    finally:
        torch.set_num_threads(cores)  # for threads that are yet to be; the pool's have told PyTorch 1


def rows_per_block(width: int, block: int, device: torch.device) -> int:
    """How many rows of a matrix make a block, at least one.

    Args:
        width: of a row.
        block: how many numbers a core's cache has room for.
        device: on which the matrix is.
    """
    return max(1, (block if device.type == "cpu" else GPU_BLOCK) // width)
