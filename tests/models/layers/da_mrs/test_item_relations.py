import pytest
import torch
from torch import Tensor

from mmprep.models.layers.da_mrs.item_relations import largest, similar_items


def likeness(width: int = 20, views: int = 3, rows: int = 4) -> Tensor:
    torch.manual_seed(width)
    return (torch.rand(views, rows, width, dtype=torch.float64) * 2 - 1).exp()


def by_definition(given: Tensor, multi: int, single: int) -> list[list[tuple[set[int], set[int]]]]:
    """By sorting every row (docs/papers/da_mrs.md#item-alignment)."""
    similarity = given / given.sum(dim=2, keepdim=True)
    found = []
    for view in range(len(given)):
        relations = similarity[view] + similarity.sum(dim=0)
        rows = []
        for row, of_view in zip(relations, similarity[view], strict=True):
            both = row.argsort(descending=True)[:multi].tolist()
            rest = [c for c in of_view.argsort(descending=True).tolist() if c not in both]
            rows.append((set(both), set(rest[:single])))
        found.append(rows)
    return found


@pytest.mark.parametrize(("width", "multi", "single"), [(20, 3, 4), (20, 10, 10), (250, 5, 6), (230, 1, 2)])
def test_items_are_those_of_the_definition(width: int, multi: int, single: int) -> None:
    given = likeness(width)
    before = given.clone()
    chosen = similar_items(given, multi, single)
    assert torch.equal(given, before)
    for view, rows in enumerate(by_definition(given, multi, single)):
        for row, (both, one) in enumerate(rows):
            found = [each[view, row].tolist() for each in chosen]
            assert [len(each) for each in found] == [multi, single]
            assert (set(found[0]), set(found[1])) == (both, one)
            assert not set(found[0]) & set(found[1])


def test_one_view_alone_orders_all_by_itself() -> None:
    given = likeness(views=1)
    multi, single = similar_items(given, 3, 2)
    order = given[0].argsort(dim=1, descending=True)
    torch.testing.assert_close(multi[0].sort(dim=1).values, order[:, :3].sort(dim=1).values)
    torch.testing.assert_close(single[0].sort(dim=1).values, order[:, 3:5].sort(dim=1).values)


def test_columns_that_are_no_items_are_never_chosen() -> None:
    given = likeness(250)
    given[:, :, 230:] = 0
    assert all((each < 230).all() for each in similar_items(given, 10, 10))


@pytest.mark.parametrize("k", [1, 3, 24, 25, 250])
def test_largest_of_groups_are_the_largest_of_all(k: int) -> None:
    values = likeness(250)[0]
    found = values.gather(1, largest(values, k)).sort(dim=1, descending=True).values
    torch.testing.assert_close(found, values.sort(dim=1, descending=True).values[:, :k], rtol=0, atol=0)
