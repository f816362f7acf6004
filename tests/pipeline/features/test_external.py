"""Features of others: read as they lie in real files, whatever is wrong with those, and never unpickled."""

import gzip
import pickle
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmprep.pipeline.errors import DataError, MissingInputError, MmprepError
from mmprep.pipeline.features.external import ForeignFeatures, LeftOut, open_foreign

Floats = npt.NDArray[np.float32]

RECORD_BYTES = 10 + 4 * 4096
ASINS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=10, max_size=10)


def asin(number: int) -> str:
    return f"B{number:09d}"


def vector(seed: float) -> Floats:
    """4,096 different numbers."""
    return np.arange(4096, dtype=np.float32) + np.float32(seed)


def records(rows: list[tuple[str, Floats]]) -> bytes:
    """The bytes of a .b file."""
    return b"".join(name.encode("ascii") + values.astype("<f4").tobytes() for name, values in rows)


def collect(features: ForeignFeatures, wanted: set[str], rows: int = 512) -> dict[str, Floats]:
    """All batches as one mapping, each checked for its form."""
    found: dict[str, Floats] = {}
    for ids, vectors in features.batches(wanted, rows):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(ids), features.dimension)
        assert not found.keys() & set(ids)
        found |= dict(zip(ids, vectors, strict=True))
    return found


def same(found: Mapping[str, Floats], expected: Mapping[str, npt.ArrayLike]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in expected)


def write_mmrec(folder: Path, array: npt.NDArray[Any], names: list[str], mapping: str | None = None) -> Path:
    """An array with its table of ids."""
    rows = "".join(f"{name}\t{number}\n" for number, name in enumerate(names))
    (folder / "i_id_mapping.csv").write_text(mapping or f"asin\titemID\n{rows}", encoding="utf-8")
    path = folder / "image_feat.npy"
    np.save(path, array)
    return path


def write_folder(folder: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
    """A folder of one array an item."""
    (folder / "out").mkdir()
    for name, array in arrays.items():
        np.save(folder / "out" / f"{name}.npy", array)
    return folder / "out"


@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [1, 3, 512])
def test_mmrec_rows_are_the_items_that_the_table_says(
    tmp_path: Path, kind: str, order: Literal["C", "F"], rows: int
) -> None:
    array = np.arange(1, 29).reshape(7, 4)
    mapping = "itemID\tasin\n" + "".join(f"{number}\tA{number}\n" for number in reversed(range(7)))
    path = write_mmrec(tmp_path, np.asarray(array, dtype=kind, order=order), [], mapping)
    features = open_foreign(path)
    assert (features.kind, features.dimension) == ("mmrec", 4)
    assert same(collect(features, {"A1", "A6", "A9"}, rows), {"A1": array[1], "A6": array[6]})
    assert features.left_out == {LeftOut.NOT_WANTED: 5}


def test_rows_that_are_no_features_are_counted_and_left_out(tmp_path: Path) -> None:
    array = np.ones((6, 3))
    array[1], array[2, 0], array[3, 2], array[4, 1] = 0, np.nan, np.inf, 1e300  # the last is beyond an f32
    features = open_foreign(write_mmrec(tmp_path, array, ["A", "B", "C", "D", "E"]))
    assert same(collect(features, {"A", "B", "C", "D", "E"}), {"A": np.ones(3)})
    assert features.left_out == {LeftOut.ZEROS: 1, LeftOut.NOT_FINITE: 3, LeftOut.NO_ID: 1}
    collect(features, {"A"})
    assert features.left_out == {LeftOut.NOT_WANTED: 4, LeftOut.NO_ID: 1}, "of the last pass alone"
    assert [len(ids) for ids in features.ids] == [5], "of the last pass alone, without the row that has no id"


def test_of_two_mmrec_rows_of_an_item_the_first_counts(tmp_path: Path) -> None:
    features = open_foreign(write_mmrec(tmp_path, np.array([[1.0, 2], [3, 4]]), ["A", "A"]))
    assert same(collect(features, {"A"}, rows=1), {"A": [1, 2]})
    assert features.left_out == {LeftOut.AGAIN: 1}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("asin,itemID\nA,0\n", r"expected a tab-separated table with the columns asin and itemID \('itemID'\)"),
        ("asin\titemID\nA\tx\n", r"expected a tab-separated table .*'x'"),
        ("asin\titemID\nA\n", r"expected a tab-separated table"),
        ("asin\titemID\nA\t2\n", r"found row 2, but the array has 2 rows, so it is of other items"),
        ("asin\titemID\nA\t-1\n", r"found row -1, but the array has 2 rows"),
        ("asin\titemID\nA\t0\nB\t0\n", r"found two items of row 0, A and B"),
        ("asin\titemID\n" + "A" * 200_000 + "\t0\n", r"expected a tab-separated table .*field larger"),
    ],
)
def test_a_table_of_ids_that_does_not_fit_is_one_line(tmp_path: Path, mapping: str, message: str) -> None:
    path = write_mmrec(tmp_path, np.ones((2, 3)), [], mapping)
    with pytest.raises(DataError, match=rf"i_id_mapping\.csv: {message}"):
        open_foreign(path)


def test_a_table_of_ids_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    path = write_mmrec(tmp_path, np.ones((2, 3)), ["A", "B"])
    (tmp_path / "i_id_mapping.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="expected a tab-separated table"):
        open_foreign(path)
    (tmp_path / "i_id_mapping.csv").unlink()
    with pytest.raises(MissingInputError, match=r"i_id_mapping\.csv: not found; it says which item a row is"):
        open_foreign(path)


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("form", ["array", "archive", "pickle", "item"])
def test_a_pickle_is_never_opened(tmp_path: Path, form: str) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)], dtype=object)
    path = write_mmrec(tmp_path, np.ones((1, 1)), ["A"])
    if form == "array":
        np.save(path, trap)
    elif form == "archive":
        with path.open("wb") as file:
            np.savez(file, trap)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        path = write_folder(tmp_path, {"A": trap})
    with pytest.raises(DataError, match=r"no array of plain numbers|expected an array of numpy's, or records"):
        open_foreign(path)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 3), dtype=np.int64), r"found int64, expected float32 or float64"),
        (np.ones((2, 3), dtype=np.complex64), r"found complex64, expected float32"),
        (np.ones(3), r"found an array of shape \(3,\), expected a row an item"),
        (np.ones((2, 3, 4)), r"found an array of shape \(2, 3, 4\), expected a row an item"),
        (np.ones((0, 3)), r"no array of plain numbers|found an array of shape \(0, 3\)"),
        (np.array([["a", "b"]]), r"found <U1, expected float32"),
    ],
)
def test_an_array_of_another_form_is_one_line(tmp_path: Path, array: npt.NDArray[Any], message: str) -> None:
    path = write_mmrec(tmp_path, array, ["A", "B"])
    with pytest.raises(DataError, match=rf"image_feat\.npy: ({message})"):
        open_foreign(path)


@pytest.mark.filterwarnings("ignore:Reading .* required additional header parsing")  # numpy's, of Python 2's headers
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200), change=st.tuples(st.integers(8, 127), st.binary(min_size=1, max_size=4)))
def test_a_damaged_array_is_read_or_refused(tmp_path: Path, cut: int, change: tuple[int, bytes]) -> None:
    path = write_mmrec(tmp_path, np.ones((3, 4)), ["A", "B", "C"])
    whole = path.read_bytes()
    for content in (whole[:cut], whole[: change[0]] + change[1] + whole[change[0] + len(change[1]) :]):
        path.write_bytes(content)
        try:
            collect(open_foreign(path), {"A", "B"})
        except DataError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(ASINS, min_size=1, max_size=6), rows=st.integers(1, 7), data=st.data())
def test_amazon_records_come_back_as_they_were(packed: bool, names: list[str], rows: int, data: st.DataObject) -> None:
    content = [(name, vector(seed + 1)) for seed, name in enumerate(names)]
    wanted = data.draw(st.sets(st.sampled_from(names)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image_features_Baby.b"
        path.write_bytes(gzip.compress(records(content), 1) if packed else records(content))
        features = open_foreign(path)
        found = collect(features, wanted, rows)
    first = {name: values for name, values in reversed(content) if name in wanted}
    assert (features.kind, features.dimension) == ("amazon", 4096)
    assert same(found, first)
    assert features.left_out.total() == len(names) - len(first)
    assert features.left_out[LeftOut.NOT_WANTED] == sum(name not in wanted for name in names)


THREE = records([(asin(n), vector(n + 1)) for n in range(3)])


@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(THREE) - 1).filter(lambda cut: cut % RECORD_BYTES))
def test_amazon_records_cut_off_anywhere_are_an_error(tmp_path: Path, packed: bool, cut: int) -> None:
    path = tmp_path / "cut.b"
    path.write_bytes(gzip.compress(THREE[:cut], 1) if packed else THREE[:cut])
    with pytest.raises(DataError, match=r"cut\.b: .*cut off.* or something else") as raised:
        collect(open_foreign(path), {asin(0)}, rows=2)
    assert "\n" not in str(raised.value)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_compressed_file_cut_off_anywhere_is_an_error(tmp_path: Path, share: float) -> None:
    packed = gzip.compress(THREE, 1)
    path = tmp_path / "cut.b.gz"
    path.write_bytes(packed[: int(share * len(packed))])
    with pytest.raises(DataError, match=r"cut\.b\.gz: "):
        collect(open_foreign(path), {asin(0)}, rows=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"found 0 bytes, expected an array of numpy's, or records of 16,394 bytes each"),
        (b"rubbish", r"found 7 bytes, expected"),
        (gzip.compress(b""), r"holds nothing"),
        (gzip.compress(b"rubbish"), r"cut off in record 1, or something else"),
        (b"\x1f\x8brubbish", r"cut off or damaged after record 0"),
        (b"B00000000\n" + THREE[10:], r"record 1 begins with b'B00000000\\n', expected an ASIN"),
        (b"B0000000\xc3\xa4" + THREE[10:], r"record 1 begins with .*, expected an ASIN"),
    ],
)
def test_what_is_no_amazon_file_is_refused_when_it_is_opened(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "features.b"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"features\.b: {message}"):
        open_foreign(path)


@pytest.mark.parametrize("rows", [1, 2, 512])
def test_an_id_that_is_no_text_is_named_by_its_record(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "features.b"
    path.write_bytes(THREE[: 2 * RECORD_BYTES] + b"\x00" * RECORD_BYTES)
    with pytest.raises(DataError, match=r"record 3 begins with b'(\\x00){10}', expected an ASIN of ten visible"):
        collect(open_foreign(path), {asin(0)}, rows)


@pytest.mark.parametrize("packed", [False, True])
def test_a_large_amazon_file_is_read_in_bounded_memory(tmp_path: Path, packed: bool) -> None:
    count = 30_000_000 // RECORD_BYTES
    path = tmp_path / "large.b"
    with gzip.open(path, "wb", 1) if packed else path.open("wb") as file:
        for n in range(count):
            file.write(records([(asin(n), np.full(4096, n + 1, dtype=np.float32))]))
    wanted = {asin(n) for n in range(0, count, 2)}
    features = open_foreign(path)
    tracemalloc.start()
    total = sum(len(ids) for ids, _ in features.batches(wanted, rows=32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == len(wanted)
    assert peak < 4 * 32 * RECORD_BYTES + 1_000_000, "a few batches, and the ids"


def test_a_folder_has_a_vector_an_item_under_its_encoded_id(tmp_path: Path) -> None:
    arrays = {"a%2Fb": np.ones((1, 3)), "%2E.": np.full(3, 2.0), "C.d": np.full((1, 3), 3, dtype=np.float32)}
    folder = write_folder(tmp_path, {**arrays, "E": np.zeros((1, 3)), "F": np.ones((1, 3)), "%46": np.ones(3)})
    (folder / "notes.txt").write_text("not features", encoding="utf-8")
    features = open_foreign(folder)
    assert (features.kind, features.dimension) == ("ducho", 3)
    found = collect(features, {"a/b", "..", "C.d", "E", "missing"}, rows=2)
    assert same(found, {"a/b": np.ones(3), "..": np.full(3, 2), "C.d": np.full(3, 3)})
    assert features.left_out == {LeftOut.ZEROS: 1, LeftOut.NOT_WANTED: 2}
    collect(features, {"F"})
    assert features.left_out[LeftOut.AGAIN] == 1


@pytest.mark.parametrize("shape", [(1, 7, 7), (1, 1, 3), (197, 768), (2, 3), (3, 1), (0,), (), (1, 0)])
@pytest.mark.parametrize("first", [True, False])
def test_patches_and_maps_in_a_folder_are_refused(tmp_path: Path, shape: tuple[int, ...], first: bool) -> None:
    folder = write_folder(tmp_path, {"B": np.ones((1, 3)), "A" if first else "C": np.ones(shape)})
    with pytest.raises(DataError, match=rf"{'A' if first else 'C'}\.npy: (found an array of shape|no array of plain)"):
        collect(open_foreign(folder), {"B", "C"})


def test_why_a_map_is_refused_is_said(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"A": np.ones((1, 7, 7))})
    with pytest.raises(DataError, match=r"shape \(1, 7, 7\), expected one vector, .* Ducho keeps only the first"):
        open_foreign(folder)


def test_a_vector_of_another_length_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"A": np.ones((1, 3)), "B": np.ones((1, 4))})
    with pytest.raises(DataError, match=r"B\.npy: found 4 numbers, expected 3, as the folder's first file has"):
        collect(open_foreign(folder), {"A", "B"})


@pytest.mark.parametrize(
    ("there", "error", "message"),
    [
        ("nothing", MissingInputError, r"nothing: no such file or folder of features"),
        ("empty", DataError, r"empty: found no \.npy in the folder, expected one an item"),
        ("mmrec", DataError, r"mmrec: found a folder of MMRec's, expected one of its arrays, such as image_feat\.npy"),
    ],
)
def test_what_is_no_features_at_all(tmp_path: Path, there: str, error: type[MmprepError], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mmrec").mkdir()
    write_mmrec(tmp_path / "mmrec", np.ones((1, 3)), ["A"])
    with pytest.raises(error, match=message):
        open_foreign(tmp_path / there)
