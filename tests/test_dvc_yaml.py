"""dvc.yaml against the code: every stage lists the modules that it imports and the keys that it reads."""

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from imports import FLOORS, ROOT
from ruamel.yaml import YAML

from mmprep.stages.config.effective import effective
from mmprep.stages.config.load import load as load_parameters
from mmprep.stages.experiments.workspace import MADE


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / name)
    return loaded


FILE = load("dvc.yaml")
DVC = FILE["stages"]
PARAMS = load("params.yaml")

# What may stand in lists that are empty as they ship.
EXAMPLES = {"graphs.intra_item.encoders": ["minilm_tokens"], "train.token_based": ["mdr_chca"]}


def look_up(key: str, values: dict[str, Any] = PARAMS) -> Any:  # noqa: ANN401 - whatever the file holds
    value: Any = values
    for part in key.split("."):
        value = value[part]
    return value


def fill(text: str, item: dict[str, str]) -> str:
    def replacement(match: re.Match[str]) -> str:
        key = match[1]
        return item[key.removeprefix("item.")] if key.startswith("item.") else str(look_up(key))

    return re.sub(r"\$\{([^}]+)\}", replacement, text)


def items(stage: dict[str, Any]) -> list[dict[str, str]]:
    """The items of a stage's matrix; one empty item for a stage without."""
    asked = {key: value[2:-1] for key, value in stage.get("matrix", {}).items()}
    matrix = {key: look_up(name) or EXAMPLES[name] for key, name in asked.items()}
    return [dict(zip(matrix, values, strict=True)) for values in product(*matrix.values())]


def expected_code(stage: dict[str, Any], item: dict[str, str]) -> str:
    """The file below data/code of the code that a stage's command runs."""
    match = re.fullmatch(r"mmprep (\w+)(?: --\w+ (\S+))?", fill(stage["cmd"], item))
    assert match
    verb, chosen = match.groups()
    part = "" if verb in ("evaluate", "modalities") or chosen is None else f"/{chosen.partition('/')[0]}"
    return f"data/code/{verb}{part}.txt"


@pytest.mark.parametrize("name", [name for name in DVC if name != "code"])
def test_stage_depends_on_the_digests_of_the_code_that_it_runs_and_of_no_other(name: str) -> None:
    for item in items(DVC[name]):
        listed = [fill(dep, item) for dep in DVC[name]["deps"]]
        assert [dep for dep in listed if dep.startswith("data/code/")] == [expected_code(DVC[name], item)]
        assert [dep for dep in listed if not dep.startswith("data/")] == []


def test_digests_are_taken_again_when_any_source_changes() -> None:
    assert DVC["code"]["deps"] == ["mmprep/__init__.py", *FLOORS]
    assert DVC["code"]["outs"] == ["data/code"]


EFFECTIVE = effective(load_parameters(ROOT / "params.yaml"))


def keys_read(stage: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The keys that a stage lists, and the content of the file in which it looks for them."""
    for entry in stage.get("params", []):
        if isinstance(entry, str):
            yield entry, PARAMS
        else:
            assert entry.keys() == {"data/parameters/${dataset}.json"}
            for keys in entry.values():
                yield from ((key, EFFECTIVE) for key in keys)


@pytest.mark.parametrize("name", DVC)
def test_stage_says_what_it_does_and_reads_keys_that_exist(name: str) -> None:
    stage = DVC[name]
    assert stage["desc"]
    for item in items(stage):
        for key, values in keys_read(stage):
            look_up(fill(key, item), values)


def test_stages_read_the_effective_parameters_and_only_their_writer_and_that_of_digests_the_file_itself() -> None:
    readers = {name for name, stage in DVC.items() for _, values in keys_read(stage) if values is PARAMS}
    assert readers == {"code", "parameters"}
    assert set(DVC["parameters"]["params"]) == PARAMS.keys() - {"dataset", "download", "search"}


@pytest.mark.parametrize("name", DVC)
def test_training_reads_of_section_evaluate_when_to_validate_alone(name: str) -> None:
    verb = name.partition("-")[0]
    listed = [key for key, values in keys_read(DVC[name]) if values is EFFECTIVE and key.startswith("evaluate")]
    assert listed == {"train": ["evaluate.every"], "evaluate": ["evaluate"]}.get(verb, [])


def test_every_section_of_params_is_read_by_a_stage() -> None:
    read = {key.split(".")[0] for stage in DVC.values() for key, values in keys_read(stage) if values is EFFECTIVE}
    # `dataset` is in every path; `extract.encoders` and the lists of recommenders make the matrices. `download` is no
    # stage: it changes data/raw, which the stages take as given. Nor is `search`: it trains beside the stages.
    assert EFFECTIVE.keys() - read == {"dataset"}
    assert PARAMS.keys() - read == {"dataset", "download", "search", "overlays"}


def test_every_key_of_params_has_a_comment() -> None:
    lines = (ROOT / "params.yaml").read_text().partition("\noverlays:\n")[0].splitlines()
    explained: set[str] = set()
    for before, line in zip(["", *lines], lines, strict=False):
        key = re.match(r"( *)([a-z_0-9]+):", line)
        if key and before.lstrip().startswith("#"):
            explained.add(key[2])
    every = {key[1] for line in lines if (key := re.match(r" *([a-z_0-9]+):", line))}
    sections = {"noise", "download", "ingest", "filter", "split", "extract", "graphs", "train", "evaluate", "search"}
    names = {*PARAMS["encoders"], *PARAMS["search"]}
    same_line_block = {"text"}  # shares the comment of the line above
    assert every - explained - sections - names - same_line_block == {"sha256"}  # explained above `encoders`


def test_every_recommender_that_is_trained_has_its_curve_in_the_common_plot() -> None:
    (plot,) = FILE["plots"]
    ((title, shown),) = plot.items()
    assert title == "Validation Recall@20"
    assert (ROOT / ".dvc" / "plots" / f"{shown['template']}.json").is_file()
    trained = [name for group in ("collaborative", "multimodal", "item_graphs") for name in PARAMS["train"][group]]
    assert list(shown["y"].items()) == [(f"data/runs/${{dataset}}/{name}/history.csv", "recall@20") for name in trained]


@pytest.mark.parametrize("name", [name for name in DVC if name.partition("-")[0] == "train"])
def test_curves_leave_out_epochs_without_validation(name: str) -> None:
    # The default template of DVC draws an empty cell as 0.
    (plot,) = DVC[name]["plots"]
    (shown,) = plot.values()
    template = json.loads((ROOT / ".dvc" / "plots" / f"{shown['template']}.json").read_text())
    assert template["transform"][0] == {"filter": "datum['<DVC_METRIC_Y>'] !== ''"}


def test_outputs_are_no_inputs_of_the_copy_in_which_experiments_run() -> None:
    written = [out for stage in DVC.values() for key in ("outs", "metrics") for out in stage.get(key, [])]
    assert {path.split("/")[1] for path in written} <= MADE


def test_python_caches_are_no_dependency() -> None:
    assert "__pycache__" in Path(ROOT / ".dvcignore").read_text().splitlines()
