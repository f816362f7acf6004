"""Where files lie, and which names may become folders."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.layout import Layout


@pytest.mark.parametrize("name", ["sample", "Toys_and-Games.2018", "0", "a..b"])
def test_names_of_folders_are_taken(name: str) -> None:
    assert Layout(Path("data"), name).raw == Path("data/raw") / name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a\\b", "a b", "a\n", "é", "a\0"]
)
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        Layout(Path("data"), name)
    assert str(caught.value) == (
        f"dataset: found {name!r}, expected letters, digits, '_', '-' and '.', as it names folders"
    )


LAYOUT = Layout(Path("some/data"), "toys")
RUN = LAYOUT.run("vbpr")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (LAYOUT.raw, "raw/toys"),
        (LAYOUT.raw_interactions, "interim/toys/interactions.parquet"),
        (LAYOUT.raw_items, "interim/toys/items.parquet"),
        (LAYOUT.rejects, "interim/toys/rejects.parquet"),
        (LAYOUT.core, "interim/toys/core.parquet"),
        (LAYOUT.interactions, "processed/toys/interactions.parquet"),
        (LAYOUT.users, "processed/toys/users.parquet"),
        (LAYOUT.items, "processed/toys/items.parquet"),
        (LAYOUT.features("minilm"), "features/toys/minilm"),
        (LAYOUT.graph("mixed"), "graphs/toys/mixed.parquet"),
        (LAYOUT.graph("knn/minilm"), "graphs/toys/knn/minilm.parquet"),
        (LAYOUT.graph_folder("interaction"), "graphs/toys/interaction"),
        (LAYOUT.metrics("split"), "metrics/toys/split.json"),
        (RUN.checkpoint, "runs/toys/vbpr/checkpoint.safetensors"),
        (RUN.config, "runs/toys/vbpr/config.json"),
        (RUN.embeddings, "runs/toys/vbpr/embeddings.safetensors"),
        (RUN.history, "runs/toys/vbpr/history.csv"),
        (RUN.training, "runs/toys/vbpr/training.json"),
        (LAYOUT.experiment_cost("3fa1"), "experiments/toys/costs/3fa1.json"),
        (RUN.training_cost, "runs/toys/vbpr/training_cost.json"),
        (RUN.metrics, "runs/toys/vbpr/metrics.json"),
        (RUN.metrics_by_group, "runs/toys/vbpr/metrics_by_group.json"),
        (RUN.recommendations, "runs/toys/vbpr/recommendations.parquet"),
        (RUN.resume_file, "runs/toys/vbpr/.resume.safetensors"),
        (LAYOUT.seeds("vbpr").summary, "seeds/toys/vbpr/seeds.json"),
        (LAYOUT.seeds("vbpr").run(7).config, "seeds/toys/vbpr/7/config.json"),
        (LAYOUT.search("vbpr").table, "searches/toys/vbpr/combinations.csv"),
        (LAYOUT.search("vbpr").best, "searches/toys/vbpr/best.json"),
        (LAYOUT.search("vbpr").run("3fa1").config, "searches/toys/vbpr/3fa1/config.json"),
    ],
)
def test_each_file_lies_where_the_readers_of_the_tree_expect_it(path: Path, place: str) -> None:
    assert path == Path("some/data") / place
    assert LAYOUT.relative(path) == place


def test_the_raw_folder_is_given_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "raw" / "toys").mkdir(parents=True)
    assert Layout(tmp_path, "toys").require_raw() == tmp_path / "raw" / "toys"


def test_an_unknown_dataset_lists_those_that_there_are(tmp_path: Path) -> None:
    for name in ("toys", "books", ".toys.123.partial"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    (tmp_path / "raw" / "notes.txt").touch()
    with pytest.raises(MissingInputError) as caught:
        Layout(tmp_path, "toy").require_raw()
    assert str(caught.value) == (
        f"{tmp_path}/raw/toy: no such dataset folder; put the reviews, the metadata and images/ there "
        "(datasets here: books, toys)"
    )


def test_without_any_dataset_none_is_listed(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        Layout(tmp_path / "nowhere", "toys").require_raw()
    assert str(caught.value).endswith("put the reviews, the metadata and images/ there")


def test_a_layout_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        LAYOUT.dataset = "../elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["", ".", "..", "../bpr", "a/b", "/bpr", "a\\b", "a\0b"])
@pytest.mark.parametrize("path", ["features", "run", "seeds", "search", "experiment"])
def test_a_name_that_leads_to_another_folder_is_refused(path: str, name: str) -> None:
    with pytest.raises(ParamsError, match="expected a name without '/' and"):
        getattr(Layout(Path("data"), "toys"), path)(name)


@pytest.mark.parametrize("name", ["../knn", "knn/../../x", "/knn", "knn//x"])
def test_a_graph_that_leads_to_another_folder_is_refused(name: str) -> None:
    with pytest.raises(ParamsError, match="graph: found"):
        Layout(Path("data"), "toys").graph(name)
