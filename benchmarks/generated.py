"""Generated interactions, features and graphs of a published dataset's size, for benchmarks that train.

Users and items have long tails, photos 4,096 numbers and texts 384; for MDR-CHCA, by its preset cpu_small, photos have
49 patches of 768 numbers and texts up to 16 tokens of 384. Timings are realistic, metrics are not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, load_npz, save_npz

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.catalogue import RecommenderDescription
from mmprep.models.training.params import TrainParams
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.features.vectors import FeatureSpec, Form, VectorBatch
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.graphs.cooccurrence import cooccurrence_graph
from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.edges import interaction_graphs, normalised, weighted
from mmprep.pipeline.graphs.intra_item import edges_within
from mmprep.pipeline.graphs.intra_item_reader import IntraItemEdges
from mmprep.pipeline.graphs.knn import consistent, nearest
from mmprep.pipeline.graphs.params import ConsistentParams, CooccurrenceParams, IntraItemParams, KnnParams, MixedParams
from mmprep.pipeline.graphs.token_source import TokenSource
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import INTRA_EDGES

LEAST_TRAIN, LEAST_VAL = 3, 1  # of a user
USER_SPREAD, ITEM_SPREAD = 1.1, 1.0  # standard deviations of log activity of users and log popularity of items
LEAST_POPULAR = 0.2  # of the mean
DIMENSIONS = {"image": 4096, "text": 384}
TOKENS: dict[str, tuple[Form, int, int]] = {"patches": ("patches", 49, 768), "words": ("tokens", 16, 384)}
BLOCK_ITEMS = 256  # tokens are drawn for this number of items at a time
CLUSTERS = 40


@dataclass(frozen=True)
class Size:
    """Numbers of users, items, and interactions of two splits of a dataset."""

    users: int
    items: int
    train: int
    val: int

    def times(self, scale: int) -> "Size":
        """The size with all numbers multiplied."""
        return Size(scale * self.users, scale * self.items, scale * self.train, scale * self.val)


# Amazon of 2014, 5-core, as split for the papers.
SIZES = {"baby": Size(19_445, 7_050, 118_551, 20_559), "clothing": Size(39_387, 23_033, 197_338, 40_150)}


@dataclass(frozen=True)
class Generated:
    """Generated inputs of a size in a folder: each is written at its first use and read afterwards."""

    size: Size
    folder: Path

    def interactions(self) -> tuple[csr_array, csr_array]:
        """Binary train and validation interactions [users, items]."""
        if not (self.folder / "val.npz").exists():
            for name, matrix in zip(("train", "val"), draw_interactions(self.size), strict=True):
                self._write(name, matrix)
        return load_npz(self.folder / "train.npz"), load_npz(self.folder / "val.npz")

    def features(self) -> dict[str, npt.NDArray[np.float32]]:
        """The vectors [items, dimension] of each modality."""
        paths = {modality: self.folder / f"{modality}.npy" for modality in DIMENSIONS}
        for modality, path in paths.items():
            if not path.exists():
                np.save(path, draw_features(self.size.items, DIMENSIONS[modality]), allow_pickle=False)
        return {modality: np.load(path) for modality, path in paths.items()}

    def graphs(self, kind: str) -> dict[str, csr_array]:
        """The graphs of a kind, by the names that recommenders use.

        Raises:
            KeyError: GRAPHS has no such kind.
        """
        paths = [self.folder / f"{kind}.npz", *sorted((self.folder / kind).glob("*.npz"))]
        existing = [path for path in paths if path.exists()]
        if existing:
            return {path.relative_to(self.folder).with_suffix("").as_posix(): load_npz(path) for path in existing}
        built = dict(GRAPHS[kind](self))
        for name, graph in built.items():
            self._write(name, graph)
        return built

    def tokens(self) -> dict[str, TokenSource]:
        """The patches and tokens, and their neighbours within an item."""
        sources = {}
        for part in TOKENS:
            if not (self.folder / f"{part}.parquet").exists():
                draw_tokens(part, self.size.items, self.folder)
            vectors, edges = (
                TokenFeatures(FeatureSet.open(self.folder / part)),
                IntraItemEdges.read(self.folder / f"{part}.parquet"),
            )
            sources[part] = TokenSource(vectors, edges, TrainParams().token_memory, self.folder)
        return sources

    def read(self, description: RecommenderDescription) -> TrainingData:
        """Training data of a recommender."""
        kinds = [kind for kind in description.graphs if kind in GRAPHS]  # the others come with the tokens
        graphs = {name: graph for kind in kinds for name, graph in self.graphs(kind).items()}
        features = self.features() if description.multimodal else {}
        return TrainingData(*self.interactions(), features, graphs, self.tokens() if description.tokens else {})

    def _write(self, name: str, matrix: csr_array) -> None:
        path = self.folder / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        save_npz(path, matrix, compressed=False)


def build_interaction(made: Generated) -> Mapping[str, csr_array]:
    """The user-item graph in three normalisations."""
    return {f"interaction/{part}": graph for part, graph in interaction_graphs(made.interactions()[0]).items()}


def build_knn(made: Generated) -> Mapping[str, csr_array]:
    """Each modality's nearest neighbours."""
    params, graphs = KnnParams(), {}
    for modality, cosines in cosines_of(made).items():
        found = nearest(cosines, params.k, include_self=params.include_self)
        graphs[f"knn/{modality}"] = found.edges.to_matrix(len(cosines))
    return graphs


def build_consistent(made: Generated) -> Mapping[str, csr_array]:
    """Each modality's nearest neighbours on which all modalities agree."""
    views = cosines_of(made)
    found = zip(views, consistent(list(views.values()), ConsistentParams().k), strict=True)
    return {f"consistent/{modality}": each.edges.to_matrix(made.size.items) for modality, each in found}


def build_cooccurrence(made: Generated) -> Mapping[str, csr_array]:
    """Items joined by their common users."""
    found = cooccurrence_graph(made.interactions()[0], CooccurrenceParams())
    return {"cooccurrence": found.edges.to_matrix(made.size.items)}


def cosines_of(made: Generated) -> dict[str, Cosines]:
    """The similarities of items by each modality."""
    every = np.arange(made.size.items, dtype=np.int32)
    return {modality: Cosines.of(vectors, every, Path("generated")) for modality, vectors in made.features().items()}


def build_mixed(made: Generated) -> Mapping[str, csr_array]:
    """The sum of the modalities' nearest neighbours."""
    params, nearest_items = MixedParams(), made.graphs("knn")
    image, text = (normalised(weighted(nearest_items[f"knn/{m}"], params.weight), params.normalise) for m in DIMENSIONS)
    return {"mixed": csr_array(image * np.float32(params.image_weight) + text * np.float32(1 - params.image_weight))}


# Builder of each kind of graph, with the defaults of `mmprep graph`.
GRAPHS: Mapping[str, Callable[[Generated], Mapping[str, csr_array]]] = {
    "interaction": build_interaction,
    "knn": build_knn,
    "mixed": build_mixed,
    "consistent": build_consistent,
    "cooccurrence": build_cooccurrence,
}


def draw_interactions(size: Size) -> tuple[csr_array, csr_array]:
    """Binary train and validation interactions [users, items] with long tails and without duplicates."""
    chance = np.random.default_rng(0)
    activity = chance.lognormal(0, USER_SPREAD, size.users)
    counts = spread_out(size.train, LEAST_TRAIN, activity, chance)
    held_out = spread_out(size.val, LEAST_VAL, activity, chance)
    popularity = chance.lognormal(0, ITEM_SPREAD, size.items)
    popularity = np.maximum(popularity, LEAST_POPULAR * popularity.mean())
    users, items = draw_pairs(counts + held_out, popularity, chance)
    order = np.lexsort((chance.random(len(users)), users))
    users, items = users[order], items[order]
    place = np.arange(len(users)) - np.searchsorted(users, users)
    val = place < held_out[users]
    train, held = (binary(users[rows], items[rows], (size.users, size.items)) for rows in (~val, val))
    return train, held


def spread_out(
    total: int, least: int, weights: npt.NDArray[np.float64], chance: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Integers that sum to `total`: `least` for each, and the rest in proportion to weights."""
    return least + chance.multinomial(total - least * len(weights), weights / weights.sum())


def draw_pairs(
    wanted: npt.NDArray[np.int64], popularity: npt.NDArray[np.float64], chance: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw `wanted` different items for each user by popularity; pairs are sorted by user."""
    upper = np.cumsum(popularity / popularity.sum())
    pairs = np.empty(0, dtype=np.int64)
    missing = wanted
    while missing.sum():
        users = np.repeat(np.arange(len(wanted)), missing)
        items = np.minimum(np.searchsorted(upper, chance.random(len(users))), len(upper) - 1)
        pairs = np.unique(np.concatenate([pairs, users * len(upper) + items]))
        missing = wanted - np.bincount(pairs // len(upper), minlength=len(wanted))
    return pairs // len(upper), pairs % len(upper)


def binary(users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    """A matrix of ones."""
    return csr_array((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)


def draw_features(n: int, dimension: int) -> npt.NDArray[np.float32]:
    """Clustered non-negative vectors [n, dimension], as after a ReLU."""
    chance = np.random.default_rng(dimension)
    vectors = chance.standard_normal((n, dimension), dtype=np.float32)
    centres = chance.standard_normal((CLUSTERS, dimension), dtype=np.float32)
    vectors += centres[chance.integers(0, CLUSTERS, n)]
    return np.maximum(vectors, 0, out=vectors)


def draw_tokens(part: str, n: int, folder: Path) -> None:
    """Write patches or tokens of n items in the format of `mmprep extract`, and their intra-item graph."""
    form, length, dimension = TOKENS[part]
    chance, k = np.random.default_rng(0), IntraItemParams().k
    origin = Provenance("benchmark", {"k": k}, {}, {}, {})
    with (
        write_features(folder / part, FeatureSpec(form, dimension, "f16"), origin) as features,
        INTRA_EDGES.writer(folder / f"{part}.parquet", origin) as edges,
    ):
        for block in np.array_split(np.arange(n, dtype=np.int32), n // BLOCK_ITEMS + 1):
            lengths = chance.integers(length if form == "patches" else 2, length + 1, len(block))
            vectors = chance.standard_normal((lengths.sum(), dimension), dtype=np.float32)
            rows = VectorBatch(vectors, lengths, np.zeros((len(vectors), 2), np.int32) if form == "tokens" else None)
            features.append(block, rows, [""] * len(block))
            edges(edges_within(block, rows, k))
