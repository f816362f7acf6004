"""Export as plain NumPy arrays, for any other program."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.tables.schemas import SPLITS
from mmprep.stages.export.base import Dataset


def write(dataset: Dataset, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write each split's interactions, the ids, and each encoder's matrix with a mask of items that have a vector.

    Raises:
        ParamsError: an encoder has the name of another file.
    """
    with progress("exporting", len(SPLITS) + 2 + len(dataset.encoded), "files") as advance:
        for split in SPLITS:
            rows = dataset.interactions.filter(split=split).select("user", "item").to_numpy()
            save(folder / f"{split}.npy", np.ascontiguousarray(rows, dtype=np.int32))
            advance(1, split)
        write_ids(dataset.user_ids, folder / "users.txt")
        write_ids(dataset.item_ids, folder / "items.txt")
        advance(2, "ids")
        for encoded in dataset.encoded.values():
            save(folder / f"{encoded.encoder}.npy", encoded.filled())
            own = np.zeros(encoded.n_items, dtype=np.bool_)
            own[encoded.features.items] = True
            save(folder / f"{encoded.encoder}_mask.npy", own)
            advance(1, encoded.encoder)
    return {f"{modality}_filled": encoded.without_vector for modality, encoded in dataset.encoded.items()}


def save(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write one array.

    Raises:
        ParamsError: a file of that name exists.
    """
    if path.exists():
        raise ParamsError(f"found an encoder that needs the file {path.name}, which the export has already; rename it")
    np.save(path, array, allow_pickle=False)


def write_ids(ids: pl.Series, path: Path) -> None:
    """Write one id per line, in the order of numbers; ids contain no line ends, see `is_id`."""
    path.write_text("".join(f"{published}\n" for published in ids), encoding="utf-8", newline="\n")
