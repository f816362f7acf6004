"""timm's metadata of a model: input transform and published weights. Builds no network."""

from types import ModuleType
from typing import Any

from mmprep.pipeline.errors import WeightsError


def require_timm(place: str) -> ModuleType:
    """Import timm.

    Raises:
        WeightsError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise WeightsError(
            f"{place}: timm is not installed; run `pip install -c constraints.txt 'mmprep[timm]'`"
        ) from error
    return timm


def published_repository(model: str, place: str) -> str:
    """The repository of a model's published weights on the Hugging Face hub.

    Raises:
        WeightsError: timm is not installed, has no such model, or publishes no weights of it there.
    """
    timm = require_timm(place)
    configuration = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    if configuration is None or not configuration.hf_hub_id:
        raise WeightsError(
            f"{place}: timm publishes no weights of {model!r} on the Hugging Face hub; `timm.list_pretrained()` lists "
            "models that have weights; or give a file"
        )
    return str(configuration.hf_hub_id)


def data_configuration(model: str) -> dict[str, Any]:
    """The input configuration that timm has for a model.

    Raises:
        WeightsError: timm is not installed or has no such model.
    """
    timm = require_timm("encoders")
    if not timm.is_model(model):
        raise WeightsError(f"encoders: timm {timm.__version__} has no model {model!r}; `timm.list_models()` names them")
    configuration = timm.get_pretrained_cfg(model)
    return dict(timm.data.resolve_data_config(pretrained_cfg=configuration.to_dict() if configuration else {}))


def transform_of(model: str) -> str:
    """Description of a model's input transform in one line."""
    return ", ".join(f"{key} {value}" for key, value in sorted(data_configuration(model).items()))
