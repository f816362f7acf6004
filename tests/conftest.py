"""Fixtures that several tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No test may reach for a hub: encoders come from a package, a file that the test makes, or a seed.
os.environ["HF_HUB_OFFLINE"] = "1"

# The same examples in every run: what a commit passes, it passes again.
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def tiny_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated raw dataset: 60 users, 40 items, about 800 reviews, 40 photos."""
    from stages.sample import write_sample

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
