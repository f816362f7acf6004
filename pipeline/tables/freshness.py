"""Freshness of artefacts: whether what they were made of is what lies there now."""

import stat
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import digest_of, read_provenance


class InputDigests:
    """Digests of a dataset's files as they are now, each taken once.

    Attributes:
        layout: of the dataset.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._digests: dict[Path, str] = {}

    def difference(
        self, inputs: Mapping[str, str], only: Collection[Path] = (), *, through_graphs: bool = False
    ) -> str | None:
        """Compare recorded digests of inputs with the files as they are now.

        Args:
            inputs: digests by path below the data folder, as provenance records them.
            only: compare these files alone, each of which must be recorded; by default all that are recorded.
            through_graphs: compare the inputs of graphs among the inputs too, and so on.

        Returns:
            The first difference, such as `made of another data/processed/toys/items.parquet`; None if there is none.
        """
        names = [self.layout.relative(path) for path in only] or list(inputs)
        for name in names:
            parts = PurePosixPath(name).parts
            if len(parts) < 3 or parts[1] != self.layout.dataset or ".." in parts:
                return f"made of {name}, which is none of this dataset's"
            path = self.layout.root / name
            found = self._difference(path, inputs.get(name))
            if found is None and through_graphs and parts[0] == "graphs":
                inner = self.difference(read_provenance(path)["inputs"], through_graphs=True)
                found = inner and f"made of {path}, which was {inner}; mend that first"
            if found is not None:
                return found
        return None

    def _difference(self, path: Path, recorded: str | None) -> str | None:
        if not path.exists():
            return f"made of {path}, which is gone"
        if path not in self._digests:
            if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
                return f"made of {path}, which is no file any more"
            try:
                self._digests[path] = digest_of(path)
            except DataError:
                return f"made of {path}, which is damaged; mend that first"
        return None if self._digests[path] == recorded else f"made of another {path}"


def require_fresh(
    artefact: Path,
    inputs: Mapping[str, str],
    layout: Layout,
    again: str,
    only: Collection[Path] = (),
) -> None:
    """Check that an artefact is made of what lies there now; see `InputDigests.difference`.

    Args:
        artefact: for the message.
        inputs: the digests that it records.
        layout: of the dataset.
        again: the command that makes it.
        only: compare these inputs alone.

    Raises:
        DataError: it is not; the message names the input and the command.
    """
    difference = InputDigests(layout).difference(inputs, only)
    if difference is not None:
        raise DataError(f"{artefact}: {difference}; run `{again}`")
