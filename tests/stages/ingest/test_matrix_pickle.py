"""The reader of pickled matrices: what scipy writes, of any version and protocol, and nothing else."""

import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sparse

from mmprep.stages.ingest.matrix_pickle import MAX_OPCODES, DamagedPickleError, RefusedPickleError, read_matrix_state

DENSE = np.array([[0, 2, 0], [1, 0, 3]])
KINDS = (sparse.csr_matrix, sparse.coo_matrix, sparse.csr_array, sparse.coo_array)


def entries(state: dict[str, Any]) -> Any:  # noqa: ANN401 - numpy
    """The dense matrix of a state, made by scipy."""
    if "indptr" in state:
        return sparse.csr_array((state["data"], state["indices"], state["indptr"]), shape=state["_shape"]).toarray()
    pair = state["coords"] if "coords" in state else (state["row"], state["col"])
    return sparse.coo_array((state["data"], pair), shape=state["_shape"]).toarray()


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "i1", "?"])
def test_every_kind_protocol_and_type_is_read(kind: Callable[..., Any], protocol: int, dtype: str) -> None:
    dense = DENSE.astype(dtype)
    np.testing.assert_array_equal(entries(read_matrix_state(pickle.dumps(kind(dense), protocol))), dense)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_matrix_without_entries_is_read(protocol: int) -> None:
    state = read_matrix_state(pickle.dumps(sparse.csr_matrix((2, 3), dtype=np.float32), protocol))
    assert state["_shape"] == (2, 3)
    assert len(state["data"]) == 0


def as_before(content: bytes) -> bytes:
    """A protocol 2 pickle of today under the names of numpy 1 and of scipy before 1.8."""
    for new, old in (
        (b"numpy._core.multiarray", b"numpy.core.multiarray"),
        (b"scipy.sparse._csr", b"scipy.sparse.csr"),
        (b"scipy.sparse._coo", b"scipy.sparse.coo"),
    ):
        content = content.replace(new, old)
    return content


@pytest.mark.parametrize("kind", KINDS[:2])
def test_names_of_earlier_versions_are_known(kind: Callable[..., Any]) -> None:
    content = as_before(pickle.dumps(kind(DENSE), 2))
    assert b"numpy.core." in content
    assert b"._c" not in content.replace(b"_has_c", b"")
    np.testing.assert_array_equal(entries(read_matrix_state(content)), DENSE)


class Before:
    """Reduces to a matrix of scipy with the attributes of an earlier version."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes

    def __reduce__(self) -> Any:  # noqa: ANN401
        return new_matrix, (), self.attributes


def new_matrix() -> None:
    """Named in pickles only."""


def with_attributes(attributes: dict[str, Any]) -> bytes:
    """A COO matrix with other attributes than today's."""
    content = pickle.dumps(Before(attributes), 2)
    head = b"\x80\x02" + f"c{__name__}\nnew_matrix\n".encode()
    assert content.startswith(head)
    opcode = content.index(b")R")
    return b"\x80\x02cscipy.sparse.coo\ncoo_matrix\n)\x81" + content[opcode + 2 :]


OLD = {
    "_shape": (2, 3),
    "maxprint": 50,
    "row": np.array([0, 1, 1], dtype=np.int32),
    "col": np.array([1, 0, 2], dtype=np.int32),
    "data": np.array([2.0, 1.0, 3.0]),
    "has_canonical_format": False,
}


def test_attributes_of_earlier_versions_are_known() -> None:
    np.testing.assert_array_equal(entries(read_matrix_state(with_attributes(OLD))), DENSE)
    other_end = read_matrix_state(with_attributes({**OLD, "data": OLD["data"].astype(">f4")}))
    np.testing.assert_array_equal(other_end["data"], OLD["data"])
    assert read_matrix_state(with_attributes({"shape": (2, 3)})) == {"shape": (2, 3)}


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"surprise": 1}, "the attribute 'surprise'"),
        ({"data": np.zeros((2, 2))}, "an array of another length"),
        ({"data": np.array(["a"])}, "_reconstruct|numpy.dtype with other arguments"),
        ({"data": np.array([{}], dtype=object)}, "numpy.dtype with other arguments"),
        ({"data": np.zeros(2, dtype=[("a", "f4")])}, "numpy.dtype with other arguments"),
        ({"data": 1.5}, "the opcode BINFLOAT"),
        ({"data": [1]}, "the opcode EMPTY_LIST"),
        ({"data": ((((1, 2), 3), 4), 5)}, "an attribute that is neither array nor number"),
        ({"data": {"data": 1}}, "an attribute that is neither array nor number"),
        ({"data": b"bytes"}, "an attribute that is neither array nor number"),
    ],
)
def test_attributes_that_no_matrix_has_are_refused(attributes: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusedPickleError, match=named):
        read_matrix_state(with_attributes(attributes))


class Runs:
    """Runs a command as it is unpickled."""

    def __init__(self, called: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401
        self.reduced = called, arguments

    def __reduce__(self) -> Any:  # noqa: ANN401
        return self.reduced


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("nested", [False, True])
def test_nothing_is_run(tmp_path: Path, protocol: int, nested: bool) -> None:
    hostile: Any = Runs(os.system, f"touch {tmp_path}/ran")
    if nested:
        matrix = sparse.coo_matrix(DENSE)
        matrix.maxprint = hostile
        hostile = matrix
    content = pickle.dumps(hostile, protocol)
    with pytest.raises(RefusedPickleError, match=rf"^{os.system.__module__}\.system$"):
        read_matrix_state(content)
    assert list(tmp_path.iterdir()) == []
    assert f"touch {tmp_path}/ran".encode() in content


@pytest.mark.parametrize(
    "called",
    [
        (eval, "1"),
        (getattr, sparse, "x"),
        (np.load, "x"),
        (np.dtype, "O"),
        (np.dtype, "V8"),
        (bytes, 10**9),
        (bytearray, 10**9),
        (np.ndarray, (10**6,)),
        (sparse.csr_matrix, (10**6, 10**6)),
    ],
    ids=lambda called: f"{called[0].__module__}.{called[0].__name__}",
)
def test_no_function_is_called(called: tuple[Any, ...]) -> None:
    if called[0] is getattr:
        called = (getattr, "text", "x")
    with pytest.raises(RefusedPickleError):
        read_matrix_state(pickle.dumps(Runs(*called), 4))


def test_other_matrices_are_refused_by_name() -> None:
    for kind in (sparse.csc_matrix, sparse.lil_matrix, sparse.dok_matrix):
        with pytest.raises(RefusedPickleError, match=rf"{kind.__name__}|the opcode|copyreg"):
            read_matrix_state(pickle.dumps(kind(DENSE)))
    with pytest.raises(RefusedPickleError, match=r"^scipy\.sparse\._csc\.csc_matrix$"):
        read_matrix_state(pickle.dumps(sparse.csc_matrix(DENSE)))


@pytest.mark.parametrize("value", [1, "text", (), {}, None, b"raw", np.zeros(3)])
def test_other_values_than_a_matrix_are_refused(value: object) -> None:
    with pytest.raises(RefusedPickleError, match=r"^something else than one matrix$"):
        read_matrix_state(pickle.dumps(value))


@pytest.mark.parametrize("protocol", [0, 1])
def test_protocols_of_text_are_refused(protocol: int) -> None:
    with pytest.raises(RefusedPickleError, match=r"^copy_reg|^the opcode"):
        read_matrix_state(pickle.dumps(sparse.csr_matrix(DENSE), protocol))


@pytest.mark.parametrize("protocol", [0, 1, 6])
def test_other_protocols_are_refused(protocol: int) -> None:
    content = pickle.dumps(sparse.csr_matrix(DENSE), 4)
    with pytest.raises(RefusedPickleError, match=rf"^protocol {protocol}$"):
        read_matrix_state(b"\x80" + bytes([protocol]) + content[2:])


@pytest.mark.parametrize("protocol", [4, 5])
def test_an_array_that_is_longer_than_its_bytes_is_refused(protocol: int) -> None:
    values = np.arange(99, dtype=np.int8)
    content = pickle.dumps(sparse.coo_matrix((values, (values, values)), shape=(100, 100)), protocol)
    longer = content.replace(b"K\x63\x85", b"K\x64\x85")
    assert longer != content
    with pytest.raises(RefusedPickleError, match="an array of another length than its bytes"):
        read_matrix_state(longer)


def test_every_truncation_is_refused() -> None:
    for protocol in range(2, 6):
        content = pickle.dumps(sparse.csr_matrix(DENSE), protocol)
        for length in range(len(content)):
            with pytest.raises((DamagedPickleError, RefusedPickleError)):
                read_matrix_state(content[:length])


def test_any_changed_byte_gives_a_state_or_one_of_two_errors() -> None:
    content = pickle.dumps(sparse.csr_matrix(DENSE), 4)
    random = np.random.default_rng(0)
    outcomes = set()
    for place in range(len(content)):
        for value in random.integers(256, size=8).tolist():
            try:
                outcomes.add(type(read_matrix_state(content[:place] + bytes([value]) + content[place + 1 :])))
            except (DamagedPickleError, RefusedPickleError) as error:
                outcomes.add(type(error))
    assert outcomes == {dict, DamagedPickleError, RefusedPickleError}


def test_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(RefusedPickleError, match="bytes after the end"):
        read_matrix_state(pickle.dumps(sparse.csr_matrix(DENSE)) + pickle.dumps(Runs(os.system, "true")))


@pytest.mark.parametrize("opcode", [b"B", b"X", b"\x8e", b"\x8d", b"\x96", b"\x8b"])
def test_huge_lengths_take_no_memory(opcode: bytes) -> None:
    size = struct.pack("<Q", 2**40) if opcode in (b"\x8e", b"\x8d", b"\x96") else struct.pack("<I", 2**31 - 1)
    with pytest.raises(DamagedPickleError):
        read_matrix_state(b"\x80\x05" + opcode + size + b"x.")


def test_memo_under_a_huge_number_takes_no_memory() -> None:
    with pytest.raises(RefusedPickleError, match="something else than one matrix"):
        read_matrix_state(b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".")


def test_too_many_opcodes_are_refused() -> None:
    with pytest.raises(RefusedPickleError, match="more than 10,000 opcodes"):
        read_matrix_state(b"\x80\x04" + b"N\x94" * MAX_OPCODES + b".")


def test_tuples_that_double_are_refused_at_once() -> None:
    doubling = b"".join(b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86" for level in range(200))
    content = b"\x80\x02cscipy.sparse.coo\ncoo_matrix\n)\x81}X\x04\x00\x00\x00dataK\x01" + doubling + b"sb."
    assert len(list(pickletools.genops(content))) > 600  # well-formed
    with pytest.raises(RefusedPickleError, match="an attribute that is neither array nor number"):
        read_matrix_state(content)


def test_text_that_is_decoded_again_and_again_is_refused() -> None:
    text = b"X" + struct.pack("<I", 1000) + b"a" * 1000
    encode = b"c_codecs\nencode\nq\x00" + text + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86R"
    again = b"h\x00h\x01h\x02\x86R"
    with pytest.raises(RefusedPickleError, match="bytes that are repeated"):
        read_matrix_state(b"\x80\x02" + encode + again * 100 + b".")
