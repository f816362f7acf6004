"""Graph `intra_item/ENCODER`: nearest neighbours among the patches or tokens of one item (MDR-CHCA)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.pseudo_tokens import PseudoTokens, token_vectors
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.features.vectors import Items, VectorBatch
from mmprep.pipeline.graphs.intra_item import LONGEST, edges_within
from mmprep.pipeline.graphs.intra_item_statistics import Tally
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import INTRA_EDGES, ITEMS
from mmprep.stages.graphs.request import GraphRequest

BLOCK_ITEMS = 64  # items read at once


def build(request: GraphRequest) -> dict[str, Any]:
    """Join each patch or token to the k most similar ones of its item, and write table INTRA_EDGES.

    Edges are directed, without self-loops. Items without vectors have no edges.

    Args:
        request: the graph to build; the part of its name is the encoder of the patches or tokens.

    Returns:
        The metrics.

    Raises:
        MissingInputError: there are no features.
        DataError: they hold one vector per item, or are of other items, damaged or not finite; nothing is written.
    """
    layout, params, progress = request.layout, request.params.intra_item, request.progress
    encoder, name = request.name.part, str(request.name)
    feature_set = FeatureSet.of(layout, encoder)
    folder, features = feature_set.folder, token_vectors(feature_set, pseudo_tokens=params.pseudo_tokens)
    if len(features.items) == 0:
        raise DataError(f"{folder}: no item has patches or tokens, so there is nothing to join")
    # Without the section's other encoders: whether they have such a graph does not affect this one.
    section = params.model_copy(update={"encoders": (encoder,)})
    provenance = record("graph", layout, section, [*feature_set.parts, layout.items], graph=name)
    tally = Tally()
    with (
        INTRA_EDGES.writer(layout.graph(name), provenance) as write,
        progress("neighbours within items", len(features.items), "items") as advance,
    ):
        for items, rows in blocks(features, folder):
            edges = edges_within(items, rows, params.k)
            tally.add(items, rows, edges)
            write(edges)
            advance(len(items), "")
    return tally.metrics(ITEMS.count(layout.items))


def blocks(features: TokenFeatures | PseudoTokens, folder: Path) -> Iterator[tuple[Items, VectorBatch]]:
    """Yield items with their vectors, BLOCK_ITEMS at a time; raise DataError if they cannot be joined."""
    for start in range(0, len(features.items), BLOCK_ITEMS):
        items = features.items[start : start + BLOCK_ITEMS]
        rows = features.gather(items)
        lengths = np.diff(rows.offsets())
        if lengths.max() > LONGEST:
            item = items[lengths.argmax()]
            raise DataError(f"{folder}: found {lengths.max()} vectors of item {item}, expected at most {LONGEST}")
        bad = np.flatnonzero(~np.isfinite(rows.vectors).all(axis=1))
        if len(bad):
            item = items[np.searchsorted(rows.offsets(), bad[0], side="right") - 1]
            raise DataError(
                f"{folder}: found NaN or infinite numbers for item {item}, expected finite ones; "
                f"run `mmprep extract --encoder {folder.name}` again"
            )
        yield items, rows
