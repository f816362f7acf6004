"""Stage `extract`: encode photos and texts into features; contents in the row cache are never encoded again."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, compress
from typing import Any, cast

import numpy as np
import polars as pl

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.params import (
    EncoderParams,
    ExtractParams,
    FileParams,
    NetworkParams,
    TextEncoderParams,
    describe,
)
from mmprep.models.encoders.weights.sources import locate
from mmprep.pipeline.cache.row_cache import LostRows, RowCache, cache_place
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.pca import Basis, fit_basis
from mmprep.pipeline.features.vectors import PACKED_SCHEMA, FeatureSpec, Items, VectorBatch, unpack
from mmprep.pipeline.features.writer import FeatureWriter, write_features
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import write_json
from mmprep.pipeline.tables.provenance import Provenance, record
from mmprep.pipeline.tables.schemas import ITEMS
from mmprep.stages.extract.encode import Encoding
from mmprep.stages.extract.inputs import (
    InputReader,
    KeyedSource,
    Source,
    photo_inputs,
    photo_sources,
    text_inputs,
    text_sources,
)
from mmprep.stages.extract.missing import warn_of_missing
from mmprep.stages.prepare.noise import NoiseParams, replace_sources

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "torchvision", "pillow", "sentence-transformers", "transformers")
EXTERNAL = "mmprep.stages.extract.external"  # loaded by name: no network depends on its code
TEXT_LENGTHS = "mmprep.models.encoders.text_lengths"  # loaded by name: image encoders do not depend on its code
TRIES = 3  # of reading a cache with shards that turn out to be damaged
BLOCK_BYTES = 16 * 1024 * 1024  # read from the cache at once

Block = tuple[Sequence[KeyedSource], VectorBatch]
"""Sources of some items, and their rows."""


def run(
    name: str,
    params: ExtractParams,
    encoder_params: EncoderParams,
    layout: Layout,
    progress: Progress = silent,
    noise: NoiseParams | None = None,
) -> dict[str, Any]:
    """Encode the photos or texts of a dataset's items with one encoder.

    Items without a usable photo or text get no row; `missing`, recorded with the features, defines how readers fill
    them. With `noise.replaced`, some items get the photo or text of another.

    Returns:
        The stage's metrics, and the numbers of rows encoded and taken from the cache.

    Raises:
        MissingInputError: `filter` has not run.
        WeightsError: the encoder's weights are unavailable.
        DataError: no photo can be read, the encoder gives numbers that cannot be stored, or the cache cannot be used.
    """
    items = ITEMS.read(layout.items)
    if isinstance(encoder_params, FileParams):
        external: dict[str, Any] = import_module(EXTERNAL).run_foreign(
            name, params, encoder_params, layout, items, progress, noise or NoiseParams()
        )
        return external
    network_params = cast("NetworkParams", encoder_params)
    description = describe(name, network_params)
    identity = Identity(description, network_params, locate(description, network_params))
    if not identity.source.pretrained:
        seed = identity.source.seed
        logger.warning("%s has random weights (seed %s): its features carry no learned meaning", name, seed)
    with ExitStack() as stack:
        cache = stack.enter_context(RowCache(cache_place(os.environ), identity.to_dict(), PACKED_SCHEMA))
        inputs, sources, replaced = plan_inputs(identity, items, layout, noise or NoiseParams(), stack)
        encoding = Encoding(identity, inputs, cache)
        encoding.find_keys(sources, progress)
        extraction = Extraction(identity, layout, params, encoding, cache, replaced)
        written = extraction.write(progress)
        if encoding.encoded:  # a cache that was only read is left unchanged
            cache.compact()
    noun = "photo" if description.modality == "image" else "text"
    warn_of_missing(name, noun, items, [keyed.source.item for keyed in encoding.keyed], params.missing)
    without_tokens = len(encoding.keyed) - written.rows
    if without_tokens:
        logger.warning("%s: %d items have a text without a token; they get no vector", name, without_tokens)
    long_texts = warn_of_long_texts(identity, encoding.keyed)
    metrics = {
        "items": len(items),
        "encoded": written.rows,
        "missing": len(items) - written.rows,
        "unreadable": encoding.unreadable.total() + without_tokens,
        "replaced_by_noise": replaced,
        "dimension": written.dimension,
        "pretrained": identity.source.pretrained,
        **long_texts,
    }
    write_json(layout.metrics(f"extract-{name}"), metrics)
    # Not in the file: metrics do not depend on the earlier contents of the cache.
    return metrics | {"run_through_network": encoding.encoded, "out_of_cache": extraction.cached}


def warn_of_long_texts(identity: Identity, keyed: Sequence[KeyedSource]) -> dict[str, int]:
    """Count the texts longer than the encoder reads, for the metrics; with a warning if they are cut."""
    params, name = identity.params, identity.description.name
    if not isinstance(params, TextEncoderParams):
        return {}
    count = import_module(TEXT_LENGTHS).count_long(identity, [each.source.content_ref for each in keyed])
    if not count:
        return {}
    if params.long_texts != "cut":
        return {"texts_in_chunks": count}
    limit = f"encoders.{name}.max_tokens ({params.max_tokens})" if params.max_tokens else "the model's limit of tokens"
    advice = f"encoders.{name}.long_texts: mean_of_chunks encodes all of them"
    if identity.description.form == "tokens":
        advice = "the rest of each is not encoded"
    logger.warning("%s: %d of %d texts are longer than %s and cut; %s", name, count, len(keyed), limit, advice)
    return {"cut_texts": count}


def plan_inputs(
    identity: Identity, items: pl.DataFrame, layout: Layout, noise: NoiseParams, stack: ExitStack
) -> tuple[InputReader[Any], list[Source], int]:
    """Reader of the encoder's modality, the sources of the items, and the number of sources replaced by noise."""
    modality, inputs = identity.description.modality, cast("InputReader[Any]", text_inputs())
    if modality == "image":
        inputs = photo_inputs(stack.enter_context(PhotoFiles(layout.raw)))
        sources = photo_sources(items)
    else:
        sources = text_sources(items, cast("TextEncoderParams", identity.params).template)
    rate = noise.replaced if noise.modality == modality else 0.0
    pairs, replaced = replace_sources([(source.item, source.content_ref) for source in sources], rate, noise.seed)
    return inputs, [Source(item, content_ref) for item, content_ref in pairs], replaced


@dataclass(frozen=True)
class WriteSummary:
    """Size of a feature folder.

    Attributes:
        rows: number of items with a row.
        dimension: length of a vector.
    """

    rows: int
    dimension: int


class Extraction:
    """Writes a feature folder: encodes what the cache lacks, then reads all rows from the cache.

    Attributes:
        cached: number of items with rows in the cache at the start.
    """

    def __init__(
        self,
        identity: Identity,
        layout: Layout,
        params: ExtractParams,
        encoding: Encoding,
        cache: RowCache,
        replaced: int,
    ) -> None:
        cache.refresh()
        self.cached = sum(keyed.key in cache for keyed in encoding.keyed)
        self._identity = identity
        self._layout = layout
        self._missing = params.missing
        self._encoding = encoding
        self._cache = cache
        self._replaced = replaced

    def write(self, progress: Progress) -> WriteSummary:
        """Write the features; rows that turn out to be lost or damaged are encoded again.

        Raises:
            DataError: the cache loses rows repeatedly, or no photo can be read.
        """
        for _ in range(TRIES):
            self._encoding.encode_missing(progress)
            unreadable = self._encoding.unreadable.total()
            if unreadable and not self._encoding.keyed:
                raise DataError(f"{self._layout.raw}: none of {unreadable} photos could be read; nothing was written")
            try:
                return self._write_features()
            except LostRows as lost:
                logger.warning("%d rows of the cache were lost or damaged; they are encoded again", len(lost.keys))
        raise DataError("the row cache keeps losing rows; check its disk, or set MMPREP_CACHE to another place")

    def _write_features(self) -> WriteSummary:
        keyed, parameters = self._encoding.keyed, self._identity.params
        basis = self._fit(parameters.components) if parameters.components and keyed else None
        blocks = self._blocks()
        first = next(blocks, None)
        dimension = self._dimension(first, basis)
        shape = FeatureSpec(self._identity.description.form, dimension, parameters.stored_as)
        folder = self._layout.features(self._identity.description.name)
        with write_features(folder, shape, self._provenance(basis, dimension)) as writer:
            if basis is not None:
                writer.save_basis(basis)
            for block in chain([first] if first else [], blocks):
                append(writer, block, basis)
        return WriteSummary(writer.rows, dimension)

    def _dimension(self, first: Block | None, basis: Basis | None) -> int:
        """Length of the vectors to write; raises DataError if there are none and the encoder does not define it."""
        description, keyed = self._identity.description, self._encoding.keyed
        if first is not None:
            return basis.components.shape[1] if basis else first[1].dimension
        if keyed:
            raise DataError(f"{description.name}: none of {len(keyed)} texts has a token; nothing was written")
        if description.dimension is None:
            raise DataError(f"{description.name}: no item has anything to encode; nothing was written")
        return self._identity.params.components or description.dimension

    def _blocks(self) -> Iterator[Block]:
        """All rows in the order of items, in blocks of bounded size, without those that have no vectors."""
        keyed, done = self._encoding.keyed, 0
        for batch in self._cache.gather([each.key for each in keyed], BLOCK_BYTES):
            block = with_vectors(keyed[done : done + batch.num_rows], unpack(batch, self._identity.params.stored_as))
            done += batch.num_rows
            if block[0]:
                yield block

    def _fit(self, k: int) -> Basis:
        key = f"encoders.{self._identity.description.name}.reduce"
        return fit_basis((rows.vectors for _, rows in self._blocks()), k, key)

    def _provenance(self, basis: Basis | None, dimension: int) -> Provenance:
        contents = hashlib.sha256()
        for keyed in self._encoding.keyed:
            contents.update(keyed.source.item.to_bytes(4, "little") + keyed.key)
        return record(
            "extract",
            self._layout,
            self._identity.params,
            [self._layout.items],
            (*LIBRARIES, "timm") if self._identity.description.library == "timm" else LIBRARIES,
            missing=self._missing,
            encoder={**self._identity.to_dict(), "dimension": dimension},
            contents_sha256=contents.hexdigest(),
            replaced_by_noise=self._replaced,
            reduced=None if basis is None else tell(basis),
        )


def tell(basis: Basis) -> dict[str, Any]:
    """Provenance entry of a PCA basis."""
    return {
        "method": "pca",
        "explained_variance": round(basis.explained, 6),
        "basis_sha256": hashlib.sha256(basis.content()).hexdigest(),
    }


def with_vectors(keyed: Sequence[KeyedSource], rows: VectorBatch) -> Block:
    """Drop texts without tokens, which have no vectors."""
    if rows.lengths is None or rows.lengths.all():
        return keyed, rows
    has = rows.lengths > 0
    return list(compress(keyed, has.tolist())), VectorBatch(rows.vectors, rows.lengths[has], rows.spans)


def append(writer: FeatureWriter, block: Block, basis: Basis | None) -> None:
    """Write a block of rows, projected onto the basis if there is one."""
    keyed, rows = block
    if basis is not None:
        rows = VectorBatch(basis.project(rows.vectors), rows.lengths, rows.spans)
    items: Items = np.array([each.source.item for each in keyed], dtype=np.int32)
    writer.append(items, rows, [each.source.content_ref for each in keyed])
