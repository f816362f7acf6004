"""The stages under DVC, on a small generated dataset: what re-runs, and what does not."""

import json
import re
import resource
from pathlib import Path

import pytest
from checkout import add_tiny, assert_second_clone_runs_nothing, change, check_out, copy, fail, run, share

STAGES = {
    "code",
    "parameters",
    "ingest",
    "filter",
    "split",
    "extract@alexnet",
    "extract@minilm",
    "modalities-features",
    "graph@alexnet",
    "graph@minilm",
    "modalities-knn",
    "graph-mixed",
    "graph-consistent",
    "graph-cooccurrence",
    "graph-user_user",
    "graph-interaction",
    "homophily",
    "train@bpr",
    "train@lightgcn",
    "train-multimodal@vbpr",
    "train-item_graphs@freedom",
    "train-item_graphs@da_mrs",
    "evaluate@bpr",
    "evaluate@lightgcn",
    "evaluate-multimodal@vbpr",
    "evaluate-item_graphs@freedom",
    "evaluate-item_graphs@da_mrs",
}


@pytest.fixture(autouse=True)
def own_cache() -> None:
    """The row cache in which the project's first run was, in the place of one for each test."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose pipeline has run once on the dataset `tiny`."""
    folder = check_out(tmp_path_factory.mktemp("dvc") / "project")
    add_tiny(folder)
    assert stages_run(run(folder, "dvc", "repro")) == STAGES
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "tiny")
    return folder


def stages_run(output: str) -> set[str]:
    """The stages that `dvc repro` says it ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_second_repro_runs_nothing_and_is_quick(project: Path) -> None:
    # Seconds of a core, which other work on the machine hardly changes.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = run(project, "dvc", "repro")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 6
    assert stages_run(output) == set()
    assert "up to date" in output


def test_git_sees_no_data_but_the_lock_file(project: Path) -> None:
    assert run(project, "git", "status", "--porcelain") == ""
    assert "dvc.lock" in run(project, "git", "ls-files", "dvc.lock")
    assert run(project, "git", "ls-files", "data/processed", "data/raw/tiny", "data/runs") == ""


def test_a_second_clone_pulls_features_from_a_folder_and_runs_nothing(project: Path, tmp_path: Path) -> None:
    first = copy(project, tmp_path / "first")
    run(first, "dvc", "add", "data/raw/tiny")
    share(first, str(tmp_path / "remote"))
    assert_second_clone_runs_nothing(first, tmp_path / "second")


def test_touching_one_encoder_reruns_only_what_depends_on_it(project: Path) -> None:
    change(project, "batch_size: 32", "batch_size: 8")
    status = json.loads(run(project, "dvc", "status", "--json"))
    assert set(status) == {"code", "parameters"}  # of encoders, code reads which network each has
    # All comes out of the row cache, so the features are the same, and nothing follows.
    assert stages_run(run(project, "dvc", "repro")) == {"code", "parameters", "extract@minilm"}


def test_changing_when_to_validate_concerns_training_and_what_follows_alone(project: Path) -> None:
    change(project, "  every: 1\n", "  every: 2\n")
    run(project, "dvc", "repro", "--single-item", "parameters")
    status = json.loads(run(project, "dvc", "status", "--json"))
    assert set(status) == {stage for stage in STAGES if stage.startswith(("train", "evaluate"))}
    change(project, "  every: 2\n", "  every: 1\n")
    run(project, "dvc", "repro", "--single-item", "parameters")


@pytest.mark.long  # half of all stages run again
def test_changing_what_an_encoder_reads_reruns_all_that_depends_on_it_and_no_more(project: Path) -> None:
    change(project, "template: all", 'template: "{title}"')
    graphs = {"graph@minilm", "graph-mixed", "graph-consistent", "homophily", "modalities-features", "modalities-knn"}
    names = ("multimodal@vbpr", "item_graphs@freedom", "item_graphs@da_mrs")
    multimodal = {f"{verb}-{name}" for verb in ("train", "evaluate") for name in names}
    assert stages_run(run(project, "dvc", "repro")) == {"code", "parameters", "extract@minilm", *graphs, *multimodal}


@pytest.mark.long  # four stages run again, with a network of their own
def test_another_encoder_reruns_no_training(project: Path) -> None:
    # Twice: of extract.encoders and of graphs.encoders.
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("encoders: [alexnet, minilm]", "encoders: [alexnet, minilm, resnet50]"))
    change(project, "encoders:\n  alexnet:", "encoders:\n  resnet50: {weights: random:0}\n  alexnet:")
    of_it = {"extract@resnet50", "graph@resnet50"}
    digests = {"modalities-features", "modalities-knn"}
    # What is between items of graphs that no recommender reads is measured, too.
    assert stages_run(run(project, "dvc", "repro")) == {"code", "parameters", "homophily", *of_it, *digests}


def test_audio_that_is_missing_is_named_before_the_first_stage(project: Path, tmp_path: Path) -> None:
    project = copy(project, tmp_path / "project")
    before = (project / "dvc.yaml").read_bytes()
    change(project, 'audio: ""', "audio: sounds")
    output = fail(project, "dvc", "repro")
    message = "error: params.yaml: train.audio: found 'sounds', expected an encoder"
    assert message in output
    assert stages_run(output) == {"parameters"}  # in which it stopped
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("encoders: [alexnet", "encoders: [sounds, alexnet"))
    sounds = "  sounds: {library: file, path: audio_feat.npy, modality: audio}\n"
    change(project, "\nencoders:\n", f"\nencoders:\n{sounds}")
    output = fail(project, "dvc", "repro")
    assert "error: data/raw/tiny/audio_feat.npy: not found, expected the features of sounds" in output
    assert stages_run(output) == {"code"}
    assert (project / "dvc.yaml").read_bytes() == before


@pytest.mark.long  # a quarter of all stages runs again
def test_changing_a_graph_reruns_what_reads_it_and_no_more(project: Path) -> None:
    change(project, "image_weight: 0.1", "image_weight: 0.5")
    # da_mrs shares the deps of freedom but does not read the graph, so it becomes what it was, and nothing follows.
    trained = {f"{verb}-item_graphs@freedom" for verb in ("train", "evaluate")} | {"train-item_graphs@da_mrs"}
    assert stages_run(run(project, "dvc", "repro")) == {"parameters", "graph-mixed", "homophily", *trained}


def test_metrics_and_plots_show(project: Path) -> None:
    metrics = json.loads(run(project, "dvc", "metrics", "show", "--json"))
    files = metrics[""]["data"]
    assert files["data/runs/tiny/vbpr/metrics.json"]["data"]["recall@20"] > 0
    assert files["data/metrics/tiny/filter.json"]["data"]["users"] > 0
    run(project, "dvc", "plots", "show")
    page = (project / "dvc_plots" / "index.html").read_text()
    assert "Validation Recall@20 of lightgcn" in page
    assert "Validation_Recall_20" in page  # of all in one


# A stage of each kind; of graphs and recommenders those that compute most.
ONE_OF_EACH = (
    *("code", "ingest", "filter", "split", "extract@minilm", "graph@minilm", "graph-consistent", "graph-cooccurrence"),
    *("graph-interaction", "homophily", "train-item_graphs@freedom", "evaluate-item_graphs@freedom"),
)


@pytest.mark.long  # half of all stages run again
def test_same_parameters_give_the_same_bytes_again(project: Path) -> None:
    lock = (project / "dvc.lock").read_bytes()
    output = run(project, "dvc", "repro", "--force", "--single-item", "--no-commit", *ONE_OF_EACH)
    assert stages_run(output) == set(ONE_OF_EACH)
    assert (project / "dvc.lock").read_bytes() == lock


@pytest.mark.long  # all stages but the first run again
def test_experiment_changes_the_k_core(project: Path) -> None:
    before = json.loads((project / "data/metrics/tiny/filter.json").read_text())
    output = run(project, "dvc", "exp", "run", "-S", "filter.k_core=8", "filter")
    assert stages_run(output) == {"parameters", "filter"}
    after = json.loads((project / "data/metrics/tiny/filter.json").read_text())
    assert after["interactions"] < before["interactions"]
