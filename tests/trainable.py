"""A toy dataset on the disk with all that training reads, and trainings in a process of their own, to be killed."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from worlds import two_groups, write_tokens, write_vectors, write_world

from mmprep.models.recommenders.base import RecommenderParams, TrainingData
from mmprep.models.recommenders.bpr import BPR, BPRParams
from mmprep.models.recommenders.catalogue import CATALOGUE, describe
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build, fit
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.layout import Layout
from mmprep.stages.graphs import graph
from mmprep.stages.training import train

PARAMS = TrainParams(batch_size=128, max_epochs=9, patience=9, seed=1, checkpoint_every=2)
ENCODERS = {"image": "vgg16", "text": "minilm"}
TOKEN_ENCODERS = {"patches": "vit_b16_patches", "words": "minilm_tokens"}
# The graphs of a kind, where it is not one, and those that it is made of.
GRAPHS = {
    "knn": [f"knn/{encoder}" for encoder in ENCODERS.values()],
    "mixed": [*(f"knn/{encoder}" for encoder in ENCODERS.values()), "mixed"],
    "intra_item": [f"intra_item/{encoder}" for encoder in TOKEN_ENCODERS.values()],
}


def write_trainable(layout: Layout, names: Iterable[str] = tuple(CATALOGUE)) -> None:
    """Write two groups of users with features of two modalities, and the graphs that these recommenders ask for."""
    world = two_groups()
    write_world(world, layout)
    write_vectors(layout, "vgg16", world.features["image"])
    write_vectors(layout, "minilm", world.features["text"][:, :4])
    params = GraphsParams(encoders=tuple(ENCODERS.values()))
    for kind in dict.fromkeys(kind for name in names for kind in describe(name).graphs):
        if kind == "intra_item":
            write_tokens(layout, world.features, TOKEN_ENCODERS)
        for each in GRAPHS.get(kind, (kind,)):
            graph.run(each, params, ENCODERS, layout)


def params_of(name: str, **more: Any) -> RecommenderParams:  # noqa: ANN401 - of any recommender
    return describe(name).load().params_type(**{"embedding_size": 8, "learning_rate": 0.02, **more})


def result_of(layout: Layout, name: str) -> dict[str, bytes]:
    """Every file of a run that two runs have alike, hidden ones too."""
    files = layout.run(name)
    return {path.name: path.read_bytes() for path in files.folder.iterdir() if path != files.training_cost}


def kill_after(calls: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, after whose so manieth call the process gets SIGKILL."""
    left = [calls]

    def called(*args: object, **named: object) -> object:
        given = function(*args, **named)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return given

    return called


def train_until_killed(layout: Layout, name: str, target: str, calls: int) -> int:
    """Train in a fork that is killed after so many calls of `target`; the signal that ended it, 0 if none did."""
    child = os.fork()
    if child == 0:
        module, _, function = target.rpartition(".")
        before = getattr(sys.modules[module], function)
        with patch.object(sys.modules[module], function, kill_after(calls, before)):
            train.run(name, PARAMS, params_of(name), layout)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def warm_up() -> None:
    """Let torch import what its first step needs, once for all forks. Reads no table: polars' threads bear no fork."""
    world = two_groups()
    data = TrainingData(world.train, world.val)
    fit(build(BPR, data, BPRParams(), 0), data, TrainParams(max_epochs=1), LearningRateDecay(0.01))


def main(root: str, names: str, *points: str) -> None:
    """Train each of the names, joined by commas, in forks killed at the points `TARGET:CALLS`, and once to the end.

    What they gave is moved to runs/toy/continued-NAME, and an unbroken training takes its place.
    """
    torch.set_num_threads(1)
    layout = Layout(Path(root), "toy")
    warm_up()
    for name in names.split(","):
        for point in points:
            target, _, calls = point.partition(":")
            if train_until_killed(layout, name, target, int(calls)) != signal.SIGKILL:
                sys.exit(f"{name}, {point}: the training was not killed")
    for name in names.split(","):
        train.run(name, PARAMS, params_of(name), layout)
        layout.run(name).folder.rename(layout.run(f"continued-{name}").folder)
        train.run(name, PARAMS, params_of(name), layout)


if __name__ == "__main__":
    main(*sys.argv[1:])
