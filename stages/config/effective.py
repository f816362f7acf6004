"""Verb `parameters`: the effective parameters of a dataset's stages, in one file on which those stages depend.

DVC re-runs a stage when a key that it lists changes. The file holds every key, whether params.yaml, the dataset's
overlay, a preset or a default gives it. Stages that DVC runs read it too: what DVC records is then what ran, even if
params.yaml is edited meanwhile.
"""

import json
from collections.abc import Mapping
from typing import Any

from mmprep.models.recommenders.catalogue import CATALOGUE as RECOMMENDERS
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import atomic_file
from mmprep.stages.config.parameters import Parameters

SECTIONS = ("dataset", "ingest", "filter", "split", "noise", "extract", "graphs", "train", "evaluate")


def run(parameters: Parameters, layout: Layout) -> dict[str, Any]:
    """Write the effective parameters. Imports torch if a preset is named.

    Returns:
        The metrics: the number of sections, and of recommenders with settings of their own.

    Raises:
        ParamsError: a preset does not exist.
    """
    values = effective(parameters)
    with atomic_file(layout.parameters) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return {"sections": len(values), "recommenders": sum(bool(keys) for keys in values["recommenders"].values())}


def effective(parameters: Parameters) -> dict[str, Any]:
    """All parameters that stages read.

    Defaults of encoders and recommenders are left out: they lie in their classes, on which the stages depend anyway.
    """
    values = parameters.sections.model_dump(mode="json", include={*SECTIONS}) | {"dataset": parameters.dataset}
    extracted: dict[str, dict[str, Any]] = {name: {} for name in parameters.sections.extract.encoders}
    values["encoders"] = extracted | parameters.sections.encoders
    values["recommenders"] = {name: written_keys(parameters, name) for name in RECOMMENDERS}
    return values


def written_keys(parameters: Parameters, name: str) -> Mapping[str, Any]:
    """The keys of a recommender that the file sets, presets expanded."""
    sections = [section[name] for _, section in parameters.recommender_layers if name in section]
    if any(section.get("preset") is not None for section in sections):
        return parameters.recommender_settings(name).values
    return {key: value for section in sections for key, value in section.items() if key != "preset"}
