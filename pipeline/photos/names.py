"""File names of photos: item ids, percent-encoded."""

import re
from collections.abc import Iterator
from pathlib import PurePath
from urllib.parse import quote, unquote

from mmprep.pipeline.photos.decode import SUFFIXES

VIEW = re.compile(r"[._-](?:main|[0-9]{1,2})$", re.IGNORECASE)  # one of an item's photos: B0_0.jpg, B0.main.jpg


def photo_name(item_id: str, suffix: str) -> str:
    """File name of an item's photo: the id, all but `A-Za-z0-9_-.` percent-encoded; never hidden, never a path."""
    encoded = quote(item_id, safe="").replace("~", "%7E")
    return (f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded) + suffix


def item_of_photo(path: PurePath) -> str:
    """Item id of a photo: the file name without its last suffix, percent-decoded."""
    return unquote(path.stem)


def possible_items(path: PurePath) -> Iterator[str]:
    """Item ids that a photo's file name may stand for, the most literal first.

    After `item_of_photo`: without a URL's query, any number of photos' suffixes (`B0.jpg?SX300.jpg`, `B0.jpg.jpg`) and
    blanks at the ends, and without the number of a view (`B0_0.jpg`).
    """
    yield item_of_photo(path)
    bare = path.name.split("?")[0]
    while PurePath(bare).suffix.lower() in SUFFIXES:
        bare = PurePath(bare).stem
    yield unquote(bare).strip()
    yield unquote(VIEW.sub("", bare)).strip()


def may_be_photo(name: str) -> bool:
    """Whether a file may be a photo by its name: it has a photo's suffix or none, before a URL's query."""
    return PurePath(name.split("?")[0]).suffix.lower() in SUFFIXES | {""}
