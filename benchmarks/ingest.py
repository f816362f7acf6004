"""Reading raw files, against the usual Python loops, and its peak memory.

    python benchmarks/ingest.py             # 2018 reviews and 2014 metadata, ratios of the same run
    python benchmarks/ingest.py --memory    # peak memory of ingesting 200 MB and 5 GB of reviews

The files are generated from a seed. Reviews: the whole stage, from a gzipped file to Parquet, against
`for line in gzip.open(path): json.loads(line)`, which keeps nothing. Metadata: from lines to items, against
`ast.literal_eval` per line, which keeps nothing either. Each time is the best of three alternating runs.
"""

import argparse
import ast
import gzip
import json
import logging
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from isal import igzip

from mmprep.pipeline.layout import Layout
from mmprep.stages.ingest.amazon_2014 import item_in
from mmprep.stages.ingest.ingest import IngestParams, run
from mmprep.stages.ingest.records import Item

WORDS = [
    "the",
    "a",
    "and",
    "it",
    "is",
    "for",
    "of",
    "this",
    "my",
    "I",
    "you",
    "great",
    "product",
    "works",
    "well",
    "as",
    "described",
    "daughter",
    "loves",
    "very",
    "much",
    "would",
    "buy",
    "again",
    "from",
    "seller",
    "quality",
    "good",
    "price",
    "shipping",
    "was",
    "fast",
    "but",
    "little",
    "small",
    "than",
    "expected",
    "color",
    "nice",
    "soft",
    "baby",
    "easy",
]
USERS, ITEMS = 200_000, 30_000
CHUNK = 50_000  # reviews that are generated, then repeated, so that users and items do not grow with the file
MEGABYTE = 1_000_000
REVIEW_TARGET, METADATA_TARGET, GROWTH_LIMIT = 5, 3, 200


def asin(number: int) -> str:
    """An item id in Amazon's format."""
    return f"B{number * 7_919 % 10**9:09d}"


def review(chance: random.Random) -> str:
    """A review of the 2018 edition, some 300 to 600 bytes."""
    user = f"A{chance.randrange(USERS) * 104_729 % 10**13:013d}"
    row = {
        "overall": float(chance.randint(1, 5)),
        "verified": True,
        "reviewTime": "06 17, 2018",
        "reviewerID": user,
        "asin": asin(chance.randrange(ITEMS)),
        "style": {"Color:": " Blue"},
        "reviewerName": chance.choice(WORDS).title(),
        "reviewText": " ".join(chance.choices(WORDS, k=chance.randint(5, 65))) + ' "really"\n\u00e9.',
        "summary": " ".join(chance.choices(WORDS, k=3)),
        "unixReviewTime": chance.randrange(1_300_000_000, 1_540_000_000),
    }
    return json.dumps(row)


def metadata(number: int, chance: random.Random) -> str:
    """An item of the 2014 edition; every second description has an apostrophe, so that it is in double quotes."""
    words = chance.choices(WORDS, k=chance.randint(40, 160))
    related = {
        kind: [asin(chance.randrange(10**6)) for _ in range(chance.randint(20, 100))]
        for kind in ("also_bought", "also_viewed", "buy_after_viewing")
    }
    row = {
        "asin": asin(number),
        "title": " ".join(words[:8]),
        "description": " ".join(["It's" if number % 2 else "It is", *words]),
        "price": 12.99,
        "imUrl": f"http://images.example.com/images/I/{number}.jpg",
        "related": related,
        "salesRank": {"Baby": number},
        "brand": words[0],
        "categories": [["Baby", "Feeding", "Bibs & Burp Cloths"]],
    }
    return repr(row)


def write_reviews(path: Path, size: int) -> int:
    """Write gzipped reviews of about `size` bytes before compression; return the number of reviews."""
    chance = random.Random(0)  # noqa: S311 - no secret
    block = ("\n".join(review(chance) for _ in range(CHUNK)) + "\n").encode()
    block = block[: block.rfind(b"\n", 0, size) + 1]
    blocks = max(1, size // len(block))
    with igzip.open(path, "wb") as file:  # type: ignore[no-untyped-call]
        for _ in range(blocks):
            file.write(block)
    return blocks * block.count(b"\n")


def loop_over_reviews(path: Path) -> None:
    """The reference: parse every line, keep nothing."""
    with gzip.open(path) as file:
        for line in file:
            json.loads(line)


def best_times(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The best time of each function in seconds, over alternating runs."""
    times = dict.fromkeys(ways, float("inf"))
    for _ in range(runs):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def measure_reviews(folder: Path, size: int) -> None:
    """Print the stage's speed on reviews."""
    layout = Layout(folder, "reviews")
    layout.raw.mkdir(parents=True)
    path = layout.raw / "reviews.json.gz"
    reviews = write_reviews(path, size)
    times = best_times({"loop": lambda: loop_over_reviews(path), "ingest": lambda: run(IngestParams(), layout)}, runs=3)
    print(f"2018 reviews: {reviews:,} of {size / reviews:.0f} bytes")
    print_ratio(
        "gzip.open and json.loads", "mmprep.stages.ingest.ingest.run", times["loop"], times["ingest"], REVIEW_TARGET
    )


def measure_metadata(items: int) -> None:
    """Print the speed of reading the lines of items."""
    chance = random.Random(0)  # noqa: S311 - no secret
    lines = [metadata(number, chance).encode() for number in range(items)]
    assert all(isinstance(item_in(line), Item) for line in lines)
    times = best_times(
        {
            "loop": lambda: [ast.literal_eval(line.decode()) and None for line in lines],
            "items": lambda: [item_in(line) for line in lines],
        },
        runs=3,
    )
    print(f"2014 metadata: {items:,} lines of {sum(map(len, lines)) / items:.0f} bytes")
    print_ratio("ast.literal_eval", "item_in", times["loop"], times["items"], METADATA_TARGET)


def print_ratio(reference: str, ours: str, slow: float, quick: float, target: float) -> None:
    """Print two times and their ratio."""
    met = "met" if slow / quick >= target else "MISSED"
    print(f"  {reference} {slow:.2f} s, {ours} {quick:.2f} s: {slow / quick:.1f} times (target {target}, {met})")


def measure_memory(folder: Path, sizes: tuple[int, ...]) -> None:
    """Print the peak memory of ingesting files of these sizes, each in its own process."""
    peaks = []
    for size in sizes:
        layout = Layout(folder, f"reviews-{size}")
        layout.raw.mkdir(parents=True)
        reviews = write_reviews(layout.raw / "reviews.json.gz", size)
        command = [sys.executable, __file__, "--ingest", str(folder), "--dataset", layout.dataset]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds, peak = map(float, done.stdout.split())
        peaks.append(peak)
        print(f"{size / MEGABYTE:,.0f} MB, {reviews:,} reviews: peak {peak:.0f} MB, {seconds:.1f} s")
    met = "met" if peaks[-1] - peaks[0] <= GROWTH_LIMIT else "MISSED"
    print(f"grown by {peaks[-1] - peaks[0]:.0f} MB (limit {GROWTH_LIMIT} MB, {met})")


def ingest_once(layout: Layout) -> None:
    """Ingest and print the seconds and the peak memory in MB."""
    start = time.perf_counter()
    run(IngestParams(), layout)
    print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE)


def sizes_in_megabytes(text: str) -> Iterator[int]:
    """Sizes in bytes of a list such as 200,5000."""
    return (int(size) * MEGABYTE for size in text.split(","))


def main() -> None:
    """Run the benchmark by the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--sizes", default="200,5000", help="megabytes of reviews for --memory")
    parser.add_argument("--megabytes", type=int, default=300, help="of reviews to time")
    parser.add_argument("--items", type=int, default=5_000, help="lines of metadata to time")
    parser.add_argument("--ingest", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dataset", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if arguments.ingest:
        ingest_once(Layout(arguments.ingest, arguments.dataset))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            measure_memory(Path(folder), tuple(sizes_in_megabytes(arguments.sizes)))
        else:
            measure_reviews(Path(folder), arguments.megabytes * MEGABYTE)
            measure_metadata(arguments.items)


if __name__ == "__main__":
    main()
