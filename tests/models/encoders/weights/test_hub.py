from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from mmprep.models.encoders.catalogue import CATALOGUE
from mmprep.models.encoders.weights.hub import fetch_repository
from mmprep.pipeline.errors import WeightsError, first_line

CLIP = CATALOGUE["clip_vit_b32"]
REPOSITORY = "openai/clip-vit-base-patch32"
PutIntoCache = Callable[[str, Iterable[Path]], Path]


def write(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return [folder / name for name in names]


@pytest.mark.parametrize("weights", ["model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin"])
def test_what_is_on_disk_is_not_asked_for(
    hub_cache: PutIntoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    snapshot = hub_cache(REPOSITORY, write(tmp_path / "files", "config.json", weights))
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", None)
    assert fetch_repository(CLIP, "here") == snapshot


class Hub:
    """A hub with some files, and what it was asked for."""

    def __init__(self, folder: Path, *files: str) -> None:
        self.folder = folder
        self.files = files
        self.asked: list[list[str]] = []

    def snapshot_download(self, repository: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        assert repository == REPOSITORY
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        self.asked.append(allow_patterns)
        wanted = [file for file in self.files if any(Path(file).match(pattern) for pattern in allow_patterns)]
        write(self.folder, *wanted)
        return str(self.folder)


def test_safetensors_are_fetched_and_nothing_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path / "hub", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "config.json", "run.py")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    folder = fetch_repository(CLIP, "here")
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json"}
    assert len(hub.asked) == 1


def test_file_of_pytorchs_is_fetched_where_there_are_no_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path / "hub", "pytorch_model.bin", "tf_model.h5", "config.json")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    assert {path.name for path in fetch_repository(CLIP, "here").iterdir()} == {"pytorch_model.bin", "config.json"}


def test_repository_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path / "hub", "tf_model.h5", "config.json")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    with pytest.raises(WeightsError) as caught:
        fetch_repository(CLIP, "here")
    assert str(caught.value) == (
        f"here: {REPOSITORY} has neither safetensors nor pytorch_model.bin, as far as the hub can be reached; "
        "convert its weights and give the folder"
    )


def test_fetch_that_was_interrupted_is_not_taken_for_whole(hub_cache: PutIntoCache, tmp_path: Path) -> None:
    hub_cache(REPOSITORY, write(tmp_path / "files", "config.json"))
    with pytest.raises(WeightsError, match="has neither safetensors nor"):
        fetch_repository(CLIP, "here")


def test_name_that_no_repository_can_have_is_refused_in_one_line() -> None:
    with pytest.raises(WeightsError, match=r"here: pretrained weights of a/b/c could not be fetched \(") as caught:
        fetch_repository(replace(CLIP, published_weights="a/b/c"), "here")
    assert "\n" not in str(caught.value)


def test_first_line_is_the_first_that_says_something() -> None:
    assert first_line(ValueError("\n\n  it broke \nhere")) == "it broke"
    assert first_line(ValueError("")) == "ValueError"
