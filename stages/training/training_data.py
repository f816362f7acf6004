"""Training data of a recommender, read from the dataset's files."""

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.catalogue import RecommenderDescription
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.interactions import read_splits
from mmprep.stages.training.input_readers import Encoders, InputRequest, readers


@dataclass(frozen=True)
class LoadedTrainingData:
    """Training data and its origin.

    Attributes:
        data: for training.
        inputs: the files that were read.
        pseudo_tokens: encoders whose vectors are cut into pieces in place of patches or tokens.
    """

    data: TrainingData
    inputs: list[Path]
    pseudo_tokens: list[str]


def read_training_data(
    description: RecommenderDescription, encoders: Encoders, layout: Layout, token_memory: int
) -> LoadedTrainingData:
    """Read the interactions, and the features, tokens and graphs that a recommender uses.

    Args:
        description: of the recommender.
        encoders: of the modalities, or of patches and words.
        layout: of the dataset.
        token_memory: bytes of patches, and of tokens, that may be held in memory.

    Raises:
        MissingInputError: a file is missing.
        DataError: a file is damaged or of another dataset, or a graph cannot be used.
    """
    splits = read_splits(layout)
    request = InputRequest(description, encoders, layout, splits.n_items, token_memory)
    inputs = [layout.interactions, layout.users, layout.items]
    data = TrainingData(splits.train, splits.val)
    for module in readers(description).values():
        fields, files = import_module(module).read(request)
        data = replace(data, **fields)
        inputs += files
    pseudo_tokens = [encoders[part] for part, source in data.tokens.items() if source.is_pseudo]
    return LoadedTrainingData(data, inputs, pseudo_tokens)
