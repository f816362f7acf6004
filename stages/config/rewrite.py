"""Change values in params.yaml; comments and the order of keys stay."""

import io
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.storage.files import atomic_file


class Representer(RoundTripRepresenter):
    """Writes null as params.yaml has it."""

    def represent_none(self, data: None) -> ScalarNode:
        """Write `null` and not an empty value."""
        del data
        node: ScalarNode = self.represent_scalar("tag:yaml.org,2002:null", "null")
        return node


Representer.add_representer(type(None), Representer.represent_none)


def round_trip() -> YAML:
    """A YAML reader and writer that keeps comments, quotes and lines."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes, yaml.Representer = 4096, True, Representer
    return yaml


def rewrite(path: Path, values: Mapping[str, Any]) -> None:
    """Give a YAML file another content, as a change of the values that differ.

    Args:
        path: the file, a mapping.
        values: its new content. Keys that it lacks are removed from the file.

    Raises:
        ParamsError: the file would say something else, as with anchors; it is left as it is.
    """
    yaml, text = round_trip(), io.StringIO()
    document = yaml.load(path)
    update(document, values)
    yaml.dump(document, text)
    if YAML(typ="safe", pure=True).load(text.getvalue()) != dict(values):
        raise ParamsError(f"{path}: cannot be changed without changing other keys; write anchors (&, *) out")
    with atomic_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def update(section: MutableMapping[str, Any], values: Mapping[str, Any]) -> None:
    """Change a section of a document in place, so that comments at keys that stay are kept."""
    for key in [key for key in section if key not in values]:
        del section[key]
    for key, value in values.items():
        old = section.get(key)
        if isinstance(old, MutableMapping) and isinstance(value, Mapping) and value:
            update(old, value)
        elif key not in section and isinstance(section, CommentedMap) and len(section):
            # First, as a comment before the next section belongs to the last key of this one.
            section.insert(0, key, on_one_line(value))
        elif key not in section or old != value:
            section[key] = on_one_line(value)


def on_one_line(value: object) -> object:
    """A value that is written on one line."""
    if isinstance(value, Mapping):
        mapping = CommentedMap((key, on_one_line(inner)) for key, inner in value.items())
        mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(map(on_one_line, value))
        sequence.fa.set_flow_style()
        return sequence
    return value


def in_yaml(value: object) -> str:
    """A value as YAML on one line."""
    text = io.StringIO()
    round_trip().dump(on_one_line(value), text)
    return text.getvalue().removesuffix("...\n").strip()
