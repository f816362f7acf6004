"""Check that dvc.yaml lists the audio features that a stage reads; users with audio add that dependency themselves.

An empty `train.audio` in a dependency would mean the folder of all features, so that any new encoder would re-run all
training. Without the dependency, new audio features would silently leave a trained recommender stale. So users with
audio add the line, and a stage that reads audio does not run under DVC without it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import read_yaml

FILE = Path("dvc.yaml")
LINE = "data/features/${dataset}/${train.audio}"


def require_listed(encoder: str, layout: Layout, environment: Mapping[str, str]) -> None:
    """Under DVC, check that the running stage depends on the features of an encoder; otherwise do nothing.

    Args:
        encoder: value of train.audio; empty for none.
        layout: paths of the dataset.
        environment: environment variables; DVC_STAGE names the stage. DVC runs a command in the folder of its dvc.yaml.

    Raises:
        ParamsError: the stage lacks this dependency.
    """
    # Such as `train-multimodal@vbpr`, preceded by the file's name and a colon if it is not ./dvc.yaml.
    stage = environment.get("DVC_STAGE", "").rpartition(":")[2].partition("@")[0]
    if not encoder or not stage:
        return
    features = layout.features(encoder).resolve()
    if not any(path.resolve() in (features, *features.parents) for path in listed(stage, layout.dataset, encoder)):
        raise ParamsError(
            f"{FILE}: stage {stage} reads train.audio; add the line `- {LINE}` to its deps, or DVC would not see other "
            "features there"
        )


def listed(stage: str, dataset: str, encoder: str) -> list[Path]:
    """Dependencies of a stage, with the dataset and train.audio filled in."""
    stages: Any = read_yaml(FILE).get("stages") or {}
    paths = [str(path) for path in (stages.get(stage) or {}).get("deps") or []]
    return [Path(path.replace("${dataset}", dataset).replace("${train.audio}", encoder)) for path in paths]
