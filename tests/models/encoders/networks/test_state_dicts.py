import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mmprep.models.encoders.networks.state_dicts import load_state, read_state
from mmprep.pipeline.errors import WeightsError


class Command:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def small_state() -> dict[str, torch.Tensor]:
    return {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2), "steps": torch.tensor(3)}


def save_zip(state: object, file: Path) -> None:
    torch.save(state, file)


def save_legacy(state: object, file: Path) -> None:
    torch.save(state, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_pytorch_file_is_read(tmp_path: Path, save: Any) -> None:  # noqa: ANN401
    file = tmp_path / "weights.pth"
    save(small_state(), file)
    found = read_state(file)
    assert found.keys() == small_state().keys()
    assert all(torch.equal(found[name], value) for name, value in small_state().items())


def test_safetensors_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(small_state(), file)
    found = read_state(file)
    assert found.keys() == small_state().keys()
    assert all(torch.equal(found[name], value) for name, value in small_state().items())


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_pickled_code_is_refused_and_never_run(tmp_path: Path, how: str) -> None:
    file, trace = tmp_path / "weights.pth", tmp_path / "it-ran"
    state = {"layer.weight": torch.ones(2), "code": Command(trace)}
    if how == "pickle":
        file.write_bytes(pickle.dumps(state, protocol=2))
    else:
        (save_zip if how == "zip" else save_legacy)(state, file)
    with pytest.raises(WeightsError, match="not a file of weights"):
        read_state(file)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Command(trace)))  # noqa: S301 - shows that the file would have run code
    assert trace.exists()


def test_pytorch_file_of_something_else_than_tensors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(torch.ones(3), file)
    with pytest.raises(WeightsError, match="found Tensor, expected a state dict of tensors"):
        read_state(file)
    torch.save({"epoch": 3, "state": small_state()}, file)
    with pytest.raises(WeightsError, match="found dict, expected a state dict of tensors"):
        read_state(file)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b".", b"\x80\x02.", b"\x80", b"PK\x03\x04", b"not weights at all", b"J\x00"])
def test_file_of_anything_else_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="not a file of weights") as caught:
        read_state(file)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=24), name=st.sampled_from(["weights.pth", "weights.safetensors"]))
def test_no_content_of_a_file_gives_another_error(tmp_path: Path, content: bytes, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(WeightsError):
        read_state(file)


@pytest.mark.parametrize("cut", [1, 40, 400])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_cut_off_file_is_refused(tmp_path: Path, name: str, cut: int) -> None:
    file = tmp_path / name
    (torch.save if name.endswith("pth") else save_file)(small_state(), file)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(WeightsError, match="not a file of weights"):
        read_state(file)


def test_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a file of weights"):
        read_state(tmp_path)


def test_loaded_state_is_the_modules_own() -> None:
    module = torch.nn.Linear(3, 2)
    state = {"weight": torch.full((2, 3), 0.5), "bias": torch.zeros(2)}
    load_state(module, state, "here")
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("state", "difference"),
    [
        ({"weight": torch.ones(2, 4), "bias": torch.ones(2)}, "weight has (2, 4), expected (2, 3)"),
        ({"weight": torch.ones(2, 3)}, "bias has nothing, expected (2,)"),
        (
            {"weight": torch.ones(2, 3), "bias": torch.ones(2), "scale": torch.ones(1)},
            "scale has (1,), expected nothing",
        ),
        ({"weight": torch.ones(9), "bias": torch.ones(9)}, "bias has (9,), expected (2,)"),
    ],
)
def test_weights_of_another_network_are_refused_by_their_first_difference(
    state: dict[str, torch.Tensor], difference: str
) -> None:
    module = torch.nn.Linear(3, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_state(module, state, "here")
    assert str(caught.value) == f"here: weights of another network: {difference}"
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_folder_gives_its_safetensors_or_else_its_file_of_pytorchs(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert read_state(tmp_path)["a"].tolist() == [0]
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert read_state(tmp_path)["a"].tolist() == [1]


class Evil:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


@pytest.mark.parametrize("value", [Evil(), {"weight": Evil()}, torch.nn.Linear(2, 2)])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_refused_file_never_passes_on_how_to_run_it(tmp_path: Path, value: object, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="it holds more than tensors, ") as caught:
        read_state(path)
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: not a file of weights (")
