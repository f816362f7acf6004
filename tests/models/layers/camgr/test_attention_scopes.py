import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mmprep.models.layers.camgr.attention_scopes import (
    AllNodes,
    AttentionScope,
    ChosenNodes,
    Neighbours,
    SameSide,
    WithinNode,
)

USERS, NODES, SIZE, CHUNKS = 3, 8, 6, 2
# Node 5 has no neighbour.
GRAPH = csr_array([[int((7 * n + 3 * m) % 5 < 2 and n != 5) for m in range(NODES)] for n in range(NODES)])
NEIGHBOUR = torch.from_numpy(GRAPH.toarray()).bool()
CHOSEN = torch.tensor([0, 2, 3, 5, 6])
EXACT = {"rtol": 0.0, "atol": 1e-12}

EVERY = {
    "all": AllNodes(),
    "type": SameSide(USERS),
    "batch": ChosenNodes(),
    "neigh": Neighbours(GRAPH),
    "node": WithinNode(CHUNKS),
}
every_scope = pytest.mark.parametrize("name", EVERY)


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(NODES, SIZE, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)]


def attention(scope: AttentionScope, queries: Tensor, keys: Tensor, values: Tensor, nodes: Tensor) -> Tensor:
    """What chosen nodes attend to, out of tables of all nodes."""
    given = (keys, values) if scope.whole else (keys[nodes], values[nodes])
    return scope(queries[nodes], *given, nodes)


def reached(name: str, node: int, nodes: list[int]) -> list[int]:
    """Whom a node attends to, of chosen ones."""
    return {
        "all": list(range(NODES)),
        "type": list(range(USERS) if node < USERS else range(USERS, NODES)),
        "batch": nodes,
        "neigh": NEIGHBOUR[node].nonzero()[:, 0].tolist(),
        "node": [node],
    }[name]


def by_hand(name: str, queries: Tensor, keys: Tensor, values: Tensor, nodes: list[int]) -> Tensor:
    """Node by node, key by key."""
    if name == "node":
        width = SIZE // CHUNKS
        parts = [[row.split(width) for row in side[nodes]] for side in (queries, keys, values)]
        return torch.stack([torch.cat([mean(q, k, v) for q in qs]) for qs, k, v in zip(*parts, strict=True)])
    rows = []
    for node in nodes:
        there = reached(name, node, nodes)
        rows.append(mean(queries[node], keys[there], values[there]))
    return torch.stack(rows)


def mean(query: Tensor, keys: list[Tensor] | Tensor, values: list[Tensor] | Tensor) -> Tensor:
    """The values by the softmax of a query's products with the keys over the root of its length."""
    powers = [torch.exp(query @ key / len(query) ** 0.5) for key in keys]
    if not powers:
        return torch.zeros(SIZE, dtype=torch.float64)
    return sum(power * value for power, value in zip(powers, values, strict=True)) / sum(powers)


@every_scope
def test_attention_and_its_gradients_are_those_of_the_equations(name: str) -> None:
    inputs = tensors()
    found, expected = attention(EVERY[name], *inputs, CHOSEN), by_hand(name, *inputs, CHOSEN.tolist())
    torch.testing.assert_close(found, expected, **EXACT)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    gradients = [torch.autograd.grad((weights * value).sum(), inputs) for value in (found, expected)]
    torch.testing.assert_close(*gradients, **EXACT)


@every_scope
def test_chosen_rows_are_those_of_all_but_where_keys_are_of_the_chosen(name: str) -> None:
    inputs = tensors()
    every, some = (attention(EVERY[name], *inputs, nodes) for nodes in (torch.arange(NODES), CHOSEN))
    assert torch.allclose(some, every[CHOSEN], **EXACT) == (name != "batch")


@every_scope
def test_equal_values_are_what_every_node_attends_to(name: str) -> None:
    queries, keys, values = tensors()
    same = values[:1].tile(NODES, 1) if name != "node" else values[:, :3].tile(1, CHUNKS)
    found = attention(EVERY[name], queries, keys, same, CHOSEN)
    expected = same[CHOSEN].clone()
    if name == "neigh":
        expected[3] = 0  # node 5
    torch.testing.assert_close(found, expected, **EXACT)


def entropy_by_hand(name: str, queries: Tensor, keys: Tensor, nodes: list[int]) -> list[Tensor]:
    """Of each node that has a choice: minus the sum of p ln p over the logarithm of how many keys there are."""
    width, found = SIZE // CHUNKS, []
    for node in nodes:
        asking, asked = [queries[node]], list(keys[reached(name, node, nodes)])
        if name == "node":
            asking, asked = list(queries[node].split(width)), list(keys[node].split(width))
        if len(asked) < 2:
            continue
        entropies = []
        for query in asking:
            powers = torch.stack([torch.exp(query @ key / len(query) ** 0.5) for key in asked])
            shares = powers / powers.sum()
            entropies.append(-(shares * shares.log()).sum() / torch.tensor(len(asked)).double().log())
        found.append(torch.stack(entropies).mean())
    return found


@every_scope
def test_evenness_is_entropy_over_that_of_equal_shares(name: str) -> None:
    scope, (queries, keys, _) = EVERY[name], [3 * side.detach() for side in tensors()]
    found = scope.evenness(queries[CHOSEN], keys if scope.whole else keys[CHOSEN], CHOSEN, torch.arange(len(CHOSEN)))
    expected = entropy_by_hand(name, queries, keys, CHOSEN.tolist())
    assert len(expected) == len(CHOSEN) - (name == "neigh")
    torch.testing.assert_close(found, torch.stack(expected), **EXACT)
    assert ((found > 0) & (found < 0.99)).all()


@every_scope
def test_evenness_of_some_is_theirs(name: str) -> None:
    scope, (queries, keys, _) = EVERY[name], tensors()
    keys, rows = keys if scope.whole else keys[CHOSEN], torch.tensor([0, 2, 4])
    every = scope.evenness(queries[CHOSEN], keys, CHOSEN, torch.arange(len(CHOSEN)))
    found = scope.evenness(queries[CHOSEN[rows]], keys, CHOSEN, rows)
    torch.testing.assert_close(found, every[[0, 2, 3] if name == "neigh" else rows], **EXACT)


@every_scope
def test_equal_keys_are_attended_to_evenly(name: str) -> None:
    scope, (queries, keys, _) = EVERY[name], tensors()
    same = keys[:1].tile(len(CHOSEN) if not scope.whole else NODES, 1)
    if name == "node":
        same = same[:, : SIZE // CHUNKS].tile(1, CHUNKS)
    found = scope.evenness(queries[CHOSEN], same, CHOSEN, torch.arange(len(CHOSEN)))
    torch.testing.assert_close(found, torch.ones_like(found), **EXACT)


def test_only_key_leaves_no_choice() -> None:
    queries, keys, _ = tensors()
    assert not len(AllNodes().evenness(queries, keys[:1], torch.arange(NODES), torch.arange(NODES)))


def test_batch_of_all_nodes_attends_to_all() -> None:
    inputs = tensors()
    nodes = torch.arange(NODES)
    assert torch.equal(attention(ChosenNodes(), *inputs, nodes), attention(AllNodes(), *inputs, nodes))


@pytest.mark.parametrize("nodes", [[0, 1], [4, 7]], ids=["users", "items"])
def test_one_side_alone_may_be_chosen(nodes: list[int]) -> None:
    inputs = tensors()
    found = attention(SameSide(USERS), *inputs, torch.tensor(nodes))
    torch.testing.assert_close(found, by_hand("type", *inputs, nodes), **EXACT)
