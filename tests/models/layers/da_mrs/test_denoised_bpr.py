import pytest
import torch
from torch import Tensor

from mmprep.models.layers.da_mrs.denoised_bpr import Evidence, FeedbackDenoising, Form, denoised_bpr
from mmprep.models.layers.losses import bpr

ONES = torch.ones(9, dtype=torch.float64)
EXACT = {"rtol": 0.0, "atol": 1e-10}
both_forms = pytest.mark.parametrize("form", ["official", "paper"])


def lead(scale: float = 1.0) -> Tensor:
    torch.manual_seed(0)
    return (scale * torch.randn(9, dtype=torch.float64)).requires_grad_()


def ranked(x: Tensor) -> Tensor:
    return bpr(x, torch.zeros_like(x))


def slope(loss: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(loss, x)[0]


@both_forms
def test_feedback_that_is_fully_believed_gives_bpr(form: Form) -> None:
    x = lead(5)
    found, expected = denoised_bpr(x, ONES, 0 * ONES, form), ranked(x)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(slope(found, x), slope(expected, x), **EXACT)


@both_forms
def test_feedback_that_is_not_believed_at_all_gives_bpr_with_the_items_swapped(form: Form) -> None:
    x = lead(5)
    found, expected = denoised_bpr(x, 0 * ONES, ONES, form), ranked(-x)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(slope(found, x), slope(expected, x), **EXACT)


@pytest.mark.parametrize("reliability", [0.01, 0.3, 0.9])
def test_reliability_weights_the_official_gradient_and_leaves_the_papers_as_it_was(reliability: float) -> None:
    x, f, g = lead(), torch.full((9,), reliability, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    usual = slope(ranked(x), x)
    torch.testing.assert_close(slope(denoised_bpr(x, f, g, "paper"), x), usual, **EXACT)
    torch.testing.assert_close(slope(denoised_bpr(x, f, g, "official"), x), reliability * usual, **EXACT)


def test_papers_loss_learns_nothing_where_both_are_as_likely() -> None:
    x, f = lead(), torch.rand(9, dtype=torch.float64)
    torch.testing.assert_close(slope(denoised_bpr(x, f, f, "paper"), x), torch.zeros_like(x), **EXACT)


def test_losses_are_those_of_the_equations() -> None:
    x = lead()
    f, g = torch.rand(2, 9, dtype=torch.float64)
    sigmoid = 1 / (1 + torch.exp(-x))
    official = -(f * torch.log(sigmoid) + g * torch.log(1 - sigmoid)).mean()
    torch.testing.assert_close(denoised_bpr(x, f, g, "official"), official, **EXACT)
    paper = -torch.log(f * sigmoid + g * (1 - sigmoid)).mean()
    torch.testing.assert_close(denoised_bpr(x, f, g, "paper"), paper, **EXACT)


@both_forms
def test_loss_of_far_scores_stays_finite_in_single_precision(form: Form) -> None:
    x = torch.tensor([-300.0, 300.0], requires_grad=True)
    f, g = torch.tensor([1.0, 1.0], requires_grad=True), torch.zeros(2, requires_grad=True)
    loss = denoised_bpr(x, f, g, form)
    assert loss.item() == pytest.approx(150)
    assert all(each.isfinite().all() for each in torch.autograd.grad(loss, (x, f, g)))


def test_reliabilities_are_those_of_the_equations() -> None:
    scores, unobserved = torch.tensor([[0.2, -2.0], [0.6, -0.4], [-0.1, 0.3]], dtype=torch.float64), torch.tensor(0.5)
    liked = 1 / (1 + torch.exp(-scores))
    mean = liked.sum(dim=0) / 3
    squares = ((liked - mean) ** 2).sum(dim=0)
    f, g = FeedbackDenoising("official", 1.5, 2.5, 1.25).reliabilities(scores, unobserved)
    torch.testing.assert_close(f, mean**1.5 * torch.exp(-squares / 2) ** 2.5, **EXACT)
    torch.testing.assert_close(g, torch.stack([torch.zeros(()).double(), (liked[2, 1] - 0.5) ** 1.25]), **EXACT)
    f, g = FeedbackDenoising("paper", 1.5, 2.5, 2.0).reliabilities(scores, unobserved)
    torch.testing.assert_close(f, mean**1.5 * torch.exp(-squares / 3) ** 2.5, **EXACT)
    above = 1 / (1 + torch.exp(-(scores[2, 1] - 0.5)))
    torch.testing.assert_close(g, torch.stack([torch.zeros(()).double(), above**2]), **EXACT)


@both_forms
@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_reliabilities_are_probabilities(form: Form, scale: float) -> None:
    torch.manual_seed(1)
    scores = scale * torch.randn(3, 500)
    for each in FeedbackDenoising(form).reliabilities(scores, torch.tensor(0.51)):
        assert (each >= 0).all()
        assert (each <= 1).all()
        assert len(each.unique()) > 10


def test_view_below_unobserved_pairs_is_no_reason_to_doubt() -> None:
    _, g = FeedbackDenoising("official").reliabilities(torch.full((3, 4), -1.0), torch.tensor(0.5))
    assert not g.any()


@both_forms
def test_each_of_the_two_can_be_left_out(form: Form) -> None:
    scores, unobserved = torch.randn(3, 40), torch.tensor(0.6)
    f, g = FeedbackDenoising(form).reliabilities(scores, unobserved)
    without_f = FeedbackDenoising(form, use_f=False).reliabilities(scores, unobserved)
    without_g = FeedbackDenoising(form, use_g=False).reliabilities(scores, unobserved)
    torch.testing.assert_close(without_f, (torch.ones(40), g))
    torch.testing.assert_close(without_g, (f, torch.zeros(40)))


def test_evidence_is_of_views_at_length_one_in_the_official_form_alone() -> None:
    torch.manual_seed(2)
    users, items, first, second = torch.randn(4, 5, 3, dtype=torch.float64).unbind()
    who, what = torch.tensor([0, 4, 4]), torch.tensor([1, 1, 2])
    for form, views in (
        ("official", [v / v.norm(dim=1, keepdim=True) for v in (first, second)]),
        ("paper", [first, second]),
    ):
        evidence = Evidence.of(users, items, [first, second], form)  # type: ignore[arg-type]
        expected = torch.stack([torch.stack([users[u] @ v[i] for u, i in ((0, 1), (4, 1), (4, 2))]) for v in views])
        torch.testing.assert_close(evidence.by_view(who, what), expected, **EXACT)
        final = torch.stack([users[0] @ items[1], users[4] @ items[1], users[4] @ items[2]])
        chance = expected.sigmoid().mean(dim=0) if form == "official" else final.sigmoid()
        torch.testing.assert_close(evidence.unobserved(who, what), chance, **EXACT)
