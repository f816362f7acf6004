"""Whether DVC knows that a stage reads audio features: dvc.yaml lists them only where somebody has added them.

An empty `train.audio` in a dependency would stand for the folder of all features, so that any new encoder re-ran all
training. Without the dependency, new audio features would leave a trained recommender stale without a word. So the
line is added by those who have audio, and a stage that reads audio does not run under DVC without it.
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
    """Check that the stage which DVC runs depends on the features of an encoder; outside DVC nothing is to check.

    Args:
        encoder: that of train.audio; empty for none.
        layout: of the dataset.
        environment: of the process, where DVC_STAGE names the stage. DVC starts a command beside its dvc.yaml.

    Raises:
        ParamsError: it does not.
    """
    # Such as `train-multimodal@vbpr`, after the file's name and a colon where it is another than the usual one.
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
    """The dependencies of a stage, with the dataset and train.audio filled in."""
    stages: Any = read_yaml(FILE).get("stages") or {}
    found = [str(path) for path in (stages.get(stage) or {}).get("deps") or []]
    return [Path(path.replace("${dataset}", dataset).replace("${train.audio}", encoder)) for path in found]
