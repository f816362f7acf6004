"""Text encoder by sentence-transformers: texts in, one vector per text or per token out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from transformers import PreTrainedTokenizerBase

from mmprep.models.device import best_device
from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.networks.base import DTYPES
from mmprep.models.encoders.networks.onednn import fast_linear_layers
from mmprep.models.encoders.networks.sentence import load_model
from mmprep.models.encoders.params import TextEncoderParams
from mmprep.models.encoders.text_chunks import Chunk, Chunker
from mmprep.pipeline.errors import WeightsError
from mmprep.pipeline.features.vectors import VectorBatch

TOKENIZED_AT_ONCE = 1024
EPSILON = 1e-12
Floats = npt.NDArray[np.float32]
PLACES = {"text": {"return_offsets_mapping": True}}


class TextEncoder:
    """Runs a sentence-transformers model over batches of texts."""

    def __init__(self, identity: Identity) -> None:
        """Load the model.

        Raises:
            WeightsError: the model is not available, its vectors have another length, or it reads fewer tokens.
        """
        model = load_model(identity)
        check_dimension(model, identity)
        set_limit(model, identity)
        self._tokens = identity.description.form == "tokens"
        if self._tokens:
            check_places(model, identity)
        self._prompt = identity.prompt()
        self._dtype = DTYPES[identity.params.precision]
        params = identity.params
        in_chunks = isinstance(params, TextEncoderParams) and params.long_texts == "mean_of_chunks"
        self._chunker = Chunker(model, self._prompt, identity.description.name) if in_chunks else None
        self._normalised = any(isinstance(module, Normalize) for module in model)
        self._model = model.to(best_device(), self._dtype).eval()

    def sizes(self, sources: Sequence[str]) -> list[int]:
        """Number of tokens of each text, a better measure of padding than its number of characters."""
        tokenizer = self._model.tokenizer
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            return [len(source) for source in sources]
        lengths: list[int] = []
        for start in range(0, len(sources), TOKENIZED_AT_ONCE):
            block = list(sources[start : start + TOKENIZED_AT_ONCE])
            cut: dict[str, Any] = {"truncation": True, "max_length": self._model.max_seq_length}
            tokenized = tokenizer(block, **(cut if self._chunker is None else {"verbose": False}))
            lengths += [len(tokens) for tokens in tokenized["input_ids"]]
        return lengths

    def prepare(self, source: str) -> str:
        """Return the text unchanged; it is tokenized in `encode`, batch by batch."""
        return source

    @torch.inference_mode()
    def encode(self, batch: list[str]) -> VectorBatch:
        """Encode n texts."""
        if self._chunker is None:
            return self._encode_at_once(batch)
        chunks = [self._chunker.split(text) for text in batch]
        texts = [text for parts in chunks for text, _ in parts]
        size = len(batch)
        blocks = (texts[start : start + size] for start in range(0, len(texts), size))
        vectors = np.concatenate([self._encode_at_once(block).vectors for block in blocks])
        ends = np.cumsum([len(parts) for parts in chunks])[:-1]
        of_each = zip(np.split(vectors, ends), chunks, strict=True)
        means = [rows[0] if len(parts) == 1 else self._mean(rows, parts) for rows, parts in of_each]
        return VectorBatch(np.stack(means))

    def _mean(self, vectors: Floats, chunks: list[Chunk]) -> Floats:
        """The mean of several chunks' vectors, weighted by their tokens, and normalised if the model normalises."""
        weights = np.array([tokens for _, tokens in chunks], dtype=np.float64)
        mean: npt.NDArray[np.float64] = weights @ vectors / weights.sum()
        length = max(float(np.linalg.norm(mean)), EPSILON) if self._normalised else 1.0
        return (mean / length).astype(np.float32)

    def _encode_at_once(self, batch: list[str]) -> VectorBatch:
        features: dict[str, Any] = self._model.preprocess(
            batch, prompt=self._prompt or None, processing_kwargs=PLACES if self._tokens else None
        )
        places = features.pop("offset_mapping", None)
        moved = {name: to_device(value, self._model.device) for name, value in features.items()}
        # Cloned, since some models mark the prompt as padding by changing the tensor in place.
        present = features["attention_mask"].bool().clone()
        with fast_linear_layers(self._model.device, self._dtype):
            output = self._model(moved)
        if not self._tokens:
            return VectorBatch(output["sentence_embedding"].float().cpu().numpy())
        spans = (places - len(self._prompt)).clamp(min=0)
        # Special tokens and those of the prompt have no characters of the text.
        real = present & (spans[..., 1] > spans[..., 0])
        vectors = output["token_embeddings"].float().cpu()[real].numpy()
        return VectorBatch(vectors, real.sum(dim=1).numpy(), spans[real].numpy().astype(np.int32))


def to_device(value: object, device: torch.device) -> object:
    """Move a tensor to the device; return anything else unchanged."""
    return value.to(device) if isinstance(value, torch.Tensor) else value


def check_dimension(model: SentenceTransformer, identity: Identity) -> None:
    """Check that the vectors have the length that the catalogue states.

    Raises:
        WeightsError: they have another length.
    """
    found, expected = model.get_embedding_dimension(), identity.description.dimension
    if expected is not None and found != expected:
        raise WeightsError(
            f"encoders.{identity.description.name}.weights: its vectors have length {found}, expected {expected}"
        )


def check_places(model: SentenceTransformer, identity: Identity) -> None:
    """Check that the model's tokenizer reports the character offsets of tokens.

    Raises:
        WeightsError: it is a slow tokenizer, written in Python, which does not.
    """
    if not getattr(model.tokenizer, "is_fast", False):
        raise WeightsError(
            f"encoders.{identity.description.name}.form: found tokens, but the model has no fast tokenizer, "
            "which tokens need for their offsets in the text; take vector"
        )


def set_limit(model: SentenceTransformer, identity: Identity) -> None:
    """Make the model truncate texts at `max_tokens`.

    Raises:
        WeightsError: the model reads fewer tokens than that.
    """
    params = identity.params
    max_tokens = params.max_tokens if isinstance(params, TextEncoderParams) else None
    if max_tokens is None:
        return
    limit = model.max_seq_length
    if limit is not None and max_tokens > limit:
        raise WeightsError(
            f"encoders.{identity.description.name}.max_tokens: found {max_tokens}, expected at most {limit}"
        )
    model.max_seq_length = max_tokens
