import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import VGG, VGG16_Weights, vgg16

from models.encoders.catalogue import describe
from models.encoders.image import ImageEncoder, cut, load_network
from models.encoders.weights import WeightsSource, read_state, weights_digest
from pipeline.errors import WeightsError
from pipeline.photos import PhotoError
from pipeline.rejects import Reason

SEED = 7
PUBLISHED = VGG16_Weights.IMAGENET1K_V1
DESCRIPTION = describe("vgg16")


@dataclass(frozen=True)
class Vgg:
    """torchvision's own network, its state dict on disk in both forms, and photos."""

    network: VGG
    pth: Path
    safetensors: Path
    photos: list[Path]

    @torch.inference_mode()
    def second_layer(self) -> npt.NDArray[np.float32]:
        """The photos' activations of the second fully connected layer after its ReLU, by torchvision alone."""
        transform = PUBLISHED.transforms()
        batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in self.photos])
        pooled = self.network.avgpool(self.network.features(batch)).flatten(1)
        return self.network.classifier[:5](pooled).numpy()


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vgg]:
    folder = tmp_path_factory.mktemp("vgg")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = vgg16(weights=None).eval()
    pth, safetensors = folder / "vgg16.pth", folder / "vgg16.safetensors"
    torch.save(network.state_dict(), pth)
    save_file(network.state_dict(), safetensors)
    rng = np.random.default_rng(0)
    photos = []
    for name, size in (("wide.jpg", (300, 200)), ("tall.png", (90, 310)), ("large.jpg", (640, 512))):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / name)
        photos.append(folder / name)
    yield Vgg(network, pth, safetensors, photos)
    for path in (pth, safetensors):  # half a gigabyte each, which pytest would keep for three runs
        path.unlink()


@pytest.fixture(scope="session")
def encoder(vgg: Vgg) -> ImageEncoder:
    return ImageEncoder(DESCRIPTION, WeightsSource("local", path=vgg.pth))


@pytest.fixture(scope="session")
def vectors(vgg: Vgg, encoder: ImageEncoder) -> npt.NDArray[np.float32]:
    return encoder.encode([encoder.prepare(path) for path in vgg.photos])


def test_vector_is_torchvisions_second_fully_connected_layer_after_its_relu(
    vgg: Vgg, vectors: npt.NDArray[np.float32]
) -> None:
    expected = vgg.second_layer()
    assert vectors.shape == (3, 4096) == (3, DESCRIPTION.dimension)
    assert vectors.dtype == np.float32
    assert vectors.min() == 0
    assert (vectors > 0).mean() > 0.2
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4 * expected.max())
    # The photos differ by far more than the tolerance.
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * expected.max()


def test_photo_alone_has_the_vector_that_it_has_in_a_batch(
    vgg: Vgg, encoder: ImageEncoder, vectors: npt.NDArray[np.float32]
) -> None:
    alone = encoder.encode([encoder.prepare(vgg.photos[1])])
    np.testing.assert_allclose(alone[0], vectors[1], rtol=1e-4, atol=1e-4 * vectors.max())


def test_photo_is_made_ready_by_the_published_transform(vgg: Vgg, encoder: ImageEncoder) -> None:
    transform = PUBLISHED.transforms()
    for path in vgg.photos:
        torch.testing.assert_close(encoder.prepare(path), transform(Image.open(path).convert("RGB")), rtol=0, atol=0)


def test_identity_tells_encoder_weights_and_transform_but_no_path(vgg: Vgg, encoder: ImageEncoder) -> None:
    identity = encoder.identity.to_dict()
    assert identity["encoder"] == "vgg16"
    assert identity["dimension"] == 4096
    assert identity["pretrained"] is True
    assert identity["seed"] is None
    assert identity["weights_sha256"] == weights_digest(vgg.network.state_dict())
    assert "resize_size=[256]" in identity["transform"]
    assert str(vgg.pth.parent) not in str(identity)


def test_both_kinds_of_file_and_the_seed_that_made_them_give_one_network(vgg: Vgg, encoder: ImageEncoder) -> None:
    digest = encoder.identity.digest
    from_safetensors = load_network(DESCRIPTION, WeightsSource("local", path=vgg.safetensors), PUBLISHED)
    assert weights_digest(from_safetensors.state_dict()) == digest
    assert weights_digest(read_state(vgg.safetensors)) == digest
    from_seed = load_network(DESCRIPTION, WeightsSource("random", seed=SEED), PUBLISHED)
    assert weights_digest(from_seed.state_dict()) == digest


def test_another_seed_gives_another_network_and_leaves_torchs_generator_alone(encoder: ImageEncoder) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    other = load_network(DESCRIPTION, WeightsSource("random", seed=SEED + 1), PUBLISHED)
    assert torch.equal(torch.get_rng_state(), before)
    assert weights_digest(other.state_dict()) != encoder.identity.digest


def test_random_weights_are_not_called_pretrained(monkeypatch: pytest.MonkeyPatch, vgg: Vgg) -> None:
    monkeypatch.setattr("models.encoders.image.load_network", lambda *_: small_vgg(vgg))
    identity = ImageEncoder(DESCRIPTION, WeightsSource("random", seed=5)).identity.to_dict()
    assert (identity["pretrained"], identity["seed"]) == (False, 5)


def small_vgg(vgg: Vgg) -> VGG:
    """A network with VGG's classifier and next to no weights."""
    small = VGG(torch.nn.Sequential(torch.nn.Conv2d(3, 512, 1)), init_weights=False)
    small.classifier = torch.nn.Sequential(*vgg.network.classifier)
    return small


def test_state_dict_of_another_network_is_refused_by_its_first_difference(vgg: Vgg, tmp_path: Path) -> None:
    state = vgg.network.state_dict()
    few = {name: value for name, value in state.items() if not name.startswith("classifier")}
    torch.save(few, tmp_path / "other.pth")
    with pytest.raises(WeightsError) as caught:
        ImageEncoder(DESCRIPTION, WeightsSource("local", path=tmp_path / "other.pth"))
    assert str(caught.value) == (
        f"{tmp_path / 'other.pth'}: weights of another network: classifier.0.bias has nothing, expected (4096,)"
    )


def no_network(*_: object, **__: object) -> None:
    raise URLError("no route to host")


def test_published_weights_without_a_network_give_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    with pytest.raises(WeightsError) as caught:
        ImageEncoder(DESCRIPTION, WeightsSource("pretrained"))
    assert str(caught.value) == (
        "encoders.vgg16.weights: pretrained weights could not be downloaded (<urlopen error no route to host>); give a "
        "file of them, or random:SEED where numbers need not mean anything"
    )


class Command:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


def test_code_in_the_librarys_cache_of_published_weights_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    cached = tmp_path / "hub" / "checkpoints" / PUBLISHED.url.rsplit("/", 1)[1]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(pickle.dumps({"features.0.weight": Command(tmp_path / "it-ran")}, protocol=2))
    with pytest.raises(WeightsError, match=r"encoders\.vgg16\.weights") as caught:
        ImageEncoder(DESCRIPTION, WeightsSource("pretrained"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "it-ran").exists()


def test_photo_that_is_broken_raises_its_reason(encoder: ImageEncoder, vgg: Vgg, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(vgg.photos[0].read_bytes()[:400])
    with pytest.raises(PhotoError) as caught:
        encoder.prepare(broken)
    assert caught.value.reason is Reason.BAD_IMAGE


def test_photo_too_thin_to_be_resized_is_refused_before_it_fills_the_memory(
    encoder: ImageEncoder, tmp_path: Path
) -> None:
    thin = tmp_path / "thin.png"
    Image.new("RGB", (1, 3000)).save(thin)  # 256 x 768,000 when its short side is made 256
    with pytest.raises(PhotoError) as caught:
        encoder.prepare(thin)
    assert caught.value.reason is Reason.IMAGE_TOO_LARGE


def test_long_photo_is_still_taken(encoder: ImageEncoder, tmp_path: Path) -> None:
    banner = tmp_path / "banner.png"
    Image.new("RGB", (600, 30)).save(banner)
    assert encoder.prepare(banner).shape == (3, 224, 224)


def test_model_without_a_known_cut_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no cut is known for resnet50"):
        cut(torch.nn.Linear(1, 1), "resnet50")
