"""Fixtures that several tests share."""

import os
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

# No test may reach for a hub: encoders come from a package, a file that the test makes, or a seed.
os.environ["HF_HUB_OFFLINE"] = "1"

# Where tests run beside each other each keeps to a core; before torch and NumPy are loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, however busy the machine is: what a commit passes, it passes again.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

ROOT = Path(__file__).parent.parent
CACHES = count()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names bytes by their place: what gzip writes has the time in it, and workers must agree on all names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What fixtures of a module or of all tests encode stays out of the user's own row cache."""
    os.environ["MMPREP_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row cache of its own for each test, so that none finds what another has encoded."""
    monkeypatch.setenv("MMPREP_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{next(CACHES)}"))


@pytest.fixture(scope="session")
def tiny_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated raw dataset: 60 users, 40 items, about 800 reviews, 40 photos."""
    from mmprep.stages.sample.sample import write_sample

    folder = tmp_path_factory.mktemp("tiny") / "raw" / "tiny"
    write_sample(folder, users=60, items=40, reviews=800)
    return folder


@pytest.fixture
def in_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that is the current one during the test."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@pytest.fixture
def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
