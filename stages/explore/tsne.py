"""Verb `tsne`: t-SNE maps of item features before and after a recommender refines them (CAmgr, Figures 4, 5)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmprep.models.recommenders.base import Recommender
from mmprep.models.recommenders.catalogue import CATALOGUE
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.tables.schemas import ITEMS
from mmprep.pipeline.text import PATH_STEP, PATHS
from mmprep.stages.explore.figures import require_matplotlib
from mmprep.stages.explore.neighbors import notes_of_dataset
from mmprep.stages.explore.report import warnings_for
from mmprep.stages.explore.tsne_figure import NONE, OTHER, Panel, Picture, draw
from mmprep.stages.training.load_run import LoadedRun, load_run

LEAST_ITEMS = 10
PERPLEXITY = 30.0  # roughly the number of neighbours of a point
COLOURS = 9  # categories with a colour of their own

Points = npt.NDArray[np.float32]


def run(
    layout: Layout, recommender: str, items: int = 500, seed: int = 0, progress: Progress = silent
) -> dict[str, Any]:
    """Draw items by t-SNE of each modality's raw and refined features, coloured by category.

    Args:
        layout: the dataset's paths.
        recommender: a trained one that refines features.
        items: the maximum number, sampled at random from the items with features in every modality.
        seed: of the sample, and of t-SNE.
        progress: reports the maps.

    Returns:
        The picture's path, and the number of items in it.

    Raises:
        ParamsError: Matplotlib is not installed, or the recommender refines no features.
        MissingInputError: it is not trained.
        DataError: it is damaged or stale, or there are too few items.
    """
    require_matplotlib("tsne")
    loaded = load_run(layout, recommender)
    with torch.inference_mode():
        views = {m: view.numpy() for m, view in loaded.recommender.item_views().items()}
    if not views:
        raise ParamsError(f"recommender: {recommender} refines no features; these do: {', '.join(refining())}")
    eligible = with_features(layout, loaded.run.config.features)
    chosen = sample(eligible, items, seed)
    with progress("t-SNE", 2 * len(views), "maps") as advance:
        panels = []
        for title, vectors in titled(layout, recommender, loaded, views):
            panels.append(Panel(title, embedded(vectors[chosen], seed)))
            advance(1, title)
    path = layout.picture(f"tsne_{recommender}")
    count = f"{len(chosen)} items" if len(chosen) == len(eligible) else f"{len(chosen)} of {len(eligible)} items"
    title = f"{layout.dataset}: {count} by t-SNE, before and after {recommender}"
    draw(Picture(title, panels, categories(layout)[chosen].tolist(), tuple(notes(layout, loaded))), path)
    return {"picture": str(path), "items": len(chosen)}


def refining() -> list[str]:
    """The recommenders that refine features."""
    return [name for name, row in CATALOGUE.items() if row.load().item_views is not Recommender.item_views]


def titled(
    layout: Layout, recommender: str, loaded: LoadedRun, views: Mapping[str, Points]
) -> Iterator[tuple[str, Points]]:
    """The title and the features of each map: raw and refined ones of each modality."""
    for modality, view in views.items():
        encoder = loaded.run.config.features[modality]
        random = " (random weights)" if warnings_for(layout.features(encoder)) else ""
        yield f"{modality}: features of {encoder}{random}", loaded.data.features[modality]
        yield f"{modality}: refined by {recommender}", view


def with_features(layout: Layout, encoders: Mapping[str, str]) -> npt.NDArray[np.int64]:
    """The items with a vector of their own in every modality.

    Raises:
        DataError: there are too few for a picture.
    """
    eligible = reduce(np.intersect1d, (FeatureSet.of(layout, encoder).vectors().items for encoder in encoders.values()))
    if len(eligible) < LEAST_ITEMS:
        raise DataError(f"{len(eligible)} items have all features, expected {LEAST_ITEMS} or more for a picture")
    return eligible.astype(np.int64)


def sample(eligible: npt.NDArray[np.int64], items: int, seed: int) -> npt.NDArray[np.int64]:
    """A random sample of `items` items, or all if there are fewer, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(eligible)[:items])


def embedded(vectors: Points, seed: int) -> Points:
    """Map vectors [n, d] to the plane, [n, 2], by t-SNE (van der Maaten and Hinton, JMLR 2008)."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    # With several threads, the order of summation differs between runs.
    with threadpool_limits(1):
        points: Points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
    return points


def categories(layout: Layout) -> npt.NDArray[np.str_]:
    """Category that colours each item, [n_items]: the first level of its first category path at which items differ.

    All paths of Amazon Baby begin with Baby. The COLOURS most frequent categories keep their names, the rest are OTHER.
    """
    paths = ITEMS.read(layout.items, ["item", "categories"])["categories"]
    steps = [path.split(PATHS)[0].split(PATH_STEP) if path else [] for path in paths]
    depth = first_difference([each for each in steps if each])
    names = [each[min(depth, len(each) - 1)] if each else NONE for each in steps]
    frequent = {name for name, _ in Counter(names).most_common(COLOURS)}
    return np.array([name if name in frequent else OTHER for name in names])


def first_difference(paths: Sequence[Sequence[str]]) -> int:
    """The first level at which paths differ; the last level if none does."""
    depths = range(max(map(len, paths), default=1))
    differ = (depth for depth in depths if len({path[depth] for path in paths if len(path) > depth}) > 1)
    return next(differ, depths[-1])


def notes(layout: Layout, loaded: LoadedRun) -> Iterator[str]:
    """Caveats on the picture."""
    yield from notes_of_dataset(layout)
    for encoder in loaded.run.config.features.values():
        yield from warnings_for(layout.features(encoder))
