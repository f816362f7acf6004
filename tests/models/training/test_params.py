import pytest
from pydantic import ValidationError

from mmprep.models.training.params import EvaluateParams, TrainParams


@pytest.mark.parametrize("key", ["batch_size", "max_epochs", "patience", "checkpoint_every"])
def test_counts_start_at_one(key: str) -> None:
    assert getattr(TrainParams.model_validate({key: 1}), key) == 1
    with pytest.raises(ValidationError, match=key):
        TrainParams.model_validate({key: 0})


@pytest.mark.parametrize("every", [0, -1])
def test_validations_are_at_least_one_epoch_apart(every: int) -> None:
    assert EvaluateParams().every == 1
    with pytest.raises(ValidationError, match="every"):
        EvaluateParams(every=every)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(ValidationError, match="seed"):
        TrainParams(seed=seed)
