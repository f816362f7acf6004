import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from mmprep.models.layers.camgr.attention_scopes import AllNodes, AttentionScope, ChosenNodes, WithinNode
from mmprep.models.layers.camgr.cross_attention import CrossAttention, CrossAttentionFusion, ResidualBranch

NODES, SIZE = 6, 4
CHOSEN = torch.tensor([0, 3, 5])
EXACT = {"rtol": 0.0, "atol": 1e-12}


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(NODES, SIZE, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)]


def made(*, share_qkv: bool, scope: AttentionScope | None = None) -> CrossAttentionFusion:
    """In double precision, all parameters at random."""
    fusion = CrossAttentionFusion(SIZE, scope or AllNodes(), share_qkv=share_qkv).double()
    torch.manual_seed(1)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter)
    return fusion


def by_hand(fusion: CrossAttentionFusion, asking: Tensor, asked: Tensor, behaviour: Tensor) -> Tensor:
    """Of all nodes, by the equations (docs/papers/camgr.md#cross-attention)."""
    given = dict(fusion.named_parameters())

    def linear(name: str, rows: Tensor) -> Tensor:
        return rows @ given[f"{name}.weight"].T + given.get(f"{name}.bias", 0)

    total = torch.zeros(NODES, SIZE, dtype=torch.float64)
    for branch, which in (("common", 0), ("distinct", len(fusion.attentions) - 1)):
        query, key, value = (
            linear(f"attentions.{which}.{name}", side)
            for name, side in (("query", asking), ("key", asked), ("value", asked))
        )
        attention = (query @ key.T / SIZE**0.5).softmax(dim=1) @ value
        residual = linear(f"{branch}.map", attention if branch == "common" else value - attention) + query
        normal = layer_norm(residual, (SIZE,), given[f"{branch}.norm.weight"], given[f"{branch}.norm.bias"])
        found = linear(f"{branch}.perceptron.2", linear(f"{branch}.perceptron.0", normal).clamp_min(0)) + residual
        total = total + found * linear(f"{branch}.gate", behaviour).sigmoid()
    return total / 2


@pytest.mark.parametrize("share_qkv", [True, False])
def test_fusion_of_chosen_nodes_and_its_gradients_are_those_of_the_equations(share_qkv: bool) -> None:
    fusion, (asking, asked, behaviour) = made(share_qkv=share_qkv), tensors()
    found = fusion(asking, asked, CHOSEN, behaviour[CHOSEN])
    expected = by_hand(fusion, asking, asked, behaviour)[CHOSEN]
    torch.testing.assert_close(found, expected, **EXACT)
    inputs = [asking, asked, behaviour, *fusion.parameters()]
    gradients = [torch.autograd.grad(value.square().sum(), inputs) for value in (found, expected)]
    torch.testing.assert_close(*gradients, **EXACT)


@pytest.mark.parametrize("scope", [AllNodes(), ChosenNodes(), WithinNode(2)])
@pytest.mark.parametrize("share_qkv", [True, False])
def test_evenness_is_the_mean_over_attentions_of_some_of_the_chosen(
    monkeypatch: pytest.MonkeyPatch, scope: AttentionScope, share_qkv: bool
) -> None:
    monkeypatch.setattr("mmprep.models.layers.camgr.cross_attention.OBSERVED_NODES", 2)
    fusion, (asking, asked, _) = made(share_qkv=share_qkv, scope=scope), tensors()
    nodes, rows = torch.tensor([0, 1, 3, 4, 5]), torch.tensor([0, 2, 4])
    given = asked if scope.whole else asked[nodes]
    each = [
        scope.evenness(attention.query(asking[nodes[rows]]), attention.key(given), nodes, rows)  # type: ignore[operator, union-attr]
        for attention in fusion.attentions
    ]
    found = fusion.evenness(asking, asked, nodes)
    torch.testing.assert_close(found, torch.cat(each).mean(), **EXACT)
    assert not found.requires_grad


def test_nodes_without_a_choice_attend_evenly() -> None:
    fusion, (asking, asked, _) = made(share_qkv=True, scope=ChosenNodes()), tensors()
    assert fusion.evenness(asking, asked, torch.tensor([2])) == 1


def test_equal_values_leave_the_distinct_part_its_query_and_bias() -> None:
    fusion, (asking, asked, _) = made(share_qkv=True), tensors()
    torch.nn.init.zeros_(fusion.attentions[0].value.weight)
    query, value, attention = fusion.attentions[0](asking, asked, CHOSEN)
    torch.testing.assert_close(attention, value, **EXACT)
    residual = fusion.distinct.residual(value - attention, query)
    torch.testing.assert_close(residual, fusion.distinct.map.bias + query, **EXACT)


def test_keys_of_zero_give_every_node_the_mean_of_the_values() -> None:
    fusion, (asking, asked, _) = made(share_qkv=True), tensors()
    torch.nn.init.zeros_(fusion.attentions[0].key.weight)
    _, _, attention = fusion.attentions[0](asking, asked, CHOSEN)
    expected = fusion.attentions[0].value(asked).mean(dim=0).expand(len(CHOSEN), SIZE)
    torch.testing.assert_close(attention, expected, **EXACT)


def test_key_has_a_bias_only_where_the_softmax_sees_it() -> None:
    biases = {type(scope): CrossAttention(SIZE, scope).key.bias for scope in (AllNodes(), ChosenNodes(), WithinNode(2))}
    assert {scope for scope, bias in biases.items() if bias is not None} == {WithinNode}


def test_scope_of_the_chosen_has_their_values() -> None:
    asking, asked, _ = tensors()
    attention = CrossAttention(SIZE, ChosenNodes()).double()
    _, value, _ = attention(asking, asked, CHOSEN)
    torch.testing.assert_close(value, attention.value(asked[CHOSEN]), **EXACT)


def test_maps_start_xavier_uniform_without_bias_and_norms_as_one() -> None:
    torch.manual_seed(0)
    branch = ResidualBranch(64)
    first = branch.perceptron[0].weight
    assert first.shape == (128, 64)
    assert 0.99 * (6 / 192) ** 0.5 < first.abs().max() <= (6 / 192) ** 0.5
    assert all(not value.any() for name, value in branch.named_parameters() if name.endswith("bias"))
    assert (branch.norm.weight == 1).all()
