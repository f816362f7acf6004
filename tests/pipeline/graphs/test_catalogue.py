from pathlib import PurePath

import pytest

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.graphs.catalogue import CATALOGUE, DESCRIPTIONS, GraphName
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.params import parse_section


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("knn/minilm", "knn", "minilm"),
        ("intra_item/vit", "intra_item", "vit"),
        ("mixed", "mixed", ""),
        ("interaction", "interaction", ""),
    ],
)
def test_graph_is_found_by_name(name: str, kind: str, part: str) -> None:
    found = GraphName.parse_request(name)
    assert (found.kind, found.part, str(found)) == (kind, part, name)
    assert found.description is CATALOGUE[kind]
    assert (found.request, found.command) == (name, f"mmprep graph --graph {name}")
    assert found.metrics == f"graph-{name.replace('/', '-')}"


@pytest.mark.parametrize(
    ("file", "name", "request_"),
    [
        ("mixed.parquet", "mixed", "mixed"),
        ("knn/resnet50.a1_in1k.parquet", "knn/resnet50.a1_in1k", "knn/resnet50.a1_in1k"),
        ("interaction/symmetric.parquet", "interaction/symmetric", "interaction"),
        ("consistent/image.parquet", "consistent/image", "consistent"),
        ("theirs/x.parquet", "theirs/x", "theirs/x"),
    ],
)
def test_file_of_a_graph_tells_how_it_is_built(file: str, name: str, request_: str) -> None:
    found = GraphName.of_file(PurePath(file))
    assert (str(found), found.request) == (name, request_)


OTHERS = ["", "knn", "knn/", "mixed/", "mixed/image", "consistent/image", "minilm", "/minilm"]
ELSEWHERE = ["knn/../../x", "knn//etc/x", "knn/..", "knn/a/b", "knn/.a", "knn/a b", "intra_item/a\n", "knn/\x1b[31m"]


@pytest.mark.parametrize(
    "name", ["", "knn", "knn/", "mixed/", "mixed/image", "consistent/image", "minilm", "/minilm", *ELSEWHERE]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        GraphName.parse_request(name)
    assert str(caught.value).startswith(f"graph: found {name!r}, expected a graph")
    assert str(caught.value).endswith(
        "(allowed: knn/ENCODER, mixed, consistent, cooccurrence, user_user, interaction, intra_item/ENCODER)"
    )


def test_misspelt_graph_gets_a_suggestion() -> None:
    with pytest.raises(ParamsError, match=r"did you mean cooccurrence\?"):
        GraphName.parse_request("coocurrence")


def test_number_that_no_array_can_hold_is_refused() -> None:
    for section in ("knn", "consistent", "cooccurrence", "user_user", "intra_item"):
        assert parse_section(GraphsParams, {section: {"k": 2**31 - 1}}, "graphs", "params.yaml")
        with pytest.raises(ParamsError) as caught:
            parse_section(GraphsParams, {section: {"k": 2**31}}, "graphs", "params.yaml")
        place = f"params.yaml: graphs.{section}.k"
        assert str(caught.value) == f"{place}: found {2**31}, expected less than or equal to 2147483647"


def test_every_graph_with_parameters_has_its_section() -> None:
    sections = set(GraphsParams.model_fields) - {"encoders"}
    assert {row.kind for row in DESCRIPTIONS} - sections == {"interaction"}
    assert sections <= CATALOGUE.keys()


def test_usage_names_what_there_is_a_file_for_only_where_it_is_asked_for() -> None:
    assert CATALOGUE["knn"].usage == "knn/ENCODER"
    assert CATALOGUE["consistent"].usage == "consistent"
