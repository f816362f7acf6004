import pytest

from models.encoders.catalogue import CATALOGUE, DESCRIPTIONS, describe
from pipeline.errors import ParamsError


def test_every_description_is_found_by_its_own_name() -> None:
    assert [describe(description.name) for description in DESCRIPTIONS] == list(DESCRIPTIONS)
    assert len(CATALOGUE) == len(DESCRIPTIONS)


def test_unknown_encoder_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ParamsError) as caught:
        describe("vg16", "params.yaml: extract.encoders")
    assert str(caught.value) == (
        "params.yaml: extract.encoders: found 'vg16', expected an encoder; did you mean vgg16? "
        f"(allowed: {', '.join(CATALOGUE)})"
    )


def test_every_description_says_what_it_stores_and_under_which_licence() -> None:
    for description in DESCRIPTIONS:
        assert description.dimension > 0
        assert description.output
        assert description.licence
        assert description.published_weights
