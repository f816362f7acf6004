"""The lines of docs/graphs.md that load edges elsewhere, run as they stand there."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from imports import ROOT
from worlds import write_items

from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import EDGES

EXPECTED = np.array([[1, 0.5, 0], [0, 0, 0], [0.25, 0, 1]], dtype=np.float32)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The blocks of code, in a folder where the graph lies that they read."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(Path("data"), "sample")
    write_items(layout, [{}] * 3)
    inputs = {layout.relative(layout.items): sha256(layout.items)}
    rows = {"source": [0, 0, 2, 2], "target": [0, 1, 2, 0], "weight": [1.0, 0.5, 1.0, 0.25]}
    made = Provenance("graph", {}, inputs, {}, {"graph": "knn/minilm", "shape": [3, 3]})
    EDGES.write(pl.DataFrame(rows), layout.graph("knn/minilm"), made)
    blocks: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/graphs.md").read_text(), re.DOTALL)
    return blocks


def run_those_with(said: list[str], *words: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in said:
        if any(word in block for word in words):
            exec(block, names)  # noqa: S102 - our own documentation
    return names


def test_scipy(said: list[str]) -> None:
    names = run_those_with(said, "read_parquet", "scipy.sparse.csr_array")
    assert names["matrix"].format == "csr"
    np.testing.assert_array_equal(names["matrix"].toarray(), EXPECTED)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_torch(said: list[str]) -> None:
    names = run_those_with(said, "read_parquet", "to_sparse_csr")
    assert str(names["tensor"].layout) == "torch.sparse_csr"
    np.testing.assert_array_equal(names["tensor"].to_dense().numpy(), EXPECTED)


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.skipif(not find_spec("torch_geometric"), reason="PyTorch Geometric is not installed, nor needed by mmprep")
def test_pytorch_geometric(said: list[str]) -> None:
    names = run_those_with(said, "read_parquet", "scipy.sparse.csr_array", "torch_geometric")
    edges = dict(zip(map(tuple, names["edge_index"].T.tolist()), names["edge_weight"].tolist(), strict=True))
    assert edges == {(0, 0): 1.0, (0, 1): 0.5, (2, 0): 0.25, (2, 2): 1.0}


def test_networkx(said: list[str]) -> None:
    graph = run_those_with(said, "read_parquet", "scipy.sparse.csr_array", "networkx")["graph"]
    assert graph.is_directed()
    assert sorted(graph.edges(data="weight")) == [(0, 0, 1.0), (0, 1, 0.5), (2, 0, 0.25), (2, 2, 1.0)]
    assert len(graph) == 3


def test_own_reader(said: list[str]) -> None:
    np.testing.assert_array_equal(run_those_with(said, "read_graph")["matrix"].toarray(), EXPECTED)


def test_every_block_is_run_by_a_test(said: list[str]) -> None:
    words = ("read_parquet", "scipy.sparse.csr_array", "to_sparse_csr", "torch_geometric", "networkx", "read_graph")
    assert [sum(word in block for word in words) >= 1 for block in said] == [True] * 6
