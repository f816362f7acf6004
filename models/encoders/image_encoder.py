"""Image encoder for networks of any library: photos in, one vector per photo or per patch out."""

from collections.abc import Sequence
from importlib import import_module

import torch
from PIL import Image

from mmprep.models.device import best_device
from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.catalogue import network_module
from mmprep.models.encoders.networks.base import DTYPES, ImageNetwork
from mmprep.models.encoders.networks.onednn import fast_linear_layers
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.features.vectors import VectorBatch


class ImageEncoder:
    """Runs a network over batches of photos."""

    def __init__(self, identity: Identity) -> None:
        """Build the network and load its weights.

        Raises:
            WeightsError: the weights are not available or belong to another network.
        """
        self._name, self._form = identity.description.name, identity.description.form
        loaded = load_network(identity)
        self._transform = loaded.transform
        self._device = best_device()
        self._dtype = DTYPES[identity.params.precision]
        # On a CPU convolutions run about twice as fast with the channels last.
        self._network = loaded.network.eval().to(self._device, self._dtype).to(memory_format=torch.channels_last)

    def sizes(self, sources: Sequence[str]) -> list[int]:
        """All equal."""
        return [0] * len(sources)

    def prepare(self, source: Image.Image) -> torch.Tensor:
        """Transform a photo to [3, height, width]."""
        return self._transform(source)

    @torch.inference_mode()
    def encode(self, batch: list[torch.Tensor]) -> VectorBatch:
        """Encode n transformed photos.

        Raises:
            ParamsError: the output of a network named in params.yaml does not match its `form`.
        """
        photos = torch.stack(batch)
        if self._device.type == "cuda":
            photos = photos.pin_memory()
        photos = photos.to(self._device, non_blocking=True)
        with fast_linear_layers(self._device, self._dtype):
            output = self._network(photos.to(self._dtype, memory_format=torch.channels_last))
        return self._rows(output)

    def _rows(self, output: object) -> VectorBatch:
        """The output, [n, dimension] or [n, patches, dimension], as rows; networks of the user's choice may differ."""
        sides = 2 if self._form == "vector" else 3
        if not isinstance(output, torch.Tensor) or output.ndim != sides:
            found = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise ParamsError(
                f"encoders.{self._name}.form: the network gives {found}, not {self._form}; take another form"
            )
        vectors = output.float().cpu()
        if self._form == "vector":
            return VectorBatch(vectors.numpy())
        lengths = torch.full((vectors.shape[0],), vectors.shape[1])
        return VectorBatch(vectors.flatten(0, 1).numpy(), lengths.numpy())


def load_network(identity: Identity) -> ImageNetwork:
    """Load an encoder's network. Only the module of its library is imported, since each takes seconds."""
    network: ImageNetwork = import_module(network_module(identity.description)).load(identity)
    return network
