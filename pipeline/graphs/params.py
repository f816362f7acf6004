"""Section `graphs` of params.yaml. Imports no sparse matrices, so that any command can check it at once."""

from typing import Annotated, Literal

from pydantic import Field

from mmprep.pipeline.params import Params

Weight = Literal["cosine", "binary"]
Normalisation = Literal["none", "sym_out", "row"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]


class KnnParams(Params):
    """Section `graphs.knn`: nearest neighbours by the cosine similarity of an encoder's vectors.

    Source: docs/papers/conventions.md#nearest-neighbours.

    Attributes:
        k: neighbours an item.
        include_self: whether an item is its own nearest neighbour, as in LATTICE and its followers.
        weight: of an edge: its cosine similarity, or 1.
        normalise: by `sym_out` a weight is divided by the root of both ends' row sums, by `row` by its own row's sum.
        exact_up_to: beyond so many items neighbours are searched approximately, by FAISS.
    """

    k: Count = 10
    include_self: bool = True
    weight: Weight = "cosine"
    normalise: Normalisation = "none"
    exact_up_to: Count = 250_000


class MixedParams(Params):
    """Section `graphs.mixed`: the weighted sum of the modalities' nearest neighbours (FREEDOM).

    Attributes:
        image_weight: of the image graph; those of text and audio have equal parts of the rest.
        weight: of an edge before normalisation.
        normalise: of each modality's graph, before they are summed.
    """

    image_weight: Share = 0.1
    weight: Weight = "binary"
    normalise: Normalisation = "sym_out"


class ConsistentParams(Params):
    """Section `graphs.consistent`: neighbours on which all modalities agree (docs/papers/da_mrs.md#content-graphs).

    Attributes:
        k: neighbours an item and modality, itself among them.
    """

    k: Count = 10


class CooccurrenceParams(Params):
    """Sections `graphs.cooccurrence` (items with common users) and `graphs.user_user` (users with common items).

    Attributes:
        min_count: the least number of common users (items) of an edge.
        k: neighbours a node, those with most in common.
        max_degree: users (items) with more train interactions join nobody.
    """

    min_count: Count = 2
    k: Count = 10
    max_degree: Count = 5000


class UserUserParams(CooccurrenceParams):
    """Section `graphs.user_user`, with the defaults of DualGNN and DRAGON."""

    min_count: Count = 1
    k: Count = 200


class IntraItemParams(Params):
    """Section `graphs.intra_item`: nearest neighbours among an item's own patches or tokens.

    Source: docs/papers/mdr_chca.md#intra-item-graphs.

    Attributes:
        encoders: those whose patches or tokens get such a graph.
        k: neighbours a patch or token; of fewer, all.
        pseudo_tokens: whether encoders of one vector an item will do: pieces of it stand for patches or tokens. For
            trials where there are none; pieces mean nothing by themselves.
    """

    encoders: tuple[str, ...] = ()
    k: Count = 8
    pseudo_tokens: bool = False


class GraphsParams(Params):
    """Section `graphs` of params.yaml.

    Attributes:
        encoders: those whose vectors get a graph of nearest neighbours.
    """

    encoders: tuple[str, ...] = ("vgg16", "minilm")
    knn: KnnParams = KnnParams()
    mixed: MixedParams = MixedParams()
    consistent: ConsistentParams = ConsistentParams()
    cooccurrence: CooccurrenceParams = CooccurrenceParams()
    user_user: UserUserParams = UserUserParams()
    intra_item: IntraItemParams = IntraItemParams()
