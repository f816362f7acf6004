import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from deferred import Deferred
from PIL import Image
from safetensors.torch import load_file, save_file

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.image_encoder import ImageEncoder
from mmprep.pipeline.errors import WeightsError

CLIPConfig = Deferred("transformers:CLIPConfig")
CLIPImageProcessor = Deferred("transformers:CLIPImageProcessor")
CLIPModel = Deferred("transformers:CLIPModel")
CLIPTextConfig = Deferred("transformers:CLIPTextConfig")
CLIPVisionConfig = Deferred("transformers:CLIPVisionConfig")
CLIPVisionModelWithProjection = Deferred("transformers:CLIPVisionModelWithProjection")
TOLERANCE = 1e-5  # of the largest number
MakeIdentity = Callable[..., Identity]
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole CLIP as it is published, with a small tower of the published projection."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        text = CLIPTextConfig(vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=1)
        model = CLIPModel(
            CLIPConfig(
                text_config=text.to_dict(), vision_config=CLIPVisionConfig(**SHAPE).to_dict(), projection_dim=512
            )
        )
    model.save_pretrained(tmp_path / "clip")
    CLIPImageProcessor().save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@torch.inference_mode()
def image_embeddings(folder: Path, photos: list[Image.Image]) -> npt.NDArray[np.float32]:
    """By transformers alone."""
    tower = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    pixels = CLIPImageProcessor.from_pretrained(folder)(images=photos, return_tensors="pt")["pixel_values"]
    found: npt.NDArray[np.float32] = tower(pixel_values=pixels).image_embeds.numpy()
    return found


def test_vector_is_the_image_embedding_of_transformers(
    folder: Path, photos: list[Image.Image], identity_of: MakeIdentity
) -> None:
    encoder = ImageEncoder(identity_of("clip_vit_b32", weights=str(folder)))
    rows = encoder.encode([encoder.prepare(photo) for photo in photos])
    expected = image_embeddings(folder, photos)
    assert rows.lengths is None
    assert rows.vectors.shape == (3, 512)
    np.testing.assert_allclose(rows.vectors, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    assert np.abs(expected[0] - expected[1]).max() > 100 * TOLERANCE * np.abs(expected).max()
    alone = encoder.encode([encoder.prepare(photos[2])]).vectors
    np.testing.assert_allclose(alone, expected[2:], rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_transform_is_the_one_in_the_folder(folder: Path, photos: list[Image.Image], identity_of: MakeIdentity) -> None:
    before = identity_of("clip_vit_b32", weights=str(folder)).to_dict()
    CLIPImageProcessor(image_mean=[0.5, 0.5, 0.5]).save_pretrained(folder)
    identity = identity_of("clip_vit_b32", weights=str(folder))
    assert identity.to_dict() != before
    expected = CLIPImageProcessor(image_mean=[0.5, 0.5, 0.5])(images=photos[0], return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(ImageEncoder(identity).prepare(photos[0]), expected, rtol=0, atol=0)


def test_random_weights_are_of_the_published_shape(photos: list[Image.Image], identity_of: MakeIdentity) -> None:
    encoder = ImageEncoder(identity_of("clip_vit_b32", weights="random:3"))
    rows = encoder.encode([encoder.prepare(photo) for photo in photos[:1]])
    assert rows.vectors.shape == (1, 512)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(3)
        tower = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=512)).eval()
        expected = tower(**CLIPImageProcessor()(images=photos[:1], return_tensors="pt")).image_embeds.numpy()
    np.testing.assert_allclose(rows.vectors, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def drop_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({name: state[name] for name in state if name != "visual_projection.weight"}, folder / "model.safetensors")


def widen_projection(folder: Path) -> None:
    CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=768, **SHAPE)).save_pretrained(folder)


def break_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("[")


def drop_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def shrink_network(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 64
    (folder / "config.json").write_text(json.dumps(config))


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (drop_tensor, "weights of another network: visual_projection.weight has nothing"),
    (widen_projection, "its vectors have length 768, expected 512"),
    (break_processor, "preprocessor_config.json cannot be read"),
    (drop_processor, "has no preprocessor_config.json, which defines the input transform"),
    (drop_weights, "is not a CLIP model of transformers"),
    (shrink_network, "is not a CLIP model of transformers"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_folder_that_is_damaged_is_refused_in_one_line(
    folder: Path, identity_of: MakeIdentity, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(WeightsError, match=r"^encoders\.clip_vit_b32\.weights: ") as caught:
        ImageEncoder(identity_of("clip_vit_b32", weights=str(folder)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Command:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


def test_file_of_pytorchs_is_read_where_there_is_no_other_but_no_code_in_it(
    folder: Path, photos: list[Image.Image], tmp_path: Path, identity_of: MakeIdentity
) -> None:
    expected = image_embeddings(folder, photos)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    drop_weights(folder)
    encoder = ImageEncoder(identity_of("clip_vit_b32", weights=str(folder)))
    vectors = encoder.encode([encoder.prepare(photo) for photo in photos]).vectors
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Command(tmp_path / "it-ran")}, protocol=2))
    with pytest.raises(WeightsError, match="is not a CLIP model of transformers"):
        ImageEncoder(identity_of("clip_vit_b32", weights=str(folder)))
    assert not (tmp_path / "it-ran").exists()
