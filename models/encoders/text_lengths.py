"""Number of texts that are longer than a text encoder reads, counted without loading its network.

The count must not depend on which texts are cached, and loading a network takes longer than reading a cache.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.params import TextEncoderParams

TOKENIZED_AT_ONCE = 1024
SPARE = 8  # tokens that a tokenizer may add to a text; ASCII text has at most one token a character


def count_long(identity: Identity, texts: Sequence[str]) -> int | None:
    """Number of texts with more tokens than the encoder reads, prompt and special tokens included.

    Returns:
        None if the model's folder has no tokenizer.json or states no limit, or the weights are random.
    """
    folder = None if identity.source.path is None else network_folder(identity.source.path)
    params = identity.params
    if folder is None or not isinstance(params, TextEncoderParams) or not (folder / "tokenizer.json").is_file():
        return None
    limit = params.max_tokens or token_limit(folder)
    if limit is None:
        return None
    prompt = identity.prompt()
    may_be_long = [prompt + text for text in texts if not text.isascii() or len(prompt) + len(text) + SPARE > limit]
    if not may_be_long:
        return 0
    from tokenizers import Tokenizer  # not needed where all texts are short

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    blocks = (may_be_long[start : start + TOKENIZED_AT_ONCE] for start in range(0, len(may_be_long), TOKENIZED_AT_ONCE))
    return sum(len(encoding.ids) > limit for block in blocks for encoding in tokenizer.encode_batch(block))


def network_folder(folder: Path) -> Path:
    """The subfolder of a model folder that holds network and tokenizer, as older versions wrote it; else the folder."""
    modules = read_json(folder / "modules.json")
    first = modules[0] if isinstance(modules, list) and modules else {}
    return folder / str(first.get("path", "")) if isinstance(first, dict) else folder


def token_limit(folder: Path) -> int | None:
    """The number of tokens that a model reads, as sentence-transformers derives it; None if no file states it."""
    stated = value_in(folder / "sentence_bert_config.json", "max_seq_length")
    if stated is not None:
        return stated
    limits = (
        value_in(folder / "tokenizer_config.json", "model_max_length"),
        value_in(folder / "config.json", "max_position_embeddings"),
    )
    return min((limit for limit in limits if limit is not None), default=None)


def value_in(path: Path, key: str) -> int | None:
    """A whole number in a JSON file, or None."""
    settings = read_json(path)
    value = settings.get(key) if isinstance(settings, dict) else None
    return value if isinstance(value, int) else None


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """The value in a JSON file; None if it cannot be read, which loading the model reports."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
