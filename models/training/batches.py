"""Mini-batches of an epoch: train interactions in random order, each with a sampled negative."""

import logging

import numpy as np
import torch
from torch import Tensor

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.training.negative_sampling import NegativeSampler
from mmprep.models.training.params import TrainParams

logger = logging.getLogger(__name__)


class Batches:
    """Shuffles the train interactions and samples their negatives, epoch by epoch.

    Interactions of users without a negative are left out, with a warning.
    """

    def __init__(self, data: TrainingData, params: TrainParams, device: torch.device) -> None:
        train = data.train
        self._users = np.repeat(np.arange(train.shape[0], dtype=np.int64), np.diff(train.indptr))
        self._items = train.indices.astype(np.int64)
        self._sampler = NegativeSampler(train)
        if len(full := self._sampler.full_users):
            kept = self._sampler.has_negative(self._users)
            logger.warning(
                "%d of %d users have all %d items in train, such as user %d; their %d interactions have no negative "
                "and are left out of the batches",
                *(len(full), train.shape[0], self._sampler.n_candidates, full[0], np.count_nonzero(~kept)),
            )
            self._users, self._items = self._users[kept], self._items[kept]
        self._params = params
        self._device = device

    def of_epoch(self, epoch: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Users, positives and negatives [batch] of each step of an epoch; also seeds torch for the epoch."""
        rng = np.random.default_rng([self._params.seed, epoch])
        torch.manual_seed(int(rng.integers(2**63)))
        order = rng.permutation(len(self._users))
        shuffled = self._users[order]
        triples = (shuffled, self._items[order], self._sampler.sample(shuffled, rng))
        columns = [torch.from_numpy(column).to(self._device) for column in triples]
        users, positives, negatives = (torch.split(column, self._params.batch_size) for column in columns)
        return list(zip(users, positives, negatives, strict=True))
