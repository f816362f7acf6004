"""Networks of timm by name, with timm's own transform."""

from math import isqrt
from typing import Any

import torch

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.networks.base import ImageNetwork
from mmprep.models.encoders.networks.state_dicts import first_difference, load_state, read_state
from mmprep.models.encoders.weights.timm_models import data_configuration, require_timm
from mmprep.pipeline.errors import ParamsError, WeightsError


def load(identity: Identity) -> ImageNetwork:
    """Build a network with its weights and the transform that its configuration names.

    Raises:
        WeightsError: timm is not installed or has no such model, or the weights are of another one.
    """
    description, source = identity.description, identity.source
    timm = require_timm(f"encoders.{description.name}.library")
    configuration = data_configuration(description.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed or 0)
        network = timm.create_model(description.model, pretrained=False)
    if source.kind != "random":
        network = with_weights(network, description.model, read_state(source.local_path()), str(source.path))
    network.reset_classifier(0)
    transform = timm.data.create_transform(**configuration, is_training=False)
    return ImageNetwork(LastLayer(network) if description.form == "patches" else network, transform)


def with_weights(network: Any, model: str, state: dict[str, torch.Tensor], origin: str) -> Any:  # noqa: ANN401
    """The network with a state dict in it, whose names may be those that timm translates when it loads itself.

    Raises:
        WeightsError: it is of another network; the first difference is named.
    """
    difference = first_difference(network, state)
    if difference is None:
        load_state(network, state, origin)
        return network
    try:
        if not state:  # which timm would take for none, and fetch some
            raise ValueError("no tensors")
        return require_timm(origin).create_model(model, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    except Exception as error:  # its translations of foreign names end in nearly any of them
        raise WeightsError(f"{origin}: weights of another network: {difference}") from error


class LastLayer(torch.nn.Module):
    """A network that gives the places of its last layer instead of pooling them."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        class_token = getattr(network, "cls_token", None) is not None
        self.prefix = int(getattr(network, "num_prefix_tokens", class_token))

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Photos [n, 3, height, width] to patches [n, patches, dimension], row by row.

        Raises:
            ParamsError: the network has tokens beside its patches that timm does not tell of.
        """
        given: torch.Tensor = self.network.forward_features(photos)
        if not isinstance(given, torch.Tensor):
            return given  # which the encoder refuses
        if given.ndim == 3:
            patches = given[:, self.prefix :]
            if photos.shape[2] == photos.shape[3] and isqrt(patches.shape[1]) ** 2 != patches.shape[1]:
                name = type(self.network).__name__
                raise ParamsError(
                    f"timm: {name} gives {patches.shape[1]} tokens, no square of patches; take form vector"
                )
            return patches
        # timm marks the networks that have the channels last.
        if given.ndim == 4 and getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return given.flatten(1, 2)
        return given.flatten(2).transpose(1, 2)
