"""Verb `recommend`: a user's history, and a trained recommender's list for them."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mmprep.models.recommenders.catalogue import describe
from mmprep.pipeline.errors import DataError, MissingInputError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.freshness import require_fresh
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import RECOMMENDATIONS, SPLIT_INTERACTIONS, SPLITS, TEST
from mmprep.pipeline.text import printable
from mmprep.stages.explore.item_lookup import Item, Items
from mmprep.stages.explore.user_lookup import look_up_user, read_rows
from mmprep.stages.training.run import VALIDATION, read_training


@dataclass(frozen=True)
class Interaction:
    """An interaction of the user.

    Attributes:
        item: the item.
        split: `train`, `val` or `test`.
        rating: None where the source has none.
    """

    item: Item
    split: str
    rating: float | None


@dataclass(frozen=True)
class Recommendation:
    """An item of a user's list.

    Attributes:
        rank: from 1.
        item: the item.
        score: the recommender's score, which orders the list.
        split: the split of the user's interaction with the item; empty if there is none.
    """

    rank: int
    item: Item
    score: float
    split: str


@dataclass(frozen=True)
class UserRecommendations:
    """A user's history and list.

    Attributes:
        user: dense index.
        user_id: the original id.
        recommender: that made the list.
        history: interactions in train, then in val and test, the oldest first.
        recommended: the best first.
        notes: caveats on the list.
    """

    user: int
    user_id: str
    recommender: str
    history: tuple[Interaction, ...]
    recommended: tuple[Recommendation, ...]
    notes: tuple[str, ...]

    history_columns = ("split", "item", "title", "rating")
    columns = ("rank", "item", "title", "score", "hit")

    @property
    def title(self) -> str:
        """Table title: the recommender, and its hits among the user's test items."""
        relevant = sum(each.split == TEST for each in self.history)
        hits = sum(each.split == TEST for each in self.recommended)
        return f"{self.recommender}: {hits} of {relevant} test items among the best {len(self.recommended)}"

    def history_rows(self) -> list[tuple[str, ...]]:
        """Each item's split, id, title and rating, safe to print."""
        return [
            (each.split, *id_and_title(each.item), "" if each.rating is None else f"{each.rating:g}")
            for each in self.history
        ]

    def rows(self) -> list[tuple[str, ...]]:
        """Each recommended item's rank, id, title, score and split, safe to print."""
        return [
            (str(each.rank), *id_and_title(each.item), f"{each.score:.4f}", each.split) for each in self.recommended
        ]


def id_and_title(item: Item) -> tuple[str, str]:
    """An item's id and title, safe to print."""
    return printable(item.item_id), printable(item.title)


def find(layout: Layout, recommender: str | None, user: str, k: int = 10) -> UserRecommendations:
    """Find a user's history and their list from an evaluated recommender.

    Args:
        layout: the dataset's paths.
        recommender: its name; None for the trained one with the best validation Recall@20.
        user: the original id, or `#` and the dense index.
        k: maximum length of the list; the lists that `evaluate` writes have 50 items.

    Raises:
        ParamsError: k is not positive, or there is no such recommender.
        MissingInputError: there are no users, or no such recommender has been trained and evaluated.
        DataError: there is no such user, or a file is damaged, or the lists are stale: the recommender or the split has
            changed since.
    """
    if k < 1:
        raise ParamsError(f"k: found {k}, expected 1 or more")
    if recommender is not None:
        describe(recommender)
    number, user_id = look_up_user(layout, user)
    notes = []
    if recommender is None:
        recommender, note = best_on_validation(layout)
        notes.append(note)
    items = Items(layout)
    best = read_list(layout, recommender, number, items)[:k]
    history = read_history(layout, number, items)
    splits = {each.item.item: each.split for each in history}
    recommended = tuple(Recommendation(rank, item, score, splits.get(item.item, "")) for rank, item, score in best)
    if not recommended:
        notes.append("this user has no list, as they have no train interactions")
    return UserRecommendations(number, user_id, recommender, history, recommended, tuple(notes))


def best_on_validation(layout: Layout) -> tuple[str, str]:
    """The trained recommender with the best validation Recall@20, on ties the first by name, and a note about it.

    Raises:
        MissingInputError: none is trained.
        DataError: a file of validation metrics is damaged.
    """
    runs = layout.run("*").folder.parent
    names = [path.parent.name for path in sorted(runs.glob("[!.]*/training.json"))]
    validation = {name: read_training(layout.run(name), name)[VALIDATION] for name in names}
    if not validation:
        raise MissingInputError(f"{runs}: no trained recommender; run `dvc repro` or `mmprep train` first")
    best = max(validation, key=lambda name: validation[name])
    return best, f"{best} has the best validation Recall@20, {validation[best]:.4f}, of the {len(validation)} trained"


def read_history(layout: Layout, user: int, items: Items) -> tuple[Interaction, ...]:
    """A user's interactions in train, then in val and test, the oldest first; reading errors propagate."""
    path, again = layout.interactions, "mmprep split"
    rows = read_rows(path, SPLIT_INTERACTIONS, user, again)
    split = pl.col("split").replace_strict(SPLITS, range(len(SPLITS)), default=len(SPLITS))
    rows = rows.sort(split, "timestamp", "item").select("item", "split", "rating")
    known = items_of(rows, items, path, again)
    return tuple(Interaction(known[item], split, rating) for item, split, rating in rows.iter_rows())


def items_of(rows: pl.DataFrame, items: Items, path: Path, again: str) -> dict[int, Item]:
    """The items of a table's column `item`; raises DataError where there is no such item."""
    known = items.at(rows["item"])
    if unknown := set(rows["item"]) - known.keys():
        raise DataError(f"{path}: found item {min(unknown)}, which is not in the dataset; run `{again}` again")
    return known


def read_list(layout: Layout, recommender: str, user: int, items: Items) -> list[tuple[int, Item, float]]:
    """A user's list as ranks, items and scores, the best first.

    Raises:
        MissingInputError: the recommender has not been evaluated.
        DataError: the file is damaged, or users, items, interactions or embeddings have changed since.
    """
    path, again = layout.run(recommender).recommendations, f"mmprep evaluate --recommender {recommender}"
    if not path.exists():
        evaluated = sorted(
            each.parent.name for each in layout.run("*").folder.parent.glob("[!.]*/recommendations.parquet")
        )
        hint = f" (lists here: {', '.join(evaluated)})" if evaluated else ""
        raise MissingInputError(f"{path}: not found; run `{again}` first{hint}")
    inputs = read_provenance(path).get("inputs")
    if not isinstance(inputs, dict):
        raise DataError(f"{path}: damaged provenance: no inputs; run `{again}` again")
    require_fresh(path, inputs, layout, again)
    rows = read_rows(path, RECOMMENDATIONS, user, again).sort("rank")
    known = items_of(rows, items, path, again)
    return [(rank, known[item], score) for rank, item, score in rows.select("rank", "item", "score").iter_rows()]
