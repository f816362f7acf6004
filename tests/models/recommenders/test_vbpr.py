import numpy as np
import torch
from worlds import GROUP_ITEMS, GROUP_USERS, binary, two_groups

from mmprep.models.layers.losses import bpr
from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.vbpr import VBPR, VBPRParams
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay
from mmprep.models.training.trainer import build, fit

IMAGE = np.array([[1, 0, 2], [0, 1, 0], [3, 1, 1]], dtype=np.float32)
TEXT = np.array([[5, 6], [7, 8], [9, 0]], dtype=np.float32)
DATA = TrainingData(binary([(0, 0), (1, 1)], (2, 3)), binary([], (2, 3)), {"text": TEXT, "image": IMAGE})


def test_item_is_its_free_half_beside_the_projection_of_image_then_text() -> None:
    recommender = build(VBPR, DATA, VBPRParams(embedding_size=4), 0)
    users, items = recommender.embeddings()
    assert users.shape == (2, 8)
    features = torch.from_numpy(np.hstack([IMAGE, TEXT]))
    projected = features @ recommender.projection.weight.T + recommender.projection.bias
    torch.testing.assert_close(items, torch.cat([recommender.items, projected], dim=1))


def test_losses_and_gradients_are_those_of_the_whole_embeddings() -> None:
    recommender = build(VBPR, DATA, VBPRParams(embedding_size=4, regularisation=0.5), 0)
    parameters = list(recommender.parameters())
    # Not all items are in the batch, and item 2 is in it twice.
    batch = torch.tensor([0, 1, 1]), torch.tensor([1, 2, 1]), torch.tensor([2, 1, 1])
    found = recommender.losses(*batch)
    users, items = recommender.embeddings()
    scores = users @ items.T
    norms = [rows.pow(2).sum().sqrt() for rows in (users[batch[0]], items[batch[1]], items[batch[2]])]
    expected = {
        "bpr": bpr(scores[batch[0], batch[1]], scores[batch[0], batch[2]]),
        "norm": 0.5 * torch.stack(norms).sum() / 3,
    }
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(sum(terms.values()), parameters) for terms in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_one_modality_is_enough() -> None:
    alone = TrainingData(DATA.train, DATA.val, {"image": IMAGE})
    recommender = build(VBPR, alone, VBPRParams(embedding_size=4), 0)
    assert recommender.projection.weight.shape == (4, 3)
    assert torch.isfinite(recommender.embeddings()[1]).all()


def test_features_are_neither_trained_nor_kept_in_a_checkpoint() -> None:
    recommender = build(VBPR, DATA, VBPRParams(), 0)
    assert set(recommender.state_dict()) == {"users", "items", "projection.weight", "projection.bias"}
    assert {name for name, _ in recommender.named_parameters()} == set(recommender.state_dict())


def test_items_that_nobody_has_yet_are_ranked_by_their_features() -> None:
    world = two_groups()
    train = world.train.toarray()
    new = [28, 29, 58, 59]  # two of each group
    train[:, new] = 0
    data = TrainingData(binary(zip(*train.nonzero(), strict=True), train.shape), world.val, world.features)
    recommender = build(VBPR, data, VBPRParams(embedding_size=16), 0)
    fit(recommender, data, TrainParams(batch_size=128, max_epochs=15, patience=15), LearningRateDecay(0.01))
    users, items = (table.detach() for table in recommender.embeddings())
    scores = users @ items[new].T
    own = torch.arange(len(users))[:, None] // GROUP_USERS == torch.tensor(new) // GROUP_ITEMS
    assert float(scores[own].min()) > float(scores[~own].max())
