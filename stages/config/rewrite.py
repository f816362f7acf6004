"""Change values in params.yaml; comments and the order of keys stay."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mmprep.pipeline.storage.files import atomic_file


def rewrite(path: Path, values: Mapping[str, Any]) -> None:
    """Give a YAML file another content, as a change of the values that differ.

    Args:
        path: the file, a mapping.
        values: its new content. Keys that it lacks are removed from the file.
    """
    yaml = YAML()
    yaml.width = 120
    document = yaml.load(path)
    update(document, values)
    with atomic_file(path) as temporary:
        yaml.dump(document, temporary)


def update(section: MutableMapping[str, Any], values: Mapping[str, Any]) -> None:
    """Change a section of a document in place, so that comments at keys that stay are kept."""
    for key in [key for key in section if key not in values]:
        del section[key]
    for key, value in values.items():
        old = section.get(key)
        if isinstance(old, MutableMapping) and isinstance(value, Mapping) and value:
            update(old, value)
        elif key not in section or old != value:
            section[key] = value
