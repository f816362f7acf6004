"""Picture of an experiment file: curves along its axis, or bars; ours filled, the published ones hollow."""

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from mmprep.stages.experiments.spec import ExperimentSpec
from mmprep.stages.experiments.table import TableRow
from mmprep.stages.explore.figures import new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_METRICS = 4  # panels of a picture; the CSV has all
COLUMNS = 2
WIDTH, HEIGHT = 5.0, 3.4  # of a panel, in inches
LEGEND = 0.25  # height of a legend line, which holds two names per panel
DASHES = ("--", ":", "-.", (0, (1, 4)))  # of the published curves, dataset by dataset


def draw(file: ExperimentSpec, paper: str, lines: Sequence[TableRow], path: Path) -> None:
    """Draw one panel per metric, recall@20 first, at most MOST_METRICS."""
    metrics = sorted(file.metrics, key=lambda metric: metric != "recall@20")[:MOST_METRICS]
    columns = min(COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    named = len({(line.row, line.dataset, line.published) for line in lines}) if file.x else 0
    figure = new_figure(WIDTH * columns, HEIGHT * rows + LEGEND * (2 - named // (-2 * columns)))
    axis = "y" if file.x else "x"  # bars are horizontal, to leave room for their names
    panels = iter(figure.subplots(rows, columns, squeeze=False).flat)
    for metric, panel in zip(metrics, panels, strict=False):
        column = file.metrics.index(metric)
        draw_panel(panel, file, [line for line in lines if line.means[column] is not None], column)
        panel.set(**{f"{axis}label": metric})
        panel.grid(axis=axis, alpha=0.3)
    for unused in panels:
        unused.set_visible(False)
    datasets = ", ".join(dict.fromkeys(line.dataset for line in lines if not line.published))
    figure.suptitle(f"{paper}, {file.source}: {datasets}")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if labels:
        legend_columns = min(2 * columns, len(labels))
        figure.legend(handles, labels, loc="outside lower center", ncols=legend_columns, fontsize="small")
    write_figure(figure, path)


def draw_panel(panel: "Axes", file: ExperimentSpec, lines: Sequence[TableRow], column: int) -> None:
    """Draw one metric."""
    groups: dict[tuple[str, str, bool], list[TableRow]] = {}
    for line in lines:
        groups.setdefault((line.row, line.dataset, line.published), []).append(line)
    if file.x is None:
        draw_bars(panel, lines, column)
        return
    colours = {row.label: f"C{number % 10}" for number, row in enumerate(file.rows)}
    ticks = list(file.x.values)  # evenly spaced, as steps are mostly powers of ten or have a 0
    for (row, dataset, published), group in groups.items():
        label = f"{row}, published for {dataset}" if published else row
        dashes = DASHES[file.datasets.index(dataset) % len(DASHES)] if published else "-"
        across = [ticks.index(line.x) for line in group]
        heights = [line.means[column] or 0.0 for line in group]
        spread = [line.deviations[column] or 0.0 for line in group]
        curve = panel.errorbar(
            across, heights, spread, label=label, color=colours[row], marker="o", linestyle=dashes, capsize=3
        )
        curve.lines[0].set_markerfacecolor("none" if published else colours[row])
    panel.set_xticks(range(len(ticks)), [f"{tick:g}" if isinstance(tick, float) else str(tick) for tick in ticks])
    panel.set_xlabel(file.x.name)


def draw_bars(panel: "Axes", lines: Sequence[TableRow], column: int) -> None:
    """Draw one bar per line."""
    names = [f"{line.label}\n({line.dataset}, published)" if line.published else line.label for line in lines]
    lengths = [line.means[column] or 0.0 for line in lines]
    spread = [line.deviations[column] or nan for line in lines]  # nan is not drawn
    faces = ["none" if line.published else "C0" for line in lines]
    panel.barh(range(len(lines)), lengths, xerr=spread, color=faces, edgecolor="C0", capsize=3)
    panel.set_yticks(range(len(lines)), names, fontsize="small")
    panel.invert_yaxis()
