import torch

from mmprep.models.layers.contrast import distinct_nodes, two_view_contrast


def test_nodes_of_a_batch_are_there_once_users_first() -> None:
    nodes, sides = distinct_nodes(torch.tensor([4, 1, 4]), torch.tensor([2, 2, 2]), n_users=10)
    assert nodes.tolist() == [1, 4, 12]
    assert sides == [2, 1]


def test_contrast_is_the_sum_of_users_among_users_and_items_among_items() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    expected = 0.0
    for side in (range(3), range(3, 5)):
        for node in side:
            own = torch.cosine_similarity(first[node], second[node], dim=0)
            among = [torch.cosine_similarity(first[node], second[other], dim=0) for other in side]
            share = torch.exp(own / 0.2) / torch.exp(torch.stack(among) / 0.2).sum()
            expected -= share.log().item() / len(side)
    torch.testing.assert_close(two_view_contrast(first, second, [3, 2], 0.2).item(), expected)
