"""All patches or tokens at hand: cut, pooled, padded, in memory or in a scratch file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from worlds import token_source

from mmprep.models.layers.mdr_chca import token_store
from mmprep.models.layers.mdr_chca.token_store import TokenStore
from mmprep.pipeline.errors import DataError

LENGTHS = [3, 0, 5, 1, 2, 0]
TOKENS = [np.random.default_rng(n).normal(size=(n, 4)).astype(np.float16) for n in LENGTHS]
PATCHES = [np.random.default_rng(n).normal(size=(n and 16, 3)).astype(np.float16) for n in LENGTHS]
EVERY = torch.arange(len(LENGTHS))


@pytest.mark.parametrize("block", [1, 2, 256])
@pytest.mark.parametrize("memory", [0, 10**6])
def test_tokens_come_padded_in_the_order_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, block: int
) -> None:
    monkeypatch.setattr(token_store, "BLOCK_ITEMS", block)
    store = TokenStore.first_tokens(token_source(TOKENS, memory=memory, scratch=tmp_path), 6, 9)
    assert store.lengths.tolist() == LENGTHS
    found = store.gather(torch.tensor([2, 1, 0, 2]), 5)
    assert found.shape == (4, 5, 4)
    assert found.dtype == torch.float16
    for row, item in zip(found.numpy(), (2, 1, 0, 2), strict=True):
        np.testing.assert_array_equal(row[: LENGTHS[item]], TOKENS[item])
        assert not row[LENGTHS[item] :].any()


def test_scratch_file_has_no_name_and_lies_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Any] = []
    usual = token_store.tempfile.TemporaryFile
    monkeypatch.setattr(
        token_store.tempfile,
        "TemporaryFile",
        lambda dir: folders.append(dir) or usual(dir=dir),  # noqa: A006
    )
    store = TokenStore.first_tokens(token_source(TOKENS, memory=0, scratch=tmp_path / "new"), 6, 9)
    assert folders == [tmp_path / "new"]
    assert list((tmp_path / "new").iterdir()) == []
    assert store.gather(EVERY, 9).any()


def test_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(DataError) as caught:
        TokenStore.first_tokens(token_source(TOKENS, memory=0, scratch=tmp_path), 6, 9)
    assert str(caught.value) == (
        f"{tmp_path}: no room for 360 bytes of patches or tokens (No space left on device); "
        "raise train.token_memory or free the disk"
    )


def test_tokens_that_are_cut_get_neighbours_among_those_that_are_left() -> None:
    source = token_source(TOKENS, k=2)
    store = TokenStore.first_tokens(source, 6, 3)
    assert store.lengths.tolist() == [3, 0, 3, 1, 2, 0]
    expected = token_source([tokens[:3] for tokens in TOKENS], k=2).edges
    assert torch.equal(store.neighbours(EVERY, 3), expected.gather(EVERY.numpy(), 3))
    assert not torch.equal(store.neighbours(EVERY, 3), source.edges.gather(EVERY.numpy(), 3))


def test_vectors_as_they_are_keep_their_graph() -> None:
    tokens, patches = token_source(TOKENS), token_source(PATCHES)
    assert TokenStore.first_tokens(tokens, 6, 5).edges is tokens.edges
    assert TokenStore.patches_of(patches, 6, None).edges is patches.edges
    assert TokenStore.patches_of(patches, 6, 16).edges is patches.edges


@pytest.mark.parametrize("memory", [0, 10**6])
def test_pooled_patches_are_means_of_squares_with_neighbours_of_their_own(tmp_path: Path, memory: int) -> None:
    store = TokenStore.patches_of(token_source(PATCHES, k=2, memory=memory, scratch=tmp_path), 6, 4)
    pooled = []
    for patches in PATCHES:
        grid = patches.reshape(4 if len(patches) else 0, 4, 3).astype(np.float32)
        squares = [grid[r : r + 2, c : c + 2].mean(axis=(0, 1)) for r in (0, 2) for c in (0, 2) if len(grid)]
        pooled.append(np.array(squares, dtype=np.float16).reshape(-1, 3))
    found = store.gather(EVERY, 4).numpy()
    for row, expected in zip(found, pooled, strict=True):
        np.testing.assert_allclose(row[: len(expected)], expected, atol=1e-3)
    again = [row.astype(np.float16) if length else row[:0] for row, length in zip(found, LENGTHS, strict=True)]
    expected_edges = token_source(again, k=2).edges
    assert torch.equal(store.neighbours(EVERY, 4), expected_edges.gather(EVERY.numpy(), 4))


@pytest.mark.parametrize(
    ("patches", "wanted", "message"),
    [
        (PATCHES, 5, "found 16 patches a photo, which can be pooled to 16, 4, 1, not to 5"),
        (TOKENS[:1], 1, "found 3 patches a photo, which can be pooled to 3, not to 1"),
        (TOKENS, None, "found 5 patches of one photo and 3 of another"),
    ],
)
def test_patches_that_do_not_fit_are_told(patches: list[Any], wanted: int | None, message: str) -> None:
    with pytest.raises(DataError) as caught:
        TokenStore.patches_of(token_source(patches), 6, wanted)
    assert str(caught.value) == message


def test_vectors_of_another_dataset_are_refused() -> None:
    with pytest.raises(DataError, match="tokens of item 4 in a dataset of 4 items; run `mmprep extract` again"):
        TokenStore.first_tokens(token_source(TOKENS), 4, 5)
