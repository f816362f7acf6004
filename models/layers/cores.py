"""Work in parts on all cores of a CPU, each part on one.

PyTorch shares every single operation among the cores, which for many short ones leaves them idle a third of the time.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def on_all_cores(work: Callable[[Part], Result], parts: Iterable[Part], device: torch.device) -> list[Result]:
    """The result of each part, in their order, computed without gradients; not on a CPU one after the other.

    The same parts give the same bits on any number of cores.

    Args:
        work: a function that changes nothing that it reads of other parts.
        parts: its arguments.
        device: where its tensors are.
    """
    work = torch.no_grad()(work)  # which is a thread's own switch
    if device.type != "cpu":
        return list(map(work, parts))
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(cores)  # for threads that are yet to be; the pool's have told PyTorch 1
