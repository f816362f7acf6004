from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_place import FakePlace

from mmprep.pipeline.errors import ParamsError
from mmprep.stages.cli.main import main
from mmprep.stages.experiments import experiment
from mmprep.stages.experiments.experiment import ExperimentRequest, run_at

TABLE = """
paper: P
source: Figure 1
shows: two of them
metrics: [recall@20, ndcg@20]
as_published: [{source: Section 4, datasets: [baby], set: {train.patience: 8}}]
rows:
  - {label: "[BPR]", recommender: bpr, published: {baby: [0.05, null]}}
  - {label: VBPR, recommender: vbpr}
  - {label: MICRO, published: {baby: [0.08, 0.04]}, note: ours it is not}
"""


@pytest.fixture
def place(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakePlace:
    """A project with a dataset and a file of experiments, whose copy is a fake."""
    (in_folder / "data" / "raw" / "toys").mkdir(parents=True)
    (in_folder / "params.yaml").write_text("dataset: toys\ntrain: {seed: 2, patience: 30}\nsplit: {rule: temporal}\n")
    (in_folder / "experiments").mkdir()
    (in_folder / "experiments" / "p-table1.yaml").write_text(TABLE)
    found = FakePlace()

    @contextmanager
    def opened(project: Path) -> Iterator[FakePlace]:
        assert project == Path()
        yield found

    monkeypatch.setattr(experiment, "open_workspace", opened)
    return found


def mmprep(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_command_prints_our_numbers_beside_the_published_ones(place: FakePlace) -> None:
    result = mmprep("experiment", "p-table1", "--seeds", "2")
    assert result.exit_code == 0, result.output
    for text in (
        "P, Figure 1: two of them",
        "[BPR]",
        "ours, toys, 2 seeds",
        "0.0250 +-0.0071",
        "published, baby",
        "not built",
        "note: MICRO: ours it is not",
        "written: data/experiments/toys/p-table1.csv",
        "written: data/plots/toys/p-table1.png",
    ):
        assert text in result.output
    assert Path("data/plots/toys/p-table1.png").is_file()
    assert len(place.ran) == 4


def test_what_training_takes_is_printed_in_seconds_and_megabytes(place: FakePlace) -> None:
    del place
    text = TABLE.replace("[recall@20, ndcg@20]", "[epoch_seconds, peak_memory_mb]")
    Path("experiments/p-table1.yaml").write_text(text)
    result = mmprep("experiment", "p-table1", "--seeds", "2", "--no-picture")
    assert result.exit_code == 0, result.output
    assert "2.50 +-0.71" in result.output
    assert "2,500 +-707" in result.output


def test_the_seed_of_the_parameters_is_taken_where_none_is_asked_for(place: FakePlace) -> None:
    found = run_at(place, ExperimentRequest("p-table1", ("VBPR",), picture=False))
    assert [line.means for line in found.table] == [(0.02, 0.01)]
    folder = Path("data/experiments/toys")
    assert found.written == [folder / "p-table1.csv", folder / "p-table1.settings.csv"]


def test_the_papers_settings_are_taken_on_request_alone(place: FakePlace) -> None:
    run_at(place, ExperimentRequest("p-table1", ("VBPR",), like="baby", picture=False))
    run_at(place, ExperimentRequest("p-table1", ("VBPR",), like="baby", as_published=True, picture=False))
    assert [values["train"]["patience"] for _, values, _ in place.ran] == [30, 8]


def test_settings_as_published_are_printed_with_their_sources(place: FakePlace) -> None:
    arguments = ("experiment", "p-table1", "--rows", "VBPR", "--like", "baby", "--no-picture")
    assert "ran with" not in mmprep(*arguments).output
    shown = mmprep(*arguments, "--as-published").output.splitlines()
    own = [line for line in shown[shown.index("VBPR ran with") :] if line.startswith("  ")]
    assert own[:2] == ['  params.yaml: split.rule "temporal"', "  Section 4: train.patience 8"]
    assert own[2].startswith("  default, as no source gives a value: filter.k_core 5, ")
    assert "recommenders.vbpr.learning_rate 0.001" in own[2]
    assert len(own) == 3
    table = Path("data/experiments/toys/p-table1.settings.csv").read_text().splitlines()
    assert table[0] == "row,key,value,origin"
    assert {"VBPR,train.patience,8,Section 4", 'VBPR,split.rule,"""temporal""",params.yaml'} <= set(table)
    assert len(place.ran) == 2


def test_settings_are_printed_before_anything_runs(place: FakePlace) -> None:
    shown = mmprep("experiment", "p-table1", "--like", "baby", "--as-published", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert [line for line in shown.output.splitlines() if not line.startswith("  ")] == [
        *("[BPR] would run with", "VBPR would run with")
    ]
    assert "  Section 4: train.patience 8" in shown.output.splitlines()
    own = mmprep("experiment", "p-table1", "--dry-run").output
    assert "train.patience 30" in own
    assert (place.ran, Path("data/experiments").exists()) == ([], False)


def test_counts_that_are_not_the_papers_are_a_note(place: FakePlace) -> None:
    place.counts = {"users": 5.0, "items": 7.0, "interactions": 9.0}
    Path("experiments/p-table1.yaml").write_text(TABLE.replace("paper: P\n", "paper: p\n"))
    Path("experiments/papers").mkdir()
    described = "{title: Amazon Baby of 2014, users: 19445, items: 7, interactions: 160792}"
    Path("experiments/papers/p.yaml").write_text(f"name: P\ndatasets: {{baby: {described}}}\n")
    note = (
        "note: toys has 5 users, 9 interactions, the paper's Amazon Baby of 2014 19,445 users, 160,792 interactions: "
        "compare with care"
    )
    arguments = ("experiment", "p-table1", "--rows", "VBPR", "--no-picture")
    assert note in mmprep(*arguments, "--like", "baby").output.splitlines()
    assert "compare with care" not in mmprep(*arguments).output
    place.counts = {"users": 19445.0, "items": 7.0, "interactions": 160792.0}
    assert "compare with care" not in mmprep(*arguments, "--like", "baby").output


def test_a_row_that_fails_is_shown_and_ends_the_command_with_an_error(place: FakePlace) -> None:
    place.broken = "@bpr"
    result = mmprep("experiment", "p-table1", "--no-picture")
    assert result.exit_code == 4
    assert "failed" in result.output
    assert "error: [BPR]: loss is not finite" in result.output
    assert "0.0200" in result.output


def test_no_picture_is_drawn_without_the_library(place: FakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(place: str) -> None:
        raise ParamsError(f"{place} install it")

    monkeypatch.setattr(experiment, "require_matplotlib", missing)
    with pytest.raises(ParamsError, match=r"^experiments/p-table1.yaml: give --no-picture, or install it"):
        run_at(place, ExperimentRequest("p-table1"))
    assert place.ran == []
    run_at(place, ExperimentRequest("p-table1", picture=False))


@pytest.mark.usefixtures("place")
def test_the_files_are_listed_with_what_they_show() -> None:
    shown = mmprep("experiments").output
    for text in ("p-table1: two of them", "P, Figure 1", "[BPR], VBPR, MICRO (not built)", "baby"):
        assert text in shown
