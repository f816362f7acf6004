"""HTML page of `mmprep neighbors --html`: an item and its neighbours in each graph, with photos, in one file."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.storage.files import atomic_file
from mmprep.stages.explore.item_lookup import Item
from mmprep.stages.explore.neighbors import GraphNeighbours, ItemNeighbours, Neighbour
from mmprep.stages.explore.thumbnails import Thumbnail, Thumbnails

MARK = b'<meta name="generator" content="mmprep neighbors">'  # in the template's head
HEAD_BYTES = 1024  # of an earlier page, which contain the mark
# Titles are untrusted: even if the escaping missed one, it could neither run nor load anything.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(neighbours: ItemNeighbours, layout: Layout, path: Path) -> None:
    """Write an item and its neighbours as one HTML file, which needs no other file and no network.

    Args:
        neighbours: result of mmprep.stages.explore.neighbors.
        layout: the dataset's paths, including the photos'.
        path: of the file; an earlier page is replaced.

    Raises:
        DataError: there is something else than an earlier page at `path`.
    """
    require_page(path)
    in_graphs = Counter(each.item.item for graph in neighbours.graphs for each in graph.neighbours)
    with PhotoFiles(layout.raw) as photos:
        page = Page(Thumbnails(photos), in_graphs, len(neighbours.graphs)).render(neighbours, layout.dataset)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def require_page(path: Path) -> None:
    """Check that writing a page to `path` replaces nothing but an earlier page.

    Raises:
        DataError: there is a folder, a link, a device or another file.
    """
    if path.is_symlink():
        raise DataError(f"{path}: found a link, expected a new file or an earlier page; name another")
    if path.is_dir():
        raise DataError(f"{path}: found a folder, expected a file, such as {path / 'neighbors.html'}")
    if not path.exists():
        return
    if not path.is_file():
        raise DataError(f"{path}: found a device or a pipe, expected a new file or an earlier page; name another")
    with path.open("rb") as file:
        if MARK not in file.read(HEAD_BYTES):
            raise DataError(f"{path}: exists and is no page of mmprep; name a new file")


@dataclass(frozen=True)
class Page:
    """Values of a page that depend on more than one neighbour.

    Attributes:
        thumbnails: of the dataset's photos.
        in_graphs: the number of graphs in which each item is a neighbour.
        n_graphs: the number of graphs.
    """

    thumbnails: Thumbnails
    in_graphs: Counter[int]
    n_graphs: int

    def render(self, neighbours: ItemNeighbours, dataset: str) -> str:
        """The page as HTML; all text from the dataset is escaped."""
        environment = Environment(
            loader=PackageLoader("mmprep.stages.explore"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"sentence": sentence, "name": name_of}
        template = environment.get_template("neighbors.html")
        return template.render(page=self, neighbours=neighbours, dataset=dataset, policy=POLICY)

    def photo_of(self, item: Item) -> Thumbnail | str:
        """The photo, or the reason why there is none."""
        return self.thumbnails.of(item.image)

    def bar(self, graph: GraphNeighbours, neighbour: Neighbour) -> str:
        """CSS width of a weight's bar: its share of the largest possible weight, or else of the largest one shown."""
        full = graph.weighing.full or max(each.weight for each in graph.neighbours)
        share = min(max(neighbour.weight / full, 0), 1) if full > 0 else 0
        return f"{share:.1%}"


def sentence(words: str) -> str:
    """Words with a capital first letter and a full stop."""
    return f"{words[:1].upper()}{words[1:]}."


def name_of(item: Item) -> str:
    """The title of an item, or a placeholder."""
    return item.title or "(no title)"
