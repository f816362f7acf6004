"""Cleaning of published text: entities and tags out, whitespace folded, lists joined."""

import html
import re

# A tag starts with a letter, '/' or '!', so that "size < 5 and > 3" stays whole.
TAG = re.compile(r"<[A-Za-z/!][^<>]*>")
WHITESPACE = re.compile(r"\s+")
# In the column `categories`. Names of categories have commas in them.
PATH_STEP, PATHS = " > ", " | "


def clean_text(value: object, separator: str = " ") -> str:
    """One line of plain text from a string or a list of strings; empty for anything else."""
    if isinstance(value, list):
        # Lists in lists are not followed: they may be deeper than Python can call.
        return separator.join(filter(None, (clean_text(part) for part in value if isinstance(part, str))))
    if not isinstance(value, str):
        return ""
    whole = value.encode("utf-8", errors="ignore").decode("utf-8")  # JSON may escape half a character, such as \ud83d
    return WHITESPACE.sub(" ", TAG.sub(" ", unescape(whole))).strip()


def unescape(text: str) -> str:
    """The text with its entities replaced by what they stand for."""
    try:
        return html.unescape(text)
    except ValueError:  # a reference of more digits than Python takes for a number
        return text


def join_paths(paths: object) -> str:
    """Paths of categories in one line: the steps of a path joined by PATH_STEP, the paths by PATHS.

    A step loses words that look like these, so that the line can be taken apart again.

    Args:
        paths: a list of lists of names; empty is given for anything else.
    """
    joined = (PATH_STEP.join(steps_of(path)) for path in paths) if isinstance(paths, list) else ()
    return PATHS.join(filter(None, joined))


def steps_of(path: object) -> list[str]:
    """The steps of a path, cleaned, without empty ones."""
    names = path if isinstance(path, list) else [path]
    separators = {PATH_STEP.strip(), PATHS.strip()}
    steps = (
        " ".join(word for word in clean_text(name).split(" ") if word not in separators)
        for name in names
        if isinstance(name, str)
    )
    return [step for step in steps if step]


def printable(text: str) -> str:
    """A text without what could steer a terminal; that is shown as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
