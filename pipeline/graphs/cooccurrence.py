"""Nodes joined by what they have in common: items by their users, users by their items."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mmprep.pipeline.graphs.common_counts import BLOCK_ENTRIES, CommonCounts, Numbers, blocks_of, in_threads
from mmprep.pipeline.graphs.edges import Edges, Indices
from mmprep.pipeline.graphs.packed_ranks import Ranks
from mmprep.pipeline.graphs.params import CooccurrenceParams, UserUserParams
from mmprep.pipeline.progress import Progress, silent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cooccurrence:
    """Columns joined by the rows that they have in common.

    Attributes:
        edges: each column's k strongest neighbours; weights are counts of common rows.
        candidates: [columns] i64, how many neighbours each had before the cut by k.
        cut: how many columns had more than k.
        tied: how many of those lost a neighbour as strong as the last one kept.
        left_out: how many rows of the interactions had more than max_degree entries and joined nobody.
        left_out_interactions: how many entries those rows had.
    """

    edges: Edges
    candidates: Numbers
    cut: int
    tied: int
    left_out: int
    left_out_interactions: int


def cooccurrence_graph(
    interactions: csr_array,
    params: CooccurrenceParams,
    progress: Progress = silent,
    *,
    block_entries: int = BLOCK_ENTRIES,
) -> Cooccurrence:
    """Join the columns of a binary matrix by their number of common rows (docs/papers/da_mrs.md#behaviour-graph).

    No column is its own neighbour; of equally strong ones those of smaller index come first. The matrix of all counts
    is never held, and the result depends neither on the blocks nor on the number of threads.

    Args:
        interactions: binary [n_users, n_items] to join items, its transpose to join users.
        params: the threshold, k, and the largest row that joins anything.
        progress: shown the pairs that are counted.
        block_entries: how many counts a thread holds at once.
    """
    degree = np.diff(interactions.indptr)
    over = degree > params.max_degree
    left_out, left_out_interactions = int(over.sum()), int(degree[over].sum())
    if left_out:
        warn(params, left_out, len(degree), left_out_interactions)
    counts = CommonCounts.of(interactions[np.flatnonzero(~over)] if left_out else interactions)
    ranks = Ranks.of(counts)
    blocks = counts.blocks(block_entries, ranks.most_rows)
    candidates = np.zeros(counts.n_columns, dtype=np.int64)
    tied, found = 0, [ranks.edges(np.empty(0, dtype=np.int64), 0)]

    def neighbours(block: slice) -> tuple[Edges, int]:
        packed = neighbours_of(counts, block, params.min_count, ranks)
        candidates[block] = np.bincount(ranks.row(packed), minlength=block.stop - block.start)
        return keep_k(packed, candidates[block], block.start, params.k, ranks)

    with progress("common neighbours", int(counts.products.sum()), "pairs") as advance:
        for block, (edges, tied_here) in zip(blocks, in_threads(neighbours, blocks), strict=True):
            found.append(edges)
            tied += tied_here
            advance(int(counts.products[block].sum()), "")
    cut = int((candidates > params.k).sum())
    return Cooccurrence(joined(found), candidates, cut, tied, left_out, left_out_interactions)


def warn(params: CooccurrenceParams, left_out: int, n_rows: int, interactions: int) -> None:
    """Say that `max_degree` bites."""
    section, rows = ("user_user", "items") if isinstance(params, UserUserParams) else ("cooccurrence", "users")
    logger.warning(
        "graphs.%s: %d of %d %s have more than %d train interactions and join nobody: %d interactions are left out; "
        "raise graphs.%s.max_degree to count them",
        *(section, left_out, n_rows, rows, params.max_degree, interactions, section),
    )


def neighbours_of(counts: CommonCounts, block: slice, min_count: int, ranks: Ranks) -> Numbers:
    """The neighbours of a block's columns that have enough in common, as `ranks`, sorted."""
    found = counts.block(block)
    enough = np.flatnonzero(found.data >= min_count)
    # Most counts are 1, so rows are told of those that are kept, not of all.
    rows = np.repeat(np.arange(found.shape[0]), np.diff(np.searchsorted(enough, found.indptr)))
    others = found.indices[enough] != rows + block.start
    kept = enough[others]
    packed = ranks.pack(rows[others], found.data[kept], found.indices[kept])
    packed.sort()
    return packed


def keep_k(packed: Numbers, candidates: Numbers, start: int, k: int, ranks: Ranks) -> tuple[Edges, int]:
    """The first k neighbours of each row, and how many rows lose one as strong as the last that they keep.

    Args:
        packed: [neighbours] as `ranks`, sorted.
        candidates: [rows] how many neighbours each row has.
        start: the column that row 0 is.
        k: neighbours to keep.
        ranks: what `packed` is.
    """
    first = np.cumsum(candidates) - candidates
    kept = np.arange(len(packed)) < np.repeat(first + k, candidates)
    last = first[candidates > k] + k - 1
    tied = ranks.count(packed[last]) == ranks.count(packed[last + 1])
    return ranks.edges(packed[kept], start), int(tied.sum())


def joined(parts: list[Edges]) -> Edges:
    """The edges of all parts, one after the other."""
    return Edges(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("source", "target", "weight")))


def co_bought(
    interactions: csr_array, source: Indices, target: Indices, *, block_entries: int = BLOCK_ENTRIES
) -> npt.NDArray[np.bool_]:
    """Whether items were bought together: whether the two of each pair have a common user, [pairs].

    Args:
        interactions: binary [n_users, n_items].
        source: [pairs] one item of each pair.
        target: [pairs] the other; the same item again has a common user if it has any.
        block_entries: how many users are looked up at once; more only where a single item has more.
    """
    users = csr_array(interactions.T)
    n_items, n_users = users.shape
    degree = np.diff(users.indptr).astype(np.int64)
    known = np.repeat(np.arange(n_items), degree) * n_users + users.indices
    # The users of the rarer item are looked up among the other's, so that a bestseller in many pairs costs little.
    swapped = degree[source] > degree[target]
    rarer, other = np.where(swapped, target, source), np.where(swapped, source, target)
    found = np.zeros(len(rarer), dtype=np.bool_)
    for block in blocks_of(degree[rarer], block_entries, block_entries):
        sizes = degree[rarer[block]]
        pair = np.repeat(np.arange(block.start, block.stop), sizes)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        wanted = other[pair].astype(np.int64) * n_users + users.indices[users.indptr[rarer[pair]] + within]
        place = np.searchsorted(known, wanted)
        hit = known[np.minimum(place, len(known) - 1)] == wanted
        found[pair[hit]] = True
    return found


def co_bought_share(interactions: csr_array, *, block_entries: int = BLOCK_ENTRIES) -> float:
    """Share of all ordered pairs of different items that have a common user, 0 for fewer than two items.

    Args:
        interactions: binary [n_users, n_items].
        block_entries: how many pairs a thread holds at once; more only where a single item has more.
    """
    counts = CommonCounts.of(interactions)
    n = counts.n_columns
    pairs = sum(in_threads(lambda block: int(counts.block(block).nnz), counts.blocks(block_entries, max(1, n))))
    with_itself = int(np.count_nonzero(counts.degree))
    return (pairs - with_itself) / (n * (n - 1)) if n > 1 else 0.0
