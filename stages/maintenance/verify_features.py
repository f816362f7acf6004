"""Check that features are intact, and made of the current photos or texts."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.features.pca import BASIS_FILE
from mmprep.pipeline.features.reader import part_paths
from mmprep.pipeline.features.vectors import FeatureSpec, Items
from mmprep.pipeline.photos.decode import PhotoError
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.integrity import IntegrityChecker, IntegrityError
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import ITEMS
from mmprep.pipeline.tables.table import difference
from mmprep.stages.extract.inputs import Source, key_of, photo_sources, text_sources

REMARK_EACH = 100  # items between progress remarks


def check_features(folder: Path, checker: IntegrityChecker) -> None:
    """Check a folder of features: each page, the order and shape of its rows, its inputs, and the photos or texts.

    Raises:
        IntegrityError: it is not ok; or what reading raises.
    """
    parts = part_paths(folder)
    provenance = read_provenance(parts[0])
    items = np.concatenate(list(ordered_items(parts, provenance, checker.note)))
    if provenance.get("reduced"):
        check_basis(folder / BASIS_FILE, provenance["reduced"]["basis_sha256"])
    checker.require_inputs(provenance)
    if unknown := checker.beyond(pl.Series("item", items), "item"):
        raise IntegrityError("damaged", unknown)
    # The sources of external features are unknown, and which item noise gave which other's source is not recorded.
    if provenance["encoder"]["library"] != "file" and not provenance["replaced_by_noise"]:
        check_contents(folder.name, provenance, items, checker)


def ordered_items(parts: list[Path], provenance: dict[str, Any], note: Callable[[str], None]) -> Iterator[Items]:
    """Yield the items of all parts by row group; raise IntegrityError on a wrong schema, provenance or order."""
    made, last = provenance["encoder"], -1
    expected = FeatureSpec(made["form"], made["dimension"], made["stored_as"]).schema()
    yield np.array([], dtype=np.int32)
    for part in parts:
        note(f"{part.parent.name}/{part.name}")
        schema = pq.read_schema(part).remove_metadata()
        if not schema.equals(expected):
            raise IntegrityError("damaged", f"{part.name}: {difference(schema, expected)}")
        if read_provenance(part) != provenance:
            raise IntegrityError("damaged", f"{part.name}: not of one run with {parts[0].name}")
        for items in items_of(part):
            if (np.diff(items, prepend=last) <= 0).any():
                raise IntegrityError("damaged", f"{part.name}: items are not in order")
            last = int(items[-1]) if len(items) else last
            yield items


def items_of(part: Path) -> Iterator[Items]:
    """Yield the items of a feature part by row group; all columns are read, to verify each page's checksum."""
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            # Reading in batches would finally hold a whole part in memory; a row group is 4 MB.
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)["item"].to_numpy()
    except (OSError, pa.ArrowException) as error:
        raise IntegrityError("damaged", f"{part.name}: {str(error).splitlines()[0]}") from error


def check_contents(encoder: str, provenance: dict[str, Any], encoded: Items, checker: IntegrityChecker) -> None:
    """Compare the photos or texts that features were made of with the current ones; raises IntegrityError."""
    layout, template = checker.layout, provenance["params"].get("template")
    items = ITEMS.read(layout.items)
    sources = photo_sources(items) if template is None else text_sources(items, template)
    by_item = {source.item: source for source in sources}
    contents = hashlib.sha256()
    # Photos that could not be decoded left no row and are not in the digest; texts without a token are.
    chosen = encoded.tolist() if template is None else sorted(by_item)
    with PhotoFiles(layout.raw) as photos:
        for done, item in enumerate(chosen):
            if item not in by_item:
                raise IntegrityError("stale", f"item {item} has no photo or text any more")
            content = read_photo(photos, by_item[item]) if template is None else by_item[item].content_ref.encode()
            contents.update(item.to_bytes(4, "little") + key_of(content))
            if done % REMARK_EACH == 0:
                checker.note(f"{encoder}: item {done} of {len(chosen)}")
    if contents.hexdigest() != provenance["contents_sha256"]:
        what = "photos" if template is None else "texts"
        raise IntegrityError("stale", f"made of other {what} than there are now")


def read_photo(photos: PhotoFiles, source: Source) -> bytes:
    """A photo's bytes; raises IntegrityError where it cannot be read."""
    try:
        return photos.read(source.content_ref)
    except PhotoError as error:
        raise IntegrityError("stale", f"made of {source.content_ref}: {error}") from error


def check_basis(path: Path, expected: str) -> None:
    """Check that the PCA basis is the one that reduced the vectors."""
    if not path.exists():
        raise IntegrityError("damaged", f"{path.name} is gone")
    if sha256(path) != expected:
        raise IntegrityError("damaged", f"{path.name} is not the basis that the vectors are in")
