import builtins
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from imports import ROOT
from PIL import Image

from mmprep.pipeline.errors import ParamsError
from mmprep.stages.experiments import figure as experiment_picture
from mmprep.stages.experiments.figure import draw
from mmprep.stages.experiments.runner import Result
from mmprep.stages.experiments.spec import load, points
from mmprep.stages.experiments.table import TableRow, lines
from mmprep.stages.explore.figures import require_matplotlib


def table(name: str, dataset: str = "toys", like: str | None = None) -> list[TableRow]:
    file = load(ROOT / "experiments" / f"{name}.yaml")
    runs = tuple(dict.fromkeys(file.metrics, seed / 10) for seed in (1, 3))
    return lines(file, [Result(point, runs if point.recommender else ()) for point in points(file)], dataset, like)


def drawn(name: str, path: Path, monkeypatch: pytest.MonkeyPatch, like: str | None = None) -> Any:  # noqa: ANN401
    """The figure, which is also written."""
    figures = []
    new_figure = experiment_picture.new_figure
    monkeypatch.setattr(
        experiment_picture, "new_figure", lambda *size: figures.append(new_figure(*size)) or figures[-1]
    )
    draw(load(ROOT / "experiments" / f"{name}.yaml"), "P", table(name, like=like), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
    return figures[0]


def test_a_sweep_is_a_curve_a_row_with_its_deviation_and_the_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn("camgr-table4", tmp_path / "a.png", monkeypatch, like="baby")
    recall, ndcg = figure.axes
    assert (recall.get_ylabel(), ndcg.get_ylabel(), recall.get_xlabel()) == ("recall@20", "ndcg@20", "alpha1")
    _, names = recall.get_legend_handles_labels()
    assert names == ["CAmgr", "CAmgr, published for baby"]
    ours, theirs = (container.lines[0].get_ydata() for container in recall.containers)
    assert list(ours) == pytest.approx([0.2] * 5)
    assert list(theirs) == [0.0592, 0.1035, 0.1056, 0.1010, 0.0479]
    assert [tick.get_text() for tick in recall.get_xticklabels()] == ["0.001", "0.005", "0.01", "0.05", "0.1"]


def test_a_figure_without_axis_is_a_bar_a_line_from_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn("mdr_chca-figure3", tmp_path / "a.png", monkeypatch, like="baby")
    recall, ndcg, _, unused = figure.axes
    assert [bar.get_width() for bar in recall.patches] == pytest.approx([0.2, 0.2, 0.2, 0.0970])
    assert [tick.get_text() for tick in ndcg.get_yticklabels()][-1] == "MDR-CHCA\n(baby, published)"
    assert recall.get_xlabel() == "recall@20"
    assert recall.yaxis_inverted()
    assert not unused.get_visible()


def test_names_of_bars_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for panel in drawn("camgr-figure2", tmp_path / "a.png", monkeypatch).axes:
        boxes = [tick.get_window_extent() for tick in panel.get_yticklabels()]
        assert len(boxes) == 6
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_points_without_numbers_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn("da_mrs-figure3a", tmp_path / "a.png", monkeypatch)
    _, names = figure.axes[0].get_legend_handles_labels()
    assert "SLMRec, published for baby" in names
    assert "SLMRec" not in names


def test_without_the_library_one_line_tells_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def no_matplotlib(name: str, *rest: Any) -> Any:  # noqa: ANN401
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ParamsError) as raised:
        require_matplotlib("toys")
    assert str(raised.value) == (
        "toys: drawing needs Matplotlib, which is not installed; run `pip install -c constraints.txt 'mmprep[plots]'`"
    )
