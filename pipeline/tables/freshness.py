"""Freshness checks: compare an artefact's recorded input digests with the current files."""

import stat
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import digest_of, read_provenance


class InputDigests:
    """Current digests of a dataset's files, each computed once.

    Attributes:
        layout: paths of the dataset.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._digests: dict[Path, str] = {}

    def difference(
        self, inputs: Mapping[str, str], only: Collection[Path] = (), *, through_graphs: bool = False
    ) -> str | None:
        """Compare recorded digests of inputs with the current files.

        Args:
            inputs: digests by path below the data folder, as provenance records them.
            only: compare these files only, each of which must be recorded; by default all recorded files.
            through_graphs: also compare, recursively, the inputs of graphs among the inputs.

        Returns:
            The first difference, such as `made of another data/processed/toys/items.parquet`; None if all match.
        """
        names = [self.layout.relative(path) for path in only] or list(inputs)
        for name in names:
            parts = PurePosixPath(name).parts
            if len(parts) < 3 or parts[1] != self.layout.dataset or ".." in parts:
                return f"made of {name}, which is none of this dataset's"
            path = self.layout.root / name
            difference = self._difference(path, inputs.get(name))
            if difference is None and through_graphs and parts[0] == "graphs":
                inner = self.difference(read_provenance(path)["inputs"], through_graphs=True)
                difference = inner and f"made of {path}, which was {inner}; fix that first"
            if difference is not None:
                return difference
        return None

    def _difference(self, path: Path, recorded: str | None) -> str | None:
        if not path.exists():
            return f"made of {path}, which is gone"
        if path not in self._digests:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block for ever
                return f"made of {path}, which is no file any more"
            try:
                self._digests[path] = digest_of(path)
            except DataError:
                return f"made of {path}, which is damaged; fix that first"
        return None if self._digests[path] == recorded else f"made of another {path}"


def require_fresh(
    artefact: Path,
    inputs: Mapping[str, str],
    layout: Layout,
    again: str,
    only: Collection[Path] = (),
) -> None:
    """Check that an artefact was made from the current inputs; see `InputDigests.difference`.

    Args:
        artefact: its path, for the message.
        inputs: the recorded digests of its inputs.
        layout: paths of the dataset.
        again: the command that rebuilds it.
        only: compare these inputs only.

    Raises:
        DataError: the artefact is stale; the message names the input and the command.
    """
    difference = InputDigests(layout).difference(inputs, only)
    if difference is not None:
        raise DataError(f"{artefact}: {difference}; run `{again}`")
