"""Training and evaluating every recommender at Amazon Baby's size, against MMRec's figures on a two-core machine.

    python benchmarks/train.py
    python benchmarks/train.py --only lightgcn freedom --epochs 1
    python benchmarks/train.py --size clothing
    python benchmarks/train.py --only da_mrs --batch 4096  # its paper's batch size
    python benchmarks/train.py --finetune
    python benchmarks/train.py --scale 1 4 16

Interactions, features and graphs are generated (benchmarks/generated.py): timings are realistic, metrics are not. Each
recommender runs in its own process, with the trainer of `mmprep train`; an epoch is sampling and training, an
evaluation is computing all embeddings and the full ranking for validation. The first epoch is not counted.

MMRec's figures are of a generated set of Baby's size and batches of 2,048, on two cores. It trains the raw features of
most; a ratio is shown only where both train them or both do not.

With --scale, users, items and interactions all grow by the factors, and each size is timed in two ways.
- At a fixed batch size, some steps of an epoch. A step propagates over all edges, and Adam updates all embeddings, so
  its cost grows linearly; an epoch has proportionally more steps, so its cost grows quadratically. This holds for every
  recommender: bpr and vbpr propagate nothing, but Adam dominates their step.
- With batches that grow too, whole epochs. The number of steps is the same at each size, so the cost grows linearly.
Embeddings that exceed the processor's caches cost two to three times as much at 16 times Baby.
An evaluation scores every item for every user, so its cost grows with the product of the two: 256 times from 1 to 16.
Growth is measured in seconds of all cores, which other work on the machine disturbs less.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from generated import SIZES
from training_times import COMPARED, Case, run

from mmprep.models.recommenders.catalogue import CATALOGUE

TIMES = ("epoch", "evaluation")


@dataclass(frozen=True)
class Theirs:
    """MMRec's seconds for an epoch and for one evaluation."""

    epoch: float
    evaluation: float


MMREC_BATCH = 2048
# By name of the recommender and whether the raw features are trained.
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
    ("da_mrs", False): Theirs(83, 3.5),
}


@contextmanager
def inputs_of(case: Case) -> Iterator[Case]:
    """Generate the recommenders' inputs and print their statistics; yield the case with their folder."""
    with tempfile.TemporaryDirectory() as folder:
        case = replace(case, folder=folder)
        made = run(case)
        n_users, n_items = made["shape"]
        print(f"generated {made['interactions']:,} train interactions of {n_users:,} users and {n_items:,} items")
        for side in ("user", "item"):
            least, middle, most = made[side]
            print(f"train interactions of {side}s: least {least:,}, median {middle:,}, most {most:,}", flush=True)
        yield case


def compare(usual: Case) -> None:
    """Print the figures of recommenders at a dataset's size, beside MMRec's at Baby's size and MMRec's batch size."""
    features = "trained" if usual.finetune else "frozen"
    print(f"raw features {features}, batches of {usual.batch:,}, median of {usual.epochs} epochs after the first")
    comparable = (usual.size, usual.batch) == ("baby", MMREC_BATCH)
    if comparable:
        print("x is ours divided by MMRec's; the targets are at most 0.5 for an epoch and 0.25 for an evaluation")
    with inputs_of(usual) as case:
        for name in usual.names:
            finetune = usual.finetune and CATALOGUE[name].multimodal
            theirs = MMREC.get((name, finetune)) if comparable else None
            print(f"{name:9} {compared(name, run(replace(case, task=name)), theirs)}", flush=True)


def compared(name: str, found: dict[str, Any], theirs: Theirs | None) -> str:
    """A recommender's figures in one line."""
    cells = [f"{found[key]:6.2f} s an {key} {beside(found[key], theirs, key)}" for key in TIMES]
    cells += [f"{found['epoch_cpu']:6.2f} s of all cores an epoch", f"{found['gigabytes']:.2f} GB peak"]
    settings = "".join(f", {key} {value}" for key, value in COMPARED.get(name, {}).items())
    return "; ".join([*cells, f"{found['start']:.2f} s to start", found["device"] + settings])


def beside(ours: float, theirs: Theirs | None, key: str) -> str:
    """MMRec's figure and the ratio; blanks without one."""
    if theirs is None:
        return " " * 20
    figure: float = getattr(theirs, key)
    return f"(MMRec {figure:4.1f}, x {ours / figure:.2f})"


class Growth:
    """Growth of figures with size, 1.00 for linear growth."""

    def __init__(self) -> None:
        self._smallest: dict[tuple[str, str], tuple[float, int]] = {}

    def of(self, case: Case, what: str, seconds: float, power: int = 1) -> str:
        """Growth of a recommender's figure since the smallest size, relative to the size or a power of it."""
        least, first = self._smallest.setdefault((case.task, what), (seconds, case.scale))
        return f"{seconds / least / (case.scale / first) ** power:.2f} of linear"


def grow(scales: Sequence[int], steps: int, usual: Case) -> None:
    """Print the growth of cost with size, at a fixed batch size and with batches that grow too."""
    growth = Growth()
    for scale in scales:
        print(f"\n{scale} x {usual.size}")
        with inputs_of(replace(usual, scale=scale)) as case:
            for name in usual.names:
                fixed = replace(case, task=name, steps=steps)
                print(f"{name:9} {at_fixed_batch(fixed, growth)}", flush=True)
                grown = replace(case, task=name, batch=scale * usual.batch)
                print(f"{name:9} {with_batch_grown(grown, growth)}", flush=True)


def at_fixed_batch(case: Case, growth: Growth) -> str:
    """Cost of a step, and of an epoch of such steps."""
    found = run(case)
    step, cpu, n_steps = found["step"], found["step_cpu"], math.ceil(case.inputs().size.train / case.batch)
    return (
        f"batches of {case.batch:7,}: {step * 1e3:8.1f} ms a step ({cpu * 1e3:.1f} of all cores), "
        f"{growth.of(case, 'step', cpu)}; {n_steps:,} steps, so {n_steps * step:.2f} s an epoch "
        f"({n_steps * cpu:.2f} of all cores), {growth.of(case, 'epoch of steps', n_steps * cpu)}"
    )


def with_batch_grown(case: Case, growth: Growth) -> str:
    """Cost of an epoch and of an evaluation."""
    found = run(case)
    each = found["epoch_cpu"] / case.inputs().size.train * 1e6
    return (
        f"batches of {case.batch:7,}: {found['epoch']:8.2f} s an epoch ({found['epoch_cpu']:.2f} of all cores, "
        f"{each:.2f} us an interaction), {growth.of(case, 'epoch', found['epoch_cpu'])}; "
        f"{found['evaluation']:.2f} s an evaluation ({found['evaluation_cpu']:.2f} of all cores), "
        f"{growth.of(case, 'evaluation', found['evaluation_cpu'], power=2)} in users x items; "
        f"{found['gigabytes']:.2f} GB peak"
    )


def main() -> None:
    """Run the benchmark by the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(CATALOGUE), metavar="NAME", help="recommenders to run (default: all)"
    )
    parser.add_argument("--size", choices=SIZES, default="baby", help="size of this dataset (default: baby)")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs, after the first (default: 3)")
    batch = f"positives per step, at --scale 1 (default: {MMREC_BATCH})"
    parser.add_argument("--batch", type=int, default=MMREC_BATCH, help=batch)
    parser.add_argument("--finetune", action="store_true", help="train the raw features of those that read any")
    parser.add_argument(
        "--scale", nargs="+", type=int, help="factors of the size, such as 1 4 16; by default of bpr and lightgcn"
    )
    parser.add_argument(
        "--steps", type=int, default=30, help="timed steps at a fixed batch size, with --scale (default: 30)"
    )
    options = parser.parse_args()
    # The others have no features that could be trained.
    every = [name for name, row in CATALOGUE.items() if row.multimodal or not options.finetune]
    names = options.only or (["bpr", "lightgcn"] if options.scale else every)
    case = Case(tuple(names), options.size, options.batch, options.epochs, 0, options.finetune)
    if options.scale:
        grow(options.scale, options.steps, case)
    else:
        compare(case)


if __name__ == "__main__":
    main()
