"""Item features of a recommender: a matrix a modality."""

from pathlib import Path

from mmprep.pipeline.features.reader import Matrix, features_of, part_paths
from mmprep.stages.training.training_data import InputRequest


def read(request: InputRequest) -> tuple[dict[str, Matrix], list[Path]]:
    """Read the features of each modality, [n_items, dimension], and name the files.

    Raises:
        MissingInputError: an encoder's features are not there.
        DataError: they are damaged or of another dataset.
    """
    features, inputs = {}, []
    for modality, encoder in request.encoders.items():
        features[modality] = features_of(request.layout, encoder).matrix(request.n_items)
        inputs += part_paths(request.layout.features(encoder))
    return features, inputs
