"""What a recommender is trained on, read from the dataset's files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmprep.models.layers.mdr_chca.token_store import TokenSource
from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.catalogue import RecommenderDescription
from mmprep.pipeline.features.pseudo_tokens import PseudoTokens, token_vectors
from mmprep.pipeline.features.reader import features_of, part_paths, require_made_for
from mmprep.pipeline.graphs.intra_item_reader import IntraItemEdges
from mmprep.pipeline.graphs.reader import read_graph, read_raw
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.interactions import read_splits
from mmprep.pipeline.tables.provenance import read_provenance

Encoders = Mapping[str, str]
"""The encoder of each modality that is used."""


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes:
        data: for training.
        inputs: the files.
        pseudo_tokens: encoders pieces of whose vectors stand for patches or tokens.
    """

    data: TrainingData
    inputs: list[Path]
    pseudo_tokens: list[str]


def read_training_data(
    description: RecommenderDescription, encoders: Encoders, layout: Layout, token_memory: int
) -> Read:
    """Read the interactions, and the features and graphs that a recommender asks for.

    Args:
        description: of the recommender.
        encoders: of the modalities, or of patches and words.
        layout: of the dataset.
        token_memory: bytes of patches, and of tokens, that may be held in memory.

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
    tokens = {}
    if description.tokens:
        for part, encoder in encoders.items():
            tokens[part] = read_tokens(encoder, layout, token_memory)
            inputs += [*part_paths(layout.features(encoder)), layout.graph(f"intra_item/{encoder}")]
    files = {key: name for kind in description.graphs for key, name in graph_files(kind, encoders)}
    graphs = {key: (read_raw if name.startswith("knn/") else read_graph)(layout, name) for key, name in files.items()}
    inputs += [layout.graph(name) for name in files.values()]
    pseudo_tokens = [encoders[part] for part, source in tokens.items() if isinstance(source.vectors, PseudoTokens)]
    return Read(TrainingData(splits.train, splits.val, features, graphs, tokens), inputs, pseudo_tokens)


def read_tokens(encoder: str, layout: Layout, memory: int) -> TokenSource:
    """Open an encoder's patches or tokens, and read their graph.

    Raises:
        MissingInputError: either is not there.
        DataError: either is damaged, or of another dataset.
    """
    folder = layout.features(encoder)
    require_made_for(layout, folder, read_provenance(part_paths(folder)[0]))
    edges = IntraItemEdges.of(layout, encoder)
    # Whether pieces of vectors will do was decided when their graph was built.
    return TokenSource(token_vectors(folder, pseudo_tokens=True), edges, memory, folder.parent)


def graph_files(kind: str, encoders: Encoders) -> Iterator[tuple[str, str]]:
    """The name of each graph of a kind, as recommenders ask for it and as its file is called.

    None of `intra_item`, which come with the patches and tokens among which they are.
    """
    if kind == "knn":
        yield from ((f"knn/{modality}", f"knn/{encoder}") for modality, encoder in encoders.items())
    elif kind == "consistent":
        yield from ((f"consistent/{modality}", f"consistent/{modality}") for modality in encoders)
    elif kind == "interaction":
        yield from ((f"interaction/{part}", f"interaction/{part}") for part in ("symmetric", "user_mean", "item_mean"))
    elif kind != "intra_item":
        yield kind, kind
