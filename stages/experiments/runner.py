"""Run each row of a paper's table with each seed as a DVC experiment, outside the user's workspace."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from mmprep.models.recommenders.catalogue import describe
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import atomic_file
from mmprep.stages.config.load import overridden
from mmprep.stages.config.parameters import Parameters
from mmprep.stages.experiments.settings import AppliedSetting, PointParameters, resolve_point
from mmprep.stages.experiments.spec import COSTS, ExperimentPoint, PaperDataset
from mmprep.stages.experiments.workspace import Experiment, ExperimentError
from mmprep.stages.explore.report import pseudo_tokens, random_weights
from mmprep.stages.prepare.split import describe_split

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

    def run(self, name: str, values: Mapping[str, Any], target: str, log: Path) -> Experiment:
        """Run an experiment with the content of its params.yaml; raises ExperimentError if a stage fails."""

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
        values: the content of its params.yaml.
        target: the DVC stage that evaluates it.
    """

    point: ExperimentPoint
    seed: int
    values: Mapping[str, Any]
    target: str


@dataclass(frozen=True)
class Result:
    """Results of a point over all seeds.

    Attributes:
        point: the experiment.
        runs: test metrics and training cost, one mapping per seed.
        failed: why a run failed; empty if none did.
        warnings: caveats on the numbers.
        settings: the parameters that it ran with; none for a row that does not run.
        split: the rule and the seed of the split; empty without a recommender.
    """

    point: ExperimentPoint
    runs: tuple[Mapping[str, float], ...] = ()
    failed: str = ""
    warnings: tuple[str, ...] = ()
    settings: tuple[AppliedSetting, ...] = ()
    split: str = ""


@dataclass(frozen=True)
class RunRequest:
    """What all points of a file have in common.

    Attributes:
        name: of the experiment file.
        seeds: for each point.
        values: content of params.yaml.
        as_published: whether training starts from the classes' defaults instead of params.yaml.
        described: the paper's description of the dataset, to compare with; None if it has none.
    """

    name: str
    seeds: Sequence[int]
    values: Mapping[str, Any]
    as_published: bool = False
    described: PaperDataset | None = None


def run_points(
    points: Sequence[ExperimentPoint],
    request: RunRequest,
    host: ExperimentHost,
    layout: Layout,
    progress: Progress = silent,
) -> list[Result]:
    """Run the experiments that have not run yet, and collect the test metrics of all.

    All parameters are checked before anything runs. A failed experiment does not stop the others.

    Args:
        points: of the file; those without a recommender do not run.
        request: what they have in common.
        host: runs the experiments.
        layout: of the dataset.
        progress: reports the number of finished runs.

    Raises:
        ParamsError: a row's parameters are wrong.
        MissingInputError: there is no such dataset.
    """
    layout.require_raw()
    resolved = {
        point.label: resolve_point(
            point,
            request.values,
            layout.dataset,
            f"{request.name}: {point.label}",
            as_published=request.as_published,
        )
        for point in points
        if point.recommender
    }
    plans = [
        plan(point, seed, resolved[point.label]) for point, seed in product(points, request.seeds) if point.recommender
    ]
    runs: dict[str, list[Mapping[str, float]]] = {}
    counts: dict[str, Mapping[str, float]] = {}
    failed: dict[str, str] = {}
    with progress(f"experiments of {request.name}", len(plans), "runs") as advance:
        for planned, outcome in outcomes(plans, request.name, host, layout):
            label = planned.point.label
            advance(1, label)
            if isinstance(outcome, str):
                failed[label] = outcome
            else:
                runs.setdefault(label, []).append(outcome.metrics)
                counts[label] = outcome.counts
    return [
        Result(
            point,
            () if point.label in failed else tuple(runs.get(point.label, [])),
            failed.get(point.label, ""),
            (
                *warnings_for(resolved[point.label].parameters, point.recommender),
                *differing_counts(layout.dataset, counts.get(point.label, {}), request.described),
            ),
            resolved[point.label].settings,
            split_of(point, resolved[point.label].parameters),
        )
        if point.recommender
        else Result(point)
        for point in points
    ]


@dataclass(frozen=True)
class Outcome:
    """What a finished run gives.

    Attributes:
        metrics: test metrics and training cost.
        counts: metrics of stage `filter`: numbers of users, items and interactions.
    """

    metrics: Mapping[str, float]
    counts: Mapping[str, float]


def outcomes(
    plans: Sequence[PlannedRun], name: str, host: ExperimentHost, layout: Layout
) -> Iterator[tuple[PlannedRun, Outcome | str]]:
    """Yield each planned run with its outcome, or with the reason of its failure."""
    prepared = False
    for planned in plans:
        digest = host.digest(layout.dataset, planned.values, planned.target)
        files = layout.run(planned.point.recommender)
        found = host.find(digest)
        metrics = host.metrics(found, files.metrics.as_posix()) if found else None
        if found is None or metrics is None:
            if not prepared:
                host.prepare()
                prepared = True
            title = "-".join([name, slug(planned.point.label), layout.dataset, f"s{planned.seed}", digest])
            log = layout.experiment(name).logs / f"{title}.log"
            try:
                host.pop_file(files.training_cost)  # left by another experiment
                found = host.run(title, planned.values, planned.target, log)
            except ExperimentError as error:
                yield planned, str(error)
                continue
            metrics = host.metrics(found, files.metrics.as_posix())
            cost = host.pop_file(files.training_cost)
            if cost is not None:
                with atomic_file(layout.experiment_cost(digest)) as temporary:
                    temporary.write_bytes(cost)
        if metrics is None:
            yield planned, f"{files.metrics}: not in DVC's cache"
        else:
            counts = host.metrics(found, layout.metrics("filter").as_posix()) or {}
            yield planned, Outcome({**read_cost(layout.experiment_cost(digest)), **metrics}, counts)


def differing_counts(dataset: str, counts: Mapping[str, float], described: PaperDataset | None) -> Iterator[str]:
    """Warning that the dataset is not the paper's, if its counts differ."""
    if described is None:
        return
    expected = described.model_dump(exclude={"title"})
    differing = [key for key, number in expected.items() if key in counts and counts[key] != number]
    if differing:
        ours = ", ".join(f"{counts[key]:,.0f} {key}" for key in differing)
        theirs = ", ".join(f"{expected[key]:,} {key}" for key in differing)
        yield f"{dataset} has {ours}, the paper's {described.title} {theirs}: compare with care"


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


def split_of(point: ExperimentPoint, parameters: Parameters) -> str:
    """The rule and the seed of a point's split."""
    params = parameters.sections.split
    return describe_split(params.rule, None if "split.seed" in point.seeded else params.seed)


def plan(point: ExperimentPoint, seed: int, resolved: PointParameters) -> PlannedRun:
    """Plan the run of a point with one seed."""
    group = describe(point.recommender).group
    stage = "evaluate" if group == "collaborative" else f"evaluate-{group}"
    values = overridden(resolved.values, dict.fromkeys(point.seeded, seed), point.label)
    return PlannedRun(point, seed, values, f"{stage}@{point.recommender}")


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
