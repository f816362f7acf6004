"""Time and memory that a training used."""

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

MEGABYTE = 10**6


@dataclass(frozen=True)
class TrainingCost:
    """Resources that a training used; differ between runs with identical results.

    Attributes:
        device: `cpu`, or the GPU's name.
        epoch_seconds: median duration of an epoch: sampling and all steps, without validation.
        peak_memory_mb: peak memory in 10^6 bytes: on a GPU that of tensors, on a CPU the resident memory of the whole
            process since its start, including data and libraries.
    """

    device: str
    epoch_seconds: float
    peak_memory_mb: float

    @classmethod
    def of(cls, seconds: Sequence[float], device: torch.device) -> "TrainingCost":
        """The cost of epochs with these durations in seconds, on a device of this process."""
        on_gpu = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if on_gpu else device.type
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else peak_resident_bytes()
        return cls(name, median(seconds), peak / MEGABYTE)


def peak_resident_bytes() -> int:
    """Peak resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
