import shutil
from collections.abc import Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grimp
import pytest
from dvc.repo import Repo
from imports import FLOORS, ROOT
from ruamel.yaml import YAML

from mmprep.pipeline.errors import DataError
from mmprep.stages.config import code_digests
from mmprep.stages.config.code_digests import INSTALLED, SourceTree, entry_modules, require_current, run
from mmprep.stages.config.load import load

# DVC in this process: what its libraries have deprecated is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PARAMETERS = load(ROOT / "params.yaml")
ENTRIES = entry_modules(PARAMETERS)


def rooms() -> dict[str, str]:
    """A module of each folder of ours, by the folder's dotted name."""
    found: dict[str, str] = {}
    for module in SourceTree(INSTALLED).paths:
        found.setdefault(module.rpartition(".")[0], module)
    return found


@pytest.fixture(scope="module", autouse=True)
def each_source_is_parsed_once() -> Iterator[None]:
    """Tests change one module of two hundred each time."""
    with patch.object(code_digests, "imported_names", cache(code_digests.imported_names)):
        yield


@pytest.fixture(scope="module")
def reached() -> dict[str, set[str]]:
    """What each entry reaches by imports as another library finds them; packages, which hold nothing, are left out."""
    graph = grimp.build_graph("mmprep", exclude_type_checking_imports=True, cache_dir=None)
    ours = SourceTree(INSTALLED).paths.keys()
    return {
        key: {*modules}.union(*(graph.find_upstream_modules(module) for module in modules)) & ours
        for key, modules in ENTRIES.items()
    }


@pytest.fixture(scope="module")
def tree() -> SourceTree:
    return SourceTree(INSTALLED)


@pytest.mark.parametrize("key", ENTRIES)
def test_code_of_a_stage_is_what_its_modules_reach(key: str, tree: SourceTree, reached: dict[str, set[str]]) -> None:
    assert tree.closure(ENTRIES[key]) == reached[key]


def test_what_is_loaded_by_name_is_in_no_other_closure(tree: SourceTree) -> None:
    code = {key: tree.closure(modules) for key, modules in ENTRIES.items()}
    assert {key for key, modules in code.items() if "mmprep.pipeline.graphs.hnsw" in modules} == {"graph/knn"}
    assert "mmprep.pipeline.graphs.cooccurrence" not in code["train/bpr"] | code["graph/knn"]
    assert {key for key, modules in code.items() if "mmprep.pipeline.graphs.intra_item_statistics" in modules} == {
        "graph/intra_item"
    }
    assert {key for key, modules in code.items() if "mmprep.models.recommenders.freedom" in modules} == {
        "parameters",  # expands the presets of all recommenders
        "train/freedom",
    }
    assert "mmprep.models.encoders.networks.torchvision" not in code["extract/minilm"]
    assert "mmprep.stages.training.read_tokens" not in code["train/freedom"]


def test_stages_that_write_and_read_a_run_do_not_depend_on_each_other() -> None:
    code = {key: SourceTree(INSTALLED).closure(modules) for key, modules in ENTRIES.items()}
    assert "mmprep.stages.training.run" in code["evaluate"] & code["train/bpr"]
    assert {"mmprep.stages.training.load_run", "mmprep.stages.training.evaluate"}.isdisjoint(code["train/bpr"])
    prefixes = ("mmprep.models.recommenders", "mmprep.models.layers", "mmprep.stages")
    assert {module for module in code["evaluate"] if module.startswith(prefixes)} == {
        "mmprep.models.layers.topk",
        "mmprep.stages.training.evaluate",
        "mmprep.stages.training.run",
    }


class Project:
    """A copy of mmprep's sources, and a DVC project whose stages depend on nothing but their code."""

    def __init__(self, folder: Path, repo: Repo) -> None:
        self.folder, self.repo = folder, repo

    def stages_after(self, module: str, old: bytes, new: bytes) -> set[str]:
        """The stages that DVC finds changed when a module's source is another."""
        path = SourceTree(self.folder).paths[module]
        source = path.read_bytes()
        path.write_bytes(source.replace(old, new) if old else source + new)
        try:
            run(self.folder / "data", PARAMETERS, self.folder)
            with chdir(self.folder):
                return set(self.repo.status())
        finally:
            path.write_bytes(source)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("code")
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, folder / floor, ignore=shutil.ignore_patterns("__pycache__"))
    stages: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
    kept = {
        name: {
            "cmd": "true",
            "deps": [dep for dep in stage["deps"] if dep.startswith("data/code/")],
            **({"matrix": stage["matrix"]} if "matrix" in stage else {}),
        }
        for name, stage in stages.items()
        if name != "code"
    }
    with (folder / "dvc.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump({"stages": kept}, file)
    shutil.copy(ROOT / "params.yaml", folder)
    run(folder / "data", PARAMETERS, folder)
    Repo.init(str(folder), no_scm=True)
    with chdir(folder):
        repo = Repo()
        repo.reproduce()
        assert repo.status() == {}
    return Project(folder, repo)


def stages_of(key: str) -> set[str]:
    """The stages of dvc.yaml, as they ship, that depend on a file below data/code."""
    extracted = {f"extract/{name}": {f"extract@{name}"} for name in PARAMETERS.sections.extract.encoders}
    train = PARAMETERS.sections.train
    groups = {
        "train": train.collaborative,
        **{f"train-{key}": getattr(train, key) for key in ("multimodal", "item_graphs")},
    }
    trained = {f"train/{name}": {f"{stage}@{name}"} for stage, names in groups.items() for name in names}
    graphs = {
        f"graph/{kind}": {f"graph-{kind}"}
        for kind in ("mixed", "consistent", "cooccurrence", "user_user", "interaction")
    }
    graphs["graph/knn"] = {f"graph@{name}" for name in PARAMETERS.sections.graphs.encoders}
    evaluated = {f"{stage.replace('train', 'evaluate')}@{name}" for stage, names in groups.items() for name in names}
    digests = {"modalities-features", "modalities-knn"}
    plain = {name: {name} for name in ("parameters", "ingest", "filter", "split", "homophily")}
    return {**extracted, **trained, **graphs, **plain, "evaluate": evaluated, "modalities": digests}.get(key, set())


@pytest.mark.parametrize("module", rooms().values(), ids=rooms())
def test_stage_runs_again_if_and_only_if_code_that_it_reaches_has_changed(
    module: str, project: Project, reached: dict[str, set[str]]
) -> None:
    expected = [stages_of(key) for key, modules in reached.items() if module in modules]
    assert project.stages_after(module, b"", b"\nX = 1\n") == set().union(*expected)


def test_line_ends_of_another_system_change_nothing(project: Project) -> None:
    assert project.stages_after("mmprep.pipeline.errors", b"\n", b"\r\n") == set()


def test_command_under_dvc_stops_where_its_code_is_not_the_recorded_one(tmp_path: Path) -> None:
    run(tmp_path, PARAMETERS)
    under_dvc = {"DVC_STAGE": "filter"}
    require_current(tmp_path, "filter", PARAMETERS, under_dvc)
    path = tmp_path / "code" / "filter.txt"
    path.write_text(path.read_text().replace("  mmprep.stages.prepare.filter", "0  mmprep.stages.prepare.filter"))
    require_current(tmp_path, "filter", PARAMETERS, {})
    with pytest.raises(DataError, match=r"filter\.txt: mmprep\.stages\.prepare\.filter changed .*run `dvc repro code`"):
        require_current(tmp_path, "filter", PARAMETERS, under_dvc)
