"""Networks of timm by name, with timm's own transform."""

from math import isqrt
from types import ModuleType
from typing import Any

import torch

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.image_encoder import ImageNetwork
from mmprep.models.encoders.networks.state_dicts import first_difference, load_state, read_state
from mmprep.pipeline.errors import ParamsError, WeightsError


def require_timm(place: str) -> ModuleType:
    """The library.

    Raises:
        WeightsError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise WeightsError(
            f"{place}: timm is not installed; run `pip install -c constraints.txt 'mmprep[timm]'`"
        ) from error
    return timm


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


def published_repository(model: str, place: str) -> str:
    """The repository of a model's published weights on the Hugging Face hub.

    Raises:
        WeightsError: timm is not installed, knows no such model, or publishes no weights of it there.
    """
    timm = require_timm(place)
    configuration = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    if configuration is None or not configuration.hf_hub_id:
        raise WeightsError(
            f"{place}: timm publishes no weights of {model!r} on the Hugging Face hub; `timm.list_pretrained()` names "
            "those that it does, or give a file"
        )
    return str(configuration.hf_hub_id)


def data_configuration(model: str) -> dict[str, Any]:
    """What timm says of a model's input.

    Raises:
        WeightsError: timm is not installed or has no such model.
    """
    timm = require_timm("encoders")
    if not timm.is_model(model):
        raise WeightsError(f"encoders: timm {timm.__version__} has no model {model!r}; `timm.list_models()` names them")
    configuration = timm.get_pretrained_cfg(model)
    return dict(timm.data.resolve_data_config(pretrained_cfg=configuration.to_dict() if configuration else {}))


def transform_of(model: str) -> str:
    """The transform of a model's input, in one line."""
    return ", ".join(f"{key} {value}" for key, value in sorted(data_configuration(model).items()))


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
