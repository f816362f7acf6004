"""Integrity checks: tables are undamaged, consistent, and made from the current inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import read_json
from mmprep.pipeline.tables.freshness import InputDigests
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import DOWNLOADS, EDGES, ITEMS, USERS
from mmprep.pipeline.tables.table import Table

EDGE_ENDS = ("source", "target")
State = Literal["ok", "stale", "damaged"]


class IntegrityError(Exception):
    """An artefact is stale or damaged.

    Attributes:
        state: `stale` or `damaged`; the message says why.
    """

    def __init__(self, state: State, what: str) -> None:
        super().__init__(what)
        self.state = state


class IntegrityChecker:
    """Integrity checks of one dataset's artefacts; each raises IntegrityError, or the errors of reading.

    Attributes:
        layout: the dataset's paths.
        note: callback that receives the progress of long checks.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.note: Callable[[str], None] = lambda _: None
        self._inputs = InputDigests(layout)
        self._sizes = {"user": size_of(layout.users, USERS), "item": size_of(layout.items, ITEMS)}

    def table(self, path: Path, table: Table) -> None:
        """Check a table: its columns, the checksum of each page, its indices, and its inputs."""
        kinds = {"user": "user", "item": "item"}
        table.check(path)
        ends = zip(EDGE_ENDS, read_provenance(path)["shape"], strict=True) if table is EDGES else ()
        limits = {name: int(size) for name, size in ends}
        rows, first_problem = 0, None
        for frame in table.iter_batches(path):
            if table in (USERS, ITEMS):
                require_numbered(frame.to_series(), rows)
            problems = [self.beyond(frame[name], what) for name, what in kinds.items() if name in frame.columns]
            problems += [beyond(frame[name], limit, "nodes") for name, limit in limits.items()]
            first_problem = first_problem or next(filter(None, problems), None)
            rows += len(frame)
        provenance = read_provenance(path)
        # The outcome of each URL stays valid when the items change.
        if table is not DOWNLOADS:
            self._require_same_run(path, provenance)
            self.require_inputs(provenance)
        if first_problem:
            raise IntegrityError("damaged", first_problem)

    def metrics(self, path: Path) -> None:
        """Check that a metrics file is readable."""
        read_object(path)

    def beyond(self, numbers: pl.Series, what: str) -> str | None:
        """Describe an index outside the dataset's users or items; None if all are valid or their number is unknown."""
        return beyond(numbers, self._sizes[what], f"{what}s")

    def _require_same_run(self, path: Path, provenance: dict[str, Any]) -> None:
        """Check that tables that one stage writes are of the same run: a stage killed in between leaves old ones."""
        first = {"ingest": self.layout.raw_interactions, "filter": self.layout.core}.get(provenance["stage"], path)
        if first == path or not first.exists():
            return
        try:
            other = read_provenance(first)
        except DataError:
            return  # reported by its own check
        if other != provenance:
            raise IntegrityError("stale", f"not of one run with {first.name}")

    def require_inputs(self, provenance: dict[str, Any]) -> None:
        """Compare an artefact's recorded input digests with the current files; raises IntegrityError."""
        difference = self._inputs.difference(provenance["inputs"])
        if difference is not None:
            raise IntegrityError("stale", difference)


def beyond(numbers: pl.Series, limit: int | None, what: str) -> str | None:
    """Describe an index that is negative or not below the limit; None if all are valid or the limit is unknown."""
    if limit is None or numbers.is_empty():
        return None
    least, most = int(numbers.to_numpy().min()), int(numbers.to_numpy().max())
    if least >= 0 and most < limit:
        return None
    return f"has {numbers.name} {least if least < 0 else most}, but there are {limit} {what}"


def size_of(path: Path, table: Table) -> int | None:
    """Number of rows of a table; None if it is missing or damaged, which its own check reports."""
    try:
        return table.count(path)
    except (DataError, MissingInputError):
        return None


def require_numbered(numbers: pl.Series, first: int) -> None:
    """Check that users or items are numbered consecutively."""
    if (numbers.to_numpy() != np.arange(first, first + len(numbers))).any():
        raise IntegrityError("damaged", f"{numbers.name} is not 0, 1, 2, ...")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; raises IntegrityError if it is missing or not a JSON object."""
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise IntegrityError("damaged", f"{path.name} is gone") from error
    except ValueError as error:
        raise IntegrityError("damaged", f"{path.name}: {error}") from error
