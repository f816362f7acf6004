"""Report on a dataset's runs: test metrics side by side, and the paths of all outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import MissingInputError
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.freshness import InputDigests
from mmprep.stages.prepare.split import split_of
from mmprep.stages.training.run import TrainedRun, read_metrics, train_command

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "precision@20")


@dataclass(frozen=True)
class Report:
    """Content of `mmprep report`.

    Attributes:
        metrics: the test metrics of each evaluated recommender, by name.
        places: outputs, as (kind, path).
        warnings: caveats on the numbers.
        split: the rule and the seed of the split.
    """

    metrics: dict[str, dict[str, float]]
    places: list[tuple[str, Path]]
    warnings: list[str]
    split: str


def collect(layout: Layout) -> Report:
    """Read the metrics of all evaluated recommenders of a dataset.

    Raises:
        MissingInputError: none has been evaluated.
        DataError: a file of metrics, features or interactions, or a run's config, is damaged.
    """
    runs = layout.root / "runs" / layout.dataset
    names = [path.parent.name for path in sorted(runs.glob("*/metrics.json"))]
    metrics = {name: read_metrics(layout.run(name), name, METRICS) for name in names}
    if not metrics:
        raise MissingInputError(f"{runs}: no evaluated recommender; run `dvc repro` or `mmprep evaluate` first")
    features = sorted((layout.root / "features" / layout.dataset).glob("[!.]*/"))
    places = [("features", path) for path in features]
    places += [("graph", path) for path in sorted(layout.graph_folder("").rglob("[!.]*.parquet"))]
    places += [("recommendations", layout.run(name).recommendations) for name in metrics]
    warnings = [caution for path in features for caution in warnings_for(path)]
    current = InputDigests(layout)
    warnings += [caution for name in metrics for caution in cautions_of_run(layout, name, current)]
    return Report(metrics, places, warnings, split_of(layout))


def warnings_for(features: Path) -> list[str]:
    """Warnings about one encoder's features."""
    encoder = FeatureSet.open(features).provenance["encoder"]
    return [] if encoder["pretrained"] else [random_weights(features.name, encoder["seed"])]


def cautions_of_run(layout: Layout, recommender: str, current: InputDigests) -> list[str]:
    """Warnings about an evaluated recommender; none if its run's config.json is not on this machine."""
    files = layout.run(recommender)
    if not files.config.exists():
        return []
    config = TrainedRun.open(files, recommender).config
    cautions = [pseudo_tokens(recommender, config.pseudo_tokens)] if config.pseudo_tokens else []
    if layout.interactions.exists() and current.difference(config.inputs, [layout.interactions]):
        again = f"run `{train_command(recommender)}` and `mmprep evaluate --recommender {recommender}`"
        cautions.append(f"{recommender} was trained on another split than the current one; {again}")
    return cautions


def pseudo_tokens(recommender: str, encoders: Sequence[str]) -> str:
    """Warning about a recommender that read pieces of vectors in place of patches or tokens."""
    pieces = " and ".join(encoders)
    return f"{recommender} read pieces of the vectors of {pieces} for patches or tokens: a trial, not the model"


def random_weights(encoder: str, seed: object) -> str:
    """Warning about features from random weights."""
    return f"{encoder} has random weights (seed {seed}): its features carry no learned meaning"
