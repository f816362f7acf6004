"""Cleaning of published text: entities and tags out, whitespace folded, lists joined."""

import html
import re

# A tag starts with a letter, '/' or '!', so that "size < 5 and > 3" stays whole.
TAG = re.compile(r"<[A-Za-z/!][^<>]*>")
WHITESPACE = re.compile(r"\s+")


def clean_text(value: object, separator: str = " ") -> str:
    """One line of plain text from a string or a list of strings; empty for anything else."""
    if isinstance(value, list):
        return separator.join(part for part in map(clean_text, value) if part)
    if not isinstance(value, str):
        return ""
    return WHITESPACE.sub(" ", TAG.sub(" ", html.unescape(value))).strip()
