"""Picture of `mmprep tsne`: one row per modality, with its raw and its refined features side by side."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mmprep.stages.explore.figures import new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType as Colour

WIDTH, HEIGHT = 3.9, 3.6  # of a panel, in inches
LEGEND, EDGES = 2.4, 0.9  # beside the panels, and above and below them
COLUMNS = 2
LONGEST = 32  # letters of a category in the legend
OTHER, NONE = "other", "no category"  # grey, and last in the legend
GREYS: "dict[str, Colour]" = {OTHER: "0.65", NONE: "0.82"}


@dataclass(frozen=True)
class Panel:
    """One map of items.

    Attributes:
        title: the features that were mapped.
        points: [n, 2].
    """

    title: str
    points: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """Content of a picture.

    Attributes:
        title: above all panels.
        panels: two per row, of the same items.
        categories: one per item, which determines its colour.
        notes: caveats, below the panels.
    """

    title: str
    panels: Sequence[Panel]
    categories: Sequence[str]
    notes: Sequence[str]


def draw(picture: Picture, path: Path) -> None:
    """Draw a picture as PNG."""
    from matplotlib.lines import Line2D

    rows = -(-len(picture.panels) // COLUMNS)
    figure = new_figure(WIDTH * COLUMNS + LEGEND, HEIGHT * rows + EDGES)
    colours = colours_of(picture.categories)
    for axes, panel in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, picture.panels, strict=True):
        draw_panel(axes, panel, [colours[name] for name in picture.categories])
    figure.suptitle(picture.title, fontsize="x-large")
    dots = [Line2D([], [], color=colour, marker="o", linestyle="") for colour in colours.values()]
    legend = figure.legend(dots, list(map(label, colours)), loc="outside right center", frameon=False, fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)  # external text: a dollar sign in it starts no formula
    if picture.notes:
        figure.supxlabel("\n".join(picture.notes), fontsize="small", color="0.35")
    write_figure(figure, path)


def draw_panel(axes: "Axes", panel: Panel, colours: "Sequence[Colour]") -> None:
    """Draw one map; its axes have no meaning, so they get no ticks."""
    across, up = panel.points.T
    axes.scatter(across, up, c=colours, s=16, alpha=0.85, linewidths=0)
    axes.set_title(panel.title)
    axes.set_xticks([])
    axes.set_yticks([])


def colours_of(categories: Sequence[str]) -> "dict[str, Colour]":
    """A colour for each category, the most frequent first, the grey ones last; at most ten that are not grey."""
    from matplotlib import colormaps

    order = Counter(categories)
    names = sorted(order.keys() - GREYS.keys(), key=lambda name: (-order[name], name))
    colours: dict[str, Colour] = {name: colormaps["tab10"](number) for number, name in enumerate(names)}
    return colours | {name: grey for name, grey in GREYS.items() if name in order}


def label(category: str) -> str:
    """A category's name in the legend, where Matplotlib ignores names that begin with an underscore."""
    return shorten(category.lstrip("_"), LONGEST, placeholder="...") or "(no name)"
