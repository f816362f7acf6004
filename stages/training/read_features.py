"""Item features of a recommender: one matrix per modality."""

from pathlib import Path
from typing import Any

from mmprep.pipeline.features.reader import FeatureSet, Matrix
from mmprep.stages.training.input_readers import InputRequest


def read(request: InputRequest) -> tuple[dict[str, Any], list[Path]]:
    """Read the field `features`, one matrix per modality, [n_items, dimension], and list the files.

    Raises:
        MissingInputError: an encoder's features are missing.
        DataError: they are damaged or of another dataset.
    """
    features: dict[str, Matrix] = {}
    inputs: list[Path] = []
    for modality, encoder in request.encoders.items():
        feature_set = FeatureSet.of(request.layout, encoder)
        features[modality] = feature_set.vectors().matrix(request.n_items)
        inputs += feature_set.parts
    return {"features": features}, inputs
