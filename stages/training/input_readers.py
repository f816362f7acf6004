"""Reader modules of a recommender's inputs other than interactions. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmprep.models.recommenders.catalogue import RecommenderDescription
from mmprep.pipeline.layout import Layout

Encoders = Mapping[str, str]
"""Encoder of each modality in use."""


@dataclass(frozen=True)
class InputRequest:
    """Request for the inputs of one recommender other than interactions.

    Attributes:
        description: of the recommender.
        encoders: of the modalities, or of patches and words.
        layout: of the dataset.
        n_items: of the dataset.
        token_memory: bytes of patches, and of tokens, that may be held in memory.
    """

    description: RecommenderDescription
    encoders: Encoders
    layout: Layout
    n_items: int
    token_memory: int


def readers(description: RecommenderDescription) -> dict[str, str]:
    """Reader module of each kind of input that a recommender uses; its `read` gives fields of TrainingData, and files.

    Loaded by name, so that a recommender depends only on the code of its own inputs.
    """
    used = {
        "features": description.multimodal,
        "tokens": description.tokens,
        "graphs": bool(description.graphs),
    }
    return {kind: f"mmprep.stages.training.read_{kind}" for kind, is_used in used.items() if is_used}
