"""Typed, frozen parameters, read from params.yaml."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from inspect import cleandoc
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from mmprep.pipeline.errors import MissingInputError, ParamsError

MAX_VALUES = 100_000  # of a YAML file; params.yaml has some 300

P = TypeVar("P", bound="Params")

# Beginnings of pydantic's messages that "expected" replaces.
BEGINNINGS = ("Value error, ", "Input should be ", "Tuple should have ", "String should have ", "String should match ")


class Params(BaseModel):
    """Base of every section of params.yaml: frozen, and strict about names and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    renamed: ClassVar[Mapping[str, str]] = {}
    """New name of each key that was renamed since an earlier version."""


def documentation(kind: type[Params]) -> dict[str, str]:
    """What each field of a section means, from section `Attributes` of the docstrings of its class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        lines = (cleandoc(base.__doc__ or "") if issubclass(base, Params) else "").partition("Attributes:\n")[2]
        for entry in re.split(r"\n(?= {4}\S)", lines.partition("\n\n")[0]):
            name, _, text = entry.strip().partition(": ")
            found[name] = " ".join(text.split())
    return {name: found.get(name, "") for name in kind.model_fields}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML 1.2 file, as DVC does (`1e-3` is a number, `no` is text).

    Raises:
        MissingInputError: the file does not exist.
        ParamsError: the file is not YAML, repeats a key or is not a mapping.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such parameter file; give one with --params FILE")
    try:
        loaded = load_yaml(path)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = (error.problem or "not YAML").splitlines()[0]
        raise ParamsError(f"{path}: {line}{problem}") from error
    except (YAMLError, ValueError, LookupError, RecursionError) as error:  # ValueError also for values like 2020-02-30
        raise ParamsError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, dict):
        raise ParamsError(f"{path}: found {type(loaded).__name__}, expected a mapping of sections")
    return loaded


def load_yaml(source: Path | str) -> Any:  # noqa: ANN401 - any YAML value
    """Load a YAML 1.2 file or text; aliases are expanded up to MAX_VALUES values in all.

    Raises:
        YAMLError, ValueError, LookupError, RecursionError: it is not YAML, or has more values.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = BoundedConstructor
    return yaml.load(source)


class BoundedConstructor(SafeConstructor):
    """Refuses documents in which aliases of aliases stand for more values than memory holds."""

    def construct_document(self, node: Node) -> Any:  # noqa: ANN401 - ruamel's signature
        """Construct the values; raises ValueError if there are too many."""
        count_values(node, {})
        return super().construct_document(node)


def count_values(node: Node, counts: dict[int, int]) -> int:
    """Number of values of a YAML node with all aliases expanded.

    Args:
        node: the node.
        counts: results by `id` of the node, so that each node is counted once; 0 for one that is being counted.

    Raises:
        ValueError: it is more than MAX_VALUES, or an alias stands for a value that contains it.
    """
    if id(node) not in counts:
        counts[id(node)] = 0
        inner = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
        counts[id(node)] = 1 + (
            0 if isinstance(node, ScalarNode) else sum(count_values(each, counts) for each in inner)
        )
    if counts[id(node)] == 0:
        raise ValueError("an alias (*) stands for a value that contains it; write it out")
    if counts[id(node)] > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values with aliases (*) expanded; write fewer aliases")
    return counts[id(node)]


def require_storable(value: object, place: str, source: str) -> None:
    """Check that libraries and file systems can take all numbers and texts of a section.

    Args:
        value: the section, or a value in it.
        place: its dotted name; empty for the whole file.
        source: the file's name, for the message.

    Raises:
        ParamsError: a number has more than 64 bits, or a text a NUL character or half of a surrogate pair.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            require_storable(inner, f"{place}.{key}" if place else str(key), source)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            require_storable(inner, f"{place}.{number}", source)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ParamsError(f"{source}: {place}: found a number of {value.bit_length()} bits, expected at most 63")
    elif isinstance(value, str) and any(each == "\0" or "\ud800" <= each <= "\udfff" for each in value):
        raise ParamsError(f"{source}: {place}: found {value!r}, expected text without NUL and surrogates")


def parse_section(kind: type[P], values: object, key: str, source: str) -> P:
    """Validate one section and build its typed parameters.

    Args:
        kind: the section's class.
        values: the file's value under `key`.
        key: the dotted name of the section, for messages; empty for the whole file.
        source: the file's name, for messages.

    Raises:
        ParamsError: one line per mistake, with the key, the value and what is allowed.
    """
    require_storable(values, key, source)
    try:
        # Through JSON, so that lists may become tuples although types are strict.
        return kind.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        lines = [describe_mistake(details, kind, key) for details in innermost(error.errors())]
        raise ParamsError("\n".join(f"{source}: {line}" for line in lines)) from error
    except (TypeError, ValueError, RecursionError) as error:  # a key that is a date or a list, or an endless alias
        raise ParamsError(f"{source}: {key or 'the file'}: {str(error).splitlines()[0]}") from error


def innermost(mistakes: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drop mistakes that follow from a more deeply nested one: a list of bad values only also counts as empty."""
    places = [mistake["loc"] for mistake in mistakes]
    return [
        mistake
        for mistake, place in zip(mistakes, places, strict=True)
        if not any(len(other) > len(place) and other[: len(place)] == place for other in places)
    ]


def describe_mistake(details: ErrorDetails, kind: type[Params], key: str) -> str:
    """Describe one validation mistake in one line."""
    place = ".".join(str(part) for part in (*([key] if key else []), *details["loc"]))
    if details["type"] == "extra_forbidden":
        section = section_at(kind, details["loc"][:-1])
        old = str(details["loc"][-1])
        if section is not None and old in section.renamed:
            return f"{place}: renamed; write {section.renamed[old]}"
        return f"{place}: no such key{suggestion(old, list(section.model_fields) if section else [])}"
    if details["type"] == "missing":
        return f"{place}: missing; it must be given"
    value = json.dumps(details["input"], default=str)
    expected = details["msg"].removesuffix(f" after validation, not {details.get('ctx', {}).get('actual_length')}")
    for start in BEGINNINGS:
        expected = expected.removeprefix(start)
    return f"{place or 'the file'}: found {value}, expected {expected}"


def section_at(kind: type[Params], place: tuple[int | str, ...]) -> type[Params] | None:
    """The class of the (nested) section at `place`; None if it has no fixed class."""
    for part in place:
        field = kind.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Params)):
            return None
        kind = field.annotation
    return kind


def suggestion(name: str, known: list[str] | Mapping[str, object]) -> str:
    """The closest known name and all allowed ones, as the end of a sentence."""
    if not known:
        return ""
    close = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{hint} (allowed: {', '.join(known)})"
