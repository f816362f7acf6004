import pytest
from deferred import Deferred

from mmprep.models.encoders.catalogue import CATALOGUE, DESCRIPTIONS, IMAGENET_TRANSFORM, EncoderDescription

get_model_weights = Deferred("torchvision.models:get_model_weights")
InterpolationMode = Deferred("torchvision.transforms.functional:InterpolationMode")
CLIPImageProcessor = Deferred("transformers:CLIPImageProcessor")
OF_TORCHVISION = [row for row in DESCRIPTIONS if row.library == "torchvision"]


def test_catalogue_has_the_encoders_that_were_promised() -> None:
    shapes = {name: (row.form, row.dimension) for name, row in CATALOGUE.items()}
    assert shapes == {
        "vgg16": ("vector", 4096),
        "vgg19": ("vector", 4096),
        "alexnet": ("vector", 4096),
        "resnet50": ("vector", 2048),
        "vit_b16": ("vector", 768),
        "vit_b16_patches": ("patches", 768),
        "clip_vit_b32": ("vector", 512),
        "minilm": ("vector", 384),
        "minilm_tokens": ("tokens", 384),
        "bert_base": ("vector", 768),
        "bert_base_tokens": ("tokens", 768),
    }
    assert len(CATALOGUE) == len(DESCRIPTIONS)


def test_every_description_says_what_it_stores_and_under_which_licence() -> None:
    for description in DESCRIPTIONS:
        assert description.output
        assert description.input
        assert description.licence
        assert description.published_weights


@pytest.mark.parametrize("row", OF_TORCHVISION, ids=lambda row: row.name)
def test_published_file_and_transform_are_those_of_torchvision(row: EncoderDescription) -> None:
    published = get_model_weights(row.model)["IMAGENET1K_V1"]
    assert published.url.rsplit("/", 1)[1] == row.published_weights
    transform = published.transforms()
    assert row.input.startswith(IMAGENET_TRANSFORM)
    shorter, crop = transform.resize_size, transform.crop_size
    assert f"shorter side to {shorter[0]} pixels bilinear, centre crop of {crop[0]}" in row.input
    assert transform.interpolation is InterpolationMode.BILINEAR
    assert (transform.mean, transform.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # ImageNet's


def test_transform_of_clip_is_what_the_catalogue_says() -> None:
    processor = CLIPImageProcessor()
    shorter, crop = processor.size["shortest_edge"], processor.crop_size["width"]
    words = f"shorter side to {shorter} pixels bicubic, centre crop of {crop}"
    assert CATALOGUE["clip_vit_b32"].input.startswith(words)
    assert processor.resample == 3  # Pillow's number of bicubic
    assert [round(value, 4) for value in processor.image_mean] == [0.4815, 0.4578, 0.4082]
    assert processor.do_resize
    assert processor.do_center_crop
    assert processor.do_normalize
