"""Item features of a recommender: a matrix a modality."""

from pathlib import Path

from mmprep.pipeline.features.reader import FeatureSet, Matrix
from mmprep.stages.training.input_readers import InputRequest


def read(request: InputRequest) -> tuple[dict[str, Matrix], list[Path]]:
    """Read the features of each modality, [n_items, dimension], and name the files.

    Raises:
        MissingInputError: an encoder's features are not there.
        DataError: they are damaged or of another dataset.
    """
    features: dict[str, Matrix] = {}
    inputs: list[Path] = []
    for modality, encoder in request.encoders.items():
        found = FeatureSet.of(request.layout, encoder)
        features[modality] = found.vectors().matrix(request.n_items)
        inputs += found.parts
    return features, inputs
