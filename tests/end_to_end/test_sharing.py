"""Two clones of one team: what one of them has computed, the other one takes."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import add_tiny, check_out, run
from s3 import BUCKET, Endpoint, s3_endpoint


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


@pytest.fixture(scope="module")
def computed(checkout: Path) -> Path:
    """A copy of it in which the pipeline has run up to the features."""
    folder = copy(checkout, checkout.parent / "computed")
    run(folder, "dvc", "repro", "extract@minilm", "graph-cooccurrence")
    return folder


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True)
    return target


def share(folder: Path, remote: str, *settings: tuple[str, str]) -> None:
    """Push what the pipeline has made to a remote."""
    run(folder, "dvc", "remote", "add", "-d", "team", remote)
    for name, value in settings:
        run(folder, "dvc", "remote", "modify", "team", name, value)
    run(folder, "dvc", "push")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "features")


def test_a_second_clone_pulls_features_from_a_folder_and_runs_nothing(computed: Path, tmp_path: Path) -> None:
    first = copy(computed, tmp_path / "first")
    share(first, str(tmp_path / "remote"))
    assert_second_clone_runs_nothing(first, tmp_path / "second")


@pytest.mark.long
def test_a_second_clone_pulls_features_from_s3_and_runs_nothing(
    computed: Path, tmp_path: Path, on_s3: Endpoint
) -> None:
    first = copy(computed, tmp_path / "first")
    share(first, f"s3://{BUCKET}/dvc", ("endpointurl", on_s3.url))
    assert any(key.startswith("dvc/files/md5/") for key in on_s3.object_names())
    assert_second_clone_runs_nothing(first, tmp_path / "second")


def assert_second_clone_runs_nothing(first: Path, second: Path) -> None:
    run(first, "git", "clone", "-q", str(first), str(second))
    run(second, "dvc", "pull", "data/raw/tiny.dvc", "extract@minilm", "graph-cooccurrence", "--with-deps")
    made = sorted(path.relative_to(first) for path in (first / "data/features/tiny/minilm").iterdir())
    assert made
    for path in made:
        assert (second / path).read_bytes() == (first / path).read_bytes()
    output = run(second, "dvc", "repro", "extract@minilm", "graph-cooccurrence")
    assert "Running stage" not in output
    assert "all" in run(second, "mmprep", "verify").splitlines()[-1]


@pytest.mark.long
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
