"""Approximate nearest neighbours of many items, against comparing all pairs.

    python benchmarks/knn_approximate.py
    python benchmarks/knn_approximate.py --items 100000
    python benchmarks/knn_approximate.py --items 200000 --dimension 768 --k 20

The vectors are generated: clusters of all sizes, many of them related, around a common mean, with items between them
and noise along some directions more than along others. Their difficulty was calibrated on the MiniLM vectors of 40,000
English sentences: similarities to the nearest, tenth and fiftieth neighbour, and the recall of inverted lists. Indexing
and searching run in their own process, whose memory is measured above its use after reading the vectors. Comparing all
pairs, also by FAISS, is timed on a thousand items.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmprep.pipeline.graphs import hnsw as approximate
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.progress import Advance

CHUNK = 50_000  # items generated at once
CLUSTER_ITEMS = 10  # on average
DECAY = 0.3  # the n-th direction has a spread in proportion to n ** -DECAY
COMMON, RELATED, APART = 0.3, 0.6, 0.8  # norms of the common mean, of clusters' shared parts, and of their own parts
EQUAL = 0.02  # share of items whose vector duplicates another's
SAMPLE = 1000
STEPS = ("generate", "search")
Floats = npt.NDArray[np.float32]


def vectors(n: int, dimension: int, seed: int) -> Iterator[Floats]:
    """Unit vectors, in chunks."""
    chance = np.random.default_rng(seed)
    spread = (1 / np.arange(1, dimension + 1) ** DECAY).astype(np.float32)
    spread /= np.linalg.norm(spread)

    def normal(rows: int) -> Floats:
        return chance.standard_normal((rows, dimension), np.float32) * spread

    clusters = max(n // CLUSTER_ITEMS, 1)
    topics, mean = normal(int(clusters**0.5)), COMMON * normal(1)
    centres = APART * normal(clusters)
    for _ in range(2):
        centres += RELATED * topics[chance.integers(0, len(topics), clusters)]
    for start in range(0, n, CHUNK):
        rows = min(CHUNK, n - start)
        own, other = (centres[(chance.random(rows) ** 1.5 * clusters).astype(np.int64)] for _ in range(2))
        toward, noise = (
            chance.uniform(low, high, (rows, 1)).astype(np.float32) for low, high in ((0.0, 0.6), (0.2, 1.3))
        )
        made = mean + (1 - toward) * own + toward * other + noise * normal(rows)
        copies = int(rows * EQUAL)
        made[chance.integers(0, rows, copies)] = made[chance.integers(0, rows, copies)]
        yield made / np.linalg.norm(made, axis=1, keepdims=True)


def generate(path: Path, n: int, dimension: int) -> None:
    """Write the vectors as raw float32."""
    with path.open("wb") as file:
        for chunk in vectors(n, dimension, seed=0):
            chunk.tofile(file)


def resident() -> int:
    """Current memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def search(path: Path, n: int, dimension: int, k: int) -> dict[str, Any]:
    """Search candidates; return the seconds of each task, peak memory and recall."""
    rows = np.fromfile(path, np.float32).reshape(n, dimension)
    faiss = approximate.require_faiss()
    before, seconds = resident(), {}

    @contextmanager
    def timed(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        del total, unit
        start = time.perf_counter()
        yield lambda units, remark: None  # noqa: ARG005
        seconds[task] = time.perf_counter() - start

    start = time.perf_counter()
    found = approximate.candidates(rows, k + 1, timed)
    seconds["total"] = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    source, place = np.nonzero(found >= 0)
    edges = Edges(source.astype(np.int32), found[source, place].astype(np.int32), np.ones(len(source), np.float32))
    recall = approximate.sampled_recall(edges, rows, k, include_self=False, sample=SAMPLE)
    start = time.perf_counter()
    faiss.knn(rows[:SAMPLE], rows, k + 1, metric=faiss.METRIC_INNER_PRODUCT)
    exact = (time.perf_counter() - start) / min(SAMPLE, n) * n
    digest = blake2b(found.data, digest_size=8).hexdigest()
    return {"seconds": seconds, "gigabytes": peak / 1e9, "recall": recall, "exact": exact, "digest": digest}


def run_step(step: str, path: Path, arguments: argparse.Namespace) -> str:
    """Run one step in its own process; return its output."""
    sizes = [f"--{name}={getattr(arguments, name)}" for name in ("items", "dimension", "k")]
    command = [sys.executable, __file__, "--step", step, "--path", str(path), *sizes]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def compare(arguments: argparse.Namespace) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors"
        run_step("generate", path, arguments)
        print(f"{arguments.items:,} x {arguments.dimension} generated, {path.stat().st_size / 1e9:.2f} GB")
        print(
            f"index     HNSW, {approximate.LINKS} links, {approximate.BUILD_BREADTH} in view while building, "
            f"{approximate.BREADTH_AT_A_MILLION} while searching a million, 1 byte per number; {os.cpu_count()} cores",
            flush=True,
        )
        for _ in range(arguments.repeats):
            found = json.loads(run_step("search", path, arguments))
            for task, taken in found["seconds"].items():
                print(f"{task:20} {taken:9.1f} s")
            print(f"{'memory':20} {found['gigabytes']:9.2f} GB peak, above the vectors")
            print(f"{f'recall at {arguments.k}':20} {found['recall']:9.4f} of {SAMPLE} items")
            print(f"{'all pairs':20} {found['exact']:9.0f} s, extrapolated from a thousand items")
            print(f"{'ratio':20} {found['exact'] / found['seconds']['total']:9.1f} times faster")
            print(f"{'digest':20} {found['digest']}", flush=True)


def main() -> None:
    """Run the benchmark by the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="(default: 1 million)")
    parser.add_argument("--dimension", type=int, default=384, help="dimension of the vectors (default: 384)")
    parser.add_argument("--k", type=int, default=10, help="neighbours per item (default: 10)")
    parser.add_argument("--repeats", type=int, default=1, help="runs, which must give the same digest (default: 1)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = arguments.items, arguments.dimension
    if arguments.step == "generate":
        generate(arguments.path, *sizes)
    elif arguments.step == "search":
        print(json.dumps(search(arguments.path, *sizes, arguments.k)))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
