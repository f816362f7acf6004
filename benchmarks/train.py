"""Training and evaluating every recommender at Amazon Baby's size, against MMRec's figures on a machine of two cores.

    python benchmarks/train.py
    python benchmarks/train.py --only lightgcn freedom --epochs 1
    python benchmarks/train.py --finetune
    python benchmarks/train.py --scale 1 4 16

Interactions and features are generated: as many as Baby's, with long tails of users and items, photos of 4,096 numbers
and texts of 384; for MDR-CHCA, by its preset cpu_small, 49 patches of 768 numbers and up to 16 tokens of 384.
Timings mean something, metrics do not. Each recommender runs in a process of its own, by the trainer
that `mmprep train` runs and on graphs built as `mmprep graph` builds them; an epoch is sampling and training, an
evaluation is all embeddings and the full ranking for validation. The first epoch is not counted.

MMRec's figures are of a generated set of the same size and batches of 2,048, on two cores. It trains the raw features
of most; a ratio is shown only where both train them or both do not.

With --scale users, items, interactions and batches all grow by the factors. An epoch then has as many steps at each
size, and a step's cost is what grows: nearly every step computes all embeddings, whatever the batch. An evaluation
scores every item for every user, so it grows by the product of the two: 256 times from 1 to 16.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, load_npz, save_npz

from models.device import best_device
from models.recommenders.base import TrainingData
from models.recommenders.catalogue import CATALOGUE, RecommenderDescription
from models.training.batches import Batches
from models.training.course import Course, Steps
from models.training.params import TrainParams
from models.training.trainer import build, deterministic, train_epoch, validate
from pipeline.feature_writer import write_features
from pipeline.graph_params import IntraItemParams, KnnParams, MixedParams
from pipeline.graphs import interaction_graphs, normalised, weighted
from pipeline.intra_edges import IntraItemEdges
from pipeline.intra_item import edges_within
from pipeline.neighbors import nearest
from pipeline.provenance import Provenance
from pipeline.rows import Form, Rows, Shape
from pipeline.similarity import Cosines
from pipeline.tables import INTRA_EDGES
from pipeline.token_features import TokenFeatures
from pipeline.token_store import TokenSource

USERS, ITEMS, TRAIN, VAL = 19_445, 7_050, 118_551, 20_559  # Amazon Baby of 2014, 5-core
LEAST_TRAIN, LEAST_VAL = 3, 1  # of a user
USER_SPREAD, ITEM_SPREAD = 1.1, 1.0  # of the logarithms of how active users and how popular items are
LEAST_POPULAR = 0.2  # of the mean
DIMENSIONS = {"image": 4096, "text": 384}
TOKENS: dict[str, tuple[Form, int, int]] = {"patches": ("patches", 49, 768), "words": ("tokens", 16, 384)}
NEIGHBOURS = IntraItemParams().k
BLOCK_ITEMS = 256
CLUSTERS = 40
BATCH = 2048
TIMES = ("epoch", "evaluation")

# Where MMRec was measured with other parameters than our defaults.
COMPARED: dict[str, dict[str, object]] = {"lightgcn": {"layers": 1}}
# What fits a machine of two cores.
PRESETS = {"mdr_chca": "cpu_small"}


@dataclass(frozen=True)
class Theirs:
    """MMRec's seconds for an epoch and for one evaluation."""

    epoch: float
    evaluation: float


# By recommender, and whether the raw features are trained.
MMREC = {
    ("bpr", False): Theirs(0.7, 2.8),
    ("lightgcn", False): Theirs(2.5, 2.7),
    ("vbpr", False): Theirs(4.8, 2.9),
    ("bm3", False): Theirs(10.2, 2.7),
    ("bm3", True): Theirs(19, 2.7),
    ("freedom", False): Theirs(9.2, 2.9),
    ("freedom", True): Theirs(19.5, 2.9),
    ("mgcn", False): Theirs(19.8, 3.6),
    ("mgcn", True): Theirs(30, 3.6),
    ("lattice", True): Theirs(68, 71),
}


@dataclass(frozen=True)
class Case:
    """What a process does.

    Attributes:
        step: one of GENERATED, or the name of a recommender.
        folder: where what is generated lies.
        scale: times Baby.
        batch: positives a step.
        epochs: that are counted.
        finetune: whether the raw features are trained.
    """

    step: str
    folder: Path
    scale: int
    batch: int
    epochs: int
    finetune: bool

    def command(self) -> list[str]:
        """The command line that does it."""
        numbers = [f"--step-scale={self.scale}", f"--batch={self.batch}", f"--epochs={self.epochs}"]
        flags = ["--finetune"] if self.finetune else []
        return [sys.executable, __file__, "--step", self.step, "--folder", str(self.folder), *numbers, *flags]


def generated(scale: int) -> tuple[csr_array, csr_array]:
    """Binary train and validation interactions [users, items] with long tails, no pair twice."""
    chance = np.random.default_rng(0)
    n_users, n_items = scale * USERS, scale * ITEMS
    activity = chance.lognormal(0, USER_SPREAD, n_users)
    wanted = spread_out(scale * TRAIN, LEAST_TRAIN, activity, chance)
    held_out = spread_out(scale * VAL, LEAST_VAL, activity, chance)
    popularity = chance.lognormal(0, ITEM_SPREAD, n_items)
    popularity = np.maximum(popularity, LEAST_POPULAR * popularity.mean())
    users, items = draw_pairs(wanted + held_out, popularity, chance)
    order = np.lexsort((chance.random(len(users)), users))
    users, items = users[order], items[order]
    place = np.arange(len(users)) - np.searchsorted(users, users)
    val = place < held_out[users]
    train, held = (binary(users[rows], items[rows], (n_users, n_items)) for rows in (~val, val))
    return train, held


def spread_out(
    total: int, least: int, weights: npt.NDArray[np.float64], chance: np.random.Generator
) -> npt.NDArray[np.int64]:
    """At least so many for each, and the rest of the total in proportion to weights."""
    return least + chance.multinomial(total - least * len(weights), weights / weights.sum())


def draw_pairs(
    wanted: npt.NDArray[np.int64], popularity: npt.NDArray[np.float64], chance: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Users with as many different items as wanted, drawn by popularity; sorted by user."""
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


def make_features(n: int, dimension: int) -> npt.NDArray[np.float32]:
    """Clusters of vectors without negative numbers, as those behind a ReLU."""
    chance = np.random.default_rng(dimension)
    vectors = chance.standard_normal((n, dimension), dtype=np.float32)
    centres = chance.standard_normal((CLUSTERS, dimension), dtype=np.float32)
    vectors += centres[chance.integers(0, CLUSTERS, n)]
    return np.maximum(vectors, 0, out=vectors)


def neighbours(features: npt.NDArray[np.float32]) -> csr_array:
    """A modality's graph as `mmprep graph --graph knn/ENCODER` builds it."""
    params, items = KnnParams(), np.arange(len(features), dtype=np.int32)
    found = nearest(Cosines.of(features, items, Path("generated")), params.k, include_self=params.include_self)
    return found.edges.to_matrix(len(features))


def mixed(graphs: dict[str, csr_array]) -> csr_array:
    """The modalities' graphs as `mmprep graph --graph mixed` sums them."""
    params = MixedParams()
    image, text = (normalised(weighted(graphs[m], params.weight), params.normalise) for m in ("image", "text"))
    return csr_array(image * np.float32(params.image_weight) + text * np.float32(1 - params.image_weight))


def generate_interactions(case: Case) -> dict[str, Any]:
    """Write interactions and their graphs; what they are like."""
    train, val = generated(case.scale)
    write({"train": train, "val": val}, case.folder)
    write({f"interaction/{part}": graph for part, graph in interaction_graphs(train).items()}, case.folder)
    degrees = {"user": np.diff(train.indptr), "item": np.bincount(train.indices, minlength=train.shape[1])}
    found: dict[str, Any] = {"interactions": int(train.nnz), "shape": train.shape}
    return found | {name: np.quantile(each, (0, 0.5, 1)).astype(int).tolist() for name, each in degrees.items()}


def generate_features(case: Case) -> dict[str, Any]:
    """Write features and the items' graphs."""
    features = {m: make_features(case.scale * ITEMS, dimension) for m, dimension in DIMENSIONS.items()}
    for modality, vectors in features.items():
        np.save(case.folder / f"{modality}.npy", vectors, allow_pickle=False)
    alone = {m: neighbours(vectors) for m, vectors in features.items()}
    write({f"knn/{m}": graph for m, graph in alone.items()} | {"mixed": mixed(alone)}, case.folder)
    return {}


def generate_tokens(case: Case) -> dict[str, Any]:
    """Write patches and tokens as `mmprep extract` does, and the graphs among them."""
    chance, items = np.random.default_rng(0), np.arange(case.scale * ITEMS, dtype=np.int32)
    for part, (form, length, dimension) in TOKENS.items():
        shape, origin = Shape(form, dimension, "f16"), Provenance("benchmark", {"k": NEIGHBOURS}, {}, {}, {})
        with (
            write_features(case.folder / part, shape, origin) as features,
            INTRA_EDGES.writer(case.folder / f"{part}.parquet", origin) as edges,
        ):
            for block in np.array_split(items, len(items) // BLOCK_ITEMS + 1):
                lengths = chance.integers(length if form == "patches" else 2, length + 1, len(block))
                vectors = chance.standard_normal((lengths.sum(), dimension), dtype=np.float32)
                rows = Rows(vectors, lengths, np.zeros((len(vectors), 2), np.int32) if form == "tokens" else None)
                features.append(block, rows, [""] * len(block))
                edges(edges_within(block, rows, NEIGHBOURS))
    return {}


GENERATED = {"interactions": generate_interactions, "features": generate_features, "tokens": generate_tokens}


def write(matrices: dict[str, csr_array], folder: Path) -> None:
    """Write each matrix as a file of its name."""
    for name, matrix in matrices.items():
        path = folder / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        save_npz(path, matrix, compressed=False)


def read(description: RecommenderDescription, folder: Path) -> TrainingData:
    """What a recommender asks for.

    Raises:
        FileNotFoundError: it asks for a kind of graph that is not generated here.
    """
    features = {m: np.load(folder / f"{m}.npy") for m in DIMENSIONS} if description.multimodal else {}
    names: list[str] = []
    for kind in set(description.graphs) - {"intra_item"}:
        parts = sorted((folder / kind).glob("*.npz"))
        names += [f"{kind}/{path.stem}" for path in parts] or [kind]
    graphs = {name: load_npz(folder / f"{name}.npz") for name in names}
    tokens = {}
    for part in TOKENS if description.tokens else ():
        vectors, edges = TokenFeatures(folder / part), IntraItemEdges.read(folder / f"{part}.parquet")
        tokens[part] = TokenSource(vectors, edges, TrainParams().token_memory, folder)
    return TrainingData(load_npz(folder / "train.npz"), load_npz(folder / "val.npz"), features, graphs, tokens)


def train(case: Case) -> dict[str, Any]:
    """Train and evaluate a recommender; seconds of each epoch but the first, and of each evaluation."""
    description = CATALOGUE[case.step]
    data, kind = read(description, case.folder), description.load()
    switch = {"finetune_features": case.finetune} if description.multimodal else {}
    preset = kind.params_type.presets.get(PRESETS.get(case.step, ""), {})
    section = kind.params_type.model_validate({**preset, **COMPARED.get(case.step, {}), **switch})
    params, device = TrainParams(batch_size=case.batch), best_device()
    start = time.perf_counter()
    recommender, batches = build(kind, data, section, params.seed).to(device), Batches(data, params, device)
    course = Course(recommender, Steps.of(section))
    times = {"start": [time.perf_counter() - start], "epoch": [], "cpu": [], "evaluation": []}
    metrics: dict[str, float] = {}
    with deterministic(device):
        while course.epoch <= case.epochs:
            start, cpu = time.perf_counter(), time.process_time()
            terms = train_epoch(recommender, course.next_optimiser(), batches, course.epoch + 1)
            times["epoch"].append(time.perf_counter() - start)
            times["cpu"].append(time.process_time() - cpu)
            # A large evaluation takes long, and need not be repeated to be told from noise.
            if case.scale == 1 or not metrics:
                start = time.perf_counter()
                metrics = validate(recommender, data)
                times["evaluation"].append(time.perf_counter() - start)
            course.add(terms, metrics)
    for each in times.values():
        del each[: len(each) > 1]
    return {"device": str(device), **{name: median(each) for name, each in times.items()}}


def run(case: Case) -> dict[str, Any]:
    """Do a case in a process of its own; what it told, and its peak memory in GB."""
    child = subprocess.Popen(case.command(), stdout=subprocess.PIPE, text=True)
    assert child.stdout
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{case.step} ended with {child.returncode}")
    found: dict[str, Any] = json.loads(printed)
    found["gigabytes"] = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return found


def measured(names: Sequence[str], usual: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Generate what recommenders read, say what it is like, and train them one by one."""
    with tempfile.TemporaryDirectory() as folder:
        usual = replace(usual, folder=Path(folder))
        made = run(replace(usual, step="interactions"))
        # Only where it is read: features of many items take gigabytes.
        if any(CATALOGUE[name].multimodal for name in names):
            run(replace(usual, step="features"))
        if any(CATALOGUE[name].tokens for name in names):
            run(replace(usual, step="tokens"))
        n_users, n_items = made["shape"]
        print(f"generated {made['interactions']:,} train interactions of {n_users:,} users and {n_items:,} items")
        for side in ("user", "item"):
            least, middle, most = made[side]
            print(f"train interactions of {side}s: least {least:,}, median {middle:,}, most {most:,}", flush=True)
        for name in names:
            yield name, run(replace(usual, step=name))


def compare(names: Sequence[str], usual: Case) -> None:
    """Print the figures of recommenders at Baby's size, beside MMRec's."""
    features = "trained" if usual.finetune else "frozen"
    print(f"raw features {features}, batches of {usual.batch:,}, median of {usual.epochs} epochs after the first")
    print("x is ours divided by MMRec's; wanted are at most 0.5 for an epoch and 0.25 for an evaluation")
    for name, found in measured(names, usual):
        theirs = MMREC.get((name, usual.finetune and CATALOGUE[name].multimodal))
        cells = "; ".join(f"{found[key]:6.2f} s an {key} {beside(found[key], theirs, key)}" for key in TIMES)
        settings = "".join(f", {key} {value}" for key, value in COMPARED.get(name, {}).items())
        cells += f"; {found['cpu']:6.2f} s of all cores an epoch; {found['gigabytes']:.2f} GB peak"
        print(f"{name:9} {cells}; {found['start']:.2f} s to start; {found['device']}{settings}", flush=True)


def beside(ours: float, theirs: Theirs | None, key: str) -> str:
    """MMRec's figure and the ratio; blanks without one."""
    if theirs is None:
        return " " * 20
    figure: float = getattr(theirs, key)
    return f"(MMRec {figure:4.1f}, x {ours / figure:.2f})"


def grow(names: Sequence[str], scales: Sequence[int], usual: Case) -> None:
    """Print how cost grows with size; 1.00 is growth in proportion."""
    smallest: dict[str, tuple[float, float, int]] = {}
    for scale in scales:
        print(f"\n{scale} x Baby, batches of {scale * usual.batch:,}")
        for name, found in measured(names, replace(usual, scale=scale, batch=scale * usual.batch)):
            epoch, evaluation, first = smallest.setdefault(name, (found["epoch"], found["evaluation"], scale))
            grown = scale / first
            each = found["epoch"] / (scale * TRAIN) * 1e6
            print(
                f"{name:9} {found['epoch']:8.2f} s an epoch ({found['cpu']:.2f} of all cores), {each:.2f} us an "
                f"interaction, {found['epoch'] / epoch / grown:.2f} of linear; {found['evaluation']:8.2f} s an "
                f"evaluation, {found['evaluation'] / evaluation / grown**2:.2f} of linear in users x items; "
                f"{found['gigabytes']:.2f} GB peak",
                flush=True,
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CATALOGUE), metavar="NAME", help="some of the recommenders")
    parser.add_argument("--epochs", type=int, default=3, help="counted, after the first (default: 3)")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"positives a step, at --scale 1 (default: {BATCH})")
    parser.add_argument("--finetune", action="store_true", help="train the raw features of those that read any")
    parser.add_argument("--scale", nargs="+", type=int, help="times Baby, such as 1 4 16; by default of bpr, lightgcn")
    parser.add_argument("--step", choices=[*GENERATED, *CATALOGUE], help=argparse.SUPPRESS)
    parser.add_argument("--step-scale", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    given = parser.parse_args()
    case = Case(given.step or "", given.folder, given.step_scale, given.batch, given.epochs, given.finetune)
    if given.step:
        print(json.dumps(GENERATED.get(given.step, train)(case)))
    elif given.scale:
        grow(given.only or ("bpr", "lightgcn"), given.scale, case)
    else:
        # The others have no features that could be trained.
        names = [name for name, row in CATALOGUE.items() if row.multimodal or not given.finetune]
        compare(given.only or names, case)


if __name__ == "__main__":
    main()
