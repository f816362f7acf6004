"""Exports, read back as those read them for whom they are made; and that no folder of anybody's is lost."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML
from worlds import made_by_hand, two_groups, write_items, write_users, write_vectors, write_world

from mmprep.models.encoders.catalogue import Modality
from mmprep.pipeline.errors import DataError, MissingInputError, MmprepError, ParamsError
from mmprep.pipeline.features.external import open_foreign
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.photos.names import item_of_photo
from mmprep.pipeline.tables.provenance import digest_of, record
from mmprep.pipeline.tables.schemas import EDGES, INTERACTIONS, ITEMS, SPLIT_INTERACTIONS, SPLITS, USERS
from mmprep.stages.export import export, mmrec
from mmprep.stages.ingest import ingest
from mmprep.stages.ingest.ingest import IngestParams
from mmprep.stages.prepare import filter as filter_stage
from mmprep.stages.prepare import split
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.split import SplitParams

Floats = npt.NDArray[np.float32]

N_USERS, N_ITEMS = 40, 60  # of two_groups; 400 train, 40 val and 40 test rows
WITHOUT_PHOTO = [3, 59]
ODD_IDS = ['say "B"', "a b", "50%", "ä/ö", "..", "B,1", "'B'", "None", "1e5"]


def photo_vectors() -> Floats:
    """One for each item but two; made to tell items apart."""
    return np.random.default_rng(0).normal(1, 1, (N_ITEMS - len(WITHOUT_PHOTO), 5)).astype(np.float32)


@pytest.fixture
def toy(tmp_path: Path) -> Layout:
    """`two_groups`, photos of all items but two encoded, texts of all."""
    layout = Layout(tmp_path / "data", "toy")
    world = two_groups()
    write_world(world, layout)
    with_photo = [item for item in range(N_ITEMS) if item not in WITHOUT_PHOTO]
    write_vectors(layout, "vgg16", photo_vectors(), with_photo)
    write_vectors(layout, "minilm", world.features["text"])
    return layout


def write_interactions(layout: Layout, rows: list[tuple[int, int, float | None, int | None, str]]) -> None:
    """Replace the interactions of a layout that has users and items."""
    schema = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64, "split": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    SPLIT_INTERACTIONS.write(frame, layout.interactions, made_by_hand(layout, [layout.users, layout.items]))


def read_as_mmrec(folder: Path) -> dict[str, Any]:
    """A dataset's folder by MMRec's rules: names from the yaml, columns by header, counts by the largest numbers."""
    config = YAML(typ="safe").load(next(folder.glob("*.yaml")).read_text(encoding="utf-8"))
    with (folder / config["inter_file_name"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=config["field_separator"]))
    users, items = ([int(row[config[key]]) for row in rows] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"))
    named = {"image": "vision_feature_file", "text": "text_feature_file"}
    return {
        "config": config,
        "columns": list(rows[0]),
        "rows": rows,
        "pairs": [(u, i, SPLITS[int(row["x_label"])]) for u, i, row in zip(users, items, rows, strict=True)],
        "n_users": max(users) + 1,
        "n_items": max(items) + 1,
        "features": {
            kind: np.load(folder / config[key]) for kind, key in named.items() if (folder / config[key]).is_file()
        },
    }


def pairs_of(layout: Layout) -> list[tuple[int, int, str]]:
    frame = SPLIT_INTERACTIONS.read(layout.interactions).select("user", "item", "split").sort("user", "item")
    return list(frame.iter_rows())


def test_mmrec_reads_the_same_splits_and_counts(toy: Layout, tmp_path: Path) -> None:
    metrics = export.run("mmrec", toy, tmp_path / "out", "vgg16", "minilm")
    found = read_as_mmrec(tmp_path / "out")
    assert found["pairs"] == pairs_of(toy)
    assert (found["n_users"], found["n_items"]) == (N_USERS, N_ITEMS)
    assert found["columns"] == ["userID", "itemID", "rating", "timestamp", "x_label"]
    assert found["config"]["TIME_FIELD"] == "timestamp"
    assert found["config"]["filter_out_cod_start_users"] is True
    assert metrics == {
        "users": N_USERS,
        "items": N_ITEMS,
        "train": 400,
        "val": 40,
        "test": 40,
        "image_filled": 2,
        "text_filled": 0,
        "columns_left_out": "none",
        "user_graph": False,
    }


def test_mmrec_features_have_a_row_an_item_and_the_mean_where_there_was_none(toy: Layout, tmp_path: Path) -> None:
    export.run("mmrec", toy, tmp_path / "out", "vgg16", "minilm")
    features = read_as_mmrec(tmp_path / "out")["features"]
    own = photo_vectors()
    with_photo = np.setdiff1d(np.arange(N_ITEMS), WITHOUT_PHOTO)
    assert np.array_equal(features["image"][with_photo], own)
    assert np.allclose(features["image"][WITHOUT_PHOTO], own.mean(axis=0))
    assert np.array_equal(features["text"], two_groups().features["text"])
    for matrix in features.values():
        assert matrix.dtype == np.dtype("<f4")
        assert matrix.flags.c_contiguous
        assert matrix.any(axis=1).all()


def test_mmrec_without_features_names_their_files_all_the_same(toy: Layout, tmp_path: Path) -> None:
    export.run("mmrec", toy, tmp_path / "out", None, "")
    found = read_as_mmrec(tmp_path / "out")
    assert found["features"] == {}
    assert found["config"]["vision_feature_file"] == "image_feat.npy"
    assert found["config"]["user_graph_dict_file"] == "user_graph_dict.npy"


def test_mmrec_mappings_are_tab_separated_and_in_the_order_of_numbers(toy: Layout, tmp_path: Path) -> None:
    export.run("mmrec", toy, tmp_path / "out")
    users = (tmp_path / "out" / "u_id_mapping.csv").read_text(encoding="utf-8").splitlines()
    items = (tmp_path / "out" / "i_id_mapping.csv").read_text(encoding="utf-8").splitlines()
    assert users[:3] == ["user_id\tuserID", "u0\t0", "u1\t1"]
    assert items == ["asin\titemID", *(f"i{n}\t{n}" for n in range(N_ITEMS))]


@pytest.mark.parametrize("extra", [{}, {"rating": 4.1}, {"timestamp": 1_400_000_000}])
def test_mmrec_has_a_column_for_all_rows_or_not_at_all(toy: Layout, tmp_path: Path, extra: dict[str, Any]) -> None:
    rows = [(n % N_USERS, n % N_ITEMS, 4.1, 1_400_000_000 + n, "train") for n in range(120)]
    rows.append((0, 1, extra.get("rating"), extra.get("timestamp"), "test"))
    write_interactions(toy, rows)
    metrics = export.run("mmrec", toy, tmp_path / "out")
    kept = [name for name in ("rating", "timestamp") if name in extra]
    found = read_as_mmrec(tmp_path / "out")
    assert found["columns"] == ["userID", "itemID", *kept, "x_label"]
    assert found["pairs"] == pairs_of(toy), "sorted, however they lay"
    assert metrics["columns_left_out"] == ", ".join(n for n in ("rating", "timestamp") if n not in extra)


@pytest.mark.parametrize("kind", ["user", "item"])
def test_mmrec_would_miscount_where_the_last_one_has_no_interaction(toy: Layout, tmp_path: Path, kind: str) -> None:
    last = {"user": N_USERS, "item": N_ITEMS} | {kind: {"user": N_USERS, "item": N_ITEMS}[kind] - 1}
    write_interactions(toy, [(n % last["user"], n % last["item"], None, None, "train") for n in range(120)])
    with pytest.raises(DataError, match=rf"the last {kind}, .*, has no interaction, and MMRec counts {kind}s by"):
        export.run("mmrec", toy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def reviewed(folder: Path) -> Layout:
    """A dataset by the real stages from reviews with odd ids, temporally split."""
    layout = Layout(folder / "data", "odd.one-1")
    layout.raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    users = [f"user {name}" for name in ODD_IDS]
    reviews = [
        {
            "reviewerID": user,
            "asin": item,
            "overall": float(rng.choice([1, 3.7, 5])),
            "unixReviewTime": 1_400_000_000 + n,
        }
        for n, (user, item) in enumerate((user, item) for user in users for item in ODD_IDS)
    ]
    (layout.raw / "reviews.json").write_text("\n".join(map(json.dumps, reviews)), encoding="utf-8")
    ingest.run(IngestParams(max_reject_fraction=0), layout)
    filter_stage.run(FilterParams(k_core=1), layout)
    split.run(SplitParams(rule="temporal"), layout)
    return layout


def test_ingest_reads_an_mmrec_export_back_as_it_was(tmp_path: Path) -> None:
    layout = reviewed(tmp_path)
    export.run("mmrec", layout, tmp_path / "out")
    again = Layout(tmp_path / "again", "odd")
    again.raw.mkdir(parents=True)
    for path in (tmp_path / "out").iterdir():
        (again.raw / path.name).write_bytes(path.read_bytes())
    found = ingest.run(IngestParams(max_reject_fraction=0), again)
    assert found["interactions"] == len(ODD_IDS) ** 2
    assert INTERACTIONS.read(again.raw_interactions)["user_id"].n_unique() == len(ODD_IDS)
    filter_stage.run(FilterParams(k_core=1), again)
    split.run(SplitParams(rule="given"), again)
    for table, name in ((SPLIT_INTERACTIONS, "interactions"), (USERS, "users")):
        assert table.read(getattr(again, name)).equals(table.read(getattr(layout, name)))
    assert ITEMS.read(again.items)["item_id"].equals(ITEMS.read(layout.items)["item_id"])


def write_user_graph(layout: Layout, neighbours: int) -> None:
    """Users 0 and 1 with so many neighbours each, the nearer the stronger; others with none."""
    edges = [(u, v, float(neighbours - n)) for u in (0, 1) for n, v in enumerate(range(2, 2 + neighbours))]
    schema = {"source": pl.Int32, "target": pl.Int32, "weight": pl.Float32}
    frame = pl.DataFrame(edges, schema=schema, orient="row")
    made = made_by_hand(layout, [layout.interactions], graph="user_user")
    EDGES.write(frame, layout.graph("user_user"), made)


def test_mmrec_gets_the_user_graph_where_it_was_built(tmp_path: Path) -> None:
    layout, n_users = Layout(tmp_path / "data", "toy"), 260
    write_users(layout, n_users)
    write_items(layout, [{}])
    write_interactions(layout, [(user, 0, 5.0, 1, "train") for user in range(n_users)])
    write_user_graph(layout, 250)
    metrics = export.run("mmrec", layout, tmp_path / "out")
    assert metrics["user_graph"] is True
    graph = np.load(tmp_path / "out" / "user_graph_dict.npy", allow_pickle=True).item()
    assert list(graph) == list(range(n_users)), "MMRec counts the users by it"
    assert graph[1] == [list(range(2, 202)), [float(250 - n) for n in range(200)]], "the 200 strongest"
    assert graph[5] == [[], []]
    assert all(type(weight) is float for weight in graph[0][1]), "MMRec takes a softmax of them"
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert "graphs/toy/user_user.parquet" in provenance["inputs"]


def test_a_user_graph_of_other_interactions_is_refused(toy: Layout, tmp_path: Path) -> None:
    write_user_graph(toy, 10)
    write_interactions(toy, [(n % N_USERS, n % N_ITEMS, 5.0, 1, "train") for n in range(120)])
    with pytest.raises(DataError, match=r"user_user\.parquet: made of another .*; run `mmprep graph"):
        export.run("mmrec", toy, tmp_path / "out")


@pytest.mark.parametrize("target", ["mmrec", "numpy"])
def test_rows_of_zeros_are_warned_of(
    toy: Layout, tmp_path: Path, target: export.Target, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = photo_vectors()
    vectors[7] = 0  # an encoder may give it of its own
    write_vectors(toy, "vgg16", vectors, missing="zeros")
    with caplog.at_level(logging.WARNING):
        export.run(target, toy, tmp_path / "out", "vgg16", "minilm")
    assert [record.getMessage().split(";")[0] for record in caplog.records] == ["vgg16: 3 of 60 rows are all zeros"]


def test_where_missing_items_are_dropped_only_an_export_without_rows_for_them_is_made(
    toy: Layout, tmp_path: Path
) -> None:
    write_vectors(toy, "vgg16", photo_vectors(), missing="error")
    for target in ("mmrec", "numpy"):
        with pytest.raises(DataError, match=r"2 of 60 items have no vector, and extract\.missing is error"):
            export.run(target, toy, tmp_path / "out", "vgg16")
    assert export.run("ducho", toy, tmp_path / "out", "vgg16")["image_left_out"] == 2


def test_ducho_has_a_file_an_item_that_has_a_vector(toy: Layout, tmp_path: Path) -> None:
    metrics = export.run("ducho", toy, tmp_path / "out", "vgg16", "minilm")
    files = sorted((tmp_path / "out" / "image").iterdir())
    assert sorted(item_of_photo(path) for path in files) == sorted(
        f"i{item}" for item in range(N_ITEMS) if item not in WITHOUT_PHOTO
    )
    assert (metrics["image_left_out"], metrics["text_left_out"]) == (2, 0)
    found = np.load(tmp_path / "out" / "image" / "i4.npy", allow_pickle=False)
    assert (found.shape, found.dtype) == ((1, 5), np.float32)
    assert np.array_equal(found[0], photo_vectors()[3]), "item 3 has none, so item 4 is the fourth"
    assert len(list((tmp_path / "out" / "text").iterdir())) == N_ITEMS


def test_ducho_file_names_are_safe_and_give_the_ids_back(tmp_path: Path) -> None:
    layout = reviewed(tmp_path)
    ids = ITEMS.read(layout.items)["item_id"].to_list()
    write_vectors(layout, "minilm", np.eye(len(ids), dtype=np.float32))
    export.run("ducho", layout, tmp_path / "out", None, "minilm")
    found = {item_of_photo(path): int(np.load(path).argmax()) for path in (tmp_path / "out" / "text").iterdir()}
    assert found == {item_id: number for number, item_id in enumerate(ids)}


def test_ducho_splits_have_published_ids_and_a_rating_in_every_row(toy: Layout, tmp_path: Path) -> None:
    write_interactions(toy, [(0, 5, 4.5, 1, "train"), (1, 6, None, None, "train"), (39, 59, 2.0, 1, "test")])
    export.run("ducho", toy, tmp_path / "out")
    read = {split: (tmp_path / "out" / f"{split}.tsv").read_text(encoding="utf-8") for split in SPLITS}
    assert read == {"train": "u0\ti5\t4.5\nu1\ti6\t1.0\n", "val": "", "test": "u39\ti59\t2.0\n"}


def test_numpy_arrays_hold_the_splits_the_ids_and_what_is_each_items_own(toy: Layout, tmp_path: Path) -> None:
    metrics = export.run("numpy", toy, tmp_path / "out", "vgg16", "minilm")
    out = tmp_path / "out"
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in out.glob("*.npy")}
    found = sorted((int(u), int(i), split) for split in SPLITS for u, i in arrays[split])
    assert found == pairs_of(toy)
    assert {arrays[split].dtype for split in SPLITS} == {np.dtype("int32")}
    assert (out / "users.txt").read_text(encoding="utf-8").split() == [f"u{n}" for n in range(N_USERS)]
    assert (out / "items.txt").read_text(encoding="utf-8").split() == [f"i{n}" for n in range(N_ITEMS)]
    assert np.flatnonzero(~arrays["vgg16_mask"]).tolist() == WITHOUT_PHOTO
    assert arrays["minilm_mask"].all()
    assert np.array_equal(arrays["vgg16"][arrays["vgg16_mask"]], photo_vectors())
    assert arrays["vgg16"].shape == (N_ITEMS, 5)
    assert (metrics["image_filled"], metrics["text_filled"]) == (2, 0)


@pytest.mark.parametrize("target", ["mmrec", "ducho", "numpy"])
def test_an_export_says_what_it_was_made_of_and_what_was_filled(
    toy: Layout, tmp_path: Path, target: export.Target
) -> None:
    identity = {"encoder": "vgg16", "pretrained": False, "seed": 7}
    write_vectors(toy, "vgg16", photo_vectors(), [i for i in range(N_ITEMS) if i not in WITHOUT_PHOTO])
    part = next(toy.features("vgg16").iterdir())
    told = json.loads(pq.read_schema(part).metadata[b"mmprep"]) | {"encoder": identity}
    pq.write_table(pq.read_table(part).replace_schema_metadata({b"mmprep": json.dumps(told)}), part)
    export.run(target, toy, tmp_path / "out", "vgg16")
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert (provenance["stage"], provenance["dataset"]) == ("export", "toy")
    assert provenance["params"] == {"target": target, "image": "vgg16", "text": None, "audio": None}
    assert provenance["inputs"]["processed/toy/interactions.parquet"] == digest_of(toy.interactions)
    assert provenance["inputs"][toy.relative(part)] == digest_of(part)
    image = provenance["encoded"]["image"]
    assert image["identity"] == identity
    assert (image["items_with_vector"], image["items_without_vector"], image["dimension"]) == (58, 2, 5)
    expected = "no file" if target == "ducho" else "the mean of the other items' vectors"
    assert image["items_without_vector_got"] == expected


@pytest.mark.parametrize("target", ["mmrec", "ducho", "numpy"])
def test_equal_data_gives_equal_bytes_and_replaces_the_earlier_export(
    toy: Layout, tmp_path: Path, target: export.Target
) -> None:
    def contents() -> dict[str, bytes]:
        files = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
        return {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in files}

    export.run(target, toy, tmp_path / "out", "vgg16", "minilm")
    first = contents()
    export.run(target, toy, tmp_path / "out", "vgg16", "minilm")
    assert contents() == first
    assert (tmp_path / "out" / "files.txt").read_text(encoding="utf-8").splitlines()[1:] == sorted(first)
    export.run("numpy", toy, tmp_path / "out")
    assert not any("vgg16" in name or "image" in name for name in contents()), "nothing is left of the earlier one"


def test_an_empty_folder_is_taken(toy: Layout, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export.run("numpy", toy, tmp_path / "out")
    assert (tmp_path / "out" / "train.npy").is_file()


@pytest.mark.parametrize("there", ["file", "link", "link to nothing", "folder", "forged"])
def test_what_no_export_wrote_is_never_replaced(toy: Layout, tmp_path: Path, there: str) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years", encoding="utf-8")
    if there == "file":
        out.write_text("years", encoding="utf-8")
    elif there.startswith("link"):
        out.symlink_to(mine if there == "link" else tmp_path / "nothing")
    else:
        mine.rename(out)
        if there == "forged":
            (out / "files.txt").write_bytes(b"\xff\nthesis.txt\n")
    with pytest.raises(DataError, match=r"out: (found a (file|link), expected|exists and is no earlier export)"):
        export.run("numpy", toy, out)
    left = {"file": out, "link": mine / "thesis.txt", "link to nothing": mine / "thesis.txt"}
    assert left.get(there, out / "thesis.txt").read_text(encoding="utf-8") == "years"


@pytest.mark.parametrize("place", ["image_adj_10_True.pt", "image/.hidden", "more/notes.txt"])
def test_a_file_of_anybodys_in_an_export_keeps_it_from_being_replaced(toy: Layout, tmp_path: Path, place: str) -> None:
    export.run("ducho", toy, tmp_path / "out", "vgg16")
    (tmp_path / "out" / place).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / place).write_bytes(b"mine")
    with pytest.raises(DataError, match=rf"found 1 files that mmprep did not write, such as {place}; move them away"):
        export.run("ducho", toy, tmp_path / "out", "vgg16")
    assert (tmp_path / "out" / place).read_bytes() == b"mine"


def test_a_failed_export_leaves_the_earlier_one(toy: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export.run("mmrec", toy, tmp_path / "out", "vgg16")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir())

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="no space left"):
        export.run("mmrec", toy, tmp_path / "out", "vgg16")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def write_tokens(layout: Layout) -> None:
    """Features of which an item has a list."""
    vectors = pa.list_(pa.list_(pa.float32(), 2))
    table = pa.table({"item": pa.array([0], pa.int32()), "vectors": pa.array([[[1, 2], [3, 4]]], vectors)})
    told = record("extract", layout, FilterParams(), [layout.items], missing="mean").to_metadata()
    layout.features("minilm_tokens").mkdir(parents=True)
    path = layout.features("minilm_tokens") / "part-00000-of-00001.parquet"
    pq.write_table(table.replace_schema_metadata(told), path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image": "resnet50"}, MissingInputError, r"no features; run `mmprep extract --encoder resnet50` first"),
        ({"image": "minilm"}, ParamsError, r"image: found minilm, which is an encoder of text"),
        (
            {"text": "minilm_tokens"},
            DataError,
            r"minilm_tokens: found patches or tokens, a list of vectors an item",
        ),
        (
            {"text": "damaged"},
            DataError,
            r"damaged: damaged features \(.*\); remove the folder and run `mmprep extract --encoder damaged`",
        ),
        ({"text": "../toy/minilm"}, ParamsError, r"text: found '../toy/minilm', expected an encoder's name"),
        ({"text": ".."}, ParamsError, r"text: found '\.\.', expected an encoder's name"),
        ({"target": "recbole"}, ParamsError, r"to: found 'recbole', expected mmrec, ducho, numpy"),
        ({"text": "train"}, ParamsError, r"found an encoder that needs the file train\.npy, .* rename it"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    toy: Layout, tmp_path: Path, arguments: dict[str, Any], error: type[MmprepError], message: str
) -> None:
    write_tokens(toy)
    write_vectors(toy, "train", two_groups().features["text"])
    toy.features("damaged").mkdir()
    (toy.features("damaged") / "part-00000-of-00001.parquet").write_bytes(b"rubbish")
    with pytest.raises(error, match=message) as raised:
        export.run(**{"target": "numpy", "layout": toy, "out": tmp_path / "out", **arguments})
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_stages_that_have_not_run_are_named(toy: Layout, tmp_path: Path) -> None:
    write_users(toy, N_USERS + 1)
    with pytest.raises(DataError, match=r"interactions\.parquet: made of another .*users\.parquet; run `mmprep"):
        export.run("numpy", toy, tmp_path / "out")
    toy.interactions.unlink()
    with pytest.raises(MissingInputError, match=r"interactions\.parquet: not found; run `mmprep split` first"):
        export.run("numpy", toy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_encoder_for_both_modalities_cannot_be(toy: Layout, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"text: found vgg16, which is an encoder of image"):
        export.run("numpy", toy, tmp_path / "out", "vgg16", "vgg16")


def test_mmrec_gets_features_of_any_modality_in_place_of_those_of_photos_or_texts(toy: Layout, tmp_path: Path) -> None:
    told = export.run("mmrec", toy, tmp_path / "out", "vgg16", written_as={"text": "vgg16", "image": "minilm"})
    found = read_as_mmrec(tmp_path / "out")["features"]
    export.run("mmrec", toy, tmp_path / "usual", "vgg16", "minilm")
    usual = read_as_mmrec(tmp_path / "usual")["features"]
    assert np.array_equal(found["text"], usual["image"])
    assert np.array_equal(found["image"], usual["text"])
    assert (told["image_feat.npy"], told["text_feat.npy"]) == ("minilm, in place of vgg16", "vgg16")
    assert (told["image_filled"], told["text_filled"]) == (0, 2)


@pytest.mark.parametrize(
    ("encoders", "written_as", "advice"),
    [
        (
            {"image": "vgg16", "text": "minilm"},
            {},
            "text features by `mmprep export --to mmrec o --as text=acoustic`",
        ),
        ({"text": "minilm"}, {}, "image features by `mmprep export --to mmrec o --as image=acoustic`"),
        ({}, {"image": "x"}, "text features by `mmprep export --to mmrec o --as image=x --as text=acoustic`"),
    ],
)
def test_mmrec_refuses_audio_without_a_file_and_names_the_command(
    encoders: dict[Modality, str], written_as: dict[Modality, str], advice: str
) -> None:
    with pytest.raises(ParamsError) as raised:
        mmrec.feature_encoders({**encoders, "audio": "acoustic"}, written_as, Path("o"))
    assert str(raised.value) == (
        "audio: found acoustic, but MMRec reads features of images and texts alone; write it as its "
        f"{advice}, or leave it out by --audio ''"
    )


@pytest.mark.parametrize("target", ["ducho", "numpy"])
def test_features_take_the_place_of_others_for_mmrec_alone(toy: Layout, tmp_path: Path, target: export.Target) -> None:
    with pytest.raises(ParamsError, match=f"^as: found with --to {target}, which has a place for every modality; leav"):
        export.run(target, toy, tmp_path / "out", written_as={"text": "vgg16"})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["acoustic"], "as: found 'acoustic', expected image=ENCODER or text=ENCODER"),
        (["audio=acoustic"], "as: found 'audio=acoustic', expected image=ENCODER or text=ENCODER"),
        (["text="], "as: found 'text=', expected image=ENCODER or text=ENCODER"),
        (["text=a", "text=b"], "as: found text twice, expected one encoder for text_feat.npy"),
    ],
)
def test_place_of_features_is_a_modality_and_an_encoder(options: list[str], message: str) -> None:
    with pytest.raises(ParamsError) as raised:
        mmrec.parse_written_as(options)
    assert str(raised.value) == message
    assert mmrec.parse_written_as(["text=a=b", "image=c"]) == {"text": "a=b", "image": "c"}


@pytest.mark.parametrize(("target", "place"), [("mmrec", "image_feat.npy"), ("ducho", "image")])
def test_what_was_exported_is_read_back_as_features_of_others(
    toy: Layout, tmp_path: Path, target: export.Target, place: str
) -> None:
    export.run(target, toy, tmp_path / "out", "vgg16")
    features = open_foreign(tmp_path / "out" / place)
    wanted = [f"i{item}" for item in range(N_ITEMS) if item not in WITHOUT_PHOTO]
    found = {item: row for ids, rows in features.batches(set(wanted)) for item, row in zip(ids, rows, strict=True)}
    assert np.array_equal(np.stack([found[item] for item in wanted]), photo_vectors())
    assert (features.kind, features.left_out.total()) == (target, 2 if target == "mmrec" else 0)
