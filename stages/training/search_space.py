"""Ranges of parameters to search, and the combinations of their values."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from ruamel.yaml.error import YAMLError

from mmprep.models.recommenders.base import RecommenderParams
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import load_yaml, parse_section

Combination = dict[str, Any]


def parse_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Parse ranges from the command line, such as `layers=1,2,3`; values are parsed as in params.yaml.

    Raises:
        ParamsError: one is not of that form, or a parameter is given twice.
    """
    ranges: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = (part.strip() for part in text.partition("="))
        try:
            parsed = load_yaml(f"[{values}]")
        except (YAMLError, ValueError, LookupError, RecursionError) as error:
            raise ParamsError(
                f"over: found {text!r}, expected a parameter and its values, such as layers=1,2,3"
            ) from error
        if not (key and values and isinstance(parsed, list)):
            raise ParamsError(f"over: found {text!r}, expected a parameter and its values, such as layers=1,2,3")
        if key in ranges:
            raise ParamsError(f"over: found {key} twice, expected each parameter once")
        ranges[key] = parsed
    return ranges


def combinations(
    ranges: Mapping[str, Sequence[Any]], base: RecommenderParams
) -> list[tuple[Combination, RecommenderParams]]:
    """All combinations of values, the last parameter changing fastest, with the resulting recommender parameters.

    Args:
        ranges: the values to try of each parameter.
        base: the values of the others.

    Raises:
        ParamsError: there is nothing to search, a value twice, an unknown parameter or a value that it cannot have.
    """
    if not ranges:
        raise ParamsError("search: found no ranges, expected a parameter and its values, such as layers=1,2,3")
    for key, values in ranges.items():
        if not values:
            raise ParamsError(f"search.{key}: found no values, expected at least one")
    rest = base.model_dump(mode="json")
    grid = [dict(zip(ranges, values, strict=True)) for values in product(*ranges.values())]
    parsed = [(each, parse_section(type(base), {**rest, **each}, "", "search")) for each in grid]
    firsts: dict[str, Combination] = {}
    for each, params in parsed:
        first = firsts.setdefault(params.model_dump_json(), each)
        if first is not each:
            raise ParamsError(f"search: found {first} and {each}, which are the same; give each value once")
    return parsed
