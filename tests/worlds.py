"""Tiny datasets with a known structure, as matrices and as the tables that stages read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from scipy.sparse import csr_array

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.catalogue import describe
from mmprep.pipeline.features.vectors import FeatureSpec, Form, Items, VectorBatch
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.graphs.cooccurrence import cooccurrence_graph
from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.edges import interaction_graphs, normalised, weighted
from mmprep.pipeline.graphs.intra_item import edges_within
from mmprep.pipeline.graphs.intra_item_reader import IntraItemEdges
from mmprep.pipeline.graphs.knn import consistent
from mmprep.pipeline.graphs.params import CooccurrenceParams
from mmprep.pipeline.graphs.token_source import TokenSource
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import ITEMS, SPLIT_INTERACTIONS, SPLITS, USERS

Pairs = Iterable[tuple[int, int]]
Floats = npt.NDArray[np.float32]

N_GROUPS = 2
GROUP_USERS, GROUP_ITEMS = 20, 30
TRAIN_ITEMS = 10  # of 30; with 20 left of one's own group, the 20 best items are known


@dataclass(frozen=True)
class World:
    """A dataset, split.

    Attributes:
        train, val, test: binary [n_users, n_items].
        features: a modality's features, [n_items, dimension] each.
    """

    train: csr_array
    val: csr_array
    test: csr_array
    features: dict[str, Floats] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        return int(self.train.shape[0])

    @property
    def n_items(self) -> int:
        return int(self.train.shape[1])


def binary(pairs: Pairs, shape: tuple[int, int]) -> csr_array:
    """A matrix with a one at each (user, item)."""
    matrix = np.zeros(shape, dtype=np.float32)
    for user, item in pairs:
        matrix[user, item] = 1
    return csr_array(matrix)


def two_groups(seed: int = 0) -> World:
    """Two groups of users who each buy only their group's items; of each user one item is in val and one in test.

    A recommender that has learned the groups ranks a user's 20 best items right: they are the group's items that the
    user has not in train, so Recall@20 is 1; who ranks at random finds 20 of 50.
    """
    rng = np.random.default_rng(seed)
    splits: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
    for user in range(N_GROUPS * GROUP_USERS):
        own = rng.permutation(GROUP_ITEMS) + user // GROUP_USERS * GROUP_ITEMS
        splits["train"] += [(user, int(item)) for item in own[:TRAIN_ITEMS]]
        splits["val"].append((user, int(own[TRAIN_ITEMS])))
        splits["test"].append((user, int(own[TRAIN_ITEMS + 1])))
    shape = (N_GROUPS * GROUP_USERS, N_GROUPS * GROUP_ITEMS)
    told = np.repeat(np.eye(N_GROUPS), GROUP_ITEMS, axis=0)
    features = {
        modality: (np.tile(told, 3) + rng.normal(0, 0.1, (shape[1], 6))).astype(np.float32)
        for modality in ("image", "text")
    }
    return World(*(binary(splits[split], shape) for split in SPLITS), features)


def training_data(
    name: str, train: csr_array, val: csr_array, features: Mapping[str, Floats] | None = None, k: int = 5
) -> TrainingData:
    """What a recommender of the catalogue reads of a world: features and graphs only if it asks for them."""
    described, features = describe(name), features or {}
    graphs = {}
    for kind in described.graphs:
        graphs |= GRAPHS[kind](train, features, k)
    tokens = tokens_of(features) if described.tokens else {}
    return TrainingData(train, val, features if described.multimodal or tokens else {}, graphs, tokens)


@dataclass(frozen=True)
class GivenVectors:
    """Patches or tokens in memory, as mmprep.pipeline.features.token_reader gives them of a file."""

    items: Items
    rows: VectorBatch

    def gather(self, items: Sequence[int] | Items) -> VectorBatch:
        return self.rows.take(np.searchsorted(self.items, np.asarray(items)))


def token_source(vectors: Iterable[Floats], k: int = 2, memory: int = 10**9, scratch: Path = Path()) -> TokenSource:
    """The source of some items' patches or tokens, [length, dimension] each; those of length 0 are of no item."""
    given = {item: each for item, each in enumerate(vectors) if len(each)}
    items = np.array(list(given), dtype=np.int32)
    rows = VectorBatch(np.concatenate(list(given.values())), np.array([len(each) for each in given.values()]))
    return TokenSource(GivenVectors(items, rows), IntraItemEdges([edges_within(items, rows, k)], k), memory, scratch)


def tokens_of(features: Mapping[str, Floats]) -> dict[str, TokenSource]:
    """Four patches and up to five tokens an item, made of its features alone; those of zeros have none.

    Nor have some others, by their features, so that what stands in for them is trained.
    """
    sources = {}
    for part, modality, most in (("patches", "image", 4), ("words", "text", 5)):
        vectors = features[modality]
        turns = np.random.default_rng(most).normal(size=(most, vectors.shape[1], vectors.shape[1])) / 2
        told = [vectors[item] + np.tanh(vectors[item] @ turns).astype(np.float32) for item in range(len(vectors))]
        lengths = [most if part == "patches" else 2 + int(np.abs(row).sum() * 100) % 4 for row in vectors]
        none = ~vectors.any(axis=1) | (np.abs(vectors[:, 0]) > 1.4)
        kept = [0 if lacks else length for lacks, length in zip(none, lengths, strict=True)]
        sources[part] = token_source(each[:length] for each, length in zip(told, kept, strict=True))
    return sources


def interactions_as_graphs(train: csr_array, features: Mapping[str, Floats], k: int) -> dict[str, csr_array]:
    del features, k
    return {f"interaction/{part}": matrix for part, matrix in interaction_graphs(train).items()}


def neighbours_as_graphs(train: csr_array, features: Mapping[str, Floats], k: int) -> dict[str, csr_array]:
    del train
    return {f"knn/{modality}": dense_neighbours(vectors, k) for modality, vectors in features.items()}


def mixed_as_graphs(train: csr_array, features: Mapping[str, Floats], k: int) -> dict[str, csr_array]:
    neighbours = neighbours_as_graphs(train, features, k)
    shares = {"knn/image": 0.1, "knn/text": 0.9}
    parts = [
        share * normalised(weighted(neighbours[key], "binary"), "sym_out")
        for key, share in shares.items()
        if key in neighbours
    ]
    return {"mixed": csr_array(sum(parts[1:], start=parts[0]))}


def consistent_as_graphs(train: csr_array, features: Mapping[str, Floats], k: int) -> dict[str, csr_array]:
    cosines = [Cosines.of(vectors, np.arange(len(vectors), dtype=np.int32), Path(m)) for m, vectors in features.items()]
    found = zip(features, consistent(cosines, k), strict=True)
    return {f"consistent/{modality}": each.edges.to_matrix(train.shape[1]) for modality, each in found}


def cooccurrence_as_graphs(train: csr_array, features: Mapping[str, Floats], k: int) -> dict[str, csr_array]:
    del features, k  # all neighbours are kept, as equal counts at a cut would make the order of items matter
    found = cooccurrence_graph(train, CooccurrenceParams(k=train.shape[1])).edges
    return {"cooccurrence": found.to_matrix(train.shape[1])}


def none_as_graphs(train: csr_array, features: Mapping[str, Floats], k: int) -> dict[str, csr_array]:
    del train, features, k
    return {}


GRAPHS = {
    "interaction": interactions_as_graphs,
    "knn": neighbours_as_graphs,
    "mixed": mixed_as_graphs,
    "consistent": consistent_as_graphs,
    "cooccurrence": cooccurrence_as_graphs,
    "intra_item": none_as_graphs,  # they come with the tokens
}


def dense_neighbours(vectors: Floats, k: int) -> csr_array:
    """The k most similar items of each by cosine, itself among them, by the full matrix; zero rows have none."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    cosines = np.where((lengths > 0) & (lengths > 0).T, unit @ unit.T, -np.inf)
    kept = np.zeros_like(cosines, dtype=np.float32)
    for row, nearest in enumerate(np.argsort(-cosines, axis=1, kind="stable")[:, :k]):
        found = nearest[np.isfinite(cosines[row, nearest])]
        kept[row, found] = cosines[row, found]
    return csr_array(kept)


def write_world(world: World, layout: Layout) -> None:
    """Write a world's processed tables. Users are named u0, u1 and so on, items i0 with the title `Item 0`."""
    rows = []
    for split in SPLITS:
        users, items = getattr(world, split).nonzero()
        rows += [(int(u), int(i), 5.0, 0, split) for u, i in zip(users, items, strict=True)]
    schema = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64, "split": pl.String}
    interactions = pl.DataFrame(rows, schema=schema, orient="row").sort("user", "item")
    write_users(layout, world.n_users)
    write_items(layout, [{} for _ in range(world.n_items)])
    SPLIT_INTERACTIONS.write(interactions, layout.interactions, made_by_hand(layout, [layout.users, layout.items]))


def write_users(layout: Layout, users: int) -> None:
    """Write the table of users u0, u1 and so on."""
    frame = pl.DataFrame({"user": range(users), "user_id": [f"u{n}" for n in range(users)]})
    USERS.write(frame.cast({"user": pl.Int32}), layout.users, made_by_hand(layout))


def write_items(layout: Layout, items: list[dict[str, str | None]]) -> None:
    """Write the table of items; each gives the columns in which it is not `Item n` without other text or photo."""
    rows = [
        {
            "item": n,
            "item_id": f"i{n}",
            "title": f"Item {n}",
            "description": "",
            "categories": "",
            "brand": "",
            "image": None,
            "image_url": None,
            **item,
        }
        for n, item in enumerate(items)
    ]
    kinds = dict.fromkeys(ITEMS.schema.names, pl.String) | {"item": pl.Int32}
    ITEMS.write(pl.DataFrame(rows, schema=kinds), layout.items, made_by_hand(layout))


def write_vectors(
    layout: Layout, encoder: str, vectors: Floats, items: Iterable[int] | None = None, missing: str = "mean"
) -> None:
    """Write an encoder's features; without `items`, of the first ones."""
    index = np.array(range(len(vectors)) if items is None else list(items), dtype=np.int32)
    made_for = [layout.items] if layout.items.exists() else []
    provenance = made_by_hand(layout, made_for, missing=missing)
    with write_features(layout.features(encoder), FeatureSpec("vector", vectors.shape[1]), provenance) as writer:
        writer.append(index, VectorBatch(vectors))


def write_tokens(layout: Layout, features: Mapping[str, Floats], encoders: Mapping[str, str]) -> None:
    """Write the patches and tokens that are made of features, by the encoder of each."""
    made_for = made_by_hand(layout, [layout.items], missing="mean")
    for part, source in tokens_of(features).items():
        items = source.vectors.items
        rows = source.vectors.gather(items)
        form: Form = "patches" if part == "patches" else "tokens"
        spans = None if part == "patches" else np.zeros((len(rows.vectors), 2), dtype=np.int32)
        with write_features(layout.features(encoders[part]), FeatureSpec(form, rows.dimension), made_for) as writer:
            writer.append(items, VectorBatch(rows.vectors, rows.lengths, spans), ["text"] * len(items))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: on a busy machine, tiny products wait for the others many times longer than they take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_by_hand(layout: Layout, inputs: Iterable[Path] = (), **notes: Any) -> Provenance:  # noqa: ANN401 - any note
    """The provenance of a test's own input."""
    digests = {layout.relative(path): sha256(path) for path in inputs}
    return Provenance(stage="test", params={}, inputs=digests, libraries={}, notes=notes)
