"""Raw item features as inputs of a recommender."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear


class ItemFeatures(nn.Module):
    """One raw feature matrix per modality, [n_items, dimension], frozen or trained.

    Modalities are sorted by name, so that results do not depend on the order of the input. Frozen features are not part
    of a checkpoint: they are an input, not learned.
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
        """Dimension of a modality's features."""
        return int(self[modality].shape[1])


class FeatureProjection(nn.Linear):
    """Trainable linear map of the concatenated modalities (VBPR, as in MMRec)."""

    def __init__(self, features: ItemFeatures, size: int) -> None:
        """Create the map to vectors of length `size`."""
        sizes = [features.size(modality) for modality in features.modalities]
        super().__init__(sum(sizes), size)
        self.sizes = sizes
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: ItemFeatures, items: Tensor) -> Tensor:  # type: ignore[override]
        """The projected features [n, size] of items [n]."""
        # One modality at a time, to avoid concatenating the long vectors.
        weights = torch.split(self.weight, self.sizes, dim=1)
        projected = [
            linear(embedding(items, features[modality]), weight)
            for modality, weight in zip(features.modalities, weights, strict=True)
        ]
        return sum(projected, start=self.bias)
