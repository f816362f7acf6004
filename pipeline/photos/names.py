"""File names of photos: item ids, percent-encoded."""

from pathlib import PurePath
from urllib.parse import quote, unquote


def photo_name(item_id: str, suffix: str) -> str:
    """File name of an item's photo: the id, all but `A-Za-z0-9_-.` percent-encoded; never hidden, never a path."""
    encoded = quote(item_id, safe="").replace("~", "%7E")
    return (f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded) + suffix


def item_of_photo(path: PurePath) -> str:
    """Item id of a photo: the file name without its last suffix, percent-decoded."""
    return unquote(path.stem)
