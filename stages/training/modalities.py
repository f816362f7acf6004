"""Stage `modalities`: digests of the features, or nearest-neighbour graphs, of the modalities that training uses.

In dvc.yaml what reads them depends on one file of digests and not on the folder of all features, of which an empty
`train.image`, `train.text` or `train.audio` would be the whole. So another encoder's features re-run no training, and
another modality needs no other line there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.features.reader import part_paths
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import require_exists, write_json
from mmprep.pipeline.tables.provenance import digest_of

Kind = Literal["features", "knn"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Digests = dict[str, dict[str, str]]
"""Digests of files, by modality and path below the data folder."""


def run(kind: Kind, encoders: Mapping[str, str], layout: Layout) -> dict[str, Any]:
    """Write the digests of the files of each modality.

    Args:
        kind: of the files.
        encoders: the encoder of each modality that training uses.
        layout: of the dataset.

    Returns:
        The metrics.

    Raises:
        MissingInputError: an encoder has no features or no graph.
        DataError: its files are damaged.
    """
    digests = digests_of(kind, encoders, layout)
    write_json(layout.modalities(kind), digests)
    return {modality: f"{encoders[modality]}, {len(files)} files" for modality, files in digests.items()}


def digests_of(kind: Kind, encoders: Mapping[str, str], layout: Layout) -> Digests:
    """Digests of the files of each modality; raises as `run` does."""
    return {
        modality: {layout.relative(path): digest_of(path) for path in paths_of(kind, encoder, layout)}
        for modality, encoder in encoders.items()
    }


def paths_of(kind: Kind, encoder: str, layout: Layout) -> list[Path]:
    """Files of an encoder; raises as `run` does."""
    if kind == "features":
        return part_paths(layout.features(encoder))
    return [require_exists(layout.graph(f"knn/{encoder}"), f"mmprep graph --graph knn/{encoder}")]


def require_current(
    kinds: tuple[Kind, ...], encoders: Mapping[str, str], layout: Layout, environment: Mapping[str, str]
) -> None:
    """Under DVC, check that the digests are those of the files that the running stage reads.

    `dvc repro --single-item` would otherwise record the outputs of new features as those of old ones.

    Args:
        kinds: of the files that the stage reads.
        encoders: the encoder of each modality that training uses.
        layout: of the dataset.
        environment: environment variables; DVC sets DVC_STAGE.

    Raises:
        DataError: they differ.
    """
    for kind in kinds if "DVC_STAGE" in environment else ():
        path = layout.modalities(kind)
        if not path.exists():
            continue  # a project whose dvc.yaml lists the features themselves
        try:
            recorded, now = json.loads(path.read_text("utf-8")), digests_of(kind, encoders, layout)
        except (MissingInputError, ValueError):
            continue  # the stage itself says what is missing
        if recorded != now:
            changed = sorted(modality for modality in {*recorded, *now} if recorded.get(modality) != now.get(modality))
            raise DataError(
                f"{path}: {', '.join(changed)} changed since it was written; run `dvc repro modalities-{kind}` first"
            )
