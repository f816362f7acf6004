"""What training costs on the machine that it runs on."""

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

MEGABYTE = 10**6


@dataclass(frozen=True)
class TrainingCost:
    """What a training took. Two runs that give the same numbers differ here.

    Attributes:
        device: `cpu`, or the GPU's name.
        epoch_seconds: the median of the epochs; one is sampling and all steps, without validation.
        peak_memory_mb: the most memory at once, in 10^6 bytes: on a GPU that of tensors, on a CPU that of the process,
            data and libraries with it, since the process began.
    """

    device: str
    epoch_seconds: float
    peak_memory_mb: float

    @classmethod
    def of(cls, seconds: Sequence[float], device: torch.device) -> "TrainingCost":
        """The cost of epochs that took so many seconds each, on a device of this process."""
        on_gpu = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if on_gpu else device.type
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else peak_resident_bytes()
        return cls(name, median(seconds), peak / MEGABYTE)


def peak_resident_bytes() -> int:
    """The most memory that this process has had at once."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
