"""Experiments: each row of a paper's table, with each seed, run under DVC beside the user's workspace."""

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
# The keys of section `train` that name the encoders which recommenders of a group read.
ENCODERS = {
    "multimodal": ("image", "text"),
    "item_graphs": ("image", "text"),
    "token_based": ("patches", "text_tokens"),
}


class ExperimentHost(Protocol):
    """Where experiments run and are kept; mmprep.stages.experiments.workspace.ExperimentWorkspace is one."""

    def digest(self, dataset: str, *asked: object) -> str:
        """A name for all that determines an experiment."""

    def find(self, digest: str) -> Experiment | None:
        """The experiment with a digest, if it has run."""

    def prepare(self) -> None:
        """Called before the first of those that have to run."""

    def run(self, name: str, overrides: Sequence[str], target: str, log: Path) -> Experiment:
        """Run one; raises ExperimentError if a stage fails."""

    def metrics(self, experiment: Experiment, path: str) -> dict[str, float] | None:
        """A file of metrics as an experiment has it; None if it is gone."""

    def pop_file(self, path: Path) -> bytes | None:
        """Remove a file that the last experiment left and DVC does not know; what was in it, None if there is none."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of a point with one seed.

    Attributes:
        point: what is run.
        seed: of training.
        overrides: all keys that differ from params.yaml.
        target: the stage that tests it.
    """

    point: ExperimentPoint
    seed: int
    overrides: Mapping[str, Value]
    target: str


@dataclass(frozen=True)
class Result:
    """What a point has given.

    Attributes:
        point: which.
        runs: the test metrics and what training took, a mapping a seed.
        failed: why there are none.
        warnings: what must be known to read the numbers rightly.
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
    place: ExperimentHost,
    layout: Layout,
    progress: Progress = silent,
) -> list[Result]:
    """Run what has not run yet, and collect the test metrics of all.

    All parameters are checked before anything runs. One that fails does not stop the others.

    Args:
        points: of the file; those without a recommender are left out.
        seeds: each point runs with each.
        values: what params.yaml holds.
        name: the file's.
        place: where they run.
        layout: of the dataset.
        progress: shows how many are done.

    Raises:
        ParamsError: a row's parameters are wrong.
        MissingInputError: there is no such dataset.
    """
    layout.require_raw()
    parameters = {point.label: checked(point, values, name) for point in points if point.recommender}
    plans = [plan(point, seed, layout.dataset) for point, seed in product(points, seeds) if point.recommender]
    found: dict[str, list[Mapping[str, float]]] = {}
    failed: dict[str, str] = {}
    with progress(f"experiments of {name}", len(plans), "runs") as advance:
        for planned, outcome in outcomes(plans, values, name, place, layout):
            label = planned.point.label
            advance(1, label)
            if isinstance(outcome, str):
                failed[label] = outcome
            else:
                found.setdefault(label, []).append(outcome)
    return [
        Result(
            point,
            () if point.label in failed else tuple(found.get(point.label, [])),
            failed.get(point.label, ""),
            tuple(warnings_for(parameters[point.label], point.recommender)) if point.recommender else (),
        )
        for point in points
    ]


def outcomes(
    plans: Sequence[PlannedRun], values: Mapping[str, Any], name: str, place: ExperimentHost, layout: Layout
) -> Iterator[tuple[PlannedRun, Mapping[str, float] | str]]:
    """The test metrics of each and what it took, or why there are none."""
    prepared = False
    for planned in plans:
        digest = place.digest(layout.dataset, planned.overrides, planned.target)
        files = layout.run(planned.point.recommender)
        known = place.find(digest)
        metrics = place.metrics(known, files.metrics.as_posix()) if known else None
        if metrics is not None:
            yield planned, {**read_cost(layout.experiment_cost(digest)), **metrics}
            continue
        if not prepared:
            place.prepare()
            prepared = True
        title = "-".join([name, slug(planned.point.label), layout.dataset, f"s{planned.seed}", digest])
        log = layout.experiment(name).logs / f"{title}.log"
        try:
            keys = [*empty_sections(planned.overrides, values), *hydra(planned.overrides)]
            place.pop_file(files.training_cost)  # of another experiment
            metrics = place.metrics(place.run(title, keys, planned.target, log), files.metrics.as_posix())
        except ExperimentError as error:
            yield planned, str(error)
        else:
            cost = place.pop_file(files.training_cost)
            if cost is not None:
                with atomic_file(layout.experiment_cost(digest)) as temporary:
                    temporary.write_bytes(cost)
            if metrics is None:
                yield planned, f"{files.metrics}: not in DVC's cache"
            else:
                yield planned, {**read_cost(layout.experiment_cost(digest)), **metrics}


def read_cost(path: Path) -> dict[str, float]:
    """What the training of an experiment took; nothing where DVC's run cache had it, so that none ran.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {key: float(told[key]) for key in COSTS}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: damaged ({error}); remove it") from error


def checked(point: ExperimentPoint, values: Mapping[str, Any], source: str) -> Parameters:
    """The parameters of a point. Imports torch.

    Raises:
        ParamsError: one is wrong; the message names the row.
    """
    place = f"{source}: {point.label}"
    overrides = {**point.overrides, **dict.fromkeys(point.seeded, 0), **lists(point.recommender, place)}
    parameters = parse(overridden(values, overrides, place), place)
    parameters.recommender(point.recommender)
    return parameters


def plan(point: ExperimentPoint, seed: int, dataset: str) -> PlannedRun:
    """What has to run for a point with one seed."""
    group = describe(point.recommender).group
    stage = "evaluate" if group == "collaborative" else f"evaluate-{group}"
    seeds: dict[str, Value] = dict.fromkeys(point.seeded, seed)
    overrides = {**point.overrides, **lists(point.recommender, "recommender"), **seeds, "dataset": dataset}
    return PlannedRun(point, seed, overrides, f"{stage}@{point.recommender}")


def lists(recommender: str, place: str) -> dict[str, Value]:
    """The lists of recommenders that hold one alone.

    Raises:
        ParamsError: there is no such recommender.
    """
    group = describe(recommender, place).group
    return {f"train.{each}": [recommender] if each == group else [] for each in GROUPS}


def warnings_for(parameters: Parameters, recommender: str) -> Iterator[str]:
    """What must be known of the features that a recommender reads."""
    for key in ENCODERS.get(describe(recommender).group, ()):
        encoder = getattr(parameters.sections.train, key)
        kind, _, seed = str(getattr(parameters.encoder(encoder), "weights", "") if encoder else "").partition(":")
        if kind == "random":
            yield random_weights(encoder, seed)
    if describe(recommender).tokens and (cut := parameters.pseudo_tokens):
        yield pseudo_tokens(recommender, cut)


def slug(label: str) -> str:
    """A label as part of a name in git."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.").replace("..", ".") or "row"


def empty_sections(overrides: Mapping[str, Value], values: Mapping[str, Any]) -> list[str]:
    """Overrides for encoders that a row asks for and params.yaml has no section for: DVC wants one of each."""
    asked = overrides.get("extract.encoders")
    there = values.get("encoders") or {}
    return [f"++encoders.{name}={{}}" for name in asked if name not in there] if isinstance(asked, list) else []


def hydra(overrides: Mapping[str, Value]) -> list[str]:
    """Overrides in the grammar of `dvc exp run -S`; `++` also adds keys that params.yaml leaves out."""
    return [f"++{key}={hydra_value(value)}" for key, value in overrides.items()]


def hydra_value(value: Value) -> str:
    """A value in that grammar, in which text is quoted."""
    if isinstance(value, list):
        return f"[{','.join(hydra_value(each) for each in value)}]"
    if isinstance(value, str):
        if "\\" in value:
            raise ParamsError(f"found {value!r}, expected text without a backslash")
        return "'" + value.replace("'", "\\'") + "'"
    return json.dumps(value)
