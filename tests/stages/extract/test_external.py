"""Features that others have computed become features of a dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from worlds import World, binary, write_items, write_world

from mmprep.models.encoders.params import ExtractParams, FileParams
from mmprep.models.recommenders.vbpr import VBPRParams
from mmprep.models.training.params import TrainParams
from mmprep.pipeline.errors import DataError, MissingInputError, ParamsError
from mmprep.pipeline.features.reader import FeatureSet, part_paths
from mmprep.pipeline.graphs.params import GraphsParams, KnnParams
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.stages.extract.extract import run
from mmprep.stages.graphs import graph
from mmprep.stages.prepare.noise import NoiseParams
from mmprep.stages.training import train

Vectors = npt.NDArray[np.float32]
Writer = Callable[[Layout, list[int], Vectors], str]
ASIN = "B00000000{}"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Six items under ids of ten characters."""
    layout = Layout(tmp_path / "data", "toy")
    layout.raw.mkdir(parents=True)
    write_items(layout, [{"item_id": ASIN.format(n)} for n in range(6)])
    return layout


def vectors_of(items: list[int], dimension: int = 8) -> Vectors:
    return np.random.default_rng(0).normal(size=(10, dimension)).astype(np.float32)[items]


def write_mmrec(layout: Layout, items: list[int], vectors: Vectors) -> str:
    np.save(layout.raw / "image_feat.npy", vectors)
    rows = "".join(f"{ASIN.format(item)}\t{row}\n" for row, item in enumerate(items))
    (layout.raw / "i_id_mapping.csv").write_text(f"asin\titemID\n{rows}")
    return "image_feat.npy"


def write_amazon(layout: Layout, items: list[int], vectors: Vectors) -> str:
    records = (ASIN.format(item).encode() + vector.tobytes() for item, vector in zip(items, vectors, strict=True))
    (layout.raw / "image_features_Toy.b").write_bytes(b"".join(records))
    return "image_features_Toy.b"


def write_ducho(layout: Layout, items: list[int], vectors: Vectors) -> str:
    (layout.raw / "visual").mkdir()
    for item, vector in zip(items, vectors, strict=True):
        np.save(layout.raw / "visual" / f"{ASIN.format(item)}.npy", vector)
    return "visual"


def extract(layout: Layout, path: str, noise: NoiseParams | None = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    params = FileParams.model_validate({"library": "file", "path": path, "modality": "image", **more})
    return run("theirs", ExtractParams(missing="zeros"), params, layout, noise=noise)


@pytest.mark.parametrize(
    ("kind", "write", "dimension"),
    [("mmrec", write_mmrec, 8), ("amazon", write_amazon, 4096), ("ducho", write_ducho, 8)],
)
def test_each_format_becomes_features_in_the_order_of_items(
    layout: Layout,
    tmp_path: Path,
    kind: str,
    write: Writer,
    dimension: int,
) -> None:
    there = [5, 9, 0, 3]  # in any order; 9 is of no item here
    path = write(layout, there, vectors_of(there, dimension))
    metrics = extract(layout, path, max_unmatched_fraction=0.25)
    assert metrics == {
        "items": 6,
        "encoded": 3,
        "missing": 3,
        "replaced_by_noise": 0,
        "dimension": dimension,
        "kind": kind,
        "left_out": {"of an item that was not asked for": 1},
    }
    assert json.loads(layout.metrics("extract-theirs").read_text()) == metrics
    features = FeatureSet.open(layout.features("theirs")).vectors()
    assert features.items.tolist() == [0, 3, 5]
    np.testing.assert_array_equal(features.vectors, vectors_of([0, 3, 5], dimension))
    # Those that lack get what extract.missing says.
    np.testing.assert_array_equal(features.matrix(6)[[1, 2, 4]], np.zeros((3, dimension)))
    provenance = features.provenance
    assert (provenance["encoder"]["library"], provenance["encoder"]["weights"]) == ("file", "not known")
    assert provenance["missing"] == "zeros"
    assert provenance["inputs"] == {"processed/toy/items.parquet": sha256(layout.items)}
    assert str(tmp_path) not in json.dumps(provenance)
    assert [path.name for path in layout.features("theirs").parent.iterdir()] == ["theirs"]


def test_other_contents_are_told_by_their_digest(layout: Layout) -> None:
    digests = []
    for factor in (1, 1, 2):
        extract(layout, write_mmrec(layout, [0, 1], factor * vectors_of([0, 1])))
        digests.append(read_provenance(part_paths(layout.features("theirs"))[0])["contents_sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_vectors_are_stored_as_f16_if_asked_for(layout: Layout) -> None:
    extract(layout, write_mmrec(layout, [0, 1], vectors_of([0, 1])), stored_as="f16")
    found = FeatureSet.open(layout.features("theirs")).vectors().vectors
    np.testing.assert_array_equal(found, vectors_of([0, 1]).astype(np.float16).astype(np.float32))


def test_numbers_too_large_for_f16_name_the_item(layout: Layout) -> None:
    path = write_mmrec(layout, [0, 1], np.array([[1, 2], [1e6, 3]], dtype=np.float32))
    with pytest.raises(DataError, match=f"numbers too large for f16 for item {ASIN.format(1)}; set stored_as to f32"):
        extract(layout, path, stored_as="f16")
    assert not layout.features("theirs").exists()


def test_features_of_another_dataset_are_refused(layout: Layout) -> None:
    path = write_mmrec(layout, [7, 8], vectors_of([7, 8]))
    with pytest.raises(DataError, match="has none of the 6 items; it belongs to another dataset or uses other ids"):
        extract(layout, path)
    write_items(layout, [])
    with pytest.raises(DataError, match="has none of the 0 items"):
        extract(layout, path)
    assert not layout.features("theirs").exists()


def test_names_of_files_that_are_not_ids_are_refused_with_the_difference(layout: Layout) -> None:
    (layout.raw / "visual").mkdir()
    names = [ASIN.format(0), *(f"{ASIN.format(n)}_main" for n in range(1, 5))]
    for name, vector in zip(names, vectors_of([0, 1, 2, 3, 4]), strict=True):
        np.save(layout.raw / "visual" / f"{name}.npy", vector)
    with pytest.raises(DataError) as caught:
        extract(layout, "visual")
    assert str(caught.value) == (
        f"{layout.raw}/visual: 5 of 6 items have no vector, and 4 of 5 vectors are of no item (id-in-name (more in the "
        f"name than the id) would make 4 fit, such as '{ASIN.format(1)}' and '{ASIN.format(1)}_main'); a share of 0.8, "
        "more than encoders.theirs.max_unmatched_fraction allows (0.2); make the ids alike, or raise the limit if "
        "nothing is misspelt"
    )
    assert not layout.features("theirs").exists()


def test_numbered_files_are_refused_as_such(layout: Layout) -> None:
    (layout.raw / "visual").mkdir()
    for number, vector in enumerate(vectors_of([0, 1, 2])):
        np.save(layout.raw / "visual" / f"{number:09d}.npy", vector)
    with pytest.raises(
        DataError, match=r"has none of the 6 items.*'000000000' has no match; number-to-id .*up to 3 fit"
    ):
        extract(layout, "visual")


@pytest.mark.parametrize("write", [write_mmrec, write_ducho])
def test_items_without_a_vector_are_a_warning_if_ids_match(
    layout: Layout, caplog: pytest.LogCaptureFixture, write: Writer
) -> None:
    path = write(layout, [0, 3], vectors_of([0, 3]))
    extract(layout, path, max_unmatched_fraction=0)
    assert [record.message for record in caplog.records] == [
        f"theirs: 4 of 6 items have no usable vector, such as '{ASIN.format(1)}'; training gives them zeros "
        "(extract.missing: zeros)",
    ]


def test_unmatched_vectors_below_the_limit_are_a_warning(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    path = write_mmrec(layout, [0, 1, 2, 3, 9], vectors_of([0, 1, 2, 3, 9]))
    extract(layout, path)
    assert caplog.messages[0] == (
        f"{layout.raw}/{path}: 2 of 6 items have no vector, and 1 of 5 vectors are of no item ('{ASIN.format(4)}' is "
        f"missing, '{ASIN.format(9)}' has no match)"
    )


def test_vectors_of_all_items_and_of_many_others_are_no_warning(
    layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    extract(layout, write_mmrec(layout, list(range(10)), vectors_of(list(range(10)))), max_unmatched_fraction=0)
    assert caplog.records == []


def test_the_limit_of_unmatched_ids_is_not_recorded(layout: Layout) -> None:
    extract(layout, write_mmrec(layout, [0, 1], vectors_of([0, 1])), max_unmatched_fraction=0.5)
    provenance = read_provenance(part_paths(layout.features("theirs"))[0])
    assert "max_unmatched_fraction" not in provenance["params"]


@pytest.mark.parametrize("path", ["../image_feat.npy", "/etc/passwd", "link.npy"])
def test_a_path_out_of_the_raw_folder_is_refused(layout: Layout, path: str) -> None:
    np.save(layout.raw.parent / "image_feat.npy", vectors_of([0]))
    (layout.raw / "link.npy").symlink_to(layout.raw.parent / "image_feat.npy")
    with pytest.raises(ParamsError) as caught:
        extract(layout, path)
    assert str(caught.value) == (f"encoders.theirs.path: found {path!r}, expected a file or folder below {layout.raw}")


def test_a_file_that_is_not_there_and_a_reduction_are_refused(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="no such file or folder of features"):
        extract(layout, "image_feat.npy")
    with pytest.raises(ParamsError, match=r"encoders\.theirs\.reduce: external features are kept as they are"):
        extract(layout, write_mmrec(layout, [0], vectors_of([0])), reduce="pca:2")


def test_noise_gives_items_the_vectors_of_others(layout: Layout) -> None:
    path = write_mmrec(layout, list(range(6)), vectors_of(list(range(6))))
    extract(layout, path)
    clean = FeatureSet.open(layout.features("theirs")).vectors().vectors
    metrics = extract(layout, path, NoiseParams(replaced=0.5, modality="image"))
    noisy = FeatureSet.open(layout.features("theirs")).vectors()
    assert metrics["replaced_by_noise"] == noisy.provenance["replaced_by_noise"] == 3
    assert (noisy.vectors != clean).any(axis=1).sum() == 3
    assert {row.tobytes() for row in noisy.vectors} < {row.tobytes() for row in clean}
    assert extract(layout, path, NoiseParams(replaced=0.5, modality="text"))["replaced_by_noise"] == 0


def test_graphs_and_recommenders_read_them(layout: Layout) -> None:
    pairs = [(user, (user + step) % 6) for user in range(4) for step in range(3)]
    val, test = [(user, (user + 3) % 6) for user in range(4)], [(user, (user + 4) % 6) for user in range(4)]
    write_world(World(*(binary(each, (4, 6)) for each in (pairs, val, test))), layout)
    (layout.raw / "visual").mkdir()
    for item in (0, 1, 2, 4, 5):
        np.save(layout.raw / "visual" / f"i{item}.npy", vectors_of([item])[0])
    assert extract(layout, "visual")["missing"] == 1
    edges = graph.run("knn/theirs", GraphsParams(encoders=("theirs",), knn=KnnParams(k=2)), {}, layout)
    assert (edges["edges"], edges["without_neighbours"]) == (10, 1)
    params = TrainParams(image="theirs", text="", max_epochs=1, batch_size=4)
    assert train.run("vbpr", params, VBPRParams(), layout)["epochs"] == 1


@pytest.fixture
def numbered(tmp_path: Path) -> Layout:
    """Twelve items of a published split under numbers, of which two have no interaction."""
    layout = Layout(tmp_path / "data", "numbers")
    layout.raw.mkdir(parents=True)
    write_items(layout, [{"item_id": name} for name in sorted(str(n) for n in range(12) if n not in (3, 11))])
    return layout


def test_rows_are_items_by_number_where_the_section_says_so(numbered: Layout) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    np.save(numbered.raw / "image_feat.npy", vectors)
    metrics = extract(numbered, "image_feat.npy", rows="number")
    assert (metrics["encoded"], metrics["missing"], metrics["left_out"]) == (
        10,
        0,
        {"of an item that was not asked for": 2},
    )
    features = FeatureSet.of(numbered, "theirs").vectors()
    ids = sorted(str(n) for n in range(12) if n not in (3, 11))
    assert ids[:3] == ["0", "1", "10"]
    np.testing.assert_array_equal(features.vectors, vectors[[int(name) for name in ids]])
    assert features.provenance["params"]["rows"] == "number"


def test_without_a_table_the_message_names_the_key(numbered: Layout) -> None:
    np.save(numbered.raw / "image_feat.npy", np.ones((12, 4), dtype=np.float32))
    with pytest.raises(MissingInputError) as caught:
        extract(numbered, "image_feat.npy")
    assert str(caught.value) == (
        f"{numbered.raw / 'i_id_mapping.csv'}: not found; it says which item a row is, put MMRec's own there, or write "
        "`rows: number` in the encoder's section if the items' ids are the numbers of rows"
    )


def test_numbers_of_rows_are_refused_for_published_ids(layout: Layout) -> None:
    np.save(layout.raw / "image_feat.npy", np.ones((6, 4), dtype=np.float32))
    with pytest.raises(ParamsError) as caught:
        extract(layout, "image_feat.npy", rows="number")
    assert str(caught.value) == (
        "encoders.theirs.rows: found number, but an item has the id 'B000000000', which is no row of the 6 in "
        f"{layout.raw / 'image_feat.npy'}; use features of this dataset, or remove the key and put the table of ids "
        "beside the file"
    )


@pytest.mark.parametrize("name", ["12", "007", "-1", "\u0663", "9" * 5000])
def test_ids_that_are_no_row_are_refused(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path / "data", "numbers")
    layout.raw.mkdir(parents=True)
    write_items(layout, [{"item_id": "0"}, {"item_id": name}])
    np.save(layout.raw / "image_feat.npy", np.ones((12, 4), dtype=np.float32))
    with pytest.raises(ParamsError, match="which is no row of the 12"):
        extract(layout, "image_feat.npy", rows="number")


def test_a_table_beside_numbered_rows_is_refused(layout: Layout) -> None:
    path = write_mmrec(layout, list(range(6)), vectors_of(list(range(6))))
    with pytest.raises(DataError, match="found ids of rows, expected none for rows: number; remove the key or the tab"):
        extract(layout, path, rows="number")


@pytest.mark.parametrize("write", [write_amazon, write_ducho])
def test_vectors_with_ids_have_no_numbers(layout: Layout, write: Writer) -> None:
    path = write(layout, [0, 1], vectors_of([0, 1], 4096))
    with pytest.raises(DataError, match="found no array, expected one for rows: number; remove the key"):
        extract(layout, path, rows="number")


def test_features_with_a_table_are_recorded_as_before_the_key(layout: Layout) -> None:
    extract(layout, write_mmrec(layout, [0, 1], vectors_of([0, 1])))
    assert FeatureSet.of(layout, "theirs").provenance["params"] == {
        "library": "file",
        "modality": "image",
        "path": "image_feat.npy",
        "reduce": None,
        "stored_as": "f32",
    }
