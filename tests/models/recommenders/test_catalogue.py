import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from mmprep.models.recommenders.base import Recommender, RecommenderParams
from mmprep.models.recommenders.catalogue import CATALOGUE, DESCRIPTIONS, RecommenderDescription, describe
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.params import documentation


@pytest.mark.parametrize("name", CATALOGUE)
def test_described_class_is_a_recommender_with_typed_parameters(name: str) -> None:
    kind = describe(name).load()
    assert issubclass(kind, Recommender)
    assert issubclass(kind.params_type, RecommenderParams)
    assert kind.params_type().embedding_size == 64


def test_every_description_is_found_by_its_own_name() -> None:
    assert [describe(description.name) for description in DESCRIPTIONS] == list(DESCRIPTIONS)
    assert len(CATALOGUE) == len(DESCRIPTIONS)


def test_unknown_recommender_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ParamsError) as caught:
        describe("lightgc", "params.yaml: train.collaborative")
    assert str(caught.value) == (
        "params.yaml: train.collaborative: found 'lightgc', expected a recommender; did you mean lightgcn? "
        f"(allowed: {', '.join(CATALOGUE)})"
    )


def test_every_class_of_a_recommender_has_a_row() -> None:
    written = {path.stem: path.read_text() for path in Path(inspect.getfile(Recommender)).parent.glob("*.py")}
    named = {name for name, text in written.items() if "    params_type = " in text}
    assert named == CATALOGUE.keys()


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_parameter_has_a_meaning(name: str) -> None:
    meanings = documentation(describe(name).load().params_type)
    assert [key for key, meaning in meanings.items() if not meaning] == []


def test_module_without_a_row_is_named() -> None:
    with pytest.raises(ParamsError, match=r"^recommender: found 'fused_views', without a row of DESCRIPTIONS"):
        describe("fused_views")


@pytest.mark.parametrize(
    ("name", "class_name", "message"),
    [
        ("bpr", "BPRR", "catalogue.py: bpr: module 'mmprep.models.recommenders.bpr' has no attribute 'BPRR'"),
        ("nothing", "N", "catalogue.py: nothing: no module mmprep.models.recommenders.nothing"),
    ],
)
def test_row_of_nothing_is_named(name: str, class_name: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        RecommenderDescription(name, class_name, "nobody", multimodal=False).load()
    assert str(caught.value) == f"models/recommenders/{message}"


def test_catalogue_imports_no_torch() -> None:
    code = "import sys, mmprep.models.recommenders.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
