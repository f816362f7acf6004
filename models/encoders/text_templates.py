"""Templates that join an item's columns into the text to encode."""

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

# Text of each name in braces, from an item's columns.
RENDERED: dict[str, Callable[[Mapping[str, str]], str]] = {
    "title": lambda item: item["title"],
    "description": lambda item: item["description"],
    "brand": lambda item: item["brand"],
    "categories": lambda item: item["categories"].replace(PATH_STEP, ", ").replace(PATHS, "; "),
    "first_category": lambda item: item["categories"].split(PATHS)[0].replace(PATH_STEP, " "),
    "features": lambda item: item["features"],
    "details": lambda item: item["details"],
}


def check_template(template: str) -> None:
    """Check that a template is the name of a preset, or a text with known names in braces.

    Raises:
        ValueError: it is neither.
    """
    names = FIELD.findall(PRESETS.get(template, template))
    if not names or not RENDERED.keys() >= set(names):
        raise ValueError(
            f"{', '.join(PRESETS)}, or a text with any of {', '.join(f'{{{name}}}' for name in RENDERED)} in it"
        )


def fields_of(template: str) -> list[str]:
    """Names in braces in a template, each once."""
    return list(dict.fromkeys(FIELD.findall(PRESETS.get(template, template))))


def make_text(template: str) -> Callable[[Mapping[str, str]], str]:
    """Compile a template into a function from an item's columns to the text to encode.

    Runs of whitespace are collapsed, since an empty field would leave two spaces. An item whose named fields are all
    empty has an empty text, whatever the template holds between the braces.
    """
    pattern = PRESETS.get(template, template)
    names = fields_of(template)

    def text_of(item: Mapping[str, str]) -> str:
        fields = {name: RENDERED[name](item) for name in names}
        if not any(fields.values()):
            return ""
        return WHITESPACE.sub(" ", FIELD.sub(lambda match: fields[match[1]], pattern)).strip()

    return text_of
