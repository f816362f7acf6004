"""Choice of the device that networks run on."""

import torch


def best_device() -> torch.device:
    """The first GPU if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
