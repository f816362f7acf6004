from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor

from mmprep.models.layers.da_mrs.graded_contrast import Grades, graded_contrast
from mmprep.models.layers.da_mrs.preference_alignment import preference_divergence
from mmprep.models.layers.da_mrs.row_parallel import map_row_chunks, rows_per_block


@pytest.fixture(autouse=True)
def two_cores() -> None:
    """Set after `single_threaded`, which gives back what was before both."""
    torch.set_num_threads(2)


def test_parts_are_done_beside_each_other_on_a_core_each_and_given_in_order() -> None:
    both_at_work = Barrier(2, timeout=30)
    weight = torch.ones(1, requires_grad=True)

    def work(part: Tensor) -> tuple[list[int], int, bool]:
        both_at_work.wait()
        return part.tolist(), torch.get_num_threads(), (part * weight).requires_grad

    assert map_row_chunks(work, torch.arange(8)) == [([row], 1, False) for row in range(8)]
    assert torch.get_num_threads() == 2


def cores_of_new_threads() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_failure_is_passed_on_and_leaves_the_cores_as_they_were() -> None:
    with pytest.raises(ZeroDivisionError):
        map_row_chunks(lambda part: 1 // part.item(), torch.arange(8))
    assert torch.get_num_threads() == 2
    assert cores_of_new_threads() == 2


@pytest.mark.parametrize(("device", "rows"), [("cpu", 4), ("cuda", 2**24 // 250)])
def test_blocks_fill_a_cores_cache_or_what_a_gpu_wants(device: str, rows: int) -> None:
    assert rows_per_block(250, 1000, torch.device(device)) == rows
    assert rows_per_block(2**25, 1000, torch.device(device)) == 1


def value_and_gradients(cores: int) -> list[Tensor]:
    torch.set_num_threads(cores)
    torch.manual_seed(0)
    items = [torch.randn(1000, 16, requires_grad=True) for _ in range(3)]
    users = torch.randn(500, 16, requires_grad=True)
    loss = graded_contrast(items, torch.arange(0, 1000, 2), Grades(), within=False)
    loss = loss + preference_divergence(users, *items[:2], softmax=False, fixed=False)
    return [loss, *torch.autograd.grad(loss, [users, *items])]


def test_losses_in_parts_are_the_same_bits_on_any_number_of_cores() -> None:
    alone = value_and_gradients(1)
    for cores in (2, 5):
        assert all(map(torch.equal, value_and_gradients(cores), alone))
