"""What a recommender is trained on, read from the dataset's files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.recommenders.base import TrainingData
from models.recommenders.catalogue import RecommenderDescription
from pipeline.features import features_of, part_paths
from pipeline.graph_files import read_graph, read_raw
from pipeline.layout import Layout
from pipeline.matrices import read_splits

Encoders = Mapping[str, str]
"""The encoder of each modality that is used."""


@dataclass(frozen=True)
class Read:
    """Training data, and which files it was read from."""

    data: TrainingData
    inputs: list[Path]


def read_training_data(description: RecommenderDescription, encoders: Encoders, layout: Layout) -> Read:
    """Read the interactions, and the features and graphs that a recommender asks for.

    Raises:
        MissingInputError: a file is not there.
        DataError: one is damaged, or of another dataset, or a graph cannot be used.
    """
    splits = read_splits(layout)
    inputs = [layout.interactions, layout.users, layout.items]
    features = {}
    if description.multimodal:
        for modality, encoder in encoders.items():
            features[modality] = features_of(layout, encoder).matrix(splits.n_items)
            inputs += part_paths(layout.features(encoder))
    files = {key: name for kind in description.graphs for key, name in graph_files(kind, encoders)}
    graphs = {key: (read_raw if name.startswith("knn/") else read_graph)(layout, name) for key, name in files.items()}
    inputs += [layout.graph(name) for name in files.values()]
    return Read(TrainingData(splits.train, splits.val, features, graphs), inputs)


def graph_files(kind: str, encoders: Encoders) -> Iterator[tuple[str, str]]:
    """The name of each graph of a kind, as recommenders ask for it and as its file is called."""
    if kind == "knn":
        yield from ((f"knn/{modality}", f"knn/{encoder}") for modality, encoder in encoders.items())
    elif kind == "consistent":
        yield from ((f"consistent/{modality}", f"consistent/{modality}") for modality in encoders)
    elif kind == "interaction":
        yield from ((f"interaction/{part}", f"interaction/{part}") for part in ("symmetric", "user_mean", "item_mean"))
    else:
        yield kind, kind
