"""Co-occurrence graph, from train interactions to top neighbours, against the usual double loop over users' items.

    python benchmarks/cooccurrence.py
    python benchmarks/cooccurrence.py --split FOLDER

The interactions are generated, with long tails and unordered ids. Each step runs in its own process, which reports the
time of its work, without reading the interactions, and its peak memory. The double loop and ours are compared on fewer
interactions, where the loop ends soon, and so are their edges. With --split, also prints the statistics of a real train
set: FOLDER/train.json, which has each user's items.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, load_npz, save_npz

from mmprep.pipeline.graphs.cooccurrence import co_bought, co_bought_share, cooccurrence_graph
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.params import CooccurrenceParams

ROWS_A_USER, ROWS_AN_ITEM = 5, 15  # on average
# The n-th most active of N has interactions in proportion to (n / N) ** (1 / SKEW - 1).
USER_SKEW, ITEM_SKEW = 2.0, 2.5
ROBOT_ITEMS = 50_000  # of a single user, with whom a product that is not cut into blocks runs out of memory
STEPS = ("generate", "ours", "robot", "together", "loop")


def generated(n: int, seed: int = 0) -> csr_array:
    """Binary interactions with a long tail of users and of items, slightly fewer than n, as duplicates are merged."""
    chance = np.random.default_rng(seed)
    n_users, n_items = n // ROWS_A_USER, n // ROWS_AN_ITEM
    users, items = chance.permutation(n_users), chance.permutation(n_items)
    user = users[(chance.random(n) ** USER_SKEW * n_users).astype(np.int64)]
    item = items[(chance.random(n) ** ITEM_SKEW * n_items).astype(np.int64)]
    return binary(user, item, (n_users, n_items))


def binary(user: npt.NDArray[np.int64], item: npt.NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    """A matrix of ones."""
    matrix = csr_array((np.ones(len(user), dtype=np.float32), (user, item)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def generate(path: Path, n: int) -> dict[str, Any]:
    """Write the interactions; return their statistics."""
    interactions = generated(n)
    save_npz(path, interactions, compressed=False)
    degrees = {"user": np.diff(interactions.indptr), "item": np.bincount(interactions.indices)}
    found: dict[str, Any] = {"interactions": int(interactions.nnz), "shape": interactions.shape}
    return found | {name: np.quantile(each, (0.5, 0.99, 1)).astype(int).tolist() for name, each in degrees.items()}


def ours(interactions: csr_array, params: CooccurrenceParams = CooccurrenceParams()) -> dict[str, Any]:  # noqa: B008
    """Build the graph as `mmprep graph` does."""
    start = time.perf_counter()
    found = cooccurrence_graph(interactions, params)
    seconds = time.perf_counter() - start
    tied, left_out = found.tied / max(1, found.cut), found.left_out
    return {"seconds": seconds, "digest": digest(found.edges), "tied": tied, "left_out": left_out}


def robot(interactions: csr_array) -> dict[str, Any]:
    """Build the graph with an additional user of ROBOT_ITEMS items, who is not left out."""
    n_users, n_items = interactions.shape
    items = np.random.default_rng(1).permutation(n_items)[:ROBOT_ITEMS]
    user = np.repeat(np.arange(n_users), np.diff(interactions.indptr))
    both = np.append(user, np.full(len(items), n_users)), np.append(interactions.indices, items)
    return ours(binary(*both, (n_users + 1, n_items)), CooccurrenceParams(max_degree=n_items))


def together(interactions: csr_array) -> dict[str, Any]:
    """The share of item pairs with a common user, over all pairs and over a million sampled ones."""
    chance = np.random.default_rng(2)
    pairs = chance.integers(0, interactions.shape[1], (2, 1_000_000)).astype(np.int32)
    start = time.perf_counter()
    share = co_bought_share(interactions)
    middle = time.perf_counter()
    sampled = float(co_bought(interactions, *pairs).mean())
    return {"seconds": middle - start, "pairs_s": time.perf_counter() - middle, "share": share, "sampled": sampled}


def loop(interactions: csr_array) -> dict[str, Any]:
    """The usual script: one dictionary of counts per item, filled by two loops over each user's items."""
    params = CooccurrenceParams()
    users = [row.tolist() for row in np.split(interactions.indices, interactions.indptr[1:-1])]
    start = time.perf_counter()
    counts: list[dict[int, int]] = [{} for _ in range(interactions.shape[1])]
    for items in users:
        if len(items) <= params.max_degree:
            for one in items:
                of_one = counts[one]
                for other in items:
                    if one != other:
                        of_one[other] = of_one.get(other, 0) + 1
    edges = []
    for source, of_source in enumerate(counts):
        enough = [(-count, target) for target, count in of_source.items() if count >= params.min_count]
        edges += [(source, target, -count) for count, target in sorted(enough)[: params.k]]
    seconds = time.perf_counter() - start
    source, target, weight = np.array(edges).T
    return {"seconds": seconds, "digest": digest(Edges(source.astype("i4"), target.astype("i4"), weight.astype("f4")))}


def digest(edges: Edges) -> str:
    """SHA-256 of all edges in order."""
    return hashlib.sha256(b"".join(each.tobytes() for each in (edges.source, edges.target, edges.weight))).hexdigest()


def work(step: str, path: Path, n: int) -> None:
    """Run one step and print its result, with peak memory in GB, and that before the step as `before`."""
    if step == "generate":
        found = generate(path, n)
    else:
        interactions = load_npz(path)
        before, cpu = peak(), time.process_time()
        found = {"ours": ours, "robot": robot, "together": together, "loop": loop}[step](interactions)
        found |= {"before": before, "gigabytes": peak(), "cpu": time.process_time() - cpu}
    print(json.dumps(found))


def peak() -> float:
    """Peak memory of this process, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def run_step(step: str, path: Path, n: int, repeats: int = 1) -> dict[str, Any]:
    """Run one step `repeats` times, each in its own process; return the run of median time."""
    command = [sys.executable, __file__, "--step", step, "--path", str(path), "--interactions", str(n)]
    runs = [json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(repeats)]
    found: dict[str, Any] = sorted(runs, key=lambda each: each.get("seconds", 0))[len(runs) // 2]
    if step != "generate":
        print(
            f"{step:9} {found['seconds']:8.2f} s, {found['cpu']:.2f} s of all cores, {found['gigabytes']:.2f} GB peak, "
            f"including {found['before']:.2f} GB of interactions and libraries",
            flush=True,
        )
    return found


def make(path: Path, n: int) -> None:
    """Generate interactions and print their statistics."""
    made = run_step("generate", path, n)
    print(
        f"generated {made['interactions']:,} interactions of {made['shape'][0]:,} users and {made['shape'][1]:,} items"
    )
    for name in ("user", "item"):
        median, percentile, most = made[name]
        print(f"          interactions of {name}s: median {median:,}, 99th percentile {percentile:,}, most {most:,}")


def compare(n: int, n_loop: int, repeats: int) -> None:
    """Print each step's figures at full size, and the speed-up over the double loop at its size."""
    print(f"{CooccurrenceParams()}, median of {repeats}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "interactions.npz"
        make(path, n)
        found = run_step("ours", path, n, repeats)
        print(f"          {found['left_out']} users left out; {found['tied']:.1%} of the rows cut by k tied there")
        run_step("robot", path, n)
        print(f"          with one user of {ROBOT_ITEMS:,} items more, and max_degree above all")
        found = run_step("together", path, n)
        print(f"          {found['share']:.3%} of all pairs of items have a common user")
        print(f"          {found['pairs_s']:.2f} s to look up 1,000,000 random pairs; {found['sampled']:.3%} have one")
        make(path, n_loop)
        fast, slow = (run_step(step, path, n_loop, repeats) for step in ("ours", "loop"))
        assert fast["digest"] == slow["digest"], "edges differ from the double loop's"
        ratio = slow["seconds"] / fast["seconds"]
        print(f"ratio     {ratio:8.1f} times faster than the double loop, with the same edges")


def statistics(folder: Path) -> None:
    """Print the statistics of docs/papers/conventions.md#co-occurrence-density, of a train split at min_count 2."""
    train = {int(user): items for user, items in json.loads((folder / "train.json").read_text()).items()}
    users, n_items = max(train) + 1, len(json.loads((folder / "item2id.json").read_text()))
    user = np.repeat(list(train), [len(items) for items in train.values()])
    interactions = binary(user, np.concatenate(list(train.values())), (users, n_items))
    params = CooccurrenceParams()
    start = time.perf_counter()
    found = cooccurrence_graph(interactions, params)
    seconds = time.perf_counter() - start
    edges = found.edges
    bought = co_bought(interactions, edges.source, edges.target).mean()
    print(f"{folder.name}: {interactions.nnz:,} train interactions of {users:,} users and {n_items:,} items")
    print(f"          {seconds:.2f} s; {(found.candidates == 0).mean():.1%} of the items without a neighbour")
    print(f"          {found.candidates.mean():.1f} neighbours per item on average, before the cut by k = {params.k}")
    print(f"          {found.tied / found.cut:.1%} of the {found.cut:,} rows with more than k tied at the cut")
    print(f"          {bought:.1%} of the edges have a common user, {co_bought_share(interactions):.3%} of all pairs")


def main() -> None:
    """Run the benchmark by the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=10_000_000, help="generated (default: 10 million)")
    parser.add_argument("--loop-interactions", type=int, default=200_000, help="for the loop (default: 200,000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each step that is compared (default: 3)")
    parser.add_argument("--split", type=Path, help="folder with a train.json and item2id.json, for their statistics")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        work(arguments.step, arguments.path, arguments.interactions)
        return
    compare(arguments.interactions, arguments.loop_interactions, arguments.repeats)
    if arguments.split:
        statistics(arguments.split)


if __name__ == "__main__":
    main()
