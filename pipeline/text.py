"""Text cleaning: decode entities, strip tags, collapse whitespace, join lists."""

import html
import re

# A tag starts with a letter, '/' or '!', so that "size < 5 and > 3" is kept.
TAG = re.compile(r"<[A-Za-z/!][^<>]*>")
WHITESPACE = re.compile(r"\s+")
# Separators in the column `categories`; no commas, as names of categories contain them.
PATH_STEP, PATHS = " > ", " | "


def clean_text(value: object, separator: str = " ") -> str:
    """One line of plain text from a string or a list of strings; empty for anything else."""
    if isinstance(value, list):
        # Nested lists are skipped: they may be deeper than Python's recursion limit.
        return separator.join(filter(None, (clean_text(part) for part in value if isinstance(part, str))))
    if not isinstance(value, str):
        return ""
    whole = value.encode("utf-8", errors="ignore").decode("utf-8")  # JSON may escape half a character, such as \ud83d
    return WHITESPACE.sub(" ", TAG.sub(" ", unescape(whole))).strip()


def unescape(text: str) -> str:
    """Decode HTML entities."""
    try:
        return html.unescape(text)
    except ValueError:  # a numeric reference with more digits than Python converts to a number
        return text


def join_paths(paths: object) -> str:
    """Join category paths into one line: the steps of a path by PATH_STEP, the paths by PATHS.

    Words equal to a separator are dropped from steps, so that the line can be split again.

    Args:
        paths: a list of lists of names; anything else gives an empty string.
    """
    joined = (PATH_STEP.join(steps_of(path)) for path in paths) if isinstance(paths, list) else ()
    return PATHS.join(filter(None, joined))


def steps_of(path: object) -> list[str]:
    """The cleaned, non-empty steps of a category path."""
    names = path if isinstance(path, list) else [path]
    separators = {PATH_STEP.strip(), PATHS.strip()}
    steps = (
        " ".join(word for word in clean_text(name).split(" ") if word not in separators)
        for name in names
        if isinstance(name, str)
    )
    return [step for step in steps if step]


def printable(text: str) -> str:
    """Escape unprintable characters, such as terminal control sequences."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
