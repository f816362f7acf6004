import builtins
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from deferred import Deferred
from PIL import Image
from safetensors.torch import save_file

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.image_encoder import ImageEncoder
from mmprep.models.encoders.networks.timm import LastLayer
from mmprep.models.encoders.weights.timm_models import transform_of
from mmprep.pipeline.errors import ParamsError, WeightsError

timm = Deferred("timm")
TOLERANCE = 1e-5  # of the largest number
RESNET, VIT, SWIN = "resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "swin_s3_tiny_224.ms_in1k"
MakeIdentity = Callable[..., Identity]
Floats = npt.NDArray[np.float32]


def network_of(model: str, seed: int = 2) -> Any:  # noqa: ANN401
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(model, pretrained=False).eval()


def ready(model: str, photos: list[Image.Image]) -> torch.Tensor:
    """The photos as timm itself makes them ready."""
    configuration = timm.data.resolve_model_data_config(network_of(model))
    transform = timm.data.create_transform(**configuration, is_training=False)
    return torch.stack([transform(photo) for photo in photos])


@torch.inference_mode()
def pooled(model: str, photos: list[Image.Image]) -> Floats:
    network = network_of(model)
    found: Floats = network.forward_head(network.forward_features(ready(model, photos)), pre_logits=True).numpy()
    return found


@torch.inference_mode()
def last_layer(model: str, photos: list[Image.Image]) -> torch.Tensor:
    given: torch.Tensor = network_of(model).forward_features(ready(model, photos))
    return given


def assert_equal_enough(found: npt.NDArray[Any], expected: Floats) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    assert np.abs(expected[0] - expected[-1]).max() > 100 * TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize(("model", "dimension"), [(RESNET, 512), (VIT, 192)])
def test_vector_is_what_timm_pools(
    photos: list[Image.Image], identity_of: MakeIdentity, tmp_path: Path, model: str, dimension: int
) -> None:
    save_file(network_of(model).state_dict(), tmp_path / "state.safetensors")
    weights = str(tmp_path / "state.safetensors")
    encoder = ImageEncoder(identity_of("mine", library="timm", model=model, weights=weights))
    batch = [encoder.prepare(photo) for photo in photos[:2]]
    torch.testing.assert_close(torch.stack(batch), ready(model, photos[:2]), rtol=0, atol=0)
    rows = encoder.encode(batch)
    assert rows.lengths is None
    assert rows.vectors.shape == (2, dimension)
    assert_equal_enough(rows.vectors, pooled(model, photos[:2]))
    assert_equal_enough(np.concatenate([encoder.encode([each]).vectors for each in batch]), pooled(model, photos[:2]))


def test_patches_are_the_last_layers_places_row_by_row(photos: list[Image.Image], identity_of: MakeIdentity) -> None:
    for model, count in ((RESNET, 49), (VIT, 196), (SWIN, 49)):
        encoder = ImageEncoder(identity_of("mine", library="timm", model=model, form="patches", weights="random:2"))
        rows = encoder.encode([encoder.prepare(photo) for photo in photos[:1]])
        assert rows.lengths is not None
        assert rows.lengths.tolist() == [count]
        [given] = last_layer(model, photos[:1])
        if model == RESNET:  # [512, 7, 7]
            expected = torch.stack([given[:, place // 7, place % 7] for place in range(49)])
        elif model == SWIN:  # [7, 7, 768]
            expected = torch.stack([given[place // 7, place % 7] for place in range(49)])
        else:  # the class token comes first
            expected = given[1:]
        assert_equal_enough(rows.vectors, expected.numpy())


class Square(torch.nn.Module):
    """A network whose last layer is as high as it has channels."""

    num_features = 4

    def __init__(self, output_fmt: str) -> None:
        super().__init__()
        self.output_fmt = output_fmt

    def forward_features(self, photos: torch.Tensor) -> torch.Tensor:
        return photos


def test_channels_are_found_where_the_last_layer_is_as_high_as_it_has_channels() -> None:
    given = torch.arange(64.0).reshape(1, 4, 4, 4)
    last = LastLayer(Square("NHWC"))(given)
    first = LastLayer(Square("NCHW"))(given)
    assert last[0, 1].tolist() == [4, 5, 6, 7]
    assert first[0, 1].tolist() == [1, 17, 33, 49]


class Tokens(torch.nn.Module):
    """A network that does not tell of its class token."""

    def forward_features(self, photos: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(photos), 50, 8)


def test_tokens_that_are_no_square_of_patches_are_refused() -> None:
    with pytest.raises(
        ParamsError, match="timm: Tokens gives 50 tokens, not a square number of patches; take form vector"
    ):
        LastLayer(Tokens())(torch.zeros(2, 3, 32, 32))
    told = Tokens()
    told.cls_token = torch.nn.Parameter(torch.zeros(1))
    assert LastLayer(told)(torch.zeros(2, 3, 32, 32)).shape == (2, 49, 8)


def test_network_that_gives_no_vector_is_refused_in_one_line(
    photos: list[Image.Image], identity_of: MakeIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ImageEncoder(identity_of("mine", library="timm", model=RESNET, weights="random:2"))
    monkeypatch.setattr(encoder, "_network", lambda photos: [photos])
    with pytest.raises(
        ParamsError, match=r"encoders\.mine\.form: the network gives list, not vector; take another form"
    ):
        encoder.encode([encoder.prepare(photos[0])])
    monkeypatch.setattr(encoder, "_network", lambda photos: photos)
    with pytest.raises(ParamsError, match=r"form: the network gives \[1, 3, 224, 224\], not vector; take another form"):
        encoder.encode([encoder.prepare(photos[0])])


def test_state_dict_of_another_network_is_refused(identity_of: MakeIdentity, tmp_path: Path) -> None:
    torch.save(network_of(VIT).state_dict(), tmp_path / "vit.pth")
    with pytest.raises(WeightsError) as caught:
        ImageEncoder(identity_of("mine", library="timm", model=RESNET, weights=str(tmp_path / "vit.pth")))
    assert str(caught.value) == (
        f"{tmp_path / 'vit.pth'}: weights of another network: blocks.0.attn.proj.bias has (192,), expected nothing"
    )
    state = network_of(RESNET).state_dict()
    del state["layer4.1.bn2.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(WeightsError, match=r"layer4\.1\.bn2\.weight has nothing, expected \(512,\)"):
        ImageEncoder(identity_of("mine", library="timm", model=RESNET, weights=str(tmp_path / "less.pth")))


def test_state_dict_of_nothing_fetches_nothing(
    identity_of: MakeIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[object] = []
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *asked, **_: fetched.append(asked))
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match=r"weights of another network: bn1\.bias has nothing"):
        ImageEncoder(identity_of("mine", library="timm", model=RESNET, weights=str(tmp_path / "empty.pth")))
    assert fetched == []


def test_names_that_timm_translates_are_translated(
    photos: list[Image.Image], identity_of: MakeIdentity, tmp_path: Path
) -> None:
    # DINOv2's release has them so.
    state = {**network_of(VIT).state_dict(), "mask_token": torch.zeros(1, 192)}
    torch.save(state, tmp_path / "vit.pth")
    encoder = ImageEncoder(identity_of("mine", library="timm", model=VIT, weights=str(tmp_path / "vit.pth")))
    vectors = encoder.encode([encoder.prepare(photo) for photo in photos[:2]]).vectors
    assert_equal_enough(vectors, pooled(VIT, photos[:2]))


def test_pretrained_comes_out_of_the_hubs_cache_by_the_models_repository(
    photos: list[Image.Image],
    identity_of: MakeIdentity,
    tmp_path: Path,
    hub_cache: Callable[[str, Iterable[Path]], Path],
) -> None:
    save_file(network_of(RESNET).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    hub_cache(f"timm/{RESNET}", [tmp_path / "model.safetensors", tmp_path / "config.json"])
    identity = identity_of("mine", library="timm", model=RESNET)
    assert identity.source.pretrained
    encoder = ImageEncoder(identity)
    vectors = encoder.encode([encoder.prepare(photo) for photo in photos[:2]]).vectors
    assert_equal_enough(vectors, pooled(RESNET, photos[:2]))


@pytest.mark.usefixtures("hub_cache")
def test_pretrained_that_is_not_on_disk_gives_one_clear_line(identity_of: MakeIdentity) -> None:
    with pytest.raises(WeightsError) as caught:
        identity_of("mine", library="timm", model=RESNET)
    message = str(caught.value)
    assert message.startswith(f"encoders.mine.weights: pretrained weights of timm/{RESNET} could not be fetched (")
    assert message.endswith("); give a folder of them, or random:SEED if features need not be meaningful")
    assert "\n" not in message


def test_model_that_timm_does_not_know_is_refused(identity_of: MakeIdentity) -> None:
    with pytest.raises(WeightsError, match=r"encoders\.mine\.weights: timm publishes no weights of 'resnet0'"):
        identity_of("mine", library="timm", model="resnet0")
    with pytest.raises(WeightsError) as caught:
        ImageEncoder(identity_of("mine", library="timm", model="resnet0", weights="random:0"))
    assert str(caught.value) == (
        f"encoders: timm {version('timm')} has no model 'resnet0'; `timm.list_models()` names them"
    )


@pytest.mark.parametrize("weights", ["pretrained", "random:0"])
def test_timm_that_is_not_installed_gives_the_line_that_installs_it(
    identity_of: MakeIdentity, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    found = builtins.__import__

    def without(name: str, *rest: Any) -> Any:  # noqa: ANN401
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'")
        return found(name, *rest)

    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(WeightsError) as caught:
        identity_of("mine", library="timm", model=RESNET, weights=weights).to_dict()
    assert str(caught.value).endswith(": timm is not installed; run `pip install -c constraints.txt 'mmprep[timm]'`")


def test_transform_is_told_in_full() -> None:
    told = transform_of(VIT)
    assert "input_size (3, 224, 224)" in told
    assert "mean (0.5, 0.5, 0.5)" in told
    assert "interpolation bicubic" in told
    assert transform_of(RESNET) != told
