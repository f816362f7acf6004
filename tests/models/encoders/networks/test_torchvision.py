import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest
import torch
from deferred import Deferred
from PIL import Image
from safetensors.torch import save_file

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.catalogue import CATALOGUE
from mmprep.models.encoders.image_encoder import ImageEncoder
from mmprep.models.encoders.weights.sources import WeightsSource
from mmprep.pipeline.errors import WeightsError

get_model = Deferred("torchvision.models:get_model")
get_model_weights = Deferred("torchvision.models:get_model_weights")
create_feature_extractor = Deferred("torchvision.models.feature_extraction:create_feature_extractor")
interpolate_embeddings = Deferred("torchvision.models.vision_transformer:interpolate_embeddings")
SEED = 7
TOLERANCE = 1e-5  # of the largest number
MakeIdentity = Callable[..., Identity]
Floats = npt.NDArray[np.float32]


class Saved:
    """torchvision's own networks with random weights, and their state dicts on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._networks: dict[str, torch.nn.Module] = {}

    def network(self, model: str) -> torch.nn.Module:
        if model not in self._networks:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(SEED)
                self._networks[model] = get_model(model, weights=None).eval()
        return self._networks[model]

    def file(self, model: str, suffix: str) -> Path:
        file = self._folder / f"{model}{suffix}"
        if not file.exists():
            (save_file if suffix == ".safetensors" else torch.save)(self.network(model).state_dict(), file)
        return file


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    folder = tmp_path_factory.mktemp("states")
    yield Saved(folder)
    for file in folder.iterdir():  # up to half a gigabyte each, which pytest would keep for three runs
        file.unlink()


def encode(encoder: ImageEncoder, photos: list[Image.Image]) -> Floats:
    return np.asarray(encoder.encode([encoder.prepare(photo) for photo in photos]).vectors, dtype=np.float32)


@torch.inference_mode()
def layer(network: torch.nn.Module, node: str, batch: torch.Tensor) -> Floats:
    """A layer's activations, by torchvision alone."""
    activations: Floats = create_feature_extractor(network, {node: "wanted"})(batch)["wanted"].numpy()
    return activations


def assert_equal_enough(found: npt.NDArray[Any], expected: Floats) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def assert_different(vectors: npt.NDArray[Any]) -> None:
    """The photos differ by far more than the tolerance."""
    assert np.abs(vectors[0] - vectors[-1]).max() > 100 * TOLERANCE * np.abs(vectors).max()


VECTORS = [
    pytest.param("vgg16", "classifier.4", ".pth", marks=pytest.mark.long),  # as alexnet, deeper
    pytest.param("vgg19", "classifier.4", ".safetensors", marks=pytest.mark.long),  # as alexnet, deeper
    ("alexnet", "classifier.5", ".safetensors"),
    ("resnet50", "flatten", ".pth"),
]


@pytest.mark.parametrize(("name", "node", "suffix"), VECTORS)
def test_vector_is_the_layer_that_torchvision_gives(
    saved: Saved, photos: list[Image.Image], identity_of: MakeIdentity, name: str, node: str, suffix: str
) -> None:
    encoder = ImageEncoder(identity_of(name, weights=str(saved.file(name, suffix))))
    transform = get_model_weights(name)["IMAGENET1K_V1"].transforms()
    batch = torch.stack([transform(photo) for photo in photos])
    for photo, expected in zip(photos, batch, strict=True):
        torch.testing.assert_close(encoder.prepare(photo), expected, rtol=0, atol=0)
    vectors = encode(encoder, photos)
    assert vectors.shape == (3, CATALOGUE[name].dimension)
    assert vectors.min() == 0  # all of them end in a ReLU
    assert_equal_enough(vectors, layer(saved.network(name), node, batch))
    assert_different(vectors)
    assert_equal_enough(encode(encoder, photos[:1]), vectors[:1])


@pytest.mark.parametrize(("name", "tokens"), [("vit_b16", slice(0, 1)), ("vit_b16_patches", slice(1, None))])
def test_vision_transformer_gives_the_normalised_tokens_of_torchvision(
    saved: Saved, photos: list[Image.Image], identity_of: MakeIdentity, name: str, tokens: slice
) -> None:
    encoder = ImageEncoder(identity_of(name, weights=str(saved.file("vit_b_16", ".safetensors"))))
    transform = get_model_weights("vit_b_16")["IMAGENET1K_V1"].transforms()
    batch = torch.stack([transform(photo) for photo in photos[:2]])
    expected = layer(saved.network("vit_b_16"), "encoder.ln", batch)[:, tokens]
    assert_equal_enough(encode(encoder, photos[:2]), expected.reshape(-1, 768))
    assert_different(expected)
    # Of one photo alone there is as much.
    alone = encoder.encode([encoder.prepare(photos[1])])
    assert len(alone) == 1
    assert_equal_enough(np.asarray(alone.vectors), expected[1])


def test_256_patches_are_those_of_positions_that_torchvision_interpolated(
    saved: Saved, photos: list[Image.Image], identity_of: MakeIdentity
) -> None:
    weights = str(saved.file("vit_b_16", ".safetensors"))
    encoder = ImageEncoder(identity_of("vit_b16_patches", weights=weights, image_size=256))
    larger = get_model("vit_b_16", weights=None, image_size=256).eval()
    state = OrderedDict(saved.network("vit_b_16").state_dict())
    larger.load_state_dict(interpolate_embeddings(256, 16, state))
    # Of the same proportions as the published transform: 256 * 256 / 224.
    transform = get_model_weights("vit_b_16")["IMAGENET1K_V1"].transforms(crop_size=256, resize_size=292)
    expected = layer(larger, "encoder.ln", torch.stack([transform(photos[0])]))
    rows = encoder.encode([encoder.prepare(photos[0])])
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [256]
    assert_equal_enough(np.asarray(rows.vectors, dtype=np.float32), expected[:, 1:].reshape(-1, 768))


def test_random_weights_are_the_librarys_own_of_that_seed_and_leave_its_generator_alone(
    saved: Saved, photos: list[Image.Image], identity_of: MakeIdentity
) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seeded = encode(ImageEncoder(identity_of("alexnet", weights=f"random:{SEED}")), photos)
    assert torch.equal(torch.get_rng_state(), before)
    from_file = encode(ImageEncoder(identity_of("alexnet", weights=str(saved.file("alexnet", ".pth")))), photos)
    np.testing.assert_array_equal(seeded, from_file)
    other = encode(ImageEncoder(identity_of("alexnet", weights=f"random:{SEED + 1}")), photos)
    assert np.abs(other - seeded).max() > 0.01 * seeded.max()


def test_state_dict_of_another_network_is_refused_by_its_first_difference(
    saved: Saved, identity_of: MakeIdentity
) -> None:
    file = saved.file("alexnet", ".pth")
    with pytest.raises(WeightsError) as caught:
        ImageEncoder(identity_of("resnet50", weights=str(file)))
    assert str(caught.value) == f"{file}: weights of another network: bn1.bias has nothing, expected (64,)"


def test_state_dict_without_positions_is_refused_at_the_other_size_too(saved: Saved, identity_of: MakeIdentity) -> None:
    with pytest.raises(WeightsError, match="weights of another network: class_token has nothing"):
        ImageEncoder(identity_of("vit_b16_patches", weights=str(saved.file("alexnet", ".pth")), image_size=256))


def no_network(*_: object, **__: object) -> None:
    raise URLError("no route to host")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision would keep the published alexnet, on a machine with no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    file = tmp_path / "hub" / "checkpoints" / CATALOGUE["alexnet"].published_weights
    file.parent.mkdir(parents=True)
    return file


@pytest.mark.usefixtures("cached")
def test_published_weights_without_a_network_give_one_clear_line(identity_of: MakeIdentity) -> None:
    with pytest.raises(WeightsError) as caught:
        ImageEncoder(identity_of("alexnet"))
    assert str(caught.value) == (
        "encoders.alexnet.weights: pretrained weights could not be downloaded (<urlopen error no route to host>); give "
        "a file of them, or random:SEED if features need not be meaningful"
    )


def test_file_in_the_librarys_cache_that_is_not_the_published_one_is_refused(
    saved: Saved, cached: Path, identity_of: MakeIdentity
) -> None:
    cached.symlink_to(saved.file("alexnet", ".pth"))
    with pytest.raises(WeightsError) as caught:
        ImageEncoder(identity_of("alexnet"))
    found = str(caught.value)
    assert found.startswith(f"{cached}: its SHA-256 begins with ")
    assert found.endswith(", expected 7be5be79; remove it")


def test_published_file_in_the_librarys_cache_is_what_pretrained_means(
    saved: Saved, photos: list[Image.Image], cached: Path, monkeypatch: pytest.MonkeyPatch, identity_of: MakeIdentity
) -> None:
    cached.symlink_to(saved.file("alexnet", ".pth"))
    monkeypatch.setattr("mmprep.models.encoders.networks.torchvision.sha256", lambda _: "7be5be79" + "0" * 56)
    identity = identity_of("alexnet")
    assert identity.source == WeightsSource("published", "alexnet-owt-7be5be79.pth")
    expected = encode(ImageEncoder(identity_of("alexnet", weights=str(saved.file("alexnet", ".pth")))), photos)
    np.testing.assert_array_equal(encode(ImageEncoder(identity), photos), expected)


class Command:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


def test_code_in_the_librarys_cache_of_published_weights_is_never_run(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch, identity_of: MakeIdentity
) -> None:
    cached.write_bytes(pickle.dumps({"features.0.weight": Command(tmp_path / "it-ran")}, protocol=2))
    monkeypatch.setattr("mmprep.models.encoders.networks.torchvision.sha256", lambda _: "7be5be79" + "0" * 56)
    with pytest.raises(WeightsError, match=r"encoders\.alexnet\.weights") as caught:
        ImageEncoder(identity_of("alexnet"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "it-ran").exists()
