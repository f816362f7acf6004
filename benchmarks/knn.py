"""Exact nearest neighbours, against plain matrix products, FAISS, and the full similarity matrix of the papers' code.

    python benchmarks/knn.py
    python benchmarks/knn.py --items 200000 --dimension 384 --only ours

The vectors are generated: clusters with noise, by default in the number and dimension of Amazon Clothing's photos. Each
step runs in its own process, which reports the time of its work, without Python's start and generating the vectors, and
its peak memory above theirs. `rate` is the speed of the fastest square matrix product of NumPy and PyTorch, measured
before and after the other steps, whose 2 n^2 d operations for all similarities are shown as a share of that speed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import numpy as np
import numpy.typing as npt

from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.knn import nearest

K = 10
CLUSTERS = 300
SQUARE = 4096  # rows and columns of the product that measures the machine
STEPS = ("rate", "ours", "faiss", "full")
Vectors = npt.NDArray[np.float32]


def make_vectors(n: int, dimension: int) -> Vectors:
    """Clustered non-negative vectors, as after a ReLU, generated in blocks."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((CLUSTERS, dimension), dtype=np.float32)
    vectors = np.empty((n, dimension), dtype=np.float32)
    for start in range(0, n, 1000):
        block = vectors[start : start + 1000]
        block[:] = chance.standard_normal(block.shape, dtype=np.float32)
        block += centres[chance.integers(0, CLUSTERS, len(block))]
        np.maximum(block, 0, out=block)
    return vectors


def fastest(product: Callable[[], object], operations: float) -> float:
    """Operations per second of the fastest of five runs."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return operations / min(seconds)


def rate() -> dict[str, Any]:
    """Operations per second of a large matrix product on this machine."""
    import torch

    square = np.random.default_rng(0).standard_normal((SQUARE, SQUARE), dtype=np.float32)
    tensor = torch.from_numpy(square)
    found = {
        "numpy": fastest(lambda: square @ square, 2 * SQUARE**3),
        "torch": fastest(lambda: tensor @ tensor, 2 * SQUARE**3),
    }
    return {"operations": max(found.values()), **found}


def ours(vectors: Vectors) -> npt.NDArray[np.int64]:
    """`mmprep graph --graph knn/ENCODER`, without reading and writing."""
    items = np.arange(len(vectors), dtype=np.int32)
    found = nearest(Cosines.of(vectors, items, Path("generated")), K, include_self=True)
    return found.edges.target.reshape(len(vectors), K).astype(np.int64)


def faiss(vectors: Vectors) -> npt.NDArray[np.int64]:
    """FAISS's flat index of inner products of unit vectors."""
    import faiss

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    return np.asarray(index.search(unit, K)[1])


def full(vectors: Vectors) -> npt.NDArray[np.int64]:
    """The method of LATTICE, FREEDOM, MGCN and DA-MRS: the full similarity matrix, then topk."""
    import torch

    unit = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1)
    return np.asarray(torch.topk(unit @ unit.T, K, dim=1)[1])


def work(step: str, n: int, dimension: int, kept: Path) -> None:
    """Run one step, save its neighbours, and print its time and memory."""
    if step == "rate":
        print(json.dumps(rate()))
        return
    vectors = make_vectors(n, dimension)
    before, start = getrusage(RUSAGE_SELF).ru_maxrss, time.perf_counter()
    found = {"ours": ours, "faiss": faiss, "full": full}[step](vectors)
    seconds = time.perf_counter() - start
    np.save(kept / f"{step}.npy", found, allow_pickle=False)
    print(json.dumps({"seconds": seconds, "bytes": (getrusage(RUSAGE_SELF).ru_maxrss - before) * 1024}))


def run_step(step: str, n: int, dimension: int, kept: Path) -> dict[str, Any]:
    """Run one step in its own process."""
    command = [sys.executable, __file__, "--step", step, "--items", str(n), "--dimension", str(dimension)]
    done = subprocess.run([*command, "--kept", str(kept)], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare(n: int, dimension: int, steps: list[str], kept: Path) -> None:
    """Print each step's figures."""
    print(f"{n:,} generated vectors of {dimension} numbers ({n * dimension * 4 / 1e9:.2f} GB), {K} neighbours each")
    rates, found = [run_step("rate", n, dimension, kept)], {}
    for step in (step for step in STEPS[1:] if step in steps):
        found[step] = run_step(step, n, dimension, kept)
    rates.append(run_step("rate", n, dimension, kept))
    machine = max(rates, key=lambda rate: rate["operations"])
    print(
        f"rate    {machine['operations'] / 1e9:8.0f} GFLOP/s (NumPy {machine['numpy'] / 1e9:.0f}, "
        f"PyTorch {machine['torch'] / 1e9:.0f})"
    )
    for step, took in found.items():
        share = 2 * n**2 * dimension / took["seconds"] / machine["operations"]
        above = f"{took['bytes'] / 1e9:6.2f} GB above the vectors"
        print(f"{step:7} {took['seconds']:8.1f} s {share:7.1%} of the rate {above}")
    for step in found.keys() - {"ours"}:
        ratio = found["ours"]["seconds"] / found[step]["seconds"]
        print(
            f"ours took {ratio:.2f} of the time of {step}; {same_neighbours(kept, step):.4%} of its neighbours are ours"
        )


def same_neighbours(kept: Path, step: str) -> float:
    """Share of a step's neighbours that are also ours."""
    mine, theirs = np.load(kept / "ours.npy"), np.load(kept / f"{step}.npy")
    return float((mine[:, :, None] == theirs[:, None, :]).any(axis=1).mean())


def main() -> None:
    """Run the benchmark by the command line's options."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=23_033, help="(default: Clothing's 23,033)")
    parser.add_argument("--dimension", type=int, default=4096, help="dimension of the vectors (default: 4096)")
    parser.add_argument(
        "--only", nargs="+", choices=STEPS[1:], default=list(STEPS[1:]), help="steps to run (default: all)"
    )
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--kept", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        work(arguments.step, arguments.items, arguments.dimension, arguments.kept)
        return
    with tempfile.TemporaryDirectory() as name:
        compare(arguments.items, arguments.dimension, arguments.only, Path(name))


if __name__ == "__main__":
    main()
