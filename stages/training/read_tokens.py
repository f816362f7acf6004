"""Patches and tokens of a recommender, with the graphs among them. The vectors are read in training."""

from pathlib import Path

from mmprep.pipeline.features.pseudo_tokens import PseudoTokens, token_vectors
from mmprep.pipeline.features.reader import part_paths, require_made_for
from mmprep.pipeline.graphs.intra_item_reader import IntraItemEdges
from mmprep.pipeline.graphs.token_source import TokenSource
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.stages.training.training_data import InputRequest


def read(request: InputRequest) -> tuple[dict[str, TokenSource], list[Path]]:
    """Open the patches and the tokens of items, and name the files.

    Raises:
        MissingInputError: features or a graph are not there.
        DataError: either is damaged, or of another dataset.
    """
    tokens, inputs, layout = {}, [], request.layout
    for part, encoder in request.encoders.items():
        tokens[part] = open_tokens(encoder, layout, request.token_memory)
        inputs += [*part_paths(layout.features(encoder)), layout.graph(f"intra_item/{encoder}")]
    return tokens, inputs


def open_tokens(encoder: str, layout: Layout, memory: int) -> TokenSource:
    """Open an encoder's patches or tokens, and read their graph.

    Raises:
        MissingInputError: either is not there.
        DataError: either is damaged, or of another dataset.
    """
    folder = layout.features(encoder)
    require_made_for(layout, folder, read_provenance(part_paths(folder)[0]))
    edges = IntraItemEdges.of(layout, encoder)
    # Whether pieces of vectors will do was decided when their graph was built.
    vectors = token_vectors(folder, pseudo_tokens=True)
    return TokenSource(vectors, edges, memory, folder.parent, is_pseudo=isinstance(vectors, PseudoTokens))
