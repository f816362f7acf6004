"""The page of `mmprep neighbors --html`: an item and its neighbours in each graph, photos side by side, in one file."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.storage.files import atomic_file
from mmprep.stages.explore.item_lookup import Item
from mmprep.stages.explore.neighbors import GraphNeighbours, ItemNeighbours, Neighbour
from mmprep.stages.explore.neighbors_style import STYLE
from mmprep.stages.explore.thumbnails import Thumbnails

# Titles are untrusted: should one slip through the escaping, it can neither run nor load anything.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(neighbours: ItemNeighbours, layout: Layout, path: Path) -> None:
    """Write an item and its neighbours as one HTML file, which needs no other file and no network.

    Args:
        neighbours: what mmprep.stages.explore.neighbors found.
        layout: the dataset's paths, below which the photos lie.
        path: of the file; an older one is replaced.

    Raises:
        DataError: there is a folder at `path`.
    """
    if path.is_dir():
        raise DataError(f"{path}: found a folder, expected a file, such as {path / 'neighbors.html'}")
    in_graphs = Counter(each.item.item for graph in neighbours.graphs for each in graph.neighbours)
    with PhotoFiles(layout.raw) as photos:
        page = Page(Thumbnails(photos), in_graphs, len(neighbours.graphs)).render(neighbours, layout.dataset)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


@dataclass(frozen=True)
class Page:
    """The parts of a page, as HTML.

    Attributes:
        thumbnails: of the dataset's photos.
        in_graphs: in how many graphs each item is a neighbour.
        n_graphs: how many graphs there are.
    """

    thumbnails: Thumbnails
    in_graphs: Counter[int]
    n_graphs: int

    def render(self, neighbours: ItemNeighbours, dataset: str) -> str:
        """The whole page."""
        item = neighbours.item
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>Neighbours of {escape(name_of(item))}</title>
<style>{STYLE}</style>
</head>
<body>
<header class="item">
{self.photo(item)}
<div><h1 dir="auto">{escape(name_of(item))}</h1><p class="soft">{facts_of(item)}</p></div>
</header>
{notes_as_html(neighbours.notes)}
{"".join(map(self.graph, neighbours.graphs))}
<footer class="soft">Nearest neighbours in {self.n_graphs} graphs of dataset {escape(dataset)}.</footer>
</body>
</html>
"""

    def graph(self, graph: GraphNeighbours) -> str:
        """One graph: its name, what its weights are, and the neighbours in their order."""
        if graph.lack:
            shown = f'<p class="none">No neighbours: the graph {escape(graph.lack)}.</p>'
        else:
            shown = f"<ol>{''.join(self.card(graph, each) for each in graph.neighbours)}</ol>"
        return f"""<section>
<h2>{escape(graph.graph)}</h2>
<p class="soft">{escape(sentence(graph.what))} {escape(sentence(graph.weighing.meaning))}</p>
{notes_as_html(graph.notes)}
{shown}
</section>
"""

    def card(self, graph: GraphNeighbours, neighbour: Neighbour) -> str:
        """One neighbour: photo, title, id, and the weight as a number and as a bar."""
        item, weighing = neighbour.item, graph.weighing
        full = weighing.full or max(each.weight for each in graph.neighbours)
        share = min(max(neighbour.weight / full, 0), 1) if full > 0 else 0
        count = self.in_graphs[item.item]
        shared = f'<p class="shared">in {count} of {self.n_graphs} graphs</p>' if count > 1 else ""
        return f"""<li>
{self.photo(item)}
<p class="title" dir="auto" title="{escape(name_of(item))}">{escape(name_of(item))}</p>
<p class="id soft">{escape(item.item_id)}</p>
{shared}
<p class="weight">{escape(weighing.name)} <b>{graph.tell(neighbour.weight)}</b></p>
<div class="bar"><i style="width: {share:.1%}"></i></div>
</li>
"""

    def photo(self, item: Item) -> str:
        """The photo, or a box that says why there is none."""
        found = self.thumbnails.of(item.image)
        if isinstance(found, str):
            return f'<div class="photo empty">{escape(found)}</div>'
        size = f'width="{found.width}" height="{found.height}"'
        return f'<div class="photo"><img src="{found.address}" {size} alt=""></div>'


def facts_of(item: Item) -> str:
    """What is known of an item beside its title, as HTML."""
    told = [f'<span dir="auto">{escape(fact)}</span>' for fact in (item.brand, item.categories) if fact]
    return " · ".join([f'<span class="id">{escape(item.item_id)}</span>', f"item #{item.item}", *told])


def notes_as_html(notes: Iterable[str]) -> str:
    """What must be known, each by itself."""
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def sentence(words: str) -> str:
    """Words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."


def name_of(item: Item) -> str:
    """What to call an item."""
    return item.title or "(no title)"
