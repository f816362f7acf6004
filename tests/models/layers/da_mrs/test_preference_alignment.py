import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from mmprep.models.layers.da_mrs.preference_alignment import preference_divergence

EXACT = {"rtol": 0.0, "atol": 1e-10}
either = pytest.mark.parametrize("softmax", [False, True])


def tables() -> list[Tensor]:
    torch.manual_seed(0)
    shapes = ((5, 3), (7, 3), (7, 3))
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


def by_definition(users: Tensor, first: Tensor, second: Tensor, *, softmax: bool) -> Tensor:
    """KL both ways by logarithms of probabilities."""
    a, b = users @ first.T, users @ second.T
    if softmax:
        p, q = log_softmax(a, dim=1), log_softmax(b, dim=1)
        return ((p.exp() * (p - q)).sum(dim=1) + (q.exp() * (q - p)).sum(dim=1)).mean()
    total = torch.zeros_like(a)
    for x, y in ((a, b), (b, a)):
        for sign in (1, -1):
            total = total + (sign * x).sigmoid() * (logsigmoid(sign * x) - logsigmoid(sign * y))
    return total.mean()


@either
@pytest.mark.parametrize("block", [1, 14, 1000])
def test_value_and_gradients_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch, softmax: bool, block: int
) -> None:
    monkeypatch.setattr("mmprep.models.layers.da_mrs.preference_alignment.BLOCK_SCORES", block)
    given = tables()
    found = preference_divergence(*given, softmax=softmax, fixed=False)
    expected = by_definition(*given, softmax=softmax)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(torch.autograd.grad(3 * found, given), torch.autograd.grad(3 * expected, given), **EXACT)


@either
def test_fixed_first_view_gets_no_gradient_nor_do_users_by_it(softmax: bool) -> None:
    users, first, second = given = tables()
    found = preference_divergence(*given, softmax=softmax, fixed=True)
    gradients = torch.autograd.grad(found, given)
    assert not gradients[1].any()
    if softmax:
        return
    # KL(p, q) + KL(q, p) with p constant.
    p, b = (users @ first.T).sigmoid().detach(), users @ second.T
    a = p.logit()
    expected = ((p - b.sigmoid()) * (a - b)).mean()
    torch.testing.assert_close(
        [gradients[0], gradients[2]], list(torch.autograd.grad(expected, (users, second))), **EXACT
    )


@either
def test_divergence_is_symmetric_not_negative_and_0_for_equal_views(softmax: bool) -> None:
    users, first, second = tables()
    one = preference_divergence(users, first, second, softmax=softmax, fixed=False)
    other = preference_divergence(users, second, first, softmax=softmax, fixed=False)
    torch.testing.assert_close(one, other, **EXACT)
    assert one > 1e-3
    assert preference_divergence(users, first, first, softmax=softmax, fixed=False) == 0


@either
def test_certain_preferences_stay_finite_in_single_precision(softmax: bool) -> None:
    given = [(200 * table.float()).detach().requires_grad_() for table in tables()]
    found = preference_divergence(*given, softmax=softmax, fixed=False)
    assert found.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(found, given))
