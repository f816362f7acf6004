import numpy as np
import torch
from torch import nn
from worlds import binary

from mmprep.models.layers.da_mrs.backbones import FreeBackbone, LightGCNBackbone, VBPRBackbone
from mmprep.models.layers.features import ItemFeatures
from mmprep.models.layers.propagation import SparseOperator
from mmprep.pipeline.graphs.edges import interaction_graphs

USERS, ITEMS, SIZE = 4, 3, 5
EXACT = {"rtol": 0.0, "atol": 1e-10}


def table(rows: int, size: int = SIZE) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, size, dtype=torch.float64))


def test_matrix_factorisation_gives_its_tables() -> None:
    users, items = table(USERS), table(ITEMS)
    assert all(a is b for a, b in zip(FreeBackbone(users, items)(), (users, items, items), strict=True))


def test_lightgcn_averages_hops_and_passes_on_free_items() -> None:
    train = binary([(0, 0), (0, 1), (1, 1), (3, 2)], (USERS, ITEMS))
    graph = interaction_graphs(train)["symmetric"]
    users, items = table(USERS), table(ITEMS)
    backbone = LightGCNBackbone(users, items, SparseOperator(graph).double(), 2)
    dense, free = torch.from_numpy(graph.toarray()).double(), torch.cat([users, items])
    found = backbone()
    torch.testing.assert_close(torch.cat(found[:2]), (free + dense @ free + dense @ dense @ free) / 3, **EXACT)
    assert found[2] is items


def test_vbpr_has_all_modalities_in_the_second_half_of_items() -> None:
    rng = np.random.default_rng(0)
    raw = {m: rng.normal(size=(ITEMS, width)).astype(np.float32) for m, width in (("text", 2), ("image", 3))}
    users, items = table(USERS, 2 * SIZE), table(ITEMS)
    backbone = VBPRBackbone(users, items, ItemFeatures(raw)).double()
    found = backbone()
    joined = torch.from_numpy(np.concatenate([raw["image"], raw["text"]], axis=1)).double()
    projected = joined @ backbone.projection.weight.T + backbone.projection.bias
    torch.testing.assert_close(found[1], torch.cat([items, projected], dim=1), **EXACT)
    assert found[2] is found[1]
    assert found[0] is users
