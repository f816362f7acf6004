import pytest
from pydantic import ValidationError

from models.encoders.catalogue import CATALOGUE, MODALITIES
from models.encoders.params import PARAMS, EncoderParams, ExtractParams, TextEncoderParams


@pytest.mark.parametrize(
    "weights", ["pretrained", "random:0", "random:18446744073709551615", "package:some-weights", "some/file.pth", "~/x"]
)
def test_each_kind_of_weights_is_accepted(weights: str) -> None:
    assert EncoderParams(weights=weights).weights == weights


@pytest.mark.parametrize("weights", ["", "random", "random:", "random:x", "random:-1", "random:1.5", "package:"])
def test_weights_that_name_nothing_are_refused(weights: str) -> None:
    with pytest.raises(ValidationError, match="random:SEED with a whole number"):
        EncoderParams(weights=weights)


def test_seed_that_no_generator_takes_is_refused() -> None:
    with pytest.raises(ValidationError, match="random:SEED"):
        EncoderParams(weights=f"random:{2**64}")


@pytest.mark.parametrize("pin", ["", "abc", "G" * 64, "A" * 64, "a" * 63, "a" * 65])
def test_pin_that_is_no_sha256_is_refused(pin: str) -> None:
    with pytest.raises(ValidationError, match="sha256"):
        EncoderParams(sha256=pin)


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ValidationError, match="batch_size"):
        EncoderParams(batch_size=0)
    with pytest.raises(ValidationError, match="fields"):
        TextEncoderParams(fields=())
    with pytest.raises(ValidationError, match="encoders"):
        ExtractParams(encoders=())
    with pytest.raises(ValidationError, match="missing"):
        ExtractParams.model_validate({"missing": "median"})


def test_every_encoder_has_a_modality_with_parameters() -> None:
    assert PARAMS.keys() == set(MODALITIES)
    assert {description.modality for description in CATALOGUE.values()} <= PARAMS.keys()
