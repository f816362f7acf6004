"""Extract stages that are killed, run at the same time, or must do without much memory or without torch."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slow_extract import KINDS, extract, peak_memory
from worlds import write_items

from mmprep.pipeline.cache.row_cache import cache_place
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.stages.maintenance.cache import stats, verify

BATCH = 4
IN_FLIGHT = 2 * BATCH  # one in the network, one on its way to the disk


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Starts processes that need not import anything first, so that a kill meets the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "polars", "pyarrow.parquet", "scipy.linalg", "mmprep.stages.extract.extract"]
    )
    yield context


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Sixty items with texts of any length; each third photo shows what another does, and some do not open."""
    layout = Layout(tmp_path / "data", "toy")
    items: list[dict[str, str | None]] = []
    (layout.raw / "images").mkdir(parents=True)
    for n in range(60):
        photo = layout.raw / "images" / f"{n}.png"
        Image.new("RGB", (8, 8), (n - n % 3 % 2,) * 3).save(photo)
        if n % 7 == 3:
            photo.write_bytes(b"no photo")
        items.append({"title": "x" * (n * 37 % 50) + f"{n}", "image": f"images/{n}.png"})
    write_items(layout, items)
    return layout


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def rows_in(cache: Path) -> int:
    return sum(each.rows for each in stats(cache_place({"MMPREP_CACHE": str(cache)})))


@pytest.mark.parametrize("kills", [20])
@pytest.mark.parametrize("name", list(KINDS))
def test_a_run_that_is_killed_again_and_again_gives_what_an_undisturbed_one_gives(
    layout: Layout, tmp_path: Path, processes: ForkServerContext, name: str, kills: int
) -> None:
    undisturbed = extract(layout.root, tmp_path / "undisturbed", name, 0)["run_through_network"]
    expected = digests(layout.features(name))
    caches = [tmp_path / f"cache-{n}" for n in range(kills // 2)]
    moments = np.random.default_rng(len(name)).uniform(0.05, 0.7, kills)
    alive = 0
    for cache, moment in zip(caches * 2, moments, strict=True):  # the second kill meets a run that goes on
        before = rows_in(cache)
        process = processes.Process(target=extract, args=(layout.root, cache, name, 0.05))
        process.start()
        process.join(moment)
        alive += process.is_alive()
        process.kill()
        process.join()
        assert rows_in(cache) >= before  # nothing that was encoded is lost
    assert alive > kills // 2
    kept = [rows_in(cache) for cache in caches]
    assert len(set(kept)) > max(1, kills // 10)  # they were killed at different points
    for cache, rows in zip(caches, kept, strict=True):
        assert extract(layout.root, cache, name, 0)["run_through_network"] == max(0, undisturbed - rows)
        assert digests(layout.features(name)) == expected
        assert verify(cache_place({"MMPREP_CACHE": str(cache)})).damaged == []


def test_a_kill_wastes_at_most_the_batches_in_flight(
    layout: Layout, tmp_path: Path, processes: ForkServerContext
) -> None:
    seen = processes.Value("i", 0)
    process = processes.Process(target=extract_counted, args=(layout.root, tmp_path / "cache", seen))
    process.start()
    while seen.value < 24:
        process.join(0.001)
        assert process.is_alive()
    process.kill()
    process.join()
    kept = rows_in(tmp_path / "cache")
    assert seen.value - IN_FLIGHT <= kept <= seen.value
    again = extract(layout.root, tmp_path / "cache", "minilm", 0)
    assert again["run_through_network"] == 60 - kept


def extract_counted(root: Path, cache: Path, seen: object) -> None:
    import fakes

    encode = fakes.FakeEncoder.encode

    def counted(self: fakes.FakeEncoder, batch: list[fakes.Seen]) -> object:
        seen.value += len(batch)  # type: ignore[attr-defined]
        return encode(self, batch)

    fakes.FakeEncoder.encode = counted  # type: ignore[method-assign, assignment]
    extract(root, cache, "minilm", 0.02)


def test_runs_at_the_same_time_share_a_cache_that_stays_whole(tmp_path: Path, processes: ForkServerContext) -> None:
    layouts = [Layout(tmp_path / f"data-{n}", "toy") for n in range(3)]
    for n, layout in enumerate(layouts):
        write_items(layout, [{"title": f"Item {item}"} for item in range(20 * n, 20 * n + 60)])
    cache = tmp_path / "cache"
    with ProcessPoolExecutor(3, mp_context=processes) as pool:
        runs = [pool.submit(extract, layout.root, cache, "minilm", 0.01) for layout in layouts]
        assert [run.result()["encoded"] for run in runs] == [60, 60, 60]
    found = verify(cache_place({"MMPREP_CACHE": str(cache)}))
    assert found.damaged == []
    assert found.rows >= 100
    assert [extract(layout.root, cache, "minilm", 0)["run_through_network"] for layout in layouts] == [0, 0, 0]


def test_memory_does_not_grow_with_the_number_of_items(tmp_path: Path, processes: ForkServerContext) -> None:
    peaks = []
    for count in (100, 400):  # 30 and 120 MB of rows
        layout = Layout(tmp_path / f"{count}", "toy")
        (layout.raw / "images").mkdir(parents=True)
        items: list[dict[str, str | None]] = []
        for n in range(count):
            Image.new("RGB", (8, 8), (n % 256, n // 256, 0)).save(layout.raw / "images" / f"{n}.png")
            items.append({"image": f"images/{n}.png"})
        write_items(layout, items)
        with ProcessPoolExecutor(1, mp_context=processes) as pool:
            peaks.append(pool.submit(peak_memory, layout.root, tmp_path / "cache").result())
    assert peaks[1] < peaks[0] + 45


def test_a_run_out_of_the_cache_imports_no_network_library(layout: Layout, tmp_path: Path) -> None:
    extract(layout.root, tmp_path / "cache", "minilm", 0)
    script = f"""
import sys
from pathlib import Path
from mmprep.models.encoders.params import ExtractParams, TextEncoderParams
from mmprep.pipeline.layout import Layout
from mmprep.stages.extract.extract import run
params = TextEncoderParams(weights="random:3", batch_size=4)
metrics = run("minilm", ExtractParams(), params, Layout(Path({str(layout.root)!r}), "toy"))
assert metrics["out_of_cache"] == 60 and metrics["run_through_network"] == 0, metrics
print(sorted({{"torch", "torchvision", "transformers", "sentence_transformers", "timm"}} & sys.modules.keys()))
"""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "MMPREP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
