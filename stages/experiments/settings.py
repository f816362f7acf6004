"""Parameters of an experiment: from params.yaml or from the classes' defaults, with the settings of its row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmprep.models.recommenders.catalogue import DESCRIPTIONS, describe
from mmprep.models.training.params import EvaluateParams, TrainParams
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.stages.config.load import look_up, merge, overridden, parse
from mmprep.stages.config.parameters import Parameters
from mmprep.stages.config.recommender_settings import Layer
from mmprep.stages.experiments.spec import ExperimentPoint, Value
from mmprep.stages.prepare.noise import NoiseParams

GROUPS = tuple(dict.fromkeys(description.group for description in DESCRIPTIONS))
DEFAULT = "default"
# Keys that the paper's settings replace: how recommenders are trained. What describes the dataset and its features
# stays as in params.yaml.
TRAINING = ("batch_size", "max_epochs", "patience", "seed")
INPUTS_OF_GRAPHS = ("encoders", "intra_item")
# Keys that are shown for every row, beside those of its recommender and its graphs.
SHOWN = (
    *("filter.k_core", "filter.min_rating", "split.rule", "split.seed"),
    *(f"train.{key}" for key in TRAINING if key != "seed"),
    "evaluate.mask_val",
)


@dataclass(frozen=True)
class AppliedSetting:
    """A parameter of an experiment.

    Attributes:
        key: its dotted key.
        value: the effective value.
        origin: where the value comes from; `default` for the class's.
    """

    key: str
    value: object
    origin: str


@dataclass(frozen=True)
class PointParameters:
    """All parameters of an experiment.

    Attributes:
        values: the content of its params.yaml.
        parameters: the same, parsed.
        settings: those that determine the row's result, each with its origin.
    """

    values: Mapping[str, Any]
    parameters: Parameters
    settings: tuple[AppliedSetting, ...]


def resolve_point(
    point: ExperimentPoint, values: Mapping[str, Any], dataset: str, place: str, *, as_published: bool
) -> PointParameters:
    """Parameters of a point. Imports torch.

    Args:
        point: the experiment.
        values: content of params.yaml.
        dataset: the dataset, whose overlay applies.
        place: the file and the row, for messages.
        as_published: whether training starts from the classes' defaults instead of params.yaml.

    Raises:
        ParamsError: a parameter is wrong; the message names the row.
    """
    user = parse(values, "params.yaml", dataset)
    name = point.recommender
    base = without_overlays(values, dataset)
    base = with_default_training(base) if as_published else base
    own, others = f"recommenders.{name}.", "recommenders."
    origins: dict[str, str] = {}
    layers: list[Layer] = []
    for settings in point.settings:
        of_recommender = {k.removeprefix(own): v for k, v in settings.values.items() if k.startswith(own)}
        layers += [Layer(f"{place}: {settings.origin}", of_recommender)] if of_recommender else []
        plain = {key: value for key, value in settings.values.items() if not key.startswith(others)}
        base = overridden(base, plain, place)
        origins |= dict.fromkeys(plain, settings.origin)
    seeds: dict[str, Value] = dict.fromkeys(point.seeded, 0)
    base = overridden(base, {**seeds, **single(name), "dataset": dataset}, place)
    wide = () if as_published else user.recommender_layers
    parameters = Parameters(place, dataset, user.sections, user.encoders, wide)
    resolved = parameters.recommender_settings(name, *layers)
    base["recommenders"] = {name: dict(resolved.values)}
    parameters = parse(base, place)
    parameters.recommender(name)
    shown = [*applied_settings(parameters, name, origins, values, as_published=as_published)]
    shown += [
        AppliedSetting(f"{own}{key}", value, resolved.origins.get(key, DEFAULT).removeprefix(f"{place}: "))
        for key, value in resolved.params.model_dump(mode="json").items()
    ]
    return PointParameters(base, parameters, tuple(shown))


def without_overlays(values: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Copy of the content of params.yaml with the dataset's overlay applied; recommenders are left out."""
    overlay = (values.get("overlays") or {}).get(dataset, {})
    return {**merge(values, overlay), "overlays": {}, "recommenders": {}}


def with_default_training(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy of the content of params.yaml with the defaults of everything but the dataset and its features."""
    train = {key: value for key, value in (values.get("train") or {}).items() if key not in TRAINING}
    defaults = TrainParams().model_dump(mode="json", include={*TRAINING})
    graphs = {key: value for key, value in (values.get("graphs") or {}).items() if key in INPUTS_OF_GRAPHS}
    own = {
        "train": {**train, **defaults},
        "graphs": {**GraphsParams().model_dump(mode="json"), **graphs},
        "evaluate": EvaluateParams().model_dump(mode="json"),
        "noise": NoiseParams().model_dump(mode="json"),
    }
    return {**values, **own}


def single(recommender: str) -> dict[str, Value]:
    """Overrides that reduce the lists of recommenders in params.yaml to a single one.

    Raises:
        ParamsError: there is no such recommender.
    """
    group = describe(recommender, "recommender").group
    return {f"train.{each}": [recommender] if each == group else [] for each in GROUPS}


def applied_settings(
    parameters: Parameters,
    name: str,
    origins: Mapping[str, str],
    values: Mapping[str, Any],
    *,
    as_published: bool,
) -> Iterator[AppliedSetting]:
    """The settings of an experiment outside its recommender's section."""
    effective = parameters.sections.model_dump(mode="json")
    graphs = [graph for graph in describe(name).graphs if look_up(effective, f"graphs.{graph}") is not None]
    of_graphs = [f"graphs.{graph}.{key}" for graph in graphs for key in effective["graphs"][graph]]
    overlay = (values.get("overlays") or {}).get(parameters.dataset, {})
    for key in dict.fromkeys((*SHOWN, *of_graphs, *origins)):
        reset = as_published and key.partition(".")[0] in {"train", "graphs", "evaluate", "noise"}
        written = "overlay" if look_up(overlay, key) is not None else "params.yaml"
        is_written = not reset and look_up(merge(values, overlay), key) is not None
        yield AppliedSetting(key, look_up(effective, key), origins.get(key, written if is_written else DEFAULT))
