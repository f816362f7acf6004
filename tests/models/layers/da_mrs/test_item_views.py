import numpy as np
import torch
from scipy.sparse import csr_array

from mmprep.models.layers.da_mrs.item_views import ItemViews, behaviour_graph, content_graph

EXACT = {"rtol": 0.0, "atol": 1e-10}


def test_view_is_the_last_hop_alone() -> None:
    matrices = [np.random.default_rng(seed).random((5, 5)).astype(np.float32) for seed in (0, 1)]
    views = ItemViews({"a": csr_array(matrices[0]), "b": csr_array(matrices[1])}, 2).double()
    items = torch.randn(5, 3, dtype=torch.float64)
    dense = [torch.from_numpy(matrix).double() for matrix in matrices]
    torch.testing.assert_close(views(items), [each @ each @ items for each in dense], **EXACT)


def test_content_graph_takes_neighbours_alike_and_gives_the_lonely_themselves() -> None:
    neighbours = csr_array(np.array([[0.9, 0.4, 0], [0, 0.2, 0], [0, 0, 0]], dtype=np.float32))
    # Row sums 2, 1 and 1.
    expected = [[1 / 2, 1 / np.sqrt(2), 0], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(content_graph(neighbours).toarray(), expected, rtol=1e-6)


def test_full_rows_weigh_each_neighbour_by_their_number() -> None:
    neighbours = csr_array(np.eye(4, dtype=np.float32) + np.roll(np.eye(4, dtype=np.float32), 1, axis=1) / 2)
    assert set(content_graph(neighbours).data.tolist()) == {np.float32(0.5)}


def test_behaviour_graph_has_loops_and_counts_where_they_are_wanted() -> None:
    counts = csr_array(np.array([[0, 3, 0], [3, 0, 0], [0, 0, 0]], dtype=np.float32))
    np.testing.assert_allclose(behaviour_graph(counts, "binary").toarray(), [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    weighted = behaviour_graph(counts, "cosine").toarray()
    np.testing.assert_allclose(weighted, [[0.25, 0.75, 0], [0.75, 0.25, 0], [0, 0, 1]])


def test_behaviour_graph_of_k_neighbours_keeps_the_most_common_users_and_the_first_of_equal_ones() -> None:
    counts = csr_array(np.array([[0, 2, 5, 2], [2, 0, 0, 2], [5, 0, 0, 0], [2, 2, 0, 0]], dtype=np.float32))
    kept = {k: behaviour_graph(counts, "binary", k).toarray() > 0 for k in (1, 2, 3, None)}
    rows = {k: [np.flatnonzero(row).tolist() for row in matrix] for k, matrix in kept.items()}
    assert rows[1] == [[0, 2], [0, 1], [0, 2], [0, 3]]
    assert rows[2] == [[0, 1, 2], [0, 1, 3], [0, 2], [0, 1, 3]]
    assert rows[3] == rows[None] == [[0, 1, 2, 3], [0, 1, 3], [0, 2], [0, 1, 3]]
