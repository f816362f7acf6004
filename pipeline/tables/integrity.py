"""Whether tables are what was written, and made of what there is now."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.freshness import InputDigests
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import DOWNLOADS, EDGES, ITEMS, USERS
from mmprep.pipeline.tables.table import Table

EDGE_ENDS = ("source", "target")
State = Literal["ok", "stale", "damaged"]


class IntegrityError(Exception):
    """An artefact is stale or damaged.

    Attributes:
        state: what it is instead; the message says why.
    """

    def __init__(self, state: State, what: str) -> None:
        super().__init__(what)
        self.state = state


class IntegrityChecker:
    """The checks of one dataset's artefacts; each raises IntegrityError, or what reading raises.

    Attributes:
        layout: the dataset's paths.
        note: is told how far long checks are.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.note: Callable[[str], None] = lambda _: None
        self._inputs = InputDigests(layout)
        self._sizes = {"user": size_of(layout.users, USERS), "item": size_of(layout.items, ITEMS)}

    def table(self, path: Path, table: Table) -> None:
        """A table: its columns, each page against its checksum, its indices, and its inputs."""
        counted = {"user": "user", "item": "item"}
        table.check(path)
        ends = zip(EDGE_ENDS, read_provenance(path)["shape"], strict=True) if table is EDGES else ()
        limits = {name: int(size) for name, size in ends}
        rows, strange = 0, None
        for frame in table.iter_batches(path):
            if table in (USERS, ITEMS):
                require_numbered(frame.to_series(), rows)
            found = [self.beyond(frame[name], what) for name, what in counted.items() if name in frame.columns]
            found += [beyond(frame[name], limit, "nodes") for name, limit in limits.items()]
            strange = strange or next(filter(None, found), None)
            rows += len(frame)
        provenance = read_provenance(path)
        # What became of each URL stays true when there are other items.
        if table is not DOWNLOADS:
            self._require_same_run(path, provenance)
            self.require_inputs(provenance)
        if strange:
            raise IntegrityError("damaged", strange)

    def metrics(self, path: Path) -> None:
        """Metrics: that they can be read."""
        read_object(path)

    def beyond(self, numbers: pl.Series, what: str) -> str | None:
        """Say which index is of no user or item of the dataset; None if all are, or nobody knows how many there are."""
        return beyond(numbers, self._sizes[what], f"{what}s")

    def _require_same_run(self, path: Path, provenance: dict[str, Any]) -> None:
        """Check that the tables that a stage writes together are: one that is killed between them leaves old ones."""
        first = {"ingest": self.layout.raw_interactions, "filter": self.layout.core}.get(provenance["stage"], path)
        if first == path or not first.exists():
            return
        try:
            other = read_provenance(first)
        except DataError:
            return  # which its own check says
        if other != provenance:
            raise IntegrityError("stale", f"not of one run with {first.name}")

    def require_inputs(self, provenance: dict[str, Any]) -> None:
        """Compare the digests of what an artefact was made of with what there is; raises IntegrityError."""
        difference = self._inputs.difference(provenance["inputs"])
        if difference is not None:
            raise IntegrityError("stale", difference)


def beyond(numbers: pl.Series, limit: int | None, what: str) -> str | None:
    """Say which index is not below the limit; None if all are, or nobody knows the limit."""
    if limit is None or numbers.is_empty():
        return None
    least, most = int(numbers.to_numpy().min()), int(numbers.to_numpy().max())
    if least >= 0 and most < limit:
        return None
    return f"has {numbers.name} {least if least < 0 else most}, but there are {limit} {what}"


def size_of(path: Path, table: Table) -> int | None:
    """How many rows a table has, or None if it is not there or damaged, which its own check says."""
    try:
        return table.count(path)
    except (DataError, MissingInputError):
        return None


def require_numbered(numbers: pl.Series, first: int) -> None:
    """Check that users or items are numbered one by one."""
    if (numbers.to_numpy() != np.arange(first, first + len(numbers))).any():
        raise IntegrityError("damaged", f"{numbers.name} is not 0, 1, 2, ...")


def read_object(path: Path) -> dict[str, Any]:
    """A file of JSON that holds keys and values; raises IntegrityError where it does not."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IntegrityError("damaged", f"{path.name} is gone") from error
    except ValueError as error:
        raise IntegrityError("damaged", f"{path.name} is not JSON") from error
    if not isinstance(values, dict):
        raise IntegrityError("damaged", f"{path.name} is not what mmprep writes")
    return values
