import logging

import numpy as np
import pytest
from worlds import binary

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.bpr import BPR, BPRParams
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build, fit
from mmprep.models.training.validation_noise import doubt, patience_needed, relative_standard_error


@pytest.mark.parametrize("recall", [0.05, 0.3])
def test_standard_error_is_that_of_simulated_users(recall: float) -> None:
    rng = np.random.default_rng(0)
    relevant = rng.integers(1, 6, size=400)
    means = (rng.binomial(relevant, recall, size=(20_000, 400)) / relevant).mean(axis=1)
    assert relative_standard_error(recall, relevant) == pytest.approx(means.std() / recall, rel=0.02)


@pytest.mark.parametrize(
    ("recall", "users", "patience"),
    [(0.08, 19_445, 10), (0.09, 3_051, 24), (0.5, 600, 17), (1.0, 600, 1), (0.0, 100, 398)],
)
def test_patience_needed_falls_with_hits(recall: float, users: int, patience: int) -> None:
    assert patience_needed(recall, np.ones(users, dtype=np.int64)) == patience


def matrices(users: int) -> tuple[np.ndarray, ...]:
    train = binary([(user, user % 2 * 2) for user in range(users)], (users + 1, 3))
    val = binary([(user, 1) for user in range(users + 1)], (users + 1, 3))  # the last user is not validated
    return val, train


def test_warning_names_the_interactions_the_error_and_the_patience_that_would_do() -> None:
    warning = doubt(0.09, *matrices(3051), 23)
    assert warning == (
        "training may have ended on a plateau: validation has 3051 interactions, so that one standard error of "
        "Recall@20 is 5.8% of its value, too much for train.patience 23; set it to 24 or more and compare "
        "(docs/recommenders.md, Early stopping)"
    )
    assert doubt(0.09, *matrices(3051), 24) is None


@pytest.mark.parametrize(
    ("recall", "max_epochs", "warns"), [(0.2, 50, True), (0.2, 4, False), (0.99, 50, False)], ids=str
)
def test_training_warns_only_if_patience_ended_it_too_early(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recall: float, max_epochs: int, warns: bool
) -> None:
    monkeypatch.setattr("mmprep.models.training.trainer.validate", lambda *_: {"recall@20": recall})
    val, train = matrices(300)
    data = TrainingData(train, val)
    params = TrainParams(max_epochs=max_epochs, patience=3)
    fit(build(BPR, data, BPRParams(), 0), data, params, LearningRateDecay(0.01))
    expected = [doubt(recall, val, train, 3)] if warns else []
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == expected
