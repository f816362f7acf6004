"""Splits as sparse matrices, in the layout of MMSSL and DiffMM: from files to a split dataset."""

import io
import json
import logging
import os
import pickle
import shlex
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sparse

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import INTERACTIONS, ITEMS, REJECTS, SPLIT_INTERACTIONS, USERS
from mmprep.stages.ingest import matrices
from mmprep.stages.ingest.ingest import IngestParams, run
from mmprep.stages.prepare import filter as filter_stage
from mmprep.stages.prepare import split as split_stage
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.split import SplitParams

SHAPE = 30, 12
MMSSL = {"train": "train_mat", "val": "val_mat", "test": "test_mat"}
DIFFMM = {"train": "trnMat.pkl", "val": "valMat.pkl", "test": "tstMat.pkl"}
ARCHIVES = {split: f"{name}.npz" for split, name in MMSSL.items()}
Pairs = set[tuple[str, str, str]]
Save = Callable[[sparse.coo_matrix, Path], None]


def toy_splits() -> dict[str, sparse.coo_matrix]:
    """Each cell in one split or none."""
    drawn = np.random.default_rng(0).choice(4, p=[0.5, 0.3, 0.1, 0.1], size=SHAPE)
    return {split: sparse.coo_matrix(drawn == label) for label, split in enumerate(MMSSL, start=1)}


def as_pickle(matrix: sparse.coo_matrix, path: Path) -> None:
    path.write_bytes(pickle.dumps(matrix.astype(np.float32)))


def as_csr_pickle(matrix: sparse.coo_matrix, path: Path) -> None:
    path.write_bytes(pickle.dumps(matrix.tocsr().astype(np.float64), 2))


def as_npz(matrix: sparse.coo_matrix, path: Path) -> None:
    with path.open("wb") as file:
        sparse.save_npz(file, matrix)


def as_csr_npz(matrix: sparse.coo_matrix, path: Path) -> None:
    with path.open("wb") as file:
        sparse.save_npz(file, sparse.csr_array(matrix), compressed=False)


def dataset(folder: Path, names: dict[str, str] = MMSSL, save: Save = as_pickle) -> Layout:
    layout = Layout(folder / "data", "toys")
    layout.raw.mkdir(parents=True)
    for split, matrix in toy_splits().items():
        save(matrix, layout.raw / names[split])
    return layout


def expected() -> Pairs:
    return {
        (str(user), str(item), split)
        for split, matrix in toy_splits().items()
        for user, item in zip(*matrix.nonzero(), strict=True)
    }


def ingested(layout: Layout) -> Pairs:
    table = INTERACTIONS.read(layout.raw_interactions)
    assert table["rating"].null_count() == table["timestamp"].null_count() == len(table)
    return set(table.select("user_id", "item_id", "split").iter_rows())


@pytest.mark.parametrize(
    ("names", "save"),
    [(MMSSL, as_pickle), (MMSSL, as_csr_pickle), (DIFFMM, as_pickle), (ARCHIVES, as_npz), (ARCHIVES, as_csr_npz)],
)
def test_matrices_become_a_given_split_under_numbers(tmp_path: Path, names: dict[str, str], save: Save) -> None:
    layout = dataset(tmp_path, names, save)
    metrics = run(IngestParams(max_reject_fraction=0), layout)
    assert ingested(layout) == expected()
    assert metrics["interactions"] == len(expected())
    assert (metrics["matrix_rows"], metrics["matrix_columns"]) == SHAPE
    for path in (layout.raw_interactions, layout.raw_items):
        note = "users and items are the numbers of rows and columns of matrices, from 0"
        assert read_provenance(path)["ids"] == note
        assert set(read_provenance(path)["inputs"]) == {f"raw/toys/{name}" for name in names.values()}
    filter_stage.run(FilterParams(k_core=1), layout)
    counts = split_stage.run(SplitParams(rule="given"), layout)
    assert {split: counts[split] for split in MMSSL} == {split: m.nnz for split, m in toy_splits().items()}
    users, items = (table.read(path) for table, path in ((USERS, layout.users), (ITEMS, layout.items)))
    rows = SPLIT_INTERACTIONS.read(layout.interactions).join(users, on="user").join(items, on="item")
    assert set(rows.select("user_id", "item_id", "split").cast({"split": str}).iter_rows()) == expected()


def test_frames_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "CHUNK", 7)
    for save in (as_pickle, as_csr_pickle):
        layout = dataset(tmp_path / save.__name__, save=save)
        frames = list(matrices.read_frames(layout.raw / "train_mat", "train_mat"))
        assert {len(frame) for frame in frames[:-1]} == {7}
        run(IngestParams(), layout)
        assert ingested(layout) == expected()


def test_values_are_ratings_where_they_differ_and_zeros_are_no_interactions(tmp_path: Path) -> None:
    layout = dataset(tmp_path)
    values = sparse.coo_matrix(([5.0, 3.0, 0.0, np.nan], ([0, 1, 2, 3], [4, 5, 6, 7])), shape=SHAPE)
    (layout.raw / "val_mat").write_bytes(pickle.dumps(values))
    run(IngestParams(max_reject_fraction=1), layout)
    table = INTERACTIONS.read(layout.raw_interactions)
    rated = table.filter(table["split"] == "val").select("user_id", "item_id", "rating")
    assert rated.rows() == [("0", "4", 5.0), ("1", "5", 3.0)]
    rejects = REJECTS.read(layout.rejects).select("source", "reason", "excerpt").rows()
    assert sorted(rejects) == [
        ("val_mat", Reason.BAD_RATING.value, "row 3, column 7: nan"),
        ("val_mat", Reason.ZERO_ENTRY.value, "row 2, column 6: 0.0"),
    ]


def refusal(layout: Layout) -> str:
    with pytest.raises(DataError) as caught:
        run(IngestParams(), layout)
    assert not layout.raw_interactions.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Runs:
    def __reduce__(self) -> Any:  # noqa: ANN401
        return os.system, ("touch ran",)


def test_other_pickles_are_refused_with_the_command_that_converts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = dataset(tmp_path)
    path = layout.raw / "val_mat"
    path.write_bytes(pickle.dumps(toy_splits()["val"].tocsc()))
    said, _, command = refusal(layout).partition(" convert it and remove it: ")
    assert said == (
        f"{path}: found scipy.sparse._csc.csc_matrix in the pickle, expected a CSR or COO matrix of scipy and nothing "
        "else; nothing was loaded. If you trust the file,"
    )
    subprocess.run(shlex.split(command), check=True)
    path.unlink()
    run(IngestParams(), layout)
    assert ingested(layout) == expected()
    path.write_bytes(pickle.dumps(Runs()))
    (layout.raw / "val_mat.npz").unlink()
    layout.raw_interactions.unlink()
    monkeypatch.chdir(tmp_path)
    assert refusal(Layout(tmp_path / "data", "toys")).startswith(f"{path}: found posix.system in the pickle")


def test_an_archive_takes_precedence_over_a_pickle_which_is_not_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = dataset(tmp_path)
    as_npz(toy_splits()["val"], layout.raw / "val_mat.npz")
    (layout.raw / "val_mat").write_bytes(pickle.dumps(Runs()))
    run(IngestParams(), layout)
    assert ingested(layout) == expected()
    warning = f"{layout.raw / 'val_mat'}: not read; val_mat.npz gives the val split already"
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        warning,
        f"{layout.raw}: no descriptions and no photos of items; add them (mmprep download), or read features from "
        "files (library: file)",
    ]
    assert REJECTS.read(layout.rejects).select("source", "reason").rows() == [("val_mat", Reason.SAME_SPLIT.value)]


def test_lists_take_precedence_over_matrices_of_the_same_split(tmp_path: Path) -> None:
    layout = dataset(tmp_path)
    lists: dict[str, dict[str, list[int]]] = {split: {} for split in MMSSL}
    for user, item, split in sorted(expected()):
        lists[split].setdefault(user, []).append(int(item))
    for split, bought in lists.items():
        (layout.raw / f"{split}.json").write_text(json.dumps(bought))
    metrics = run(IngestParams(), layout)
    assert metrics["interactions"] == len(expected())
    assert ingested(layout) == expected()
    assert REJECTS.read(layout.rejects)["source"].to_list() == sorted(MMSSL.values())


def test_matrices_of_different_datasets_are_refused(tmp_path: Path) -> None:
    layout = dataset(tmp_path)
    as_pickle(sparse.coo_matrix(np.eye(30, 13)), layout.raw / "val_mat")
    assert refusal(layout) == (
        f"{layout.raw / 'val_mat'}: found 30 rows and 13 columns, expected 30 and 12 as in test_mat; they are of "
        "different datasets"
    )


def damaged(**attributes: object) -> bytes:
    """A matrix of scipy with attributes that do not fit together."""
    matrix = toy_splits()["val"].tocsr() if {"indptr", "indices"} & attributes.keys() else toy_splits()["val"]
    for name, value in attributes.items():
        matrix.__dict__[name] = value
    return pickle.dumps(matrix)


FEW = np.zeros(2, dtype=np.int32)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (damaged(data=FEW), r"damaged matrix \(\d+ columns for 2 entries\)"),
        (damaged(coords=(FEW, FEW), data=np.ones(3)), r"damaged matrix \(2 columns for 3 entries\)"),
        (damaged(coords=(np.array([0, 30]), FEW), data=np.ones(2)), r"rows beyond the shape's 30"),
        (damaged(coords=(np.array([0, -1]), FEW), data=np.ones(2)), r"rows beyond the shape's 30"),
        (damaged(coords=(FEW, np.array([0, 12])), data=np.ones(2)), r"columns beyond the shape's 12"),
        (damaged(coords=(FEW, np.ones(2)), data=np.ones(2)), r"neither row, col and data"),
        (damaged(coords=(FEW[:1], FEW), data=np.ones(2)), r"1 rows for 2 entries"),
        (damaged(indptr=FEW), r"indptr does not divide"),
        (damaged(indptr=np.r_[np.arange(30), 0]), r"indptr does not divide"),
        (damaged(_shape=(30,)), r"found an attribute that is neither array nor number"),
        (damaged(_shape=(30, -12)), r"no shape"),
        (damaged(_shape=(2**40, 12)), r"no shape"),
        (pickle.dumps(toy_splits()["val"])[:-20], r"breaks off or is damaged"),
        (b"", r"breaks off or is damaged"),
        (b"PK\x03\x04 rubbish", r"no archive of scipy's save_npz"),
    ],
)
def test_damaged_matrices_are_refused(tmp_path: Path, content: bytes, named: str) -> None:
    layout = dataset(tmp_path)
    (layout.raw / "val_mat").write_bytes(content)
    with pytest.raises(DataError, match=named):
        run(IngestParams(), layout)


def archive(**arrays: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in arrays.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


COO = {
    "format": npy(np.array(b"coo")),
    "shape": npy(np.array(SHAPE)),
    "row": npy(FEW),
    "col": npy(FEW),
    "data": npy(np.ones(2)),
}
LIES = npy(np.ones(2)).replace(b"(2,)", b"(9,)")


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"data": npy(np.array([Runs()], dtype=object))}, "no array of plain numbers"),
        ({"data": LIES}, "no array of plain numbers"),
        ({"data": b"rubbish"}, "no array of plain numbers"),
        ({"data": npy(np.ones((1, 2)))}, "no array of plain numbers"),
        ({"format": npy(np.array(b"csc"))}, "a matrix of format 'csc', expected csr or coo"),
        ({f"more{number}": npy(FEW) for number in range(16)}, "other or larger content"),
    ],
)
def test_archives_of_other_content_are_refused(tmp_path: Path, arrays: dict[str, bytes], named: str) -> None:
    path = tmp_path / "val_mat.npz"
    path.write_bytes(archive(**COO))
    assert matrices.read_matrix(path).shape == SHAPE
    path.write_bytes(archive(**COO | arrays))
    with pytest.raises(DataError, match=named):
        matrices.read_matrix(path)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "val_mat.npz"
    path.write_bytes(archive(**COO | {"data": npy(np.zeros(100_000))}))
    monkeypatch.setattr(matrices, "MAX_BYTES", 100_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="other or larger content"):
        matrices.read_matrix(path)
    monkeypatch.setattr(matrices, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="expected a matrix of at most 100"):
        matrices.read_matrix(path)
    monkeypatch.undo()
    as_pickle(toy_splits()["val"], tmp_path / "val_mat")
    monkeypatch.setattr(matrices, "MAX_ENTRIES", 3)
    with pytest.raises(DataError, match="entries, more than 3"):
        matrices.read_matrix(tmp_path / "val_mat")
