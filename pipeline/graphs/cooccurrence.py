"""Co-occurrence graphs: items with common users, users with common items."""

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
    """A co-occurrence graph of the columns of a matrix.

    Attributes:
        edges: each column's k strongest neighbours; weights are counts of common rows.
        candidates: [columns] i64, number of neighbours before the cut to k.
        cut: number of columns with more than k neighbours.
        tied: number of those that lost a neighbour as strong as the last one kept.
        left_out: number of rows of the interactions excluded for more than max_degree entries.
        left_out_interactions: number of entries in those rows.
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
    """Connect the columns of a binary matrix by their number of common rows (docs/papers/da_mrs.md#behaviour-graph).

    No column is its own neighbour; ties are broken by the smaller index. The matrix of all counts is never held in
    memory, and the result depends neither on the blocks nor on the number of threads.

    Args:
        interactions: binary [n_users, n_items] for a graph of items, its transpose for users.
        params: the minimum count, k, and the maximum number of entries of a row.
        progress: reports the counted pairs.
        block_entries: number of counts that a thread holds at once.
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
    tied, parts = 0, [ranks.edges(np.empty(0, dtype=np.int64), 0)]

    def neighbours(block: slice) -> tuple[Edges, int]:
        packed = neighbours_of(counts, block, params.min_count, ranks)
        candidates[block] = np.bincount(ranks.row(packed), minlength=block.stop - block.start)
        return keep_k(packed, candidates[block], block.start, params.k, ranks)

    with progress("common neighbours", int(counts.products.sum()), "pairs") as advance:
        for block, (edges, tied_here) in zip(blocks, in_threads(neighbours, blocks), strict=True):
            parts.append(edges)
            tied += tied_here
            advance(int(counts.products[block].sum()), "")
    cut = int((candidates > params.k).sum())
    return Cooccurrence(joined(parts), candidates, cut, tied, left_out, left_out_interactions)


def warn(params: CooccurrenceParams, left_out: int, n_rows: int, interactions: int) -> None:
    """Warn that `max_degree` excluded nodes."""
    section, rows = ("user_user", "items") if isinstance(params, UserUserParams) else ("cooccurrence", "users")
    logger.warning(
        "graphs.%s: %d of %d %s have more than %d train interactions and are excluded: %d interactions are left out; "
        "raise graphs.%s.max_degree to count them",
        *(section, left_out, n_rows, rows, params.max_degree, interactions, section),
    )


def neighbours_of(counts: CommonCounts, block: slice, min_count: int, ranks: Ranks) -> Numbers:
    """The neighbours of a block's columns with at least `min_count` common rows, packed by `ranks`, sorted."""
    common = counts.block(block)
    enough = np.flatnonzero(common.data >= min_count)
    # Most counts are 1, so rows are computed only for the counts that are kept.
    rows = np.repeat(np.arange(common.shape[0]), np.diff(np.searchsorted(enough, common.indptr)))
    is_other = common.indices[enough] != rows + block.start
    kept = enough[is_other]
    packed = ranks.pack(rows[is_other], common.data[kept], common.indices[kept])
    packed.sort()
    return packed


def keep_k(packed: Numbers, candidates: Numbers, start: int, k: int, ranks: Ranks) -> tuple[Edges, int]:
    """The first k neighbours of each row, and the number of rows that lose one as strong as the last one kept.

    Args:
        packed: [neighbours] packed by `ranks`, sorted.
        candidates: [rows] number of neighbours of each row.
        start: the column of row 0.
        k: neighbours to keep.
        ranks: the packing of `packed`.
    """
    first = np.cumsum(candidates) - candidates
    kept = np.arange(len(packed)) < np.repeat(first + k, candidates)
    last = first[candidates > k] + k - 1
    tied = ranks.count(packed[last]) == ranks.count(packed[last + 1])
    return ranks.edges(packed[kept], start), int(tied.sum())


def joined(parts: list[Edges]) -> Edges:
    """Concatenate edges."""
    return Edges(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("source", "target", "weight")))


def co_bought(
    interactions: csr_array, source: Indices, target: Indices, *, block_entries: int = BLOCK_ENTRIES
) -> npt.NDArray[np.bool_]:
    """Whether the two items of each pair have a common user, [pairs].

    Args:
        interactions: binary [n_users, n_items].
        source: [pairs] one item of each pair.
        target: [pairs] the other; an item paired with itself has a common user if it has any user.
        block_entries: number of users looked up at once; more only if a single item has more.
    """
    users = csr_array(interactions.T)
    n_items, n_users = users.shape
    degree = np.diff(users.indptr).astype(np.int64)
    known = np.repeat(np.arange(n_items), degree) * n_users + users.indices
    # The rarer item's users are looked up among the other's, so that a bestseller in many pairs is cheap.
    swapped = degree[source] > degree[target]
    rarer, other = np.where(swapped, target, source), np.where(swapped, source, target)
    shared = np.zeros(len(rarer), dtype=np.bool_)
    for block in blocks_of(degree[rarer], block_entries, block_entries):
        sizes = degree[rarer[block]]
        pair = np.repeat(np.arange(block.start, block.stop), sizes)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        key = other[pair].astype(np.int64) * n_users + users.indices[users.indptr[rarer[pair]] + within]
        place = np.searchsorted(known, key)
        hit = known[np.minimum(place, len(known) - 1)] == key
        shared[pair[hit]] = True
    return shared


def co_bought_share(interactions: csr_array, *, block_entries: int = BLOCK_ENTRIES) -> float:
    """Share of all ordered pairs of different items that have a common user, 0 for fewer than two items.

    Args:
        interactions: binary [n_users, n_items].
        block_entries: number of pairs that a thread holds at once; more only if a single item has more.
    """
    counts = CommonCounts.of(interactions)
    n = counts.n_columns
    pairs = sum(in_threads(lambda block: int(counts.block(block).nnz), counts.blocks(block_entries, max(1, n))))
    with_itself = int(np.count_nonzero(counts.degree))
    return (pairs - with_itself) / (n * (n - 1)) if n > 1 else 0.0
