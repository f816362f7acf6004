"""Run each row of a paper's table with each seed as a DVC experiment, outside the user's workspace."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from mmprep.models.recommenders.catalogue import DESCRIPTIONS, describe
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import atomic_file
from mmprep.stages.config.load import overridden, parse
from mmprep.stages.config.parameters import Parameters
from mmprep.stages.experiments.spec import COSTS, ExperimentPoint, Value
from mmprep.stages.experiments.workspace import Experiment, ExperimentError
from mmprep.stages.explore.report import pseudo_tokens, random_weights

GROUPS = tuple(dict.fromkeys(description.group for description in DESCRIPTIONS))
# Keys of section `train` that name the encoders read by the recommenders of a group.
ENCODERS = {
    "multimodal": ("image", "text"),
    "item_graphs": ("image", "text"),
    "token_based": ("patches", "text_tokens"),
}


class ExperimentHost(Protocol):
    """Interface to run and store experiments; mmprep.stages.experiments.workspace.ExperimentWorkspace is one."""

    def digest(self, dataset: str, *request: object) -> str:
        """Digest of everything that determines an experiment."""

    def find(self, digest: str) -> Experiment | None:
        """The experiment with a digest, if it has run."""

    def prepare(self) -> None:
        """Set up before the first experiment that has to run."""

    def run(self, name: str, overrides: Sequence[str], target: str, log: Path) -> Experiment:
        """Run an experiment; raises ExperimentError if a stage fails."""

    def metrics(self, experiment: Experiment, path: str) -> dict[str, float] | None:
        """The content of an experiment's metrics file; None if it is no longer stored."""

    def pop_file(self, path: Path) -> bytes | None:
        """Remove a file of the last experiment that DVC does not track; return its content, None if there is none."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of a point with one seed.

    Attributes:
        point: to run.
        seed: of training.
        overrides: all keys that differ from params.yaml.
        target: the DVC stage that evaluates it.
    """

    point: ExperimentPoint
    seed: int
    overrides: Mapping[str, Value]
    target: str


@dataclass(frozen=True)
class Result:
    """Results of a point over all seeds.

    Attributes:
        point: the experiment.
        runs: test metrics and training cost, one mapping per seed.
        failed: why a run failed; empty if none did.
        warnings: caveats on the numbers.
    """

    point: ExperimentPoint
    runs: tuple[Mapping[str, float], ...] = ()
    failed: str = ""
    warnings: tuple[str, ...] = ()


def run_points(
    points: Sequence[ExperimentPoint],
    seeds: Sequence[int],
    values: Mapping[str, Any],
    name: str,
    host: ExperimentHost,
    layout: Layout,
    progress: Progress = silent,
) -> list[Result]:
    """Run the experiments that have not run yet, and collect the test metrics of all.

    All parameters are checked before anything runs. A failed experiment does not stop the others.

    Args:
        points: of the file; those without a recommender do not run.
        seeds: for each point.
        values: content of params.yaml.
        name: of the experiment file.
        host: runs the experiments.
        layout: of the dataset.
        progress: reports the number of finished runs.

    Raises:
        ParamsError: a row's parameters are wrong.
        MissingInputError: there is no such dataset.
    """
    layout.require_raw()
    parameters = {point.label: checked(point, values, name) for point in points if point.recommender}
    plans = [plan(point, seed, layout.dataset) for point, seed in product(points, seeds) if point.recommender]
    runs: dict[str, list[Mapping[str, float]]] = {}
    failed: dict[str, str] = {}
    with progress(f"experiments of {name}", len(plans), "runs") as advance:
        for planned, outcome in outcomes(plans, values, name, host, layout):
            label = planned.point.label
            advance(1, label)
            if isinstance(outcome, str):
                failed[label] = outcome
            else:
                runs.setdefault(label, []).append(outcome)
    return [
        Result(
            point,
            () if point.label in failed else tuple(runs.get(point.label, [])),
            failed.get(point.label, ""),
            tuple(warnings_for(parameters[point.label], point.recommender)) if point.recommender else (),
        )
        for point in points
    ]


def outcomes(
    plans: Sequence[PlannedRun], values: Mapping[str, Any], name: str, host: ExperimentHost, layout: Layout
) -> Iterator[tuple[PlannedRun, Mapping[str, float] | str]]:
    """Yield each planned run with its test metrics and training cost, or with the reason of its failure."""
    prepared = False
    for planned in plans:
        digest = host.digest(layout.dataset, planned.overrides, planned.target)
        files = layout.run(planned.point.recommender)
        known = host.find(digest)
        metrics = host.metrics(known, files.metrics.as_posix()) if known else None
        if metrics is not None:
            yield planned, {**read_cost(layout.experiment_cost(digest)), **metrics}
            continue
        if not prepared:
            host.prepare()
            prepared = True
        title = "-".join([name, slug(planned.point.label), layout.dataset, f"s{planned.seed}", digest])
        log = layout.experiment(name).logs / f"{title}.log"
        try:
            keys = [*empty_sections(planned.overrides, values), *hydra(planned.overrides)]
            host.pop_file(files.training_cost)  # left by another experiment
            metrics = host.metrics(host.run(title, keys, planned.target, log), files.metrics.as_posix())
        except ExperimentError as error:
            yield planned, str(error)
        else:
            cost = host.pop_file(files.training_cost)
            if cost is not None:
                with atomic_file(layout.experiment_cost(digest)) as temporary:
                    temporary.write_bytes(cost)
            if metrics is None:
                yield planned, f"{files.metrics}: not in DVC's cache"
            else:
                yield planned, {**read_cost(layout.experiment_cost(digest)), **metrics}


def read_cost(path: Path) -> dict[str, float]:
    """Training cost of an experiment; empty if no training ran because DVC's run cache had the result.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        costs = json.loads(path.read_text(encoding="utf-8"))
        return {key: float(costs[key]) for key in COSTS}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: damaged ({error}); remove it") from error


def checked(point: ExperimentPoint, values: Mapping[str, Any], source: str) -> Parameters:
    """Parse and check the parameters of a point. Imports torch.

    Raises:
        ParamsError: one is wrong; the message names the row.
    """
    place = f"{source}: {point.label}"
    overrides = {**point.overrides, **dict.fromkeys(point.seeded, 0), **lists(point.recommender, place)}
    parameters = parse(overridden(values, overrides, place), place)
    parameters.recommender(point.recommender)
    return parameters


def plan(point: ExperimentPoint, seed: int, dataset: str) -> PlannedRun:
    """Plan the run of a point with one seed."""
    group = describe(point.recommender).group
    stage = "evaluate" if group == "collaborative" else f"evaluate-{group}"
    seeds: dict[str, Value] = dict.fromkeys(point.seeded, seed)
    overrides = {**point.overrides, **lists(point.recommender, "recommender"), **seeds, "dataset": dataset}
    return PlannedRun(point, seed, overrides, f"{stage}@{point.recommender}")


def lists(recommender: str, place: str) -> dict[str, Value]:
    """Overrides that reduce the lists of recommenders in params.yaml to a single one.

    Raises:
        ParamsError: there is no such recommender.
    """
    group = describe(recommender, place).group
    return {f"train.{each}": [recommender] if each == group else [] for each in GROUPS}


def warnings_for(parameters: Parameters, recommender: str) -> Iterator[str]:
    """Warnings about the features that a recommender reads."""
    for key in ENCODERS.get(describe(recommender).group, ()):
        encoder = getattr(parameters.sections.train, key)
        kind, _, seed = str(getattr(parameters.encoder(encoder), "weights", "") if encoder else "").partition(":")
        if kind == "random":
            yield random_weights(encoder, seed)
    if describe(recommender).tokens and (cut := parameters.pseudo_tokens):
        yield pseudo_tokens(recommender, cut)


def slug(label: str) -> str:
    """A label in the characters that a git ref allows."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.").replace("..", ".") or "row"


def empty_sections(overrides: Mapping[str, Value], values: Mapping[str, Any]) -> list[str]:
    """Overrides that add empty sections for a row's encoders that params.yaml lacks, as DVC needs one for each."""
    requested = overrides.get("extract.encoders")
    sections = values.get("encoders") or {}
    return (
        [f"++encoders.{name}={{}}" for name in requested if name not in sections] if isinstance(requested, list) else []
    )


def hydra(overrides: Mapping[str, Value]) -> list[str]:
    """Overrides in the grammar of `dvc exp run -S`; `++` also adds keys that params.yaml leaves out."""
    return [f"++{key}={hydra_value(value)}" for key, value in overrides.items()]


def hydra_value(value: Value) -> str:
    """A value in the grammar of `dvc exp run -S`, with text quoted."""
    if isinstance(value, list):
        return f"[{','.join(hydra_value(each) for each in value)}]"
    if isinstance(value, str):
        if "\\" in value:
            raise ParamsError(f"found {value!r}, expected text without a backslash")
        return "'" + value.replace("'", "\\'") + "'"
    return json.dumps(value)
