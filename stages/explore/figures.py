"""Pictures, drawn by Matplotlib, which is an optional dependency."""

from pathlib import Path
from typing import TYPE_CHECKING

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.storage.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def require_matplotlib(place: str) -> None:
    """Check that Matplotlib is installed.

    Args:
        place: the command or option that draws, for the message.

    Raises:
        ParamsError: Matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ParamsError(
            f"{place}: drawing needs Matplotlib, which is not installed; run `pip install -c constraints.txt "
            "'mmprep[plots]'`"
        ) from error


def new_figure(width: float, height: float) -> "Figure":
    """An empty picture of a size in inches; needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a picture as PNG, atomically."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
