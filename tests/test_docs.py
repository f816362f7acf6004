"""The pages for newcomers against the repository: rooms, paths, links and names that they mention exist."""

import re
from functools import cache

import pytest
from imports import FLOORS, ROOT

PAGES = ("CONTRIBUTING.md", "docs/architecture.md", *(f"{floor}/README.md" for floor in FLOORS))
TOP = tuple(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
SPAN = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def spans_of(page: str) -> list[str]:
    """The code spans of a page, without its blocks of code."""
    return SPAN.findall(re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE))


def rooms_of(floor: str) -> set[str]:
    """The packages of a floor, below it."""
    return {path.parent.relative_to(ROOT / floor).as_posix() for path in (ROOT / floor).glob("*/**/__init__.py")}


@cache
def words() -> set[str]:
    """Every word of the sources and of the files that name stages and parameters; the names of all tests."""
    files = [path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")]
    files += [ROOT / name for name in ("dvc.yaml", "params.yaml", "pyproject.toml", "Makefile")]
    found = {word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    tests = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return found.union(*(re.findall(r"def (test_\w+)", test) for test in tests))


@pytest.mark.parametrize("floor", FLOORS)
def test_readme_of_a_floor_lists_each_room_once(floor: str) -> None:
    listed = re.findall(r"^\| \[(\S+)\]\((\S+)\) \| \S", text_of(f"{floor}/README.md"), flags=re.MULTILINE)
    assert all(name == folder for name, folder in listed)
    assert sorted(name for name, _ in listed) == sorted(rooms_of(floor))


def test_picture_shows_rooms_that_there_are_and_all_that_data_flows_through() -> None:
    picture = text_of("docs/architecture.md").split("```mermaid\n")[1].split("```")[0]
    shown = set(re.findall(r"\b((?:pipeline|models|stages)/\w+)", picture))
    rooms = {f"{floor}/{room}" for floor in FLOORS for room in rooms_of(floor) if "/" not in room}
    assert rooms - shown == {"pipeline/storage"}  # which writes every file
    assert shown <= rooms


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_links_of_a_page_exist(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text_of(page))
    assert {link for link in links if not (ROOT / page).parent.joinpath(link).exists()} == set()
    paths = [span for span in spans_of(page) if re.fullmatch(rf"(?:{'|'.join(TOP)})/[\w./-]*", span)]
    # What stages write is in no checkout, and KIND and its like stand for any name.
    named = [path for path in paths if not path.startswith("data/") and not re.search(r"[A-Z]{4}", path)]
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", PAGES)
def test_names_of_a_page_are_in_the_code(page: str) -> None:
    names = [span for span in spans_of(page) if NAME.fullmatch(span) and not (ROOT / span).exists()]
    assert {name for name in names if not {*name.split(".")} <= words()} == set()
