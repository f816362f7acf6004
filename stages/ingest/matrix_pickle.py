"""Safe reader of a pickled scipy matrix: its opcodes are interpreted here, and nothing is imported or called.

Accepts the state of one CSR or COO matrix of any version of scipy and numpy, in protocols 2 to 5. Every other opcode,
class or function is refused. Memory is bounded by the size of the file.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import NoneType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mmprep.pipeline.reject_reasons import excerpt

Array = npt.NDArray[Any]

MAX_OPCODES = 10_000  # a matrix takes fewer than 200
PROTOCOLS = range(2, 6)
MATRICES = {
    f"scipy.sparse.{private}{kind}.{kind}_{form}"
    for private in ("", "_")
    for kind in ("csr", "coo")
    for form in ("matrix", "array")
}
ATTRIBUTES = frozenset(
    {
        *("_shape", "shape", "data", "indices", "indptr", "row", "col", "coords"),
        *("maxprint", "_maxprint", "format", "_format"),
        *("has_canonical_format", "_has_canonical_format", "has_sorted_indices", "_has_sorted_indices"),
    }
)
NDARRAY, DTYPE, ENCODE = "numpy.ndarray", "numpy.dtype", "_codecs.encode"
EMPTY_BYTES = frozenset({"__builtin__.bytes", "builtins.bytes"})  # called without arguments, in protocol 2
RECONSTRUCT = frozenset({"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"})
FROM_BUFFER = frozenset({"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"})
NAMES = frozenset({*MATRICES, NDARRAY, DTYPE, ENCODE, *EMPTY_BYTES, *RECONSTRUCT, *FROM_BUFFER})
NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
BYTE_ORDERS = frozenset("<>=|")
DTYPE_STATE = (None, None, None, -1, -1, 0)  # after the version and the byte order: no fields, no names, no flags
CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
LITERALS = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)


class RefusedPickleError(Exception):
    """A pickle holds something else than the state of a matrix; the message names it."""


class DamagedPickleError(Exception):
    """A pickle is truncated or damaged; the message says how."""


class Mark:
    """A mark on the stack."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names, never imported."""

    name: str


@dataclass
class NumberType:
    """A dtype of numbers, such as `f4`, and its byte order."""

    code: str
    order: str = "="


@dataclass
class Vector:
    """A one-dimensional array; its values are None until its state has been read."""

    values: Array | None = None


@dataclass
class Matrix:
    """A matrix, and its attributes once they have been read."""

    attributes: dict[str, Any] | None = None


def read_matrix_state(content: bytes) -> dict[str, Any]:
    """Attributes of the matrix in a pickle: arrays as numpy arrays of one dimension, others as plain values.

    Raises:
        RefusedPickleError: the pickle holds anything else.
        DamagedPickleError: it is truncated or damaged.
    """
    return Interpreter(content).run()


class Interpreter:
    """Stack machine for the few opcodes of a pickled matrix."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._decoded = 0  # bytes that `_codecs.encode` gave
        self._opcodes: Mapping[str, Callable[[Any], None]] = {
            "PROTO": self._check_protocol,
            "FRAME": lambda _: None,
            "MARK": lambda _: self._stack.append(Mark()),
            "TUPLE": lambda _: self._stack.append(self._after_mark()),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "SETITEM": lambda _: self._set_items((self._pop(), self._pop())[::-1]),
            "SETITEMS": lambda _: self._set_items(self._after_mark()),
            "BINPUT": self._remember,
            "LONG_BINPUT": self._remember,
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            "BINGET": self._recall,
            "LONG_BINGET": self._recall,
            "GLOBAL": lambda argument: self._push_name(argument.replace(" ", ".", 1)),
            "STACK_GLOBAL": lambda _: self._push_name(".".join(map(str, (self._pop(str), self._pop(str))[::-1]))),
            "NEWOBJ": lambda _: self._make_matrix(),
            "REDUCE": lambda _: self._reduce(),
            "BUILD": lambda _: self._build(),
        }

    def run(self) -> dict[str, Any]:
        """Interpret the pickle; raises as `read_matrix_state` does."""
        try:
            stop = self._interpret()
        except ValueError as error:  # of pickletools, for an argument that is truncated or damaged
            raise DamagedPickleError(excerpt(str(error).encode(errors="replace"))) from error
        if stop + 1 != len(self._content):
            raise RefusedPickleError("bytes after the end of the pickle")
        matrix = self._pop()
        if self._stack or not isinstance(matrix, Matrix) or matrix.attributes is None:
            raise RefusedPickleError("something else than one matrix")
        return matrix.attributes

    def _interpret(self) -> int:
        """Run all opcodes; returns the position of the last one."""
        position = 0
        for count, (opcode, argument, place) in enumerate(pickletools.genops(BytesIO(self._content))):
            position = cast("int", place)
            if count >= MAX_OPCODES:
                raise RefusedPickleError(f"more than {MAX_OPCODES:,} opcodes")
            if opcode.name in LITERALS:
                self._stack.append(argument)
            elif opcode.name in CONSTANTS:
                self._stack.append(CONSTANTS[opcode.name])
            elif opcode.name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                self._stack.append(tuple(self._pop() for _ in range(int(opcode.name[-1])))[::-1])
            elif opcode.name in self._opcodes:
                self._opcodes[opcode.name](argument)
            elif opcode.name != "STOP":
                raise RefusedPickleError(f"the opcode {opcode.name}")
        return position

    def _check_protocol(self, number: int) -> None:
        if number not in PROTOCOLS:
            raise RefusedPickleError(f"protocol {number}")

    def _pop(self, kind: type | tuple[type, ...] = object) -> Any:  # noqa: ANN401 - any value of a pickle
        if not self._stack:
            raise DamagedPickleError("a value is missing")
        value = self._stack.pop()
        if not isinstance(value, kind) or isinstance(value, Mark):
            raise RefusedPickleError(f"a {type(value).__name__.lower()} in the wrong place")
        return value

    def _after_mark(self) -> tuple[Any, ...]:
        """Pop the values above the last mark, and the mark."""
        values: list[Any] = []
        while self._stack:
            value = self._stack.pop()
            if isinstance(value, Mark):
                return tuple(values[::-1])
            values.append(value)
        raise DamagedPickleError("a mark is missing")

    def _set_items(self, values: tuple[Any, ...]) -> None:
        attributes = self._pop(dict)
        if len(values) % 2:
            raise DamagedPickleError("a value is missing")
        for name, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(name, str) or name not in ATTRIBUTES:
                shown = excerpt(name.encode(errors="replace")) if isinstance(name, str) else type(name).__name__
                raise RefusedPickleError(f"the attribute {shown!r}")
            attributes[name] = value
        self._stack.append(attributes)

    def _remember(self, key: int) -> None:
        value = self._pop()
        self._memo[key] = value
        self._stack.append(value)

    def _recall(self, key: int) -> None:
        if key not in self._memo:
            raise DamagedPickleError("a value is missing")
        self._stack.append(self._memo[key])

    def _push_name(self, name: str) -> None:
        if name not in NAMES:
            raise RefusedPickleError(excerpt(name.encode(errors="replace")))
        self._stack.append(Name(name))

    def _make_matrix(self) -> None:
        arguments, kind = self._pop(tuple), self._pop(Name)
        if arguments or kind.name not in MATRICES:
            raise RefusedPickleError(f"{kind.name} with arguments" if arguments else f"an object of {kind.name}")
        self._stack.append(Matrix())

    def _reduce(self) -> None:
        arguments, called = self._pop(tuple), self._pop(Name)
        self._stack.append(self._result_of(called.name, arguments))

    def _result_of(self, name: str, arguments: tuple[Any, ...]) -> object:
        """What a call means; nothing is called."""
        match arguments:
            case () if name in EMPTY_BYTES:
                return b""
            case (str(text), "latin1" | "latin-1") if name == ENCODE:
                return self._encode(text)
            case (str(code), _, _) if name == DTYPE and code in NUMBERS:
                return NumberType(code)
            case (Name(name="numpy.ndarray"), (0,), b"b") if name in RECONSTRUCT:
                return Vector()
            case (bytes() | bytearray() as raw, NumberType() as kind, tuple() as shape, "C" | "F"):
                if name in FROM_BUFFER:
                    return Vector(vector_of(raw, kind, shape))
        raise RefusedPickleError(f"{name} with other arguments than an array of numbers has")

    def _encode(self, text: str) -> bytes:
        """The bytes that protocol 2 stores as text, each at most once, as repeated ones could fill the memory."""
        self._decoded += len(text)
        if self._decoded > len(self._content):
            raise RefusedPickleError("bytes that are repeated")
        return text.encode("latin-1")

    def _build(self) -> None:
        """Set the state of the value on top of the stack."""
        state, value = self._pop((tuple, dict)), self._pop((NumberType, Vector, Matrix))
        if isinstance(value, Matrix) and isinstance(state, dict) and value.attributes is None:
            value.attributes = {name: plain(attribute) for name, attribute in state.items()}
        elif isinstance(value, NumberType) and is_dtype_state(state):
            value.order = state[1]
        elif isinstance(value, Vector) and value.values is None and len(state) == 5:
            _, shape, kind, _, raw = cast("tuple[Any, ...]", state)
            value.values = vector_of(raw, kind, shape)
        else:
            raise RefusedPickleError(f"an unexpected state of a {type(value).__name__.lower()}")
        self._stack.append(value)


def is_dtype_state(state: object) -> bool:
    """Whether a state is a dtype's of plain numbers: a version, a byte order, and nothing else."""
    match state:
        case (3, str(order), *rest) if order in BYTE_ORDERS:
            return tuple(rest) == DTYPE_STATE
    return False


def vector_of(raw: object, kind: object, shape: object) -> Array:
    """The array of one dimension in raw bytes, which it shares.

    Raises:
        RefusedPickleError: the bytes or the shape do not fit, or the dtype is not one of numbers.
    """
    if not isinstance(raw, bytes | bytearray) or not isinstance(kind, NumberType):
        raise RefusedPickleError("an array of something else than numbers")
    dtype = np.dtype(kind.order + kind.code)
    match shape:
        case (int(length),) if length * dtype.itemsize == len(raw):
            return np.frombuffer(raw, dtype=dtype) if raw else np.empty(0, dtype)
    raise RefusedPickleError("an array of another length than its bytes")


def plain(attribute: object) -> object:
    """An attribute's value: arrays in the place of vectors, also in a pair.

    Raises:
        RefusedPickleError: an array has no values, or the attribute is neither array nor plain value.
    """
    parts = attribute if isinstance(attribute, tuple) and len(attribute) == 2 else (attribute,)
    values = tuple(part.values if isinstance(part, Vector) else part for part in parts)
    if any(
        not isinstance(value, NoneType | bool | int | str | np.ndarray) or (value is None and part is not None)
        for part, value in zip(parts, values, strict=True)
    ):
        raise RefusedPickleError("an attribute that is neither array nor number")
    return values if parts is attribute else values[0]
