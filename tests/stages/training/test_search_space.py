from typing import Any

import pytest

from mmprep.models.recommenders.lightgcn import LightGCNParams
from mmprep.pipeline.errors import ParamsError
from mmprep.stages.training.search_space import combinations, parse_over

BASE = LightGCNParams(embedding_size=8, regularisation=0.01)


@pytest.mark.parametrize(
    ("texts", "ranges"),
    [
        (["layers=1,2,3"], {"layers": [1, 2, 3]}),
        (["regularisation = 1e-4, 0.1", "layers=2"], {"regularisation": [1e-4, 0.1], "layers": [2]}),
        (["finetune_features=true,false"], {"finetune_features": [True, False]}),
        (["kind=sym,none"], {"kind": ["sym", "none"]}),
    ],
)
def test_values_are_read_as_in_the_parameter_file(texts: list[str], ranges: dict[str, list[Any]]) -> None:
    assert parse_over(texts) == ranges


@pytest.mark.parametrize("text", ["layers", "layers=", "=1,2", "", "layers=1]", "layers=[1", "layers=2020-02-30"])
def test_text_that_is_no_range_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ParamsError) as caught:
        parse_over([text])
    assert str(caught.value) == f"over: found {text!r}, expected a parameter and its values, such as layers=1,2,3"


def test_parameter_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"^over: found layers twice, expected each parameter once$"):
        parse_over(["layers=1,2", "layers=3"])


def test_every_combination_is_there_in_the_order_of_the_ranges() -> None:
    found = combinations({"layers": [1, 3], "learning_rate": [0.1, 0.2, 0.3]}, BASE)
    assert [each for each, _ in found] == [
        {"layers": layers, "learning_rate": rate} for layers in (1, 3) for rate in (0.1, 0.2, 0.3)
    ]
    assert [(params.layers, params.learning_rate) for _, params in found] == [
        (layers, rate) for layers in (1, 3) for rate in (0.1, 0.2, 0.3)
    ]
    assert {(params.embedding_size, params.regularisation) for _, params in found} == {(8, 0.01)}


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, "search: found no ranges, expected a parameter and its values, such as layers=1,2,3"),
        ({"layers": []}, "search.layers: found no values, expected at least one"),
        (
            {"layers": [1, 2, 1]},
            "search: found {'layers': 1} and {'layers': 1}, which are the same; give each value once",
        ),
        (
            {"regularisation": [1, 1.0]},
            "search: found {'regularisation': 1} and {'regularisation': 1.0}, which are the same; give each value once",
        ),
        ({"layers": [1, -1]}, "search: layers: found -1, expected greater than or equal to 0"),
        ({"layers": ["two"]}, 'search: layers: found "two", expected a valid integer'),
    ],
)
def test_ranges_that_cannot_be_are_told_in_one_line(ranges: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        combinations(ranges, BASE)
    assert str(caught.value) == message


def test_unknown_parameter_is_told_with_the_nearest_one() -> None:
    with pytest.raises(ParamsError, match=r"^search: layer: no such key; did you mean layers\? \(allowed: "):
        combinations({"layer": [1]}, BASE)
