"""Input of every export: a dataset's split interactions, its ids and its features."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mmprep.models.encoders.catalogue import CATALOGUE, Modality
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.features.reader import Features, FeatureSet
from mmprep.pipeline.layout import DATASET_NAME, Layout
from mmprep.pipeline.tables.interactions import require_split_is_fresh
from mmprep.pipeline.tables.schemas import ITEMS, SPLIT_INTERACTIONS, USERS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """One encoder's features of a dataset's items.

    Attributes:
        encoder: the encoder's name.
        features: the vectors of the items that have one.
        n_items: number of items in the dataset.
        parts: the files of the vectors.
    """

    encoder: str
    features: Features
    n_items: int
    parts: tuple[Path, ...]

    @property
    def without_vector(self) -> int:
        """Number of items without a vector of their own."""
        return self.n_items - len(self.features.items)

    def filled(self) -> npt.NDArray[np.float32]:
        """Matrix with a row for every item, [n_items, dimension]; warns of rows of zeros."""
        matrix = np.ascontiguousarray(self.features.matrix(self.n_items), dtype=np.float32)
        zeros = int(np.count_nonzero(~matrix.any(axis=1)))
        if zeros:
            logger.warning(
                "%s: %d of %d rows are all zeros; their cosine is NaN, which spoils the nearest-neighbour graphs of "
                "MMRec and LATTICE; set extract.missing to mean",
                self.encoder,
                zeros,
                self.n_items,
            )
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """The features' entry in an export's provenance."""
        provenance = self.features.provenance
        return {
            "encoder": self.encoder,
            "dimension": int(self.features.vectors.shape[1]),
            "items_with_vector": len(self.features.items),
            "items_without_vector": self.without_vector,
            "identity": provenance.get("encoder", {}),
            "params": provenance["params"],
        }


@dataclass(frozen=True)
class Dataset:
    """A dataset to export.

    Attributes:
        layout: the dataset's paths.
        interactions: table SPLIT_INTERACTIONS, sorted by user and item.
        user_ids: the published id of each user number.
        item_ids: the published id of each item number.
        encoded: features of the exported modalities.
    """

    layout: Layout
    interactions: pl.DataFrame
    user_ids: pl.Series
    item_ids: pl.Series
    encoded: Mapping[Modality, Encoded]


def read_dataset(layout: Layout, encoders: Mapping[Modality, str], replaced: Collection[Modality] = ()) -> Dataset:
    """Read everything that is exported.

    Args:
        layout: the dataset's paths.
        encoders: the encoder of each exported modality.
        replaced: modalities in whose place the features of any other are written.

    Raises:
        ParamsError: an encoder is of another modality.
        MissingInputError: a stage has not run.
        DataError: a stage's output is damaged or of another run of `filter`, or features have several vectors per item.
    """
    interactions = SPLIT_INTERACTIONS.read(layout.interactions).sort("user", "item")
    users, items = USERS.read(layout.users).sort("user"), ITEMS.read(layout.items, ["item", "item_id"]).sort("item")
    require_split_is_fresh(layout)
    encoded = {
        modality: read_encoded(layout, modality, name, len(items), any_modality=modality in replaced)
        for modality, name in encoders.items()
    }
    return Dataset(layout, interactions, users["user_id"], items["item_id"], encoded)


def read_encoded(layout: Layout, modality: Modality, name: str, n_items: int, *, any_modality: bool = False) -> Encoded:
    """Read one encoder's features; raises as `read_dataset` does."""
    if not DATASET_NAME.fullmatch(name):
        raise ParamsError(f"{modality}: found {name!r}, expected an encoder's name")
    if not any_modality and name in CATALOGUE and CATALOGUE[name].modality != modality:
        raise ParamsError(f"{modality}: found {name}, which is an encoder of {CATALOGUE[name].modality}")
    feature_set = FeatureSet.of(layout, name)
    features = feature_set.vectors()
    features.require_items_below(n_items)
    return Encoded(name, features, n_items, feature_set.parts)
