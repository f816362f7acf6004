"""Nested fields of metadata in the shapes that exports give them: lists as strings, JSON in strings, dicts of lists."""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from mmprep.pipeline.text import clean_text, join_paths
from mmprep.stages.ingest.records import is_id

MAX_DEPTH = 6  # published metadata nests two levels
ARRAY = "array("  # numpy's own notation: array(['a', 'b'], dtype=object)
# numpy prints a list of strings without commas, and Python would join the strings: ['a' 'b'] is 'ab'.
NEIGHBOURS = re.compile(r"""('[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+")(?=\s*+['"])""", re.DOTALL)
BLANK = frozenset({"", "none", "null", "nan"})
URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
SIZES = ("hi_res", "large", "thumb")  # of the 2023 edition's images, the largest first


def unpacked(value: object) -> object:
    """The list or dictionary that a string holds as JSON, as a Python literal or as numpy prints it; else the value.

    Nothing is evaluated.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith(ARRAY):
        text = text.removeprefix(ARRAY)[: text.rfind("]") + 1 - len(ARRAY)]
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return value
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = literal(NEIGHBOURS.sub(r"\1,", text))
    return parsed if isinstance(parsed, list | dict) else value


def literal(text: str) -> object:
    """The value of a Python literal; None if the text is not one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of unknown escapes
            value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value


def strings(value: object, depth: int = MAX_DEPTH) -> Iterator[str]:
    """The strings of nested lists, in their order; those of lists nested deeper than `depth` are left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple) and depth:
        for part in value:
            yield from strings(part, depth - 1)


def nested_text(value: object) -> str:
    """One line of plain text from a string, nested lists of strings, or a string that holds a list."""
    return clean_text(list(strings(unpacked(value))))


def category_path(value: object) -> str:
    """Categories of the 2018 or 2023 edition in one line: one path of names, or a list of paths."""
    value = unpacked(value)
    if isinstance(value, list) and any(isinstance(path, list | tuple) for path in value):
        return join_paths([list(strings(path)) for path in value])
    return join_paths([value])


def paths_in(value: object) -> str:
    """Categories of the 2014 edition in one line: a list of paths, where a name alone is a path of one step."""
    value = unpacked(value)
    return join_paths([list(strings(path)) for path in value] if isinstance(value, list) else [value])


def url_in(value: object) -> str | None:
    """The first URL in a list, in a string that holds a list, or the string itself; None if there is none."""
    value = unpacked(value)
    if isinstance(value, str):
        return value.strip() if URL.match(value.strip()) and is_id(value.strip()) else None
    return next((url for url in strings(value) if is_id(url)), None) if isinstance(value, list) else None


def largest_image(images: object) -> str | None:
    """The URL of the first image of the 2023 edition, in its largest size.

    Args:
        images: a list of dictionaries with a URL a size; a dictionary with a list of URLs a size, as Hugging Face's
            datasets save it; or a string that holds either.
    """
    images = unpacked(images)
    for image in images_of_lists(images) if isinstance(images, dict) else images if isinstance(images, list) else ():
        if isinstance(image, dict):
            urls = [image.get(size) for size in SIZES]
        else:
            urls = [image] if isinstance(image, str) and URL.match(image) else []
        if url := next((url for url in urls if isinstance(url, str) and is_id(url)), None):
            return url
    return None


def images_of_lists(images: Mapping[Any, object]) -> Iterator[dict[str, object]]:
    """The images of a dictionary of lists, a dictionary each; a single URL counts as a list of one."""
    columns = {size: unpacked(images.get(size)) for size in SIZES}
    lists = {size: value if isinstance(value, list) else [value] for size, value in columns.items()}
    for number in range(max(map(len, lists.values()))):
        yield {size: values[number] for size, values in lists.items() if number < len(values)}


def details_text(value: object) -> str:
    """Details of an item as `name: value` pairs in one line; values that are neither text nor numbers are left out."""
    value = unpacked(value)
    if not isinstance(value, dict):
        return ""
    texts = ((clean_text(str(name)), plain_value(entry)) for name, entry in value.items())
    return "; ".join(f"{name}: {text}" for name, text in texts if text)


def plain_value(value: object) -> str:
    """The text of a number, a string or a list of strings."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else nested_text(value)


def is_blank(value: object, depth: int = MAX_DEPTH) -> bool:
    """Whether a field has no value: null, NaN, blank text, or a list or dictionary of such."""
    value = unpacked(value)
    if isinstance(value, str):
        return value.strip().lower() in BLANK
    if isinstance(value, list | tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(is_blank(part, depth - 1) for part in parts)
    return value is None or value != value


def unusable(fields: Mapping[str, tuple[object, object]]) -> tuple[str, ...]:
    """Names of the fields that have a value, but gave none.

    Args:
        fields: for each name the value as published, and the value made of it.
    """
    return tuple(name for name, (raw, made) in fields.items() if not made and not is_blank(raw))
