"""Which of an item's texts are encoded, and how they are joined."""

import re
from collections.abc import Callable, Mapping

from mmprep.pipeline.text import PATH_STEP, PATHS

PRESETS = {
    "all": "{title} {description} {categories} {brand}",
    # MMRec's notebook 3feat-encoder.
    "mmrec": "{title} {brand} {first_category} {description}",
}
DEFAULT_TEMPLATE = "all"

FIELD = re.compile(r"\{([^{}]*)\}")
WHITESPACE = re.compile(r"\s+")

# How each name in braces is made of an item's columns.
RENDERED: dict[str, Callable[[Mapping[str, str]], str]] = {
    "title": lambda item: item["title"],
    "description": lambda item: item["description"],
    "brand": lambda item: item["brand"],
    "categories": lambda item: item["categories"].replace(PATH_STEP, ", ").replace(PATHS, "; "),
    "first_category": lambda item: item["categories"].split(PATHS)[0].replace(PATH_STEP, " "),
}


def check_template(template: str) -> None:
    """Check that a template is a preset's name, or a text with names in braces that items have.

    Raises:
        ValueError: it is neither.
    """
    names = FIELD.findall(PRESETS.get(template, template))
    if not names or not RENDERED.keys() >= set(names):
        raise ValueError(
            f"{', '.join(PRESETS)}, or a text with any of {', '.join(f'{{{name}}}' for name in RENDERED)} in it"
        )


def make_text(template: str) -> Callable[[Mapping[str, str]], str]:
    """A function that makes the text to encode of an item's columns `TEXT_FIELDS`.

    Whitespace is folded, since a field that is empty would leave two blanks. An item whose named fields are all empty
    gives an empty text, whatever stands between the braces.
    """
    pattern = PRESETS.get(template, template)
    names = dict.fromkeys(FIELD.findall(pattern))

    def text_of(item: Mapping[str, str]) -> str:
        found = {name: RENDERED[name](item) for name in names}
        if not any(found.values()):
            return ""
        return WHITESPACE.sub(" ", FIELD.sub(lambda match: found[match[1]], pattern)).strip()

    return text_of
