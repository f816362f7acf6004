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
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mmprep.pipeline.errors import MissingInputError, ParamsError

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
        loaded = YAML(typ="safe", pure=True).load(path)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = (error.problem or "not YAML").splitlines()[0]
        raise ParamsError(f"{path}: {line}{problem}") from error
    except (YAMLError, ValueError, LookupError, RecursionError) as error:  # ValueError also for values like 2020-02-30
        raise ParamsError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, dict):
        raise ParamsError(f"{path}: found {type(loaded).__name__}, expected a mapping of sections")
    return loaded


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
