import math

import torch

from mmprep.models.layers.losses import bpr, embedding_norm, infonce, parameter_norm


def test_bpr_is_the_mean_of_softplus_of_the_negatives_lead() -> None:
    # Leads of -1 and -2: (log(1 + 1/e) + log(1 + 1/e^2)) / 2 = (0.313262 + 0.126928) / 2.
    loss = bpr(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 3.0]))
    torch.testing.assert_close(loss, torch.tensor(0.220095))


def test_bpr_of_equal_scores_is_log_two() -> None:
    torch.testing.assert_close(bpr(torch.zeros(5), torch.zeros(5)), torch.tensor(math.log(2)))


def test_bpr_is_finite_and_steep_for_hopeless_scores() -> None:
    positive = torch.tensor([0.0, 0.0], requires_grad=True)
    loss = bpr(positive, torch.tensor([1000.0, -1000.0]))
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(500.0))
    torch.testing.assert_close(positive.grad, torch.tensor([-0.5, 0.0]))


def test_embedding_norm_sums_unsquared_norms_over_the_batch_size() -> None:
    # |(3, 4)| = 5 and |((6, 8), (0, 0))| = 10, two rows each.
    first = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    second = torch.tensor([[6.0, 8.0], [0.0, 0.0]])
    torch.testing.assert_close(embedding_norm(first, second), torch.tensor(7.5))
    torch.testing.assert_close(embedding_norm(first), torch.tensor(2.5))


def test_infonce_by_inner_products_is_the_share_of_ones_own() -> None:
    anchors, positives = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 3.0], [0.0, 4.0]])
    # Inner products 2, 0 and 4, 4; halved by tau = 2.
    expected = (math.log(1 + math.exp(0 - 1)) + math.log(2)) / 2
    torch.testing.assert_close(infonce(anchors, positives, 2.0, "inner"), torch.tensor(expected))


def test_parameter_norm_is_that_of_all_as_one_vector() -> None:
    parameters = [torch.tensor([[1.0, 2.0]]), torch.tensor(4.0), torch.tensor([2.0, 0.0])]
    torch.testing.assert_close(parameter_norm(iter(parameters)), torch.tensor(5.0))
