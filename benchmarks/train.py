"""Training and evaluating every recommender at Amazon Baby's size, against MMRec's figures on a machine of two cores.

    python benchmarks/train.py
    python benchmarks/train.py --only lightgcn freedom --epochs 1
    python benchmarks/train.py --size clothing
    python benchmarks/train.py --finetune
    python benchmarks/train.py --scale 1 4 16

Interactions, features and graphs are generated (benchmarks/generated.py): timings mean something, metrics do not. Each
recommender runs in a process of its own, by the trainer that `mmprep train` runs; an epoch is sampling and training, an
evaluation is all embeddings and the full ranking for validation. The first epoch is not counted.

MMRec's figures are of a generated set of Baby's size and batches of 2,048, on two cores. It trains the raw features of
most; a ratio is shown only where both train them or both do not.

With --scale users, items, interactions and batches all grow by the factors. An epoch then has as many steps at each
size, and a step's cost is what grows: nearly every step computes all embeddings, whatever the batch. An evaluation
scores every item for every user, so it grows by the product of the two: 256 times from 1 to 16.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from generated import SIZES, Generated

from models.device import best_device
from models.recommenders.catalogue import CATALOGUE
from models.training.batches import Batches
from models.training.course import Course, Steps
from models.training.params import TrainParams
from models.training.trainer import build, deterministic, train_epoch, validate

BATCH = 2048
GENERATE = "generate"
TIMES = ("epoch", "evaluation")

# Where MMRec was measured with other parameters than our defaults.
COMPARED: dict[str, dict[str, object]] = {"lightgcn": {"layers": 1}}


@dataclass(frozen=True)
class Theirs:
    """MMRec's seconds for an epoch and for one evaluation."""

    epoch: float
    evaluation: float


# By recommender, and whether the raw features are trained.
MMREC = {
    ("bpr", False): Theirs(0.7, 2.8),
    ("lightgcn", False): Theirs(2.5, 2.7),
    ("vbpr", False): Theirs(4.8, 2.9),
    ("bm3", False): Theirs(10.2, 2.7),
    ("bm3", True): Theirs(19, 2.7),
    ("freedom", False): Theirs(9.2, 2.9),
    ("freedom", True): Theirs(19.5, 2.9),
    ("mgcn", False): Theirs(19.8, 3.6),
    ("mgcn", True): Theirs(30, 3.6),
    ("lattice", True): Theirs(68, 71),
}


@dataclass(frozen=True)
class Case:
    """What a process does.

    Attributes:
        step: GENERATE, or the name of a recommender.
        folder: where what is generated lies.
        names: the recommenders whose inputs are generated.
        size: whose interactions and features, one of SIZES.
        scale: times that.
        batch: positives a step.
        epochs: that are counted.
        finetune: whether the raw features are trained.
    """

    step: str
    folder: Path
    names: tuple[str, ...]
    size: str
    scale: int
    batch: int
    epochs: int
    finetune: bool

    def command(self) -> list[str]:
        """The command line that does it."""
        numbers = [f"--step-scale={self.scale}", f"--batch={self.batch}", f"--epochs={self.epochs}"]
        flags = ["--finetune"] if self.finetune else []
        inputs = ["--folder", str(self.folder), "--size", self.size, "--only", *self.names]
        return [sys.executable, __file__, "--step", self.step, *numbers, *flags, *inputs]


def generated(case: Case) -> Generated:
    """What recommenders read in a case."""
    return Generated(SIZES[case.size].times(case.scale), case.folder)


def generate(case: Case) -> dict[str, Any]:
    """Write what recommenders read; what the interactions are like."""
    made = generated(case)
    train, _ = made.interactions()
    for name in case.names:
        made.read(CATALOGUE[name])
    degrees = {"user": np.diff(train.indptr), "item": np.bincount(train.indices, minlength=train.shape[1])}
    found: dict[str, Any] = {"interactions": int(train.nnz), "shape": train.shape}
    return found | {name: np.quantile(each, (0, 0.5, 1)).astype(int).tolist() for name, each in degrees.items()}


def train(case: Case) -> dict[str, Any]:
    """Train and evaluate a recommender; seconds of each epoch but the first, and of each evaluation."""
    description = CATALOGUE[case.step]
    data, kind = generated(case).read(description), description.load()
    switch = {"finetune_features": case.finetune} if description.multimodal else {}
    section = kind.params_type.model_validate({**COMPARED.get(case.step, {}), **switch})
    params, device = TrainParams(batch_size=case.batch), best_device()
    start = time.perf_counter()
    recommender, batches = build(kind, data, section, params.seed).to(device), Batches(data, params, device)
    course = Course(recommender, Steps.of(section))
    times = {"start": [time.perf_counter() - start], "epoch": [], "cpu": [], "evaluation": []}
    metrics: dict[str, float] = {}
    with deterministic(device):
        while course.epoch <= case.epochs:
            start, cpu = time.perf_counter(), time.process_time()
            terms = train_epoch(recommender, course.next_optimiser(), batches, course.epoch + 1)
            times["epoch"].append(time.perf_counter() - start)
            times["cpu"].append(time.process_time() - cpu)
            # A large evaluation takes long, and need not be repeated to be told from noise.
            if case.scale == 1 or not metrics:
                start = time.perf_counter()
                metrics = validate(recommender, data)
                times["evaluation"].append(time.perf_counter() - start)
            course.add(terms, metrics)
    for each in times.values():
        del each[: len(each) > 1]
    return {"device": str(device), **{name: median(each) for name, each in times.items()}}


def run(case: Case) -> dict[str, Any]:
    """Do a case in a process of its own; what it told, and its peak memory in GB."""
    child = subprocess.Popen(case.command(), stdout=subprocess.PIPE, text=True)
    assert child.stdout
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{case.step} ended with {child.returncode}")
    found: dict[str, Any] = json.loads(printed)
    found["gigabytes"] = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return found


def measured(usual: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Generate what recommenders read, say what it is like, and train them one by one."""
    with tempfile.TemporaryDirectory() as folder:
        usual = replace(usual, folder=Path(folder))
        made = run(replace(usual, step=GENERATE))
        n_users, n_items = made["shape"]
        print(f"generated {made['interactions']:,} train interactions of {n_users:,} users and {n_items:,} items")
        for side in ("user", "item"):
            least, middle, most = made[side]
            print(f"train interactions of {side}s: least {least:,}, median {middle:,}, most {most:,}", flush=True)
        for name in usual.names:
            yield name, run(replace(usual, step=name))


def compare(usual: Case) -> None:
    """Print the figures of recommenders at a dataset's size, at Baby's beside MMRec's."""
    features = "trained" if usual.finetune else "frozen"
    print(f"raw features {features}, batches of {usual.batch:,}, median of {usual.epochs} epochs after the first")
    if usual.size == "baby":
        print("x is ours divided by MMRec's; wanted are at most 0.5 for an epoch and 0.25 for an evaluation")
    for name, found in measured(usual):
        finetune = usual.finetune and CATALOGUE[name].multimodal
        theirs = MMREC.get((name, finetune)) if usual.size == "baby" else None
        cells = "; ".join(f"{found[key]:6.2f} s an {key} {beside(found[key], theirs, key)}" for key in TIMES)
        settings = "".join(f", {key} {value}" for key, value in COMPARED.get(name, {}).items())
        cells += f"; {found['cpu']:6.2f} s of all cores an epoch; {found['gigabytes']:.2f} GB peak"
        print(f"{name:9} {cells}; {found['start']:.2f} s to start; {found['device']}{settings}", flush=True)


def beside(ours: float, theirs: Theirs | None, key: str) -> str:
    """MMRec's figure and the ratio; blanks without one."""
    if theirs is None:
        return " " * 20
    figure: float = getattr(theirs, key)
    return f"(MMRec {figure:4.1f}, x {ours / figure:.2f})"


def grow(scales: Sequence[int], usual: Case) -> None:
    """Print how cost grows with size; 1.00 is growth in proportion."""
    smallest: dict[str, tuple[float, float, int]] = {}
    for scale in scales:
        print(f"\n{scale} x {usual.size}, batches of {scale * usual.batch:,}")
        for name, found in measured(replace(usual, scale=scale, batch=scale * usual.batch)):
            epoch, evaluation, first = smallest.setdefault(name, (found["epoch"], found["evaluation"], scale))
            grown = scale / first
            each = found["epoch"] / SIZES[usual.size].times(scale).train * 1e6
            print(
                f"{name:9} {found['epoch']:8.2f} s an epoch ({found['cpu']:.2f} of all cores), {each:.2f} us an "
                f"interaction, {found['epoch'] / epoch / grown:.2f} of linear; {found['evaluation']:8.2f} s an "
                f"evaluation, {found['evaluation'] / evaluation / grown**2:.2f} of linear in users x items; "
                f"{found['gigabytes']:.2f} GB peak",
                flush=True,
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CATALOGUE), metavar="NAME", help="some of the recommenders")
    parser.add_argument("--size", choices=SIZES, default="baby", help="of this dataset (default: baby)")
    parser.add_argument("--epochs", type=int, default=3, help="counted, after the first (default: 3)")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"positives a step, at --scale 1 (default: {BATCH})")
    parser.add_argument("--finetune", action="store_true", help="train the raw features of those that read any")
    parser.add_argument("--scale", nargs="+", type=int, help="times that size, such as 1 4 16; of bpr, lightgcn")
    parser.add_argument("--step", choices=[GENERATE, *CATALOGUE], help=argparse.SUPPRESS)
    parser.add_argument("--step-scale", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path(), help=argparse.SUPPRESS)
    given = parser.parse_args()
    # The others have no features that could be trained.
    every = [name for name, row in CATALOGUE.items() if row.multimodal or not given.finetune]
    names = given.only or (["bpr", "lightgcn"] if given.scale else every)
    case = Case(
        step=given.step or "",
        folder=given.folder,
        names=tuple(names),
        size=given.size,
        scale=given.step_scale,
        batch=given.batch,
        epochs=given.epochs,
        finetune=given.finetune,
    )
    if given.step:
        print(json.dumps((generate if given.step == GENERATE else train)(case)))
    elif given.scale:
        grow(given.scale, case)
    else:
        compare(case)


if __name__ == "__main__":
    main()
