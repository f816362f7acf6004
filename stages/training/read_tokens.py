"""Patches and tokens of a recommender, with their intra-item graphs. The vectors are read during training."""

from pathlib import Path
from typing import Any

from mmprep.pipeline.features.pseudo_tokens import PseudoTokens, token_vectors
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.graphs.intra_item_reader import IntraItemEdges
from mmprep.pipeline.graphs.token_source import TokenSource
from mmprep.pipeline.layout import Layout
from mmprep.stages.training.input_readers import InputRequest


def read(request: InputRequest) -> tuple[dict[str, Any], list[Path]]:
    """Open the field `tokens`, the patches and the tokens of items, and list the files.

    Raises:
        MissingInputError: features or a graph are missing.
        DataError: either is damaged, or of another dataset.
    """
    tokens, inputs, layout = {}, [], request.layout
    for part, encoder in request.encoders.items():
        features = FeatureSet.of(layout, encoder)
        tokens[part] = open_tokens(features, layout, request.token_memory)
        inputs += [*features.parts, layout.graph(f"intra_item/{encoder}")]
    return {"tokens": tokens}, inputs


def open_tokens(features: FeatureSet, layout: Layout, memory: int) -> TokenSource:
    """Open an encoder's patches or tokens, and read their graph.

    Raises:
        MissingInputError: there is no graph.
        DataError: features or graph are damaged, or the graph is of another dataset.
    """
    edges = IntraItemEdges.of(layout, features.folder.name)
    # Whether pieces of vectors may replace tokens was decided when their graph was built.
    vectors = token_vectors(features, pseudo_tokens=True)
    return TokenSource(vectors, edges, memory, features.folder.parent, is_pseudo=isinstance(vectors, PseudoTokens))
