"""A custom recommender, trained and evaluated on a dataset without editing mmprep.

MeanMF: items have an embedding, and a user's is the mean of the user's items. Run it after `mmprep split` and
`mmprep graph --graph interaction`; docs/recommenders.md explains how to add it to mmprep, under `dvc repro`:

    python examples/own_recommender.py data sample
"""

import sys
from pathlib import Path

from torch import Tensor, inference_mode

from mmprep.models.layers.losses import bpr
from mmprep.models.layers.propagation import SparseOperator
from mmprep.models.recommenders.base import Recommender, RecommenderParams, TrainingData, embedding_table, look_up
from mmprep.models.training.evaluator import evaluate
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build, fit
from mmprep.pipeline.graphs.reader import read_graph
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.interactions import read_splits


class MeanMF(Recommender):
    """Items have an embedding; a user's embedding is the mean of their items'."""

    params_type = RecommenderParams

    def __init__(self, data: TrainingData, params: RecommenderParams) -> None:
        super().__init__(data, params)
        self.user_mean = SparseOperator(data.graphs["interaction/user_mean"])
        self.items = embedding_table(data.n_items, params.embedding_size)

    def losses(self, users: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        means, items = self.embeddings()
        user, positive, negative = look_up(means, users), look_up(items, positives), look_up(items, negatives)
        return {"bpr": bpr((user * positive).sum(dim=1), (user * negative).sum(dim=1))}

    def embeddings(self) -> tuple[Tensor, Tensor]:
        return self.user_mean(self.items), self.items


root, dataset = sys.argv[1:]
layout = Layout(Path(root), dataset)
splits = read_splits(layout)
graphs = {"interaction/user_mean": read_graph(layout, "interaction/user_mean")}
data = TrainingData(splits.train, splits.val, graphs=graphs)  # `features` takes one matrix per modality
params = RecommenderParams(embedding_size=64, learning_rate=0.01)
recommender = build(MeanMF, data, params, seed=0)
result = fit(recommender, data, TrainParams(batch_size=512, max_epochs=100), LearningRateDecay.of(params))
print(f"best epoch: {result.best_epoch} of {len(result.history)}, by validation Recall@20")
with inference_mode():
    users, items = recommender.eval().embeddings()
for name, value in evaluate(users, items, splits.test, splits.train).items():
    print(f"{name}: {value:.4f}")
