"""Encoder outputs for items, and their two forms on disk: feature parts, and packed rows in the row cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmprep.pipeline.errors import DataError

Form = Literal["vector", "patches", "tokens"]
StorageDtype = Literal["f32", "f16"]
Vectors = npt.NDArray[np.floating[Any]]  # f32 or f16
Items = npt.NDArray[np.int32]
Spans = npt.NDArray[np.int32]

NUMPY: dict[StorageDtype, np.dtype[np.floating[Any]]] = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}
ARROW: dict[StorageDtype, pa.DataType] = {"f32": pa.float32(), "f16": pa.float16()}

# One row per item: number of vectors, their values, and two i32 per token. Parquet takes several times as long to write
# and read nested lists of numbers as one run of bytes.
PACKED_SCHEMA = pa.schema(
    [
        pa.field("length", pa.int32(), nullable=False),
        pa.field("vectors", pa.large_binary(), nullable=False),
        pa.field("spans", pa.large_binary()),
    ]
)


@dataclass(frozen=True)
class VectorBatch:
    """The vectors of n items.

    Attributes:
        vectors: [total, dimension], those of one item consecutive.
        lengths: number of vectors of each item, [n]; None if each has one.
        spans: start and end of each token in its item's text, in characters, [total, 2]; None except for tokens.
    """

    vectors: Vectors
    lengths: npt.NDArray[np.int64] | None = None
    spans: Spans | None = None

    def __len__(self) -> int:
        return len(self.vectors) if self.lengths is None else len(self.lengths)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    def offsets(self) -> npt.NDArray[np.int64]:
        """Index of each item's first vector in `vectors`, and the total, [n + 1]."""
        if self.lengths is None:
            return np.arange(len(self.vectors) + 1)
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def cast_checked(self, stored_as: StorageDtype, names: Sequence[object]) -> "VectorBatch":
        """Convert the vectors to a storage type, checking that all values are finite.

        Args:
            stored_as: the type.
            names: name of each item, for messages.

        Raises:
            DataError: a value is not finite, or too large for the type.
        """
        with np.errstate(over="ignore"):
            vectors: Vectors = np.ascontiguousarray(self.vectors, dtype=NUMPY[stored_as])
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            vector = int(np.flatnonzero(~finite)[0])
            name = names[int(np.searchsorted(self.offsets(), vector, side="right")) - 1]
            if np.isfinite(self.vectors[vector]).all():
                raise DataError(f"found numbers too large for {stored_as} for item {name}; set stored_as to f32")
            raise DataError(f"found NaN or infinite numbers for item {name}; nothing was written")
        return VectorBatch(vectors, self.lengths, self.spans)

    def take(self, places: npt.NDArray[np.int64]) -> "VectorBatch":
        """A copy of rows, in any order and with repeats.

        Args:
            places: positions of the rows, [m].
        """
        if self.lengths is None:
            return VectorBatch(self.vectors[places])
        lengths, ends = self.lengths[places], self.offsets()
        # For each output vector the index of its input: the row's first vector plus the position within the row.
        shift = ends[places] - (np.cumsum(lengths) - lengths)
        which = np.repeat(shift, lengths) + np.arange(int(lengths.sum()))
        return VectorBatch(self.vectors[which], lengths, None if self.spans is None else self.spans[which])

    def pack(self) -> pa.RecordBatch:
        """The rows as a batch of PACKED_SCHEMA."""
        ends = self.offsets()
        pairs = list(pairwise(ends))
        blobs = [self.vectors[start:end].tobytes() for start, end in pairs]
        spans = [None if self.spans is None else self.spans[start:end].tobytes() for start, end in pairs]
        return pa.record_batch([pa.array(np.diff(ends), pa.int32()), blobs, spans], schema=PACKED_SCHEMA)


def unpack(batch: pa.RecordBatch, stored_as: StorageDtype) -> VectorBatch:
    """Convert a batch of PACKED_SCHEMA, which must not be empty."""
    lengths = batch["length"].to_numpy().astype(np.int64)
    total = int(lengths.sum())
    # If no text has a token, the dimension is unknown.
    vectors: Vectors = values_of(batch["vectors"]).view(NUMPY[stored_as]).reshape(total, -1 if total else 0)
    spans = None if batch["spans"].null_count else values_of(batch["spans"]).view(np.int32).reshape(-1, 2)
    single = spans is None and (lengths == 1).all()
    return VectorBatch(vectors, None if single else lengths, spans)


def values_of(column: pa.Array) -> npt.NDArray[np.uint8]:
    """The concatenated bytes of a binary column, without a copy."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, dtype=np.uint8)[bounds[0] : bounds[-1]]


def concatenate(pieces: Sequence[VectorBatch]) -> VectorBatch:
    """Concatenate one or more batches that agree in dimension and in having lengths and spans."""
    lengths = [piece.lengths for piece in pieces if piece.lengths is not None]
    spans = [piece.spans for piece in pieces if piece.spans is not None]
    return VectorBatch(
        np.concatenate([piece.vectors for piece in pieces]),
        np.concatenate(lengths) if lengths else None,
        np.concatenate(spans) if spans else None,
    )


@dataclass(frozen=True)
class FeatureSpec:
    """Form, dimension and type of the vectors in a feature folder.

    Attributes:
        form: one vector per item, or a list of patches or tokens.
        dimension: length of a vector.
        stored_as: type of its values.
    """

    form: Form
    dimension: int
    stored_as: StorageDtype = "f32"

    @property
    def item_bytes(self) -> int:
        """Approximate size of an item in bytes."""
        n_vectors = {"vector": 1, "patches": 196, "tokens": 64}[self.form]
        return n_vectors * self.dimension * NUMPY[self.stored_as].itemsize

    def schema(self) -> pa.Schema:
        """The columns of a feature part.

        item i32; a `vector`, or a list of `vectors`; for tokens also `start` and `end` of each in the `text`.
        """
        number = pa.field("element", ARROW[self.stored_as], nullable=False)
        vector = pa.list_(number, self.dimension)
        item = pa.field("item", pa.int32(), nullable=False)
        if self.form == "vector":
            return pa.schema([item, pa.field("vector", vector, nullable=False)])
        vectors = pa.field("vectors", pa.list_(pa.field("element", vector, nullable=False)), nullable=False)
        if self.form == "patches":
            return pa.schema([item, vectors])
        places = pa.list_(pa.field("element", pa.int32(), nullable=False))
        return pa.schema(
            [
                item,
                vectors,
                pa.field("start", places, nullable=False),
                pa.field("end", places, nullable=False),
                pa.field("text", pa.large_string(), nullable=False),
            ]
        )

    def batch(self, items: Items, rows: VectorBatch, texts: Sequence[str]) -> pa.RecordBatch:
        """Convert rows to a batch of `schema`; `texts` are used for tokens only."""
        schema = self.schema()
        vectors = self._vectors(rows.vectors)
        columns: list[pa.Array] = [pa.array(items, pa.int32())]
        if self.form == "vector":
            return pa.record_batch([*columns, vectors], schema=schema)
        ends = pa.array(rows.offsets(), pa.int32())
        columns.append(pa.ListArray.from_arrays(ends, vectors, type=schema.field("vectors").type))
        if self.form == "tokens":
            if rows.spans is None:
                raise ValueError("tokens without their spans in the text")
            for place, name in enumerate(("start", "end")):
                values = pa.array(np.ascontiguousarray(rows.spans[:, place]))
                columns.append(pa.ListArray.from_arrays(ends, values, type=schema.field(name).type))
            columns.append(pa.array(texts, pa.large_string()))
        return pa.record_batch(columns, schema=schema)

    def _vectors(self, vectors: Vectors) -> pa.Array:
        flat = pa.array(np.ascontiguousarray(vectors, dtype=NUMPY[self.stored_as]).reshape(-1))
        number = pa.field("element", ARROW[self.stored_as], nullable=False)
        return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(number, self.dimension))
