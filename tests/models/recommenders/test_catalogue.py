import subprocess
import sys

import pytest

from mmprep.models.recommenders.base import Recommender, RecommenderParams
from mmprep.models.recommenders.catalogue import CATALOGUE, DESCRIPTIONS, describe
from mmprep.pipeline.errors import ParamsError


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


def test_catalogue_imports_no_torch() -> None:
    code = "import sys, mmprep.models.recommenders.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
