import torch
from torch import Tensor

from mmprep.models.layers.fusion import SharedExclusiveFusion

NODES, SIZE = 6, 4
MODALITIES = ("audio", "image", "text")


def made(*modalities: str) -> tuple[SharedExclusiveFusion, list[Tensor], Tensor]:
    torch.manual_seed(3)
    fusion = SharedExclusiveFusion(modalities, SIZE).double()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)  # biases too
    *views, behaviour = torch.randn(len(modalities) + 1, NODES, SIZE, dtype=torch.float64)
    return fusion, views, behaviour


def test_parts_are_those_of_the_equations() -> None:
    fusion, views, behaviour = made(*MODALITIES)
    query, query_bias = fusion.query.weight, fusion.query.bias
    logits = torch.stack([torch.tanh(view @ query.T + query_bias) @ fusion.attention.weight[0] for view in views])
    weights = torch.exp(logits) / torch.exp(logits).sum(dim=0)
    shared = sum(weights[m][:, None] * views[m] for m in range(3))
    exclusive = torch.zeros(NODES, SIZE, dtype=torch.float64)
    for modality, view in zip(MODALITIES, views, strict=True):
        gate = fusion.preferences[modality]
        exclusive += (view - shared) / (1 + torch.exp(-(behaviour @ gate.weight.T + gate.bias)))
    torch.testing.assert_close(fusion(views, behaviour), (shared, exclusive), rtol=0, atol=1e-12)


def test_shares_of_a_node_sum_to_one_and_cancel_what_is_exclusive() -> None:
    fusion, views, behaviour = made(*MODALITIES)
    shares = fusion.shares(views)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(NODES, dtype=torch.float64))
    shared = fusion(views, behaviour)[0]
    left = sum(shares[:, [m]] * (view - shared) for m, view in enumerate(views))
    torch.testing.assert_close(left, torch.zeros_like(shared), rtol=0, atol=1e-12)


def test_one_modality_is_all_shared_and_its_gate_learns_nothing() -> None:
    fusion, views, behaviour = made("image")
    shared, exclusive = fusion(views, behaviour)
    torch.testing.assert_close(shared, views[0])
    torch.testing.assert_close(exclusive, torch.zeros_like(exclusive))
    (shared + exclusive).sum().backward()
    assert torch.count_nonzero(fusion.preferences["image"].weight.grad) == 0


def test_equal_views_have_nothing_exclusive() -> None:
    fusion, views, behaviour = made("image", "text")
    shared, exclusive = fusion([views[0], views[0]], behaviour)
    torch.testing.assert_close(shared, views[0])
    torch.testing.assert_close(exclusive, torch.zeros_like(exclusive), rtol=0, atol=1e-12)


def test_a_choice_of_nodes_is_fused_as_among_all() -> None:
    fusion, views, behaviour = made("image", "text")
    chosen = torch.tensor([4, 1])
    found = fusion([view[chosen] for view in views], behaviour[chosen])
    torch.testing.assert_close(found, tuple(part[chosen] for part in fusion(views, behaviour)))
