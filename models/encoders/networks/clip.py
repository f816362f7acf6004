"""CLIP's image tower from transformers, with its published transform."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.networks.base import ImageNetwork
from mmprep.models.encoders.networks.quiet import quietly
from mmprep.models.encoders.networks.state_dicts import refusal
from mmprep.pipeline.errors import WeightsError

CONFIGURATION = "preprocessor_config.json"
PROJECTED = 512


def load(identity: Identity) -> ImageNetwork:
    """Build the tower with its weights.

    Raises:
        WeightsError: the folder holds no CLIP model, or some of its weights are missing.
    """
    source, place = identity.source, f"encoders.{identity.description.name}.weights"
    if source.kind == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed or 0)
            tower = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=PROJECTED))
        return ImageNetwork(Projected(tower), Processor(CLIPImageProcessor()))
    folder = source.local_path()
    processor = read_processor(folder, place)
    return ImageNetwork(Projected(read_tower(folder, place)), Processor(processor))


def read_tower(folder: Path, place: str) -> CLIPVisionModelWithProjection:
    """Read the tower from a folder that transformers wrote, with the whole CLIP or only the tower."""
    try:
        with quietly():
            loaded: Any = CLIPVisionModelWithProjection.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # a damaged folder can raise nearly any exception
        raise WeightsError(f"{place}: {folder} is not a CLIP model of transformers ({refusal(error)})") from error
    # transformers initialises missing tensors at random, and only logs it.
    tower: CLIPVisionModelWithProjection = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise WeightsError(f"{place}: {folder}: weights of another network: {missing[0]} has nothing")
    if (found := tower.config.projection_dim) != PROJECTED:
        raise WeightsError(f"{place}: its vectors have length {found}, expected {PROJECTED}")
    return tower


def read_processor(folder: Path, place: str) -> CLIPImageProcessor:
    """Read the transform published with the weights."""
    if not (folder / CONFIGURATION).is_file():
        raise WeightsError(f"{place}: {folder} has no {CONFIGURATION}, which defines the input transform")
    try:
        return CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file can raise nearly any exception
        raise WeightsError(f"{place}: {folder / CONFIGURATION} cannot be read ({refusal(error)})") from error


class Projected(torch.nn.Module):
    """The tower as a function of photos only."""

    def __init__(self, tower: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Photos [n, 3, 224, 224] to image embeddings [n, 512]."""
        embeddings: torch.Tensor = self.tower(pixel_values=photos).image_embeds
        return embeddings


class Processor:
    """The published transform as a function of one photo."""

    def __init__(self, processor: CLIPImageProcessor) -> None:
        self._processor = processor

    def __call__(self, photo: Image.Image) -> torch.Tensor:
        """Transform a photo to [3, 224, 224]."""
        pixels: torch.Tensor = self._processor(images=photo, return_tensors="pt")["pixel_values"]
        return pixels[0]
