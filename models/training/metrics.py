"""Recall, precision and NDCG of ranked lists (docs/papers/conventions.md#metrics)."""

import numpy as np
import numpy.typing as npt

CUTOFFS = (5, 10, 20, 50)


Floats = npt.NDArray[np.float64]


def ranking_metrics(
    hits: npt.NDArray[np.bool_], relevant: npt.NDArray[np.int64], cutoffs: tuple[int, ...] = CUTOFFS
) -> dict[str, float]:
    """Average each of `user_metrics` over users, as `recall@5`, `precision@5`, `ndcg@5` and so on."""
    return {name: float(values.mean()) for name, values in user_metrics(hits, relevant, cutoffs).items()}


def user_metrics(
    hits: npt.NDArray[np.bool_], relevant: npt.NDArray[np.int64], cutoffs: tuple[int, ...] = CUTOFFS
) -> dict[str, Floats]:
    """Each metric of each user, [users].

    Recall is hits / relevant items, precision hits / cutoff; NDCG has gain 1 for a hit, discount 1 / log2(rank + 1)
    and an ideal list of min(relevant, cutoff) hits.

    Args:
        hits: [users, at least the largest cutoff, or all items if they are fewer]: whether the item at a rank is
            relevant.
        relevant: [users] number of relevant items of each user, at least 1.
        cutoffs: list lengths.
    """
    discount = 1 / np.log2(np.arange(2, max(cutoffs) + 2))
    ideal = np.cumsum(discount)
    metrics: dict[str, list[Floats]] = {"recall": [], "precision": [], "ndcg": []}
    for k in cutoffs:
        top = hits[:, :k]
        n_hits = top.sum(axis=1)
        gain = top @ discount[: top.shape[1]]
        metrics["recall"].append(n_hits / relevant)
        metrics["precision"].append(n_hits / k)
        metrics["ndcg"].append(gain / ideal[np.minimum(relevant, k) - 1])
    return {f"{name}@{k}": value for name, values in metrics.items() for k, value in zip(cutoffs, values, strict=True)}
