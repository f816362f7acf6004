import math
from itertools import product

import pytest
import torch
from torch import Tensor

from mmprep.models.layers.da_mrs.graded_contrast import Grades, contrast, graded_contrast, raised
from mmprep.models.layers.da_mrs.item_relations import similar_items

EXACT = {"rtol": 0.0, "atol": 1e-10}
N, BATCH = 23, torch.tensor([0, 3, 4, 11, 22])
every_mode = pytest.mark.parametrize("mode", ["both", "sp", "mp"])


def views(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(3)
    return [torch.randn(N, 6, dtype=dtype).add_(0.2).requires_grad_() for _ in range(3)]


def by_definition(given: list[Tensor], rows: Tensor, grades: Grades, *, within: bool) -> Tensor:
    """A loop over items and views with plain logarithms; what is similar is found by sorting.

    Source: docs/papers/da_mrs.md#item-alignment.
    """
    unit = [view / view.norm(dim=1, keepdim=True) for view in given]
    cosine = torch.stack([each @ each.T for each in unit])
    losses = []
    for view, row in product(range(len(given)), rows.tolist()):
        there = [c for c in range(N) if not (grades.exclude_self and c == row)]
        powers = cosine[:, row].exp().detach()
        softmax = powers / powers[:, there].sum(dim=1, keepdim=True)
        total = softmax[view] + softmax.sum(dim=0)
        multi = sorted(there, key=lambda c, by=total: -by[c])[: grades.multi]
        single = sorted(set(there) - set(multi), key=lambda c, by=softmax[view]: -by[c])[: grades.single]
        phi = (cosine[view, row] / grades.temperature).exp()
        counted = set(there) if not within else (set(rows.tolist()) & set(there)) | set(multi) | set(single)
        first = phi[sorted(counted)].sum()
        second = phi[sorted(counted - set(multi))].sum()
        top, middle = phi[multi].sum(), phi[single].sum()
        if grades.mode == "both":
            losses.append(-torch.log(top / first) - torch.log(middle / second))
        else:
            losses.append(-torch.log((top if grades.mode == "mp" else top + middle) / first))
    return torch.stack(losses).mean()


@every_mode
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("block", [1, 70, 10_000])
def test_value_and_gradients_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch, mode: str, within: bool, exclude_self: bool, block: int
) -> None:
    monkeypatch.setattr("mmprep.models.layers.da_mrs.graded_contrast.BLOCK_COSINES", block)
    given, grades = views(), Grades(3, 4, 0.4, mode, exclude_self)  # type: ignore[arg-type]
    found = graded_contrast(given, BATCH, grades, within=within)
    expected = by_definition(given, BATCH, grades, within=within)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(torch.autograd.grad(3 * found, given), torch.autograd.grad(3 * expected, given), **EXACT)


@pytest.mark.parametrize("exclude_self", [False, True])
def test_item_is_in_its_own_multi_modal_set_unless_it_is_left_out(exclude_self: bool) -> None:
    unit = torch.stack([view / view.norm(dim=1, keepdim=True) for view in views()]).detach()
    cosines = unit @ unit.transpose(1, 2)
    if exclude_self:
        cosines[:, range(N), range(N)] = -torch.inf
    multi, single = similar_items(cosines.exp(), 3, 4)
    own = torch.arange(N)[None, :, None]
    assert ((multi == own).any(dim=2) != exclude_self).all()
    assert not (single == own).any()


def test_slope_of_single_modal_items_is_that_of_both_logarithms() -> None:
    torch.manual_seed(4)
    cosines = torch.rand(1, 1, 40, dtype=torch.float64)
    multi, single = similar_items(cosines.exp(), 3, 4)
    powers = (cosines / 0.4).exp()
    top, middle = powers.gather(2, multi).sum(), powers.gather(2, single).sum().requires_grad_()
    rest = powers.sum() - top - middle.detach()
    whole = rest + top + middle
    second = whole - top
    assert second < whole
    slope = torch.autograd.grad(-(top / whole).log() - (middle / second).log(), middle)[0]
    torch.testing.assert_close(slope, 1 / whole + 1 / second - 1 / middle, **EXACT)
    _, slopes = contrast(cosines, None, Grades(3, 4, 0.4))
    found = (cosines * slopes)[0, 0, single[0, 0]]
    torch.testing.assert_close(found, slope * powers[0, 0, single[0, 0]] / 0.4, **EXACT)


@pytest.mark.parametrize("power", [1.0, 2.0, 5.0, 6.0, 20.0, 2.5, 1 / 0.7])
@pytest.mark.parametrize("with_space", [False, True])
def test_powers_are_those_of_pow(power: float, with_space: bool) -> None:
    values = torch.linspace(0, math.e, 9, dtype=torch.float64)
    expected = values.pow(power)
    found = raised(values, power, torch.empty_like(values) if with_space else None)
    assert found is values
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("temperature", [0.05, 0.2])
def test_items_that_are_like_no_others_stay_finite_in_single_precision(temperature: float) -> None:
    given = [torch.eye(N, requires_grad=True) for _ in range(2)]
    found = graded_contrast(given, BATCH, Grades(1, 4, temperature), within=False)
    # All others are at cosine 0: 4 of 22 are SP, and MP is the item alone.
    expected = math.log(22 / 4) + math.log1p(22 * math.exp(-1 / temperature))
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert all(each.isfinite().all() for each in torch.autograd.grad(found, given))


def test_no_matrix_of_all_items_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmprep.models.layers.da_mrs.graded_contrast.BLOCK_COSINES", 2 * N)
    shapes = []
    monkeypatch.setattr(
        "mmprep.models.layers.da_mrs.graded_contrast.contrast",
        lambda cosines, *rest: shapes.append(tuple(cosines.shape)) or contrast(cosines, *rest),
    )
    graded_contrast(views(), torch.arange(N), Grades(3, 4), within=False)
    assert len(shapes) == N
    assert {shape[:2] for shape in shapes} == {(3, 1)}
