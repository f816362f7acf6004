"""docs/recommenders.md against the catalogue and the classes; its example is run as it stands there."""

from pathlib import Path
from types import ModuleType

import pytest
from ruamel.yaml import YAML
from worlds import training_data, two_groups

from mmprep.models.recommenders.base import Recommender
from mmprep.models.recommenders.catalogue import CATALOGUE, DESCRIPTIONS, RecommenderDescription, describe
from mmprep.models.training.evaluator import evaluate
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build, fit
from mmprep.stages.config.load import load

DOCS = (Path(__file__).parents[3] / "docs" / "recommenders.md").read_text(encoding="utf-8")
ADDING = DOCS.split("## Adding a recommender\n", maxsplit=1)[1]
CODE = ADDING.split("```python\n", maxsplit=1)[1].split("```", maxsplit=1)[0]


def table(header: str) -> list[list[str]]:
    """The cells of the table below a header."""
    lines = DOCS.split(header, maxsplit=1)[1].splitlines()[2:]
    rows = lines[: next((at for at, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_table_of_recommenders_is_the_catalogue() -> None:
    expected = [
        [
            row.name,
            row.paper,
            row.reads,
            ", ".join(row.graphs) or "none",
            f"train.{row.group}",
        ]
        for row in DESCRIPTIONS
    ]
    found = table("| recommender | paper |")
    assert [cells[:-1] for cells in found] == expected
    assert all(cells[-1] for cells in found)


def test_table_of_presets_is_those_that_there_are() -> None:
    expected = [
        [name, preset, ", ".join(f"{key}: {value}" for key, value in values.items())]
        for name in CATALOGUE
        for preset, values in describe(name).load().params_type.presets.items()
    ]
    assert table("| recommender | preset |") == expected


def test_example_of_a_preset_is_a_section(tmp_path: Path) -> None:
    example = YAML(typ="safe", pure=True).load(DOCS.split("```yaml\n", maxsplit=1)[1].split("```", maxsplit=1)[0])
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump({"dataset": "toys", **example}, file)
    found = load(tmp_path / "params.yaml").recommender("lgmrec").model_dump()
    assert (found["alpha"], found["learning_rate"]) == (0.6, 0.0005)


def test_adding_a_recommender_takes_at_most_forty_lines() -> None:
    assert len(ADDING.split("\n## ")[0].rstrip().splitlines()) < 40


def test_recommender_of_the_example_learns_by_its_row_and_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mmprep.models.recommenders.meanmf")
    exec(CODE, module.__dict__)  # noqa: S102 - our own documentation
    row = ADDING.split("`RecommenderDescription", maxsplit=1)[1].split(",`", maxsplit=1)[0]
    description = eval(f"RecommenderDescription{row}", {"RecommenderDescription": RecommenderDescription})  # noqa: S307
    section = YAML(typ="safe", pure=True).load(ADDING.split("`meanmf: ", maxsplit=1)[1].split("`", maxsplit=1)[0])
    monkeypatch.setitem(CATALOGUE, description.name, description)
    world = two_groups()
    data = training_data(description.name, world.train, world.val)
    kind: type[Recommender] = getattr(module, description.class_name)
    recommender = build(kind, data, kind.params_type(**section), 0)
    fit(recommender, data, TrainParams(batch_size=128, max_epochs=60, patience=10), LearningRateDecay(0.01))
    users, items = (table.detach() for table in recommender.eval().embeddings())
    assert evaluate(users, items, world.test, world.train)["recall@20"] >= 0.9
