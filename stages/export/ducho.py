"""Export in the format of Ducho's output: one array file per item, and the splits as Elliot reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmprep.pipeline.photos.names import photo_name
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.tables.schemas import SPLITS
from mmprep.stages.export.base import Dataset, Encoded


def write(dataset: Dataset, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write one folder per modality and one table per split, all with published ids."""
    for modality, encoded in dataset.encoded.items():
        (folder / modality).mkdir()
        write_vectors(encoded, dataset.item_ids, folder / modality, progress)
    for split in SPLITS:
        split_rows(dataset, split).write_csv(folder / f"{split}.tsv", separator="\t", include_header=False)
    return {f"{modality}_left_out": encoded.without_vector for modality, encoded in dataset.encoded.items()}


def write_vectors(encoded: Encoded, item_ids: pl.Series, folder: Path, progress: Progress) -> None:
    """Write each item's own vector as (1, dimension) float32; items without one get no file."""
    features = encoded.features
    names = item_ids.gather(features.items.astype(np.uint32)).to_list()
    with progress(f"exporting {encoded.encoder}", len(names), "files") as advance:
        for item_id, vector in zip(names, features.vectors, strict=True):
            row = np.asarray(vector, dtype=np.float32).reshape(1, -1)
            np.save(folder / photo_name(item_id, ".npy"), row, allow_pickle=False)
            advance(1, "")


def split_rows(dataset: Dataset, split: str) -> pl.DataFrame:
    """User id, item id and rating of a split's interactions; missing ratings are 1."""
    rows = dataset.interactions.filter(split=split)
    return pl.DataFrame(
        {
            "user": dataset.user_ids.gather(rows["user"]),
            "item": dataset.item_ids.gather(rows["item"]),
            "rating": rows["rating"].fill_null(1.0),
        }
    )
