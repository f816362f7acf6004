"""Effective parameters of a recommender: class defaults, presets and written keys, with the origin of each value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import parse_section, suggestion

if TYPE_CHECKING:
    from mmprep.models.recommenders.base import RecommenderParams

PRESET = "preset"


@dataclass(frozen=True)
class Layer:
    """Values of one place for a recommender, over those of the layers before it.

    Attributes:
        origin: the place, for messages: a file, an overlay of it, or a row of a table.
        values: keys of the recommender's section, and possibly `preset`.
    """

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """A parameter whose value is not the class's default.

    Attributes:
        key: its name in the recommender's section.
        value: the effective value.
        default: the class's value.
        origin: the place that sets it.
    """

    key: str
    value: object
    default: object
    origin: str

    def __str__(self) -> str:
        """The setting in one line."""
        return f"{self.key} {self.value} ({self.origin}; default {self.default})"


@dataclass(frozen=True)
class RecommenderSettings:
    """Effective parameters of a recommender.

    Attributes:
        params: all of them.
        values: those that a layer sets, presets expanded.
        origins: the place that sets each of them.
        conflicts: one line for each written key that disagrees with the preset beside it.
    """

    params: "RecommenderParams"
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    conflicts: tuple[str, ...]

    @property
    def changes(self) -> list[Setting]:
        """Parameters that differ from the class's defaults, in the order of the class."""
        now, usual = self.params.model_dump(), type(self.params)().model_dump()
        return [Setting(key, value, usual[key], self.origins[key]) for key, value in now.items() if value != usual[key]]


def resolve(kind: type["RecommenderParams"], layers: Sequence[Layer], key: str) -> RecommenderSettings:
    """Apply layers to a class's defaults. A later layer goes before an earlier one, a written key before its preset.

    Args:
        kind: the recommender's class of parameters.
        layers: from the widest to the narrowest.
        key: the recommender's dotted section, for messages.

    Raises:
        ParamsError: a preset or a key does not exist, or a value is invalid.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    conflicts: list[str] = []
    params = kind()
    for layer in layers:
        written = dict(layer.values)
        name = written.pop(PRESET, None)
        preset = find_preset(kind, name, key, layer.origin) if name is not None else {}
        for each, value in written.items():
            if each in preset and preset[each] != value:
                conflicts.append(
                    f"{layer.origin}: {key}.{each}: found {value} beside preset {name}, which sets {preset[each]}; "
                    f"{value} is used; remove the key to follow the preset"
                )
        values |= {**preset, **written}
        origins |= dict.fromkeys(preset, f"{layer.origin}, preset {name}")
        origins |= dict.fromkeys(written, layer.origin)
        params = parse_section(kind, values, key, layer.origin)  # here, so that a mistake is located
    return RecommenderSettings(params, values, origins, tuple(conflicts))


def find_preset(kind: type["RecommenderParams"], name: object, key: str, origin: str) -> Mapping[str, object]:
    """The keys that a preset sets.

    Raises:
        ParamsError: the recommender has no such preset.
    """
    if isinstance(name, str) and name in kind.presets:
        return kind.presets[name]
    known = suggestion(str(name), kind.presets) or " (it has none)"
    raise ParamsError(f"{origin}: {key}.{PRESET}: found {name!r}, expected a preset{known}")
