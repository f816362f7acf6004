"""Filtering and splitting, from published ids to splits of dense indices, against the usual pandas loop.

    python benchmarks/filter_split.py
    python benchmarks/filter_split.py --rows 100000000 --no-reference --repeats 1

Each step runs in its own process, which reports the time of its work, without Python's start, and its peak memory. Both
sides read the same Parquet file and write the splits as Parquet.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import INTERACTIONS, RAW_ITEMS, SPLITS, TEXT_FIELDS

K = 5
CHUNK = 2_000_000  # rows written at once
ROWS_A_USER, ROWS_AN_ITEM = 5, 15  # on average, before filtering
# The n-th most active of N draws rows in proportion to (n / N) ** (1 / SKEW - 1).
USER_SKEW, ITEM_SKEW = 2.0, 2.5
LETTERS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", dtype=np.uint8)
STEPS = ("generate", "filter", "split", "pandas")


def ids(numbers: npt.NDArray[np.int64], first: str, length: int) -> pa.Array:
    """Unordered ids, unique per number: a letter followed by `length` of LETTERS."""
    bits = min(64, 5 * length)
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) & np.uint64(2**bits - 1)
    letters = np.empty((len(numbers), length + 1), dtype=np.uint8)
    letters[:, 0] = ord(first)
    for place in range(length):
        letters[:, place + 1] = LETTERS[mixed >> np.uint64(5 * place) & np.uint64(31)]
    ends = np.arange(len(numbers) + 1, dtype=np.int64) * (length + 1)
    return pa.LargeStringArray.from_buffers(len(numbers), pa.py_buffer(ends), pa.py_buffer(letters))


def reviews(rows: int, seed: int) -> Iterator[pa.Table]:
    """Interactions with a long tail of users and of items, in chunks."""
    chance = np.random.default_rng(seed)
    for start in range(0, rows, CHUNK):
        n = min(CHUNK, rows - start)
        users = (chance.random(n) ** USER_SKEW * (rows // ROWS_A_USER)).astype(np.int64)
        items = (chance.random(n) ** ITEM_SKEW * (rows // ROWS_AN_ITEM)).astype(np.int64)
        columns = [
            ids(users, "A", 13),
            ids(items, "B", 9),
            chance.integers(1, 6, n).astype(np.float32),
            chance.integers(830_000_000, 1_400_000_000, n),
            pa.nulls(n, pa.large_string()),
        ]
        yield pa.table(columns, schema=INTERACTIONS.schema)


def descriptions(rows: int) -> Iterator[pa.Table]:
    """Items, each with a title, in chunks."""
    for start in range(0, rows // ROWS_AN_ITEM, CHUNK):
        own = ids(np.arange(start, min(start + CHUNK, rows // ROWS_AN_ITEM)), "B", 9)
        empty, none = pa.array([""] * len(own), pa.large_string()), pa.nulls(len(own), pa.large_string())
        yield pa.table([own, own, *[empty] * (len(TEXT_FIELDS) - 1), none, none], schema=RAW_ITEMS.schema)


def generate(layout: Layout, rows: int) -> dict[str, Any]:
    """Write the tables that `ingest` writes."""
    made_by = Provenance("benchmark", {"rows": rows}, {}, {}, {})
    made = {layout.raw_interactions: reviews(rows, seed=0), layout.raw_items: descriptions(rows)}
    for path, chunks in made.items():
        table = INTERACTIONS if path == layout.raw_interactions else RAW_ITEMS
        with table.writer(path, made_by) as write:
            for chunk in chunks:
                write(pl.DataFrame(chunk))
    return {"bytes": layout.raw_interactions.stat().st_size}


def filter_step(layout: Layout) -> dict[str, Any]:
    """`mmprep filter`."""
    from mmprep.stages.prepare.filter import FilterParams, run

    return run(FilterParams(k_core=K), layout)


def split_step(layout: Layout) -> dict[str, Any]:
    """`mmprep split`."""
    from mmprep.stages.prepare.split import SplitParams, run

    return run(SplitParams(), layout)


def pandas_step(layout: Layout) -> dict[str, Any]:
    """The usual notebook: all steps on published ids, the k-core by recounting until nothing changes."""
    import pandas as pd

    frame = pd.read_parquet(layout.raw_interactions, columns=["user_id", "item_id", "rating", "timestamp"])
    frame = frame.sort_values("timestamp").drop_duplicates(["user_id", "item_id"], keep="last")
    before = 0
    while len(frame) != before:
        before = len(frame)
        for name in ("user_id", "item_id"):
            counts = frame[name].value_counts()
            frame = frame[frame[name].isin(counts[counts >= K].index)]
    for name, number in (("user_id", "user"), ("item_id", "item")):
        frame[number] = pd.factorize(frame[name], sort=True)[0].astype(np.int32)
    frame = frame.drop(columns=["user_id", "item_id"]).sample(frac=1, random_state=0)
    place, n = frame.groupby("user").cumcount(), frame.groupby("user")["item"].transform("size")
    held = (n * 2 // 10).where(n >= 10, 2)
    test = held - held // 2
    frame["split"] = np.select([place < test, place < held], ["test", "val"], "train")
    frame.sort_values(["user", "item"]).to_parquet(layout.root / "pandas.parquet", index=False)
    counts = frame["split"].value_counts()
    return {"users": frame["user"].nunique(), "items": frame["item"].nunique(), **{s: int(counts[s]) for s in SPLITS}}


def work(step: str, layout: Layout, rows: int) -> None:
    """Run one step and print its result."""
    start = time.perf_counter()
    if step == "generate":
        found = generate(layout, rows)
    else:
        found = {"filter": filter_step, "split": split_step, "pandas": pandas_step}[step](layout)
    print(json.dumps({"seconds": time.perf_counter() - start, **found}))


def run_step(step: str, folder: Path, rows: int) -> dict[str, Any]:
    """Run one step in its own process; return its seconds, peak memory in GB and result."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder), "--rows", str(rows)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{step} ended with {child.returncode}")
    found: dict[str, Any] = json.loads(printed)
    found["gigabytes"] = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return found


def measure(step: str, folder: Path, rows: int, repeats: int) -> dict[str, Any]:
    """Run one step `repeats` times; print and return the run of median time."""
    runs = sorted((run_step(step, folder, rows) for _ in range(repeats)), key=lambda found: found["seconds"])
    found = runs[len(runs) // 2]
    print(
        f"{step:9} {found['seconds']:8.1f} s {rows / found['seconds'] / 1e6:8.2f} M rows/s "
        f"{found['gigabytes']:6.2f} GB peak",
        flush=True,
    )
    return found


def compare(rows: int, reference: bool, repeats: int) -> None:
    """Print each step's figures, and the speed-up of the stages over pandas."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = run_step("generate", folder, rows)
        print(f"{rows:,} interactions, {made['bytes'] / 1e9:.2f} GB of Parquet, {K}-core, mmrec, median of {repeats}")
        filtered, split = (measure(step, folder, rows, repeats) for step in ("filter", "split"))
        ours = filtered["seconds"] + split["seconds"]
        print(
            f"kept      {filtered['interactions']:,} interactions of {filtered['users']:,} users and "
            f"{filtered['items']:,} items, {filtered['rounds']} rounds"
        )
        print(f"{'both':9} {ours:8.1f} s {rows / ours / 1e6:8.2f} M rows/s")
        if reference:
            theirs = measure("pandas", folder, rows, repeats)
            for key in ("users", "items"):
                assert theirs[key] == filtered[key], key
            for key in SPLITS:
                assert theirs[key] == split[key], key
            print(f"ratio     {theirs['seconds'] / ours:8.1f} times faster than pandas, with the same counts")


def main() -> None:
    """Run the benchmark by the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="interactions (default: 5 million)")
    parser.add_argument("--no-reference", action="store_true", help="leave pandas out")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each step (default: 3)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        work(arguments.step, Layout(arguments.folder, "made"), arguments.rows)
    else:
        compare(arguments.rows, not arguments.no_reference, arguments.repeats)


if __name__ == "__main__":
    main()
