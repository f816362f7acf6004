"""Storage of vectors in the row cache as their bytes in memory, which Parquet reads several times faster than lists.

For every number of a list Parquet stores a repetition level and decodes it on reading; binary values have none.
Nothing is copied on the way to a shard's writer or from its reader.
"""

from typing import Any

import pyarrow as pa


def stored_type(kind: pa.DataType) -> pa.DataType:
    """A column's type in a shard: vectors of numbers become binary, also as elements of lists."""
    if is_vector(kind):
        return pa.binary(kind.list_size * kind.value_type.byte_width)
    if is_list(kind):
        child = kind.value_field.with_type(stored_type(kind.value_type))
        return pa.large_list(child) if pa.types.is_large_list(kind) else pa.list_(child)
    return kind


def to_stored(array: pa.Array) -> pa.Array:
    """Convert a column to its type in a shard.

    Raises:
        ValueError: it holds nulls, which a vector's bytes cannot represent.
    """
    kind = array.type
    if stored_type(kind) == kind:
        return array
    if array.null_count:
        raise ValueError("a row of the cache has a null in the place of a vector")
    if is_list(kind):
        return list_class(kind).from_arrays(array.offsets, to_stored(array.values), type=stored_type(kind))
    numbers = array.flatten()
    if numbers.null_count:
        raise ValueError("a vector for the cache holds a null")
    width = kind.value_type.byte_width
    content = numbers.buffers()[1]
    if content is not None:
        content = content.slice(numbers.offset * width, len(numbers) * width)
    return pa.FixedSizeBinaryArray.from_buffers(stored_type(kind), len(array), [None, content])


def from_stored(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert a column of a shard back to its original type."""
    if array.type == kind:
        return array
    if is_list(kind):
        return list_class(kind).from_arrays(array.offsets, from_stored(array.values, kind.value_type), type=kind)
    width = array.type.byte_width
    content = array.buffers()[1].slice(array.offset * width, len(array) * width)
    numbers = pa.Array.from_buffers(kind.value_type, len(array) * kind.list_size, [None, content])
    return pa.FixedSizeListArray.from_arrays(numbers, type=kind)


def is_vector(kind: pa.DataType) -> bool:
    """Whether a type is a numeric vector of fixed length."""
    if not pa.types.is_fixed_size_list(kind):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is a list of variable length."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def list_class(kind: pa.DataType) -> Any:  # noqa: ANN401 - Arrow has no types
    """Array class of a list type."""
    return pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
