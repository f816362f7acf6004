"""timm networks by name, with timm's own transform."""

from math import isqrt
from typing import Any

import torch

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.networks.base import ImageNetwork
from mmprep.models.encoders.networks.state_dicts import first_difference, load_state, read_state
from mmprep.models.encoders.weights.timm_models import data_configuration, require_timm
from mmprep.pipeline.errors import ParamsError, WeightsError


def load(identity: Identity) -> ImageNetwork:
    """Build a network with its weights and the transform of its configuration.

    Raises:
        WeightsError: timm is not installed or has no such model, or the weights belong to another model.
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
    """The network with a state dict loaded; names may also be foreign ones that timm converts when it loads weights.

    Raises:
        WeightsError: the state dict belongs to another network; the first difference is named.
    """
    difference = first_difference(network, state)
    if difference is None:
        load_state(network, state, origin)
        return network
    try:
        if not state:  # timm would treat it as absent and download weights
            raise ValueError("no tensors")
        return require_timm(origin).create_model(model, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    except Exception as error:  # its conversion of foreign names can raise nearly any exception
        raise WeightsError(f"{origin}: weights of another network: {difference}") from error


class LastLayer(torch.nn.Module):
    """A network that returns the patches of its last layer instead of pooling them."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        class_token = getattr(network, "cls_token", None) is not None
        self.prefix = int(getattr(network, "num_prefix_tokens", class_token))

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Photos [n, 3, height, width] to patches [n, patches, dimension], row by row.

        Raises:
            ParamsError: the network has tokens other than its patches that timm does not declare.
        """
        given: torch.Tensor = self.network.forward_features(photos)
        if not isinstance(given, torch.Tensor):
            return given  # rejected by the encoder
        if given.ndim == 3:
            patches = given[:, self.prefix :]
            if photos.shape[2] == photos.shape[3] and isqrt(patches.shape[1]) ** 2 != patches.shape[1]:
                name = type(self.network).__name__
                raise ParamsError(
                    f"timm: {name} gives {patches.shape[1]} tokens, not a square number of patches; take form vector"
                )
            return patches
        # timm marks the networks that have the channels last.
        if given.ndim == 4 and getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return given.flatten(1, 2)
        return given.flatten(2).transpose(1, 2)
