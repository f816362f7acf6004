from math import sqrt

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from worlds import binary, training_data

from mmprep.models.recommenders.ngcf import NGCF, NGCFParams
from mmprep.models.training.trainer import build

TRAIN = binary([(0, 0), (0, 1), (1, 1), (1, 2), (2, 1)], (4, 4))  # user 3 and item 3 have nothing
DATA = training_data("ngcf", TRAIN, binary([], (4, 4)))
BATCH = torch.tensor([0, 1, 0]), torch.tensor([1, 2, 0]), torch.tensor([3, 0, 2])


def make(**given: float) -> NGCF:
    recommender = build(NGCF, DATA, NGCFParams(embedding_size=3, **given), 0).double()
    assert isinstance(recommender, NGCF)
    return recommender


def by_messages(recommender: NGCF) -> Tensor:
    """Eq 3, 4, 6 and 9 node by node, with the code's row lengths; nodes are users, then items.

    The weights are rounded as the graph's are.
    """
    links = TRAIN.toarray()
    near = [4 + np.flatnonzero(row) for row in links] + [np.flatnonzero(column) for column in links.T]
    nodes = torch.cat([recommender.users, recommender.items]).detach()
    joined = [nodes]
    for hop in recommender.hops:
        w1, w2 = hop.sum.weight.detach().T, hop.product.weight.detach().T
        sums = []
        for node, neighbours in enumerate(near):
            messages = nodes[node] @ w1
            for other in neighbours:
                sent = nodes[other] @ w1 + (nodes[other] * nodes[node]) @ w2
                messages = messages + sent * float(np.float32(1 / sqrt(len(near[node]) * len(near[other]))))
            sums.append(torch.where(messages > 0, messages, 0.2 * messages))
        nodes = torch.stack(sums)
        joined.append(nodes / nodes.pow(2).sum(dim=1, keepdim=True).sqrt())
    return torch.cat(joined, dim=1)


@pytest.mark.parametrize("layers", [1, 3])
def test_embeddings_are_those_of_the_papers_messages(layers: int) -> None:
    recommender = make(layers=layers).eval()
    found = torch.cat(recommender.embeddings()).detach()
    assert found.shape == (8, 3 * (1 + layers))
    torch.testing.assert_close(found, by_messages(recommender), rtol=0, atol=1e-10)


def test_losses_are_those_of_the_joined_embeddings() -> None:
    recommender = make(regularisation=0.5).eval()
    nodes = by_messages(recommender)
    user, positive, negative = nodes[BATCH[0]], nodes[4 + BATCH[1]], nodes[4 + BATCH[2]]
    lead = (user * positive).sum(dim=1) - (user * negative).sum(dim=1)
    squares = sum(rows.pow(2).sum() for rows in (user, positive, negative))
    expected = {"bpr": -torch.sigmoid(lead).log().mean(), "norm": 0.5 * squares / 2 / 3}
    found = {name: term.detach() for name, term in recommender.losses(*BATCH).items()}
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_dropout_takes_its_share_of_every_hop_in_training_alone() -> None:
    wide = training_data("ngcf", binary([(n, n) for n in range(200)], (200, 200)), binary([], (200, 200)))
    recommender = build(NGCF, wide, NGCFParams(dropout=0.3), 0)
    torch.manual_seed(0)
    users, _ = recommender.embeddings()
    shares = [float((part == 0).float().mean()) for part in torch.split(users, 64, dim=1)]
    assert shares == pytest.approx([0, 0.3, 0.3], abs=0.02)
    assert all((table != 0).all() for table in recommender.eval().embeddings())


def test_dropout_is_drawn_from_torchs_generator() -> None:
    recommender = make()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(torch.cat(recommender.embeddings()))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"dropout": 1.0}, {"regularisation": -1}])
def test_parameter_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        NGCFParams.model_validate(wrong)
