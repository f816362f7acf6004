"""How each graph of mmprep.pipeline.graphs.catalogue is built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.features.reader import Features, features_of, part_paths
from mmprep.pipeline.graphs.approximate_neighbors import nearest_among
from mmprep.pipeline.graphs.cooccurrence import common_neighbours
from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.edges import Edges, interaction_graphs, normalised, strongest_first, weighted
from mmprep.pipeline.graphs.knn import Neighbours, consistent, nearest
from mmprep.pipeline.graphs.params import CooccurrenceParams, GraphsParams
from mmprep.pipeline.graphs.reader import read_raw
from mmprep.pipeline.graphs.statistics import share
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.tables.interactions import read_splits
from mmprep.pipeline.tables.table import ITEMS

Part = tuple[Edges, tuple[int, int]]
"""Edges, and how many nodes they can start from and end at."""


@dataclass(frozen=True)
class Asked:
    """What a graph is to be built of.

    Attributes:
        params: section `graphs`.
        encoders: the encoder of each modality that training uses.
        layout: of the dataset.
        progress: shown what takes long.
    """

    params: GraphsParams
    encoders: Mapping[str, str]
    layout: Layout
    progress: Progress


@dataclass(frozen=True)
class Built:
    """What a graph has become.

    Attributes:
        parts: what its files hold; a graph of one file has the part "".
        section: the parameters that made it.
        inputs: the files that it was made of.
        metrics: what to report beside what any edges tell.
        libraries: distributions whose version can change the edges.
    """

    parts: Mapping[str, Part]
    section: Params
    inputs: list[Path]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()


def build_knn(encoder: str, asked: Asked) -> Built:
    """The nearest neighbours by the vectors of one encoder."""
    layout, params = asked.layout, asked.params.knn
    features, n_items = usable_features(layout, encoder)
    cosines = Cosines.of(features.vectors, features.items, layout.features(encoder))
    metrics: dict[str, Any] = {"mean_similarity": cosines.mean}
    if len(cosines) <= params.exact_up_to:
        found = nearest(cosines, params.k, include_self=params.include_self, progress=asked.progress)
        libraries: tuple[str, ...] = ()
    else:
        found, metrics["recall"] = nearest_among(
            cosines, params.k, include_self=params.include_self, progress=asked.progress
        )
        libraries = ("faiss-cpu",)
    edges = found.edges.renumbered(features.items)
    if (params.weight, params.normalise) != ("cosine", "none"):
        matrix = weighted(edges.to_matrix(n_items), params.weight)
        edges = strongest_first(normalised(matrix, params.normalise))
    inputs = [*part_paths(layout.features(encoder)), layout.items]
    return Built({"": (edges, (n_items, n_items))}, params, inputs, metrics | ties(found), libraries)


def build_mixed(_: str, asked: Asked) -> Built:
    """The modalities' nearest neighbours, weighted, normalised and summed (FREEDOM)."""
    params, layout, encoders = asked.params.mixed, asked.layout, modalities(asked, "mixed")
    names = {modality: f"knn/{encoder}" for modality, encoder in encoders.items()}
    raw = {modality: read_raw(layout, name) for modality, name in names.items()}
    alone = {
        modality: normalised(weighted(matrix, params.weight), params.normalise) for modality, matrix in raw.items()
    }
    shares = shares_of(tuple(alone), params.image_weight)
    parts = [matrix * np.float32(shares[modality]) for modality, matrix in alone.items()]
    total = csr_array(sum(parts[1:], start=parts[0]))
    return Built({"": (strongest_first(total), total.shape)}, params, [layout.graph(name) for name in names.values()])


def build_consistent(_: str, asked: Asked) -> Built:
    """For each modality the nearest neighbours on which all modalities agree (DA-MRS)."""
    params, layout, encoders = asked.params.consistent, asked.layout, modalities(asked, "consistent")
    views, inputs, n_items = [], [layout.items], 0
    for encoder in encoders.values():
        features, n_items = usable_features(layout, encoder)
        everyone = features if len(features.items) == n_items else zeros_elsewhere(features, n_items)
        views.append(Cosines.of(everyone.vectors, everyone.items, layout.features(encoder)))
        inputs += part_paths(layout.features(encoder))
    found = dict(zip(encoders, consistent(views, params.k, asked.progress), strict=True))
    metrics = {f"{modality}_mean_similarity": view.mean for modality, view in zip(encoders, views, strict=True)}
    for modality, each in found.items():
        metrics |= {f"{modality}_{key}": value for key, value in ties(each).items()}
    parts = {modality: (each.edges, (n_items, n_items)) for modality, each in found.items()}
    return Built(parts, params, inputs, metrics)


def build_cooccurrence(_: str, asked: Asked) -> Built:
    """Items joined by their common users."""
    return joined_by_interactions(train_of(asked.layout), asked.params.cooccurrence, asked)


def build_user_user(_: str, asked: Asked) -> Built:
    """Users joined by their common items."""
    return joined_by_interactions(csr_array(train_of(asked.layout).T), asked.params.user_user, asked)


def joined_by_interactions(interactions: csr_array, params: CooccurrenceParams, asked: Asked) -> Built:
    """The columns of a binary matrix, joined by their common rows."""
    found = common_neighbours(interactions, params, asked.progress)
    metrics = {
        "cut": found.cut,
        "tied_share": share(found.tied, found.cut),
        "left_out": found.left_out,
        "left_out_interactions": found.left_out_interactions,
    }
    n = int(interactions.shape[1])
    return Built({"": (found.edges, (n, n))}, params, split_files(asked.layout), metrics)


def build_interaction(_: str, asked: Asked) -> Built:
    """Who has what, normalised in three ways."""
    graphs = interaction_graphs(train_of(asked.layout))
    parts = {name: (strongest_first(matrix), matrix.shape) for name, matrix in graphs.items()}
    return Built(parts, Params(), split_files(asked.layout))


BUILDERS: Mapping[str, Callable[[str, Asked], Built]] = {
    "knn": build_knn,
    "mixed": build_mixed,
    "consistent": build_consistent,
    "cooccurrence": build_cooccurrence,
    "user_user": build_user_user,
    "interaction": build_interaction,
}


def modalities(asked: Asked, kind: str) -> Mapping[str, str]:
    """The encoder of each modality; raises ParamsError if there is none."""
    if not asked.encoders:
        raise ParamsError(
            f"graph {kind}: train.image, train.text and train.audio are all empty, so there is nothing to join"
        )
    return asked.encoders


def shares_of(names: Sequence[str], image_weight: float) -> dict[str, float]:
    """What each modality's graph counts in `mixed`: the image graph `image_weight`, the others the rest in equal parts.

    Without one side, the other has all.
    """
    others = [name for name in names if name != "image"]
    if len(others) in (0, len(names)):
        return dict.fromkeys(names, 1 / len(names))
    return {"image": image_weight, **dict.fromkeys(others, (1 - image_weight) / len(others))}


def usable_features(layout: Layout, encoder: str) -> tuple[Features, int]:
    """An encoder's vectors, and how many items the dataset has; raises what reading raises."""
    features, n_items = features_of(layout, encoder), ITEMS.count(layout.items)
    features.require_items_below(n_items)
    return features, n_items


def zeros_elsewhere(features: Features, n_items: int) -> Features:
    """The same with a row for every item, zeros for those without a vector, which are similar to nothing."""
    vectors = np.zeros((n_items, features.vectors.shape[1]), dtype=np.float32)
    vectors[features.items] = features.vectors
    return Features(np.arange(n_items, dtype=np.int32), vectors, features.provenance)


def split_files(layout: Layout) -> list[Path]:
    """What graphs of interactions are made of."""
    return [layout.interactions, layout.users, layout.items]


def train_of(layout: Layout) -> csr_array:
    """The train interactions [n_users, n_items].

    Raises:
        DataError: there are none.
    """
    train = read_splits(layout).train
    if not train.nnz:
        raise DataError(f"{layout.interactions}: no train interactions, so there is nothing to join; see split.rule")
    return train


def ties(found: Neighbours) -> dict[str, float]:
    """How often the choice of neighbours hung on equal similarities."""
    return {"cut": found.cut, "tied_share": share(found.tied, found.cut)}
