"""Sections `train` and `evaluate` of params.yaml. Imports no torch, so that any command can check them."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from mmprep.pipeline.params import Params


class TrainParams(Params):
    """Section `train`: recommenders to train, their features, and the training schedule.

    Attributes:
        collaborative: recommenders to train that read only interactions.
        multimodal: recommenders to train that read features too.
        item_graphs: recommenders to train that read features and graphs of items.
        token_based: recommenders to train that read items' patches and tokens.
        image: the encoder whose vectors are the image modality; empty for none.
        text: the encoder whose vectors are the text modality; empty for none.
        audio: the encoder whose vectors are the audio modality; empty for none.
        patches: the encoder of those patches.
        text_tokens: the encoder of those tokens.
        token_memory: largest size in bytes of patches, and of tokens, held in memory; beyond it a scratch file is used.
        batch_size: positives a step, each with one negative.
        max_epochs: maximum number of passes over the train interactions.
        patience: epochs without a better validation Recall@20 that are tolerated; the next one ends training.
        seed: seed of initial values, order, negatives and dropout.
        checkpoint_every: number of epochs between checkpoints, from which a killed training resumes.
    """

    renamed: ClassVar[Mapping[str, str]] = {"tokens": "train.token_based", "words": "train.text_tokens"}

    collaborative: tuple[str, ...] = ("bpr", "lightgcn")
    multimodal: tuple[str, ...] = ("vbpr",)
    item_graphs: tuple[str, ...] = ("freedom", "da_mrs")
    token_based: tuple[str, ...] = ()
    image: str = "vgg16"
    text: str = "minilm"
    audio: str = ""
    patches: str = "vit_b16_patches"
    text_tokens: str = "minilm_tokens"
    token_memory: Annotated[int, Field(ge=0)] = 4_000_000_000
    batch_size: Annotated[int, Field(ge=1)] = 2048
    max_epochs: Annotated[int, Field(ge=1)] = 1000
    patience: Annotated[int, Field(ge=1)] = 20
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    checkpoint_every: Annotated[int, Field(ge=1)] = 5

    @property
    def recommenders(self) -> tuple[str, ...]:
        """All recommenders to train."""
        return (*self.collaborative, *self.multimodal, *self.item_graphs, *self.token_based)

    @property
    def modalities(self) -> dict[str, str]:
        """Encoder of each modality in use."""
        named = {"image": self.image, "text": self.text, "audio": self.audio}
        return {modality: name for modality, name in named.items() if name}

    @property
    def token_encoders(self) -> dict[str, str]:
        """Encoders of the patches and words that `token_based` recommenders read."""
        return {"patches": self.patches, "words": self.text_tokens}


def ascending(bounds: tuple[int, ...]) -> tuple[int, ...]:
    """Check that each number is larger than the one before; raises ValueError."""
    if any(later <= earlier for earlier, later in pairwise(bounds)):
        raise ValueError("ascending numbers")
    return bounds


class EvaluateParams(Params):
    """Section `evaluate` of params.yaml.

    Attributes:
        every: number of epochs of training between validations; the last epoch is always validated.
        mask_val: whether val items are masked in addition to train items when the test split is ranked.
        user_groups: numbers of train items at which a new group of users begins; metrics are reported for each group.
    """

    every: Annotated[int, Field(ge=1)] = 1
    mask_val: bool = False
    user_groups: Annotated[tuple[Annotated[int, Field(ge=2)], ...], AfterValidator(ascending)] = (6, 10, 50)
