import pytest

from pipeline.errors import ParamsError
from pipeline.graph_catalogue import CATALOGUE, DESCRIPTIONS, describe
from pipeline.graph_params import GraphsParams


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
    description, found = describe(name)
    assert (description, found) == (CATALOGUE[kind], part)


@pytest.mark.parametrize("name", ["", "knn", "knn/", "mixed/image", "consistent/image", "minilm", "/minilm"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        describe(name)
    assert str(caught.value).startswith(f"graph: found {name!r}, expected a graph")
    assert str(caught.value).endswith(
        "(allowed: knn/ENCODER, mixed, consistent, cooccurrence, user_user, interaction, intra_item/ENCODER)"
    )


def test_misspelt_graph_gets_a_suggestion() -> None:
    with pytest.raises(ParamsError, match=r"did you mean cooccurrence\?"):
        describe("coocurrence")


def test_every_graph_with_parameters_has_its_section() -> None:
    sections = set(GraphsParams.model_fields) - {"encoders"}
    assert {row.kind for row in DESCRIPTIONS} - sections == {"interaction"}
    assert sections <= CATALOGUE.keys()


def test_usage_names_what_there_is_a_file_for_only_where_it_is_asked_for() -> None:
    assert CATALOGUE["knn"].usage == "knn/ENCODER"
    assert CATALOGUE["consistent"].usage == "consistent"
