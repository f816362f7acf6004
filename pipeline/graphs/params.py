"""Section `graphs` of params.yaml. Does not import scipy, so that every command can check it quickly."""

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
        k: neighbours per item.
        include_self: whether an item is its own nearest neighbour, as in LATTICE and its successors.
        weight: weight of an edge: its cosine similarity, or 1.
        normalise: `sym_out` divides a weight by the root of the product of both ends' row sums, `row` by its row's sum.
        exact_up_to: largest number of items for exact search; beyond it FAISS searches approximately.
    """

    k: Count = 10
    include_self: bool = True
    weight: Weight = "cosine"
    normalise: Normalisation = "none"
    exact_up_to: Count = 250_000


class MixedParams(Params):
    """Section `graphs.mixed`: the weighted sum of the modalities' nearest neighbours (FREEDOM).

    Attributes:
        image_weight: weight of the image graph; text and audio share the rest equally.
        weight: weight of an edge before normalisation.
        normalise: normalisation of each modality's graph before summation.
    """

    image_weight: Share = 0.1
    weight: Weight = "binary"
    normalise: Normalisation = "sym_out"


class ConsistentParams(Params):
    """Section `graphs.consistent`: neighbours on which all modalities agree (docs/papers/da_mrs.md#content-graphs).

    Attributes:
        k: neighbours per item and modality, including the item itself.
    """

    k: Count = 10


class CooccurrenceParams(Params):
    """Sections `graphs.cooccurrence` (items with common users) and `graphs.user_user` (users with common items).

    Attributes:
        min_count: minimum number of common users (items) for an edge.
        k: neighbours per node, those with the most in common.
        max_degree: users (items) with more train interactions are excluded.
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
        encoders: encoders whose patches or tokens get such a graph.
        k: neighbours per patch or token; all if there are fewer.
        pseudo_tokens: whether encoders with one vector per item are accepted, whose pieces take the place of patches or
            tokens. For trials without patches or tokens; the pieces have no meaning by themselves.
    """

    encoders: tuple[str, ...] = ()
    k: Count = 8
    pseudo_tokens: bool = False


class GraphsParams(Params):
    """Section `graphs` of params.yaml.

    Attributes:
        encoders: encoders whose vectors get a graph of nearest neighbours.
    """

    encoders: tuple[str, ...] = ("vgg16", "minilm")
    knn: KnnParams = KnnParams()
    mixed: MixedParams = MixedParams()
    consistent: ConsistentParams = ConsistentParams()
    cooccurrence: CooccurrenceParams = CooccurrenceParams()
    user_user: UserUserParams = UserUserParams()
    intra_item: IntraItemParams = IntraItemParams()
