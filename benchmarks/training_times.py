"""Cost of training and evaluating a recommender, each case in its own process, for benchmarks/train.py."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from generated import SIZES, Generated
from torch import Tensor

from mmprep.models.device import best_device
from mmprep.models.recommenders.base import Recommender, TrainingData
from mmprep.models.recommenders.catalogue import CATALOGUE
from mmprep.models.training.batches import Batches
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay, TrainingProgress
from mmprep.models.training.trainer import build, deterministic, train_epoch, validate

GENERATE = "generate"

# Parameters with which MMRec was measured, where they differ from our defaults, and replacements of defaults for a GPU.
COMPARED: dict[str, dict[str, object]] = {"lightgcn": {"layers": 1}, "camgr": {"attn_scope": "neigh"}}
# Presets that fit a two-core machine.
PRESETS = {"mdr_chca": "cpu_small"}


@dataclass(frozen=True)
class Case:
    """Task of one process.

    Attributes:
        names: the recommenders whose inputs are generated.
        size: of interactions and features, one of SIZES.
        batch: positives per step.
        epochs: the number of timed epochs.
        steps: of an epoch, timed instead of epochs; 0 to time epochs.
        finetune: whether the raw features are trained.
        task: GENERATE, or the name of a recommender.
        scale: factor of the size.
        folder: of the generated inputs.
    """

    names: tuple[str, ...]
    size: str
    batch: int
    epochs: int
    steps: int
    finetune: bool
    task: str = GENERATE
    scale: int = 1
    folder: str = ""

    def inputs(self) -> Generated:
        """The recommenders' inputs."""
        return Generated(SIZES[self.size].times(self.scale), Path(self.folder))

    def do(self) -> dict[str, Any]:
        """Run the case in this process."""
        if self.task == GENERATE:
            return generate(self)
        return time_steps(self) if self.steps else time_epochs(self)


def run(case: Case) -> dict[str, Any]:
    """Run a case in its own process; return its figures, with peak memory in GB."""
    child = subprocess.Popen([sys.executable, __file__, json.dumps(asdict(case))], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{case.task} ended with {child.returncode}")
    found: dict[str, Any] = json.loads(printed)
    found["gigabytes"] = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return found


class Times:
    """Wall-clock seconds, and CPU seconds of all cores, of repeated blocks."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Time a block."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self._found.setdefault(name, []).append(time.perf_counter() - start)
        self._found.setdefault(f"{name}_cpu", []).append(time.process_time() - cpu)

    def last(self, name: str) -> float:
        """Wall-clock seconds of the last block of a name."""
        return self._found[name][-1]

    def medians(self) -> dict[str, float]:
        """The median of each name, without the first time if there are others."""
        return {name: median(times[len(times) > 1 :]) for name, times in self._found.items()}


def generate(case: Case) -> dict[str, Any]:
    """Write the recommenders' inputs; return statistics of the interactions."""
    made = case.inputs()
    train, _ = made.interactions()
    for name in case.names:
        made.read(CATALOGUE[name])
    degrees = {"user": np.diff(train.indptr), "item": np.bincount(train.indices, minlength=train.shape[1])}
    found: dict[str, Any] = {"interactions": int(train.nnz), "shape": train.shape}
    return found | {name: np.quantile(each, (0, 0.5, 1)).astype(int).tolist() for name, each in degrees.items()}


class FirstBatches(Batches):
    """The first batches of each epoch."""

    def __init__(self, data: TrainingData, params: TrainParams, device: torch.device, steps: int) -> None:
        super().__init__(data, params, device)
        self._steps = steps

    def of_epoch(self, epoch: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Users, positives and negatives of each batch."""
        return super().of_epoch(epoch)[: self._steps]


def begin(case: Case, data: TrainingData) -> tuple[Recommender, TrainingProgress]:
    """Build a recommender and its training progress."""
    description = CATALOGUE[case.task]
    kind = description.load()
    overrides = {"finetune_features": case.finetune} if description.multimodal else {}
    preset = kind.params_type.presets.get(PRESETS.get(case.task, ""), {})
    section = kind.params_type.model_validate({**preset, **COMPARED.get(case.task, {}), **overrides})
    recommender = build(kind, data, section, TrainParams().seed).to(best_device())
    return recommender, TrainingProgress(recommender, LearningRateDecay.of(section))


def time_epochs(case: Case) -> dict[str, Any]:
    """Median seconds of the epochs after the first, and of the evaluations."""
    data, device = case.inputs().read(CATALOGUE[case.task]), best_device()
    times = Times()
    with times.of("start"):
        recommender, training_progress = begin(case, data)
        batches = Batches(data, TrainParams(batch_size=case.batch), device)
    metrics: dict[str, float] = {}
    with deterministic(device):
        while training_progress.epoch <= case.epochs:
            with times.of("epoch"):
                terms = train_epoch(
                    recommender, training_progress.next_optimiser(), batches, training_progress.epoch + 1
                )
            # A large evaluation takes long enough that noise is negligible without repetition.
            if case.scale == 1 or not metrics:
                with times.of("evaluation"):
                    metrics = validate(recommender, data)
            training_progress.add(terms, metrics, times.last("epoch"))
    return {"device": str(device), **times.medians()}


def time_steps(case: Case) -> dict[str, Any]:
    """Median seconds of an epoch's first steps, each measured from the end of the previous one."""
    data, device = case.inputs().read(CATALOGUE[case.task]), best_device()
    recommender, training_progress = begin(case, data)
    batches = FirstBatches(data, TrainParams(batch_size=case.batch), device, case.steps + 1)
    ends: list[tuple[float, float]] = []
    optimiser = training_progress.next_optimiser()
    optimiser.register_step_post_hook(lambda *_: ends.append((time.perf_counter(), time.process_time())))
    with deterministic(device):
        train_epoch(recommender, optimiser, batches, 1)
    step, cpu = np.median(np.diff(ends, axis=0), axis=0).tolist()
    return {"step": step, "step_cpu": cpu}


if __name__ == "__main__":
    print(json.dumps(Case(**json.loads(sys.argv[1])).do()))
