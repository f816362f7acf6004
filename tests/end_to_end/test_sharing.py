"""Two clones of one team at an S3 endpoint: what one has computed, the other takes. test_dvc.py has it by a folder."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import add_tiny, assert_second_clone_runs_nothing, check_out, copy, run, share
from s3 import BUCKET, Endpoint, s3_endpoint

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with s3_endpoint() as found:
        yield found


@pytest.fixture
def on_s3(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    return endpoint


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the dataset `tiny`, which DVC tracks, as a team shares it."""
    folder = check_out(tmp_path_factory.mktemp("sharing") / "checkout")
    add_tiny(folder)
    run(folder, "dvc", "add", "data/raw/tiny")
    return folder


def test_a_second_clone_pulls_features_from_s3_and_runs_nothing(
    checkout: Path, tmp_path: Path, on_s3: Endpoint
) -> None:
    first = copy(checkout, tmp_path / "first")
    run(first, "dvc", "repro", "extract@minilm", "graph-cooccurrence")
    share(first, f"s3://{BUCKET}/dvc", ("endpointurl", on_s3.url))
    assert any(key.startswith("dvc/files/md5/") for key in on_s3.object_names())
    assert_second_clone_runs_nothing(first, tmp_path / "second")


def test_clones_without_dvc_share_a_row_cache_on_s3(
    checkout: Path, tmp_path: Path, on_s3: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMPREP_CACHE", f"s3://{BUCKET}/rows")
    first, second = copy(checkout, tmp_path / "first"), copy(checkout, tmp_path / "second")
    assert run_and_count(first, "minilm") == (38, 0)
    assert run_and_count(second, "minilm") == (0, 38)
    folder = Path("data/features/tiny/minilm")
    for path in (first / folder).iterdir():
        assert (second / folder / path.name).read_bytes() == path.read_bytes()
    assert re.search(r"\bminilm\b.*\b38\b", run(second, "mmprep", "cache", "stats"))
    assert any(key.startswith("rows/") for key in on_s3.object_names())


def run_and_count(folder: Path, encoder: str) -> tuple[int, int]:
    """Run the pipeline up to an encoder's features; how many items went through the network and out of the cache."""
    for verb in ("ingest", "filter"):
        run(folder, "mmprep", verb)
    output = run(folder, "mmprep", "extract", "--encoder", encoder)
    network, cache = (re.search(rf"{key} +(\d+)", output) for key in ("run_through_network", "out_of_cache"))
    assert network
    assert cache
    return int(network[1]), int(cache[1])
