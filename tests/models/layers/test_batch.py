import torch

from mmprep.models.layers.batch import BatchNodes

USERS, POSITIVES, NEGATIVES = torch.tensor([4, 1, 4]), torch.tensor([2, 0, 0]), torch.tensor([5, 2, 7])
N_USERS = 6


def test_each_node_is_there_once_and_every_triple_finds_its_own() -> None:
    batch = BatchNodes.of(USERS, POSITIVES, NEGATIVES)
    nodes = batch.nodes(N_USERS)
    assert nodes.tolist() == [1, 4, 6, 8, 11, 13]
    assert batch.users.tolist() == [1, 4]
    assert batch.items.tolist() == [0, 2, 5, 7]
    assert nodes[batch.user_rows].tolist() == USERS.tolist()
    assert nodes[batch.positive_rows].tolist() == (POSITIVES + N_USERS).tolist()
    assert nodes[batch.negative_rows].tolist() == (NEGATIVES + N_USERS).tolist()


def test_contrasted_are_users_and_positives_once_or_as_often_as_in_the_batch() -> None:
    batch = BatchNodes.of(USERS, POSITIVES, NEGATIVES)
    nodes = batch.nodes(N_USERS)
    once = [nodes[rows].tolist() for rows in batch.contrasted(once=True)]
    repeated = [nodes[rows].tolist() for rows in batch.contrasted(once=False)]
    assert once == [[1, 4], [6, 8]]  # negatives are not contrasted
    assert repeated == [[4, 1, 4], [8, 6, 6]]
