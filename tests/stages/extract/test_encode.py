import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from fakes import FakeEncoder, Seen
from PIL import Image
from worlds import write_items

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.params import ExtractParams, TextEncoderParams
from mmprep.pipeline.cache.row_cache import RowCache
from mmprep.pipeline.errors import DataError, WeightsError
from mmprep.pipeline.features.vectors import VectorBatch
from mmprep.pipeline.layout import Layout
from mmprep.stages.extract.encode import BATCHES_AHEAD, chunks, map_ahead, reader_pool
from mmprep.stages.extract.extract import run

PARAMS = TextEncoderParams(weights="random:0", batch_size=3)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    fake = FakeEncoder()
    monkeypatch.setattr("mmprep.stages.extract.encode.load_encoder", fake.load)
    return fake


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    write_items(layout, [{"title": f"{n:02d}"} for n in range(60)])
    return layout


def test_never_more_than_ahead_results_are_waiting() -> None:
    submitted: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            submitted.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        waiting = []
        for received, result in enumerate(map_ahead(pool, lambda number: 2 * number, source(), 6), start=1):
            assert result == 2 * (received - 1)
            waiting.append(len(submitted) - received)
    assert received == 50
    assert max(waiting) == 6  # it does read ahead
    assert len(submitted) == 50


def test_results_come_in_order_however_long_each_takes() -> None:
    def slow(number: int) -> int:
        time.sleep(0.01 if number % 4 == 0 else 0)
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(map_ahead(pool, slow, range(30), 8)) == list(range(30))


def test_who_ends_early_waits_for_no_more_than_was_begun() -> None:
    begun: list[int] = []

    def slow(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt), reader_pool() as pool:
        for _ in map_ahead(pool, slow, range(1000), 500):
            raise KeyboardInterrupt
    assert len(begun) < 20


def test_an_encoder_that_fails_ends_the_run_at_once(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Seen] = []

    class Failing(FakeEncoder):
        def prepare(self, source: str | Image.Image) -> Seen:
            prepared.append(super().prepare(source))
            time.sleep(0.02)
            return prepared[-1]

        def encode(self, batch: list[Seen]) -> VectorBatch:
            raise RuntimeError(f"out of memory at {len(batch)}")

    monkeypatch.setattr("mmprep.stages.extract.encode.load_encoder", Failing().load)
    with pytest.raises(RuntimeError, match="out of memory"):
        run("minilm", ExtractParams(), PARAMS, layout)
    # One batch, and what the threads had begun, of the 12 that were asked for.
    assert len(prepared) < 3 * BATCHES_AHEAD


def test_rows_that_cannot_be_kept_end_the_run(
    layout: Layout, fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RowCache, "add", Mock(side_effect=[None, None, DataError("disk full")]))
    with pytest.raises(DataError, match="disk full"):
        run("minilm", ExtractParams(), PARAMS, layout)
    assert len(fake.batches) <= 5
    assert not layout.features("minilm").exists()


def test_the_last_rows_that_cannot_be_kept_end_the_run_too(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowCache, "add", Mock(side_effect=DataError("disk full")))
    with pytest.raises(DataError, match="disk full"):
        run("minilm", ExtractParams(), PARAMS.model_copy(update={"batch_size": 100}), layout)


def test_the_network_is_loaded_once_and_where_it_can_be_interrupted(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading: list[threading.Thread] = []

    def load(_: Identity) -> FakeEncoder:
        loading.append(threading.current_thread())
        raise WeightsError("no network")

    monkeypatch.setattr("mmprep.stages.extract.encode.load_encoder", load)
    with pytest.raises(WeightsError, match="no network"):
        run("minilm", ExtractParams(), PARAMS, layout)
    assert loading == [threading.main_thread()]


def test_reader_is_at_most_some_batches_ahead_of_the_encoder(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Seen] = []
    lead: list[int] = []

    class Counting(FakeEncoder):
        def prepare(self, source: str | Image.Image) -> Seen:
            prepared.append(super().prepare(source))
            return prepared[-1]

        def encode(self, batch: list[Seen]) -> VectorBatch:
            rows = super().encode(batch)
            lead.append(len(prepared) - len(self.seen))
            return rows

    monkeypatch.setattr("mmprep.stages.extract.encode.load_encoder", Counting().load)
    run("minilm", ExtractParams(), PARAMS, layout)
    assert len(prepared) == 60
    assert max(lead) <= 3 * BATCHES_AHEAD


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_chunks_are_full_but_the_last(count: int, sizes: list[int]) -> None:
    made = list(chunks(range(count), 3))
    assert [len(chunk) for chunk in made] == sizes
    assert [value for chunk in made for value in chunk] == list(range(count))


def test_batches_are_of_like_size_the_largest_first(tmp_path: Path, fake: FakeEncoder) -> None:
    layout = Layout(tmp_path / "mixed", "toy")
    write_items(layout, [{"title": "x" * (1 + n * 7 % 13)} for n in range(13)])
    run("minilm", ExtractParams(), PARAMS, layout)
    sizes = [len(str(text)) for text in fake.seen]
    assert sizes == list(range(13, 0, -1))
