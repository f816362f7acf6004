"""The raw features of items inside a recommender."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class ItemFeatures(nn.Module):
    """A matrix of raw features a modality, [n_items, dimension], frozen or trained.

    Modalities are in the order of their names, so that nothing depends on the order in which they were given. Frozen
    features are no part of a checkpoint: they are an input, not learned.
    """

    def __init__(self, features: Mapping[str, npt.NDArray[np.float32]], *, finetune: bool = False) -> None:
        super().__init__()
        self.modalities = tuple(sorted(features))
        for modality in self.modalities:
            raw = torch.from_numpy(features[modality])
            if finetune:
                self.register_parameter(modality, nn.Parameter(raw.clone()))
            else:
                self.register_buffer(modality, raw, persistent=False)

    def __getitem__(self, modality: str) -> Tensor:
        matrix: Tensor = getattr(self, modality)
        return matrix

    def size(self, modality: str) -> int:
        """The dimension of a modality."""
        return int(self[modality].shape[1])
