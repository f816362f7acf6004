"""A toy graph, and MGCN's and AM2HRec's equations on it, dense and one number at a time."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from worlds import Floats, binary

USERS, ITEMS, SIZE, K = 6, 5, 4, 3
# User 5 and item 4 have nothing.
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2), (2, 3), (3, 3), (4, 1)]
TRAIN = binary(PAIRS, (USERS, ITEMS))
BATCH = (torch.tensor([0, 2, 2, 4]), torch.tensor([1, 3, 0, 1]), torch.tensor([4, 1, 1, 0]))
EXACT = {"rtol": 0.0, "atol": 1e-10}


def features(*modalities: str) -> dict[str, Floats]:
    """Random features of modalities, each of another length."""
    rng = np.random.default_rng(2)
    return {m: rng.normal(size=(ITEMS, 3 + place)).astype(np.float32) for place, m in enumerate(modalities)}


def user_item_weights() -> Tensor:
    """Rhat, 1 / sqrt(deg_u deg_i) at each interaction, as f32 as graphs are kept."""
    weights = np.zeros((USERS, ITEMS))
    users, items = zip(*PAIRS, strict=True)
    for user, item in PAIRS:
        weights[user, item] = 1 / np.sqrt(users.count(user) * items.count(item))
    return torch.from_numpy(weights.astype(np.float32)).double()


def item_item_weights(vectors: Floats) -> Tensor:
    """The K largest cosines of each item, negative ones as 0, over the roots of both ends' row sums."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    kept = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        nearest = np.argsort(-cosines[item])[:K]
        kept[item, nearest] = np.maximum(cosines[item, nearest], 0)
    sums = kept.sum(axis=1)
    return torch.from_numpy((kept / np.sqrt(np.outer(sums, sums))).astype(np.float32)).double()


def dense_losses(behaviour: Tensor, fused: Tensor, *, once: bool, cosine: bool = True) -> dict[str, Tensor]:
    """Every term by its definition, with weights 0.3 (contrast) and 0.5 (norm) and the temperature 0.4."""
    final = behaviour + fused
    users, positives, negatives = BATCH[0].tolist(), (USERS + BATCH[1]).tolist(), (USERS + BATCH[2]).tolist()
    ranking, norm, contrast = [], [], []
    for user, positive, negative in zip(users, positives, negatives, strict=True):
        lead = final[user] @ final[positive] - final[user] @ final[negative]
        ranking.append(-torch.log(1 / (1 + torch.exp(-lead))))
        norm += [final[node] @ final[node] / 2 for node in (user, positive, negative)]
    for nodes in (users, positives):
        rows = sorted(set(nodes)) if once else nodes
        powers = {}
        for a, b in product(rows, rows):
            lengths = (fused[a].norm() * behaviour[b].norm()).clamp(min=1e-12) if cosine else 1
            powers[a, b] = torch.exp(fused[a] @ behaviour[b] / lengths / 0.4)
        side = [-torch.log(powers[a, a] / torch.stack([powers[a, b] for b in rows]).sum()) for a in rows]
        contrast.append(torch.stack(side).mean())
    return {
        "bpr": torch.stack(ranking).mean(),
        "contrast": 0.3 * torch.stack(contrast).sum(),
        "norm": 0.5 * torch.stack(norm).sum() / len(users),
    }


def dense_behaviour(parameters: Mapping[str, Tensor], layers: int) -> Tensor:
    """The mean of the free embeddings' 0 to `layers` hops by LightGCN, users, then items."""
    ahat, free = adjacency(), torch.cat([parameters["users"], parameters["items"]])
    found = [torch.linalg.matrix_power(ahat, hop) @ free for hop in range(layers + 1)]
    return torch.stack(found).sum(dim=0) / len(found)


def adjacency() -> Tensor:
    """Ahat, of users, then items."""
    rhat = user_item_weights()
    ahat = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    ahat[:USERS, USERS:], ahat[USERS:, :USERS] = rhat, rhat.T
    return ahat


def dense_fusion(parameters: Mapping[str, Tensor], views: Mapping[str, Tensor], behaviour: Tensor) -> list[Tensor]:
    """The shared part and the gated exclusive part of each modality (docs/papers/am2hrec.md#fusion)."""
    logits = {}
    for m, view in views.items():
        query = torch.tanh(view @ parameters["fusion.query.weight"].T + parameters["fusion.query.bias"])
        logits[m] = torch.exp(query @ parameters["fusion.attention.weight"][0])
    total = torch.stack(list(logits.values())).sum(dim=0)
    shared = torch.stack([logits[m][:, None] * view for m, view in views.items()]).sum(dim=0) / total[:, None]
    parts = [shared]
    for m, view in views.items():
        gate = behaviour @ parameters[f"fusion.preferences.{m}.weight"].T + parameters[f"fusion.preferences.{m}.bias"]
        parts.append((view - shared) / (1 + torch.exp(-gate)))
    return parts


def dense_projection(parameters: Mapping[str, Tensor], modality: str, vectors: Floats) -> Tensor:
    """A modality's features, mapped to embeddings."""
    raw = parameters.get(f"features.{modality}", torch.from_numpy(vectors).double())
    return raw @ parameters[f"projections.{modality}.weight"].T + parameters[f"projections.{modality}.bias"]


def with_biases(recommender: nn.Module) -> None:
    """Give a recommender biases that are not zero."""
    torch.manual_seed(1)
    for name, parameter in recommender.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
