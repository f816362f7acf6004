"""Section `graphs` of params.yaml. Imports no sparse matrices, so that any command can check it at once."""

from typing import Annotated

from pydantic import Field

from pipeline.params import Params


class KnnParams(Params):
    """Section `graphs.knn` of params.yaml.

    Attributes:
        k: neighbours an item.
        include_self: whether an item is its own nearest neighbour, as in LATTICE and its followers.
    """

    k: Annotated[int, Field(ge=1)] = 10
    include_self: bool = True


class CooccurrenceParams(Params):
    """Section `graphs.cooccurrence` of params.yaml.

    Attributes:
        min_count: the least number of users who have both items of an edge.
        k: neighbours an item, those with most common users.
    """

    min_count: Annotated[int, Field(ge=1)] = 2
    k: Annotated[int, Field(ge=1)] = 10


class GraphsParams(Params):
    """Section `graphs` of params.yaml.

    Attributes:
        encoders: those whose vectors get a graph of nearest neighbours.
        knn: of those graphs.
        cooccurrence: of the graph of common users.
    """

    encoders: tuple[str, ...] = ("vgg16", "minilm")
    knn: KnnParams = KnnParams()
    cooccurrence: CooccurrenceParams = CooccurrenceParams()
