"""Image encoders from torchvision: a photo's file in, one vector out."""

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import cast
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import torch
from torchvision.models import WeightsEnum, get_model, get_model_weights

from models.device import best_device
from models.encoders.base import Identity
from models.encoders.catalogue import EncoderDescription
from models.encoders.weights import WeightsSource, first_line, load_state, read_state, weights_digest
from pipeline.errors import WeightsError
from pipeline.photos import PhotoError, open_photo
from pipeline.rejects import Reason

# Of a photo's sides. The short one is scaled to 256, so the long one of a strip of 1 x 60,000 would fill 16 GB.
MAX_ASPECT = 100


class ImageEncoder:
    """A torchvision network cut off at the layer whose activations are wanted."""

    def __init__(self, description: EncoderDescription, source: WeightsSource) -> None:
        """Build the network and load its weights.

        Raises:
            WeightsError: the weights cannot be had or are of another network.
        """
        published = get_model_weights(description.model)[description.published_weights]
        network = load_network(description, source, published)
        # The published transform: resize, centre crop, scale to ImageNet's mean and deviation.
        self._transform = cast("Callable[..., torch.Tensor]", published.transforms())
        self.identity = Identity(description, source, weights_digest(network.state_dict()), repr(self._transform))
        self._device = best_device()
        # On a CPU convolutions run about twice as fast with the channels last.
        self._network = cut(network, description.model).eval().to(self._device).to(memory_format=torch.channels_last)

    def prepare(self, source: Path) -> torch.Tensor:
        """Decode a photo and transform it to [3, height, width].

        Raises:
            PhotoError: it cannot be decoded, or is too thin to be resized.
        """
        photo = open_photo(source)
        if max(photo.size) > MAX_ASPECT * min(photo.size):
            raise PhotoError(Reason.IMAGE_TOO_LARGE)
        return self._transform(photo)

    @torch.inference_mode()
    def encode(self, batch: list[torch.Tensor]) -> npt.NDArray[np.float32]:
        """The vectors [n, dimension] of n transformed photos."""
        photos = torch.stack(batch).to(self._device, memory_format=torch.channels_last)
        return self._network(photos).float().cpu().numpy()  # type: ignore[no-any-return]


def load_network(description: EncoderDescription, source: WeightsSource, published: WeightsEnum) -> torch.nn.Module:
    """Build the whole network with the weights from `source`."""
    if source.kind == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed or 0)
            return get_model(description.model, weights=None)  # type: ignore[no-any-return]
    with torch.device("meta"):  # no time spent on initial values that are replaced
        network: torch.nn.Module = get_model(description.model, weights=None)
    if source.kind == "local":
        load_state(network, read_state(source.local_path()), str(source.path))
    else:
        load_state(network, download(description, published), description.published_weights)
    return network


def download(description: EncoderDescription, published: WeightsEnum) -> dict[str, torch.Tensor]:
    """The library's published weights, from its cache on disk or by download.

    Raises:
        WeightsError: they are not on disk and cannot be downloaded.
    """
    try:
        # The library unpickles anything unless told not to; its cache on disk may have been written by anybody.
        return dict(published.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (URLError, OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise WeightsError(
            f"encoders.{description.name}.weights: pretrained weights could not be downloaded ({first_line(error)}); "
            "give a file of them, or random:SEED where numbers need not mean anything"
        ) from error


def cut(network: torch.nn.Module, model: str) -> torch.nn.Module:
    """The network up to the layer that `output` of its description names."""
    if model.startswith("vgg"):
        # classifier: linear, ReLU, dropout, linear, ReLU <- here, dropout, linear to the classes
        network.classifier = cast("torch.nn.Sequential", network.classifier)[:5]
        return network
    raise ValueError(f"no cut is known for {model}")
