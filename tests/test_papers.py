"""docs/papers: every tag in a comment, docstring or page names a heading there."""

import re
from pathlib import Path

import pytest
from imports import FLOORS, ROOT

PAPERS = ROOT / "docs" / "papers"
TAG = re.compile(r"docs/papers/(\w+)\.md(?:#([\w-]+))?")
LINK = re.compile(r"\]\((\w+\.md)?(?:#([\w-]+))?\)")


def texts() -> list[Path]:
    """All that may hold a tag: code, tests, benchmarks, documentation and files of parameters."""
    folders = (*FLOORS, "tests", "benchmarks", "docs", "examples", "experiments", ".")
    found = {
        path
        for folder in folders
        for suffix in ("py", "md", "yaml", "toml")
        for path in ((ROOT / folder).glob(f"*.{suffix}") if folder == "." else (ROOT / folder).rglob(f"*.{suffix}"))
    }
    return sorted(found - {Path(__file__).resolve()})


def anchors(page: str) -> list[str]:
    """The anchors of a page's headings, as GitHub names them."""
    text = re.sub(
        r"^```.*?^```", "", (PAPERS / f"{page}.md").read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


PAGES = sorted(path.stem for path in PAPERS.glob("*.md"))
KNOWN = {page: anchors(page) for page in PAGES}
TAGS = sorted({match.groups() for path in texts() for match in TAG.finditer(path.read_text(encoding="utf-8"))}, key=str)


def test_there_is_a_page_for_each_paper() -> None:
    assert {"am2hrec", "mgnm", "camgr", "da_mrs", "mdr_chca", "baselines", "conventions", "README"} == set(PAGES)
    assert len(TAGS) > 60


@pytest.mark.parametrize(("page", "anchor"), TAGS)
def test_tag_names_a_heading(page: str, anchor: str | None) -> None:
    assert page in KNOWN
    assert anchor is None or anchor in KNOWN[page]


@pytest.mark.parametrize("page", PAGES)
def test_headings_are_unique_and_links_between_pages_lead_to_them(page: str) -> None:
    assert len(set(KNOWN[page])) == len(KNOWN[page])
    for file, anchor in LINK.findall((PAPERS / f"{page}.md").read_text(encoding="utf-8")):
        target = file.removesuffix(".md") or page
        assert target in KNOWN, file
        assert not anchor or anchor in KNOWN[target], (file, anchor)


def test_no_text_points_to_a_document_that_is_not_here() -> None:
    assert [str(path) for path in texts() if re.search(r"\bspecs\b", path.read_text(encoding="utf-8"))] == []
