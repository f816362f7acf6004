"""torchvision networks, truncated after the layer whose activations are the features."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast
from urllib.error import URLError

import torch
from torchvision.models import VisionTransformer, WeightsEnum, get_model, get_model_weights
from torchvision.models.vision_transformer import interpolate_embeddings

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.networks.base import ImageNetwork
from mmprep.models.encoders.networks.state_dicts import load_state, read_state, refusal
from mmprep.models.encoders.params import PatchEncoderParams
from mmprep.models.encoders.weights.sources import WeightsSource
from mmprep.pipeline.errors import WeightsError
from mmprep.pipeline.storage.files import sha256

PUBLISHED = "IMAGENET1K_V1"
PUBLISHED_SIZE, RESIZED = 224, 256  # the crop, and the shorter side before it


def load(identity: Identity) -> ImageNetwork:
    """Build a network with its weights and the published transform.

    Raises:
        WeightsError: the weights are not available or belong to another network.
    """
    model, params = identity.description.model, identity.params
    published = get_model_weights(model)[PUBLISHED]
    size = params.image_size if isinstance(params, PatchEncoderParams) else PUBLISHED_SIZE
    # The published transform: resize, centre crop, scale to ImageNet's mean and deviation.
    transform = published.transforms(crop_size=size, resize_size=RESIZED * size // PUBLISHED_SIZE)
    network = build(identity, published, size)
    return ImageNetwork(cut(network, model, identity.description.form == "patches"), transform)


def build(identity: Identity, published: WeightsEnum, size: int) -> torch.nn.Module:
    """Build the whole network with its weights, for photos of `size` x `size` pixels."""
    model, source = identity.description.model, identity.source
    make: Callable[..., torch.nn.Module] = partial(get_model, model, weights=None)
    if size != PUBLISHED_SIZE:
        make = partial(make, image_size=size)
    if source.kind == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed or 0)
            return make()
    state = published_state(identity, published) if source.kind == "published" else read_state(source.local_path())
    with torch.device("meta"):  # saves initialising values that are replaced
        network = make()
    if isinstance(network, VisionTransformer) and size != PUBLISHED_SIZE and "encoder.pos_embedding" in state:
        # Bicubic, as in torchvision's fine-tuning at another size.
        state = interpolate_embeddings(size, network.patch_size, OrderedDict(state))
    load_state(network, state, origin_of(source))
    return network


def origin_of(source: WeightsSource) -> str:
    """Name of the weights in messages."""
    return str(source.path or source.identity)


def published_state(identity: Identity, published: WeightsEnum) -> dict[str, torch.Tensor]:
    """The library's published weights, from its cache on disk or by download.

    Raises:
        WeightsError: they are not cached and cannot be downloaded, or the cached file is a different one.
    """
    check_cached(identity.source.identity)
    try:
        # weights_only, since the library unpickles any object by default and its cache on disk is untrusted.
        return dict(published.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (URLError, OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise WeightsError(
            f"encoders.{identity.description.name}.weights: pretrained weights could not be downloaded "
            f"({refusal(error)}); give a file of them, or random:SEED if features need not be meaningful"
        ) from error


def check_cached(name: str) -> None:
    """Check the digest of the cached file; the library itself checks only files that it has just downloaded.

    Raises:
        WeightsError: the digest does not begin with the digits in the file's name.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    expected = file.stem.rsplit("-", 1)[1]
    if file.is_file() and not (found := sha256(file)).startswith(expected):
        raise WeightsError(f"{file}: its SHA-256 begins with {found[:8]}, expected {expected}; remove it")


def cut(network: torch.nn.Module, model: str, patches: bool) -> torch.nn.Module:
    """Truncate the network after the layer that `output` of its description names."""
    whole: Any = network
    if isinstance(network, VisionTransformer):
        whole.heads = torch.nn.Identity()
        return PatchTokens(network) if patches else network
    if model == "resnet50":
        whole.fc = torch.nn.Identity()
        return network
    # VGG: linear, ReLU, dropout, linear, ReLU; AlexNet: dropout, linear, ReLU, dropout, linear, ReLU.
    kept = {"vgg16": 5, "vgg19": 5, "alexnet": 6}[model]
    whole.classifier = cast("torch.nn.Sequential", network.classifier)[:kept]
    return network


class PatchTokens(torch.nn.Module):
    """A vision transformer that returns the normalised tokens of its last layer, without the class token."""

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Photos [n, 3, size, size] to patches [n, (size / 16)^2, 768], row by row."""
        # VisionTransformer.forward without its last step, which keeps only the class token.
        embedded = self.network._process_input(photos)
        first = self.network.class_token.expand(len(embedded), -1, -1)
        tokens: torch.Tensor = self.network.encoder(torch.cat([first, embedded], dim=1))
        return tokens[:, 1:]
