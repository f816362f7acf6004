"""Catalogue of built-in encoders, one row each. Adding an encoder is adding a row."""

from dataclasses import dataclass
from typing import Literal

from mmprep.pipeline.features.vectors import Form

Modality = Literal["image", "text", "audio"]
MODALITIES: tuple[Modality, ...] = ("image", "text", "audio")
Library = Literal["torchvision", "timm", "transformers", "sentence-transformers", "file"]

IMAGENET = "BSD-3-Clause; trained on ImageNet, whose terms allow non-commercial research"
IMAGENET_TRANSFORM = "shorter side to 256 pixels bilinear, centre crop of 224, ImageNet mean and deviation"


@dataclass(frozen=True)
class EncoderDescription:
    """A frozen, pretrained network and the activations that are stored as features.

    Attributes:
        name: its name in params.yaml and on the command line.
        modality: the modality that it encodes; for audio there is no built-in network, only precomputed features.
        library: the library that the network comes from; `file` stands for precomputed features without a network.
        model: the model's name in that library.
        output: the activation that is stored.
        form: one vector per item, per patch or per token.
        dimension: length of a vector; None if known only from the loaded network.
        input: input of the network.
        published_weights: meaning of `weights: pretrained`: a file of torchvision's, or a repository on the Hugging
            Face hub. The eight digits in a file's name are the beginning of its SHA-256.
        licence: licence of the published weights.
    """

    name: str
    modality: Modality
    library: Library
    model: str
    output: str
    form: Form
    dimension: int | None
    input: str
    published_weights: str
    licence: str


def torchvision_row(name: str, model: str, output: str, dimension: int, file: str) -> EncoderDescription:
    """The row of a torchvision network with one vector per photo."""
    return EncoderDescription(
        name, "image", "torchvision", model, output, "vector", dimension, IMAGENET_TRANSFORM, file, IMAGENET
    )


def text_row(name: str, repository: str, form: Form, output: str, dimension: int, tokens: int) -> EncoderDescription:
    """The row of a sentence-transformers model."""
    return EncoderDescription(
        name=name,
        modality="text",
        library="sentence-transformers",
        model=repository,
        output=output,
        form=form,
        dimension=dimension,
        input=f"at most {tokens} tokens, less where max_tokens says so",
        published_weights=repository,
        licence="Apache-2.0",
    )


SECOND_LAYER = "second fully connected layer, after its ReLU"
TOKENS = "last layer, a vector a token, without padding and the tokens that stand for no characters"
MINILM, BERT = "sentence-transformers/all-MiniLM-L6-v2", "google-bert/bert-base-uncased"

DESCRIPTIONS = (
    torchvision_row("vgg16", "vgg16", SECOND_LAYER, 4096, "vgg16-397923af.pth"),
    torchvision_row("vgg19", "vgg19", SECOND_LAYER, 4096, "vgg19-dcbb9e9d.pth"),
    torchvision_row("alexnet", "alexnet", f"{SECOND_LAYER} (fc7)", 4096, "alexnet-owt-7be5be79.pth"),
    torchvision_row("resnet50", "resnet50", "average of the last feature map", 2048, "resnet50-0676ba61.pth"),
    torchvision_row("vit_b16", "vit_b_16", "class token of the last layer, normalised", 768, "vit_b_16-c867db91.pth"),
    EncoderDescription(
        name="vit_b16_patches",
        modality="image",
        library="torchvision",
        model="vit_b_16",
        output="patch tokens of the last layer, normalised, row by row, without the class token",
        form="patches",
        dimension=768,
        input=f"{IMAGENET_TRANSFORM}: 14 x 14 patches; image_size 256 gives 16 x 16",
        published_weights="vit_b_16-c867db91.pth",
        licence=IMAGENET,
    ),
    EncoderDescription(
        name="clip_vit_b32",
        modality="image",
        library="transformers",
        model="openai/clip-vit-base-patch32",
        output="image embedding, projected, not normalised",
        form="vector",
        dimension=512,
        input="shorter side to 224 pixels bicubic, centre crop of 224, CLIP's mean and deviation",
        published_weights="openai/clip-vit-base-patch32",
        licence="MIT; its card advises against deployed use",
    ),
    text_row("minilm", MINILM, "vector", "mean of the token vectors, L2-normalised", 384, 256),
    text_row("minilm_tokens", MINILM, "tokens", TOKENS, 384, 256),
    text_row("bert_base", BERT, "vector", "mean of the token vectors", 768, 512),
    text_row("bert_base_tokens", BERT, "tokens", TOKENS, 768, 512),
)

CATALOGUE = {description.name: description for description in DESCRIPTIONS}

NETWORK_MODULES: dict[Library, str] = {
    "torchvision": "mmprep.models.encoders.networks.torchvision",
    "timm": "mmprep.models.encoders.networks.timm",
    "transformers": "mmprep.models.encoders.networks.clip",
    "sentence-transformers": "mmprep.models.encoders.networks.sentence",
}


def network_module(description: EncoderDescription) -> str:
    """Module that builds an encoder's network; imported by name, since importing its library takes seconds."""
    return NETWORK_MODULES[description.library]


def encoder_class(description: EncoderDescription) -> tuple[str, str]:
    """Module and class name of an encoder that is a network."""
    if description.modality == "image":
        return "mmprep.models.encoders.image_encoder", "ImageEncoder"
    return "mmprep.models.encoders.text_encoder", "TextEncoder"
