import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from worlds import binary, training_data

from mmprep.models.layers.propagation import SparseOperator
from mmprep.models.recommenders.sgl import SGL, SGLParams, drop_interactions
from mmprep.models.training.trainer import build

USERS, ITEMS = 6, 5
TRAIN = binary([(u, i) for u in range(USERS) for i in range(ITEMS) if (u * i + u) % 3 != 1], (USERS, ITEMS))
DATA = training_data("sgl", TRAIN, binary([], TRAIN.shape))
# Users and positives occur twice.
BATCH = torch.tensor([0, 2, 2, 5]), torch.tensor([1, 0, 3, 0]), torch.tensor([4, 1, 1, 2])


def make(**given: float) -> SGL:
    recommender = build(SGL, DATA, SGLParams(embedding_size=3, **given), 0).double()
    assert isinstance(recommender, SGL)
    return recommender


def links_of(graph: SparseOperator) -> npt.NDArray[np.bool_]:
    """Which interactions [users, items] a graph has."""
    dense = graph.get_buffer("_matrix").to_dense().numpy()
    assert (dense == dense.T).all()
    assert not dense[:USERS, :USERS].any()
    assert not dense[USERS:, USERS:].any()
    return np.asarray(dense[:USERS, USERS:] != 0)


def dense_nodes(recommender: SGL, links: npt.NDArray[np.bool_], layers: int) -> Tensor:
    """LightGCN's eq 3 and 4 over the links [users, items], the weights rounded as the graph's are."""
    users, items = links.sum(axis=1, keepdims=True), links.sum(axis=0, keepdims=True)
    with np.errstate(divide="ignore"):
        weights = np.where(links, 1 / np.sqrt(users * items), 0).astype(np.float32).astype(np.float64)
    across = torch.from_numpy(weights)
    user, item = recommender.users.detach(), recommender.items.detach()
    user_sum, item_sum = user, item
    for _ in range(layers):
        user, item = across @ item, across.T @ user
        user_sum, item_sum = user_sum + user, item_sum + item
    return torch.cat([user_sum, item_sum]) / (layers + 1)


def papers_contrast(first: Tensor, second: Tensor, temperature: float) -> float:
    """Eq 10, the mean over rows, in numpy."""
    left, right = ((view / view.norm(dim=1, keepdim=True)).numpy() for view in (first, second))
    alike = np.exp(left @ right.T / temperature)
    return float(-np.log(np.diag(alike) / alike.sum(axis=1)).mean())


def test_losses_are_the_papers_on_the_whole_graph_and_the_epochs_two_views() -> None:
    recommender = make(edge_dropout=0.4, contrast=0.3, temperature=0.5, regularisation=0.25, layers=3)
    torch.manual_seed(1)
    recommender.begin_epoch()
    views = [links_of(recommender.first_view), links_of(recommender.second_view)]
    whole, first, second = (dense_nodes(recommender, links, 3) for links in (TRAIN.toarray() != 0, *views))
    lead = (whole[BATCH[0]] * (whole[USERS + BATCH[1]] - whole[USERS + BATCH[2]])).sum(dim=1)
    users, items = [0, 2, 5], [USERS, USERS + 1, USERS + 3]
    contrast = sum(papers_contrast(first[nodes], second[nodes], 0.5) for nodes in (users, items))
    free = [recommender.users[BATCH[0]], recommender.items[BATCH[1]], recommender.items[BATCH[2]]]
    expected = {
        "bpr": torch.log1p(torch.exp(-lead)).mean().item(),
        "contrast": 0.3 * contrast,
        "norm": 0.25 * sum(rows.pow(2).sum().sqrt().item() for rows in free) / 4,
    }
    found = {name: term.item() for name, term in recommender.losses(*BATCH).items()}
    assert found == pytest.approx(expected, rel=0, abs=1e-10)


def test_ranking_is_by_the_whole_graph_in_training_too() -> None:
    recommender = make(edge_dropout=0.4)
    expected = dense_nodes(recommender, TRAIN.toarray() != 0, 2)
    recommender.begin_epoch()
    for each in (recommender.train(), recommender.eval()):
        torch.testing.assert_close(torch.cat(each.embeddings()).detach(), expected, rtol=0, atol=1e-10)


def test_each_epoch_draws_two_other_views_of_the_interactions() -> None:
    recommender = make(edge_dropout=0.4)
    torch.manual_seed(3)
    drawn = []
    for _ in range(2):
        recommender.begin_epoch()
        drawn += [links_of(recommender.first_view), links_of(recommender.second_view)]
    assert all((TRAIN.toarray() >= links).all() for links in drawn)
    assert len({links.tobytes() for links in drawn}) == 4


def test_views_depend_on_torchs_seed_alone() -> None:
    drawn = []
    for before in (0, 3):
        recommender = make(edge_dropout=0.4)
        for _ in range(before):
            recommender.begin_epoch()
        torch.manual_seed(7)
        recommender.begin_epoch()
        drawn.append(links_of(recommender.first_view))
    assert (drawn[0] == drawn[1]).all()


def test_out_of_training_the_losses_are_the_same_whatever_was_drawn() -> None:
    recommender = make(edge_dropout=0.4).eval()
    before = recommender.losses(*BATCH)
    recommender.begin_epoch()
    torch.testing.assert_close(recommender.losses(*BATCH), before, rtol=0, atol=0)
    assert recommender.train().losses(*BATCH)["contrast"] != before["contrast"]


def test_share_of_the_interactions_that_is_dropped() -> None:
    torch.manual_seed(0)
    many = binary(zip(*np.ones((100, 100)).nonzero(), strict=True), (100, 100))
    kept = drop_interactions(many, 0.1)
    assert kept.nnz / many.nnz == pytest.approx(0.9, abs=0.01)  # three deviations
    assert (kept.data == 1).all()
    assert many.nnz == 10_000
    assert drop_interactions(many, 0).nnz == 10_000


def test_view_without_a_single_interaction_is_finite() -> None:
    recommender = make(edge_dropout=0.999)
    torch.manual_seed(0)
    recommender.begin_epoch()
    assert not links_of(recommender.first_view).any()
    assert all(term.isfinite() for term in recommender.losses(*BATCH).values())


def test_graphs_are_no_part_of_a_checkpoint() -> None:
    recommender = make()
    recommender.begin_epoch()
    assert set(recommender.state_dict()) == {"users", "items"}


@pytest.mark.parametrize("wrong", [{"edge_dropout": 1.0}, {"temperature": 0}, {"contrast": -1}, {"layers": 0}])
def test_parameter_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SGLParams.model_validate(wrong)
