"""Matching of photos to items: by file name, by the .json beside a photo, or by item number."""

import json
import logging
from collections import Counter
from pathlib import Path, PurePosixPath

from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.photos.names import item_of_photo, possible_items
from mmprep.stages.ingest.given_splits import mapping, names_by_number

logger = logging.getLogger(__name__)

ID_KEYS = ("item_id", "parent_asin", "asin", "id")  # of the .json, before its other keys
BY_NAME, BY_NOTE, BY_NUMBER = "name", ".json beside it", "item number"
MAX_DIGITS = 12


class PhotoItems:
    """Finds the item that a photo shows. A name is only looked up among known ids, and never made into a path.

    Attributes:
        counts: number of matched photos by what matched them.
    """

    def __init__(self, raw: Path, known: set[str], files: PhotoFiles) -> None:
        self._known = known
        self._files = files
        self._numbers = names_by_number(raw / "item2id.json") | mapping(raw / "i_id_mapping.csv", "asin", "itemID")
        self.counts: Counter[str] = Counter()

    def item_of(self, name: str) -> str:
        """The item of a photo; the id that its name spells if no item is known by that or in another way."""
        path = PurePosixPath(name)
        by_name = next((item for item in possible_items(path) if item in self._known), None)
        if by_name is not None:
            return self._counted(by_name, BY_NAME)
        by_note = self._in_note(name)
        if by_note is not None:
            return self._counted(by_note, BY_NOTE)
        by_number = self._by_number(item_of_photo(path))
        if by_number is not None:
            return self._counted(by_number, BY_NUMBER)
        return item_of_photo(path)

    def report(self) -> None:
        """Log how many photos were not matched by their names, since numbers may be those of another dataset."""
        for means, count in self.counts.items():
            if means != BY_NAME:
                logger.info("%d photos matched to items by %s, as their names are no ids", count, means)

    def _counted(self, item_id: str, means: str) -> str:
        self.counts[means] += 1
        return item_id

    def _in_note(self, name: str) -> str | None:
        """The only known id among the values of the .json beside a photo, those named like ids first."""
        note = self._files.note(name)
        if note is None:
            return None
        try:
            values = json.loads(note)
        except (ValueError, RecursionError):
            return None
        if not isinstance(values, dict):
            return None
        for keys in (*((key,) for key in ID_KEYS), tuple(values)):
            found = {value for key in keys if isinstance(value := values.get(key), str) and value in self._known}
            if found:
                return found.pop() if len(found) == 1 else None
        return None

    def _by_number(self, stem: str) -> str | None:
        if not (stem.isascii() and stem.isdecimal() and len(stem) <= MAX_DIGITS):
            return None
        item_id = self._numbers.get(str(int(stem)))
        return item_id if item_id in self._known else None
