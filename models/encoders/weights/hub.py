"""Published weights on the Hugging Face hub, from its cache on disk or by download."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmprep.models.encoders.catalogue import EncoderDescription
from mmprep.pipeline.errors import WeightsError, first_line

logger = logging.getLogger(__name__)

TORCH_FILE = "pytorch_model.bin"
WANTED = ("*.safetensors", "*.json", "*.txt", "*.model")


def fetch_repository(description: EncoderDescription, place: str) -> Path:
    """Fetch a repository's files and return their folder; files on disk are not requested from the hub.

    Weights are safetensors, or PyTorch's file if the repository has no others.

    Raises:
        WeightsError: the repository is neither on disk nor can it be fetched, or it holds no weights.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # takes half a second

    repository = repository_of(description, place)
    try:
        folder = snapshot(repository, on_disk=True) or snapshot(repository, on_disk=False)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(
            f"{place}: pretrained weights of {repository} could not be fetched ({first_line(error)}); give a folder of "
            "them, or random:SEED if features need not be meaningful"
        ) from error
    if folder is None:
        raise WeightsError(
            f"{place}: {repository} has neither safetensors nor {TORCH_FILE}, as far as the hub can be reached; "
            "convert its weights and give the folder"
        )
    return folder


def snapshot(repository: str, *, on_disk: bool) -> Path | None:
    """The folder of a repository's files, from disk or by download; None if it holds no weights.

    Raises:
        HfHubHTTPError, HFValidationError, OSError: the repository cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for wanted in (WANTED, (*WANTED, TORCH_FILE)):
        try:
            with no_bars():
                folder = Path(snapshot_download(repository, allow_patterns=list(wanted), local_files_only=on_disk))
        except LocalEntryNotFoundError:
            if not on_disk:
                raise
            continue  # an interrupted download may have left a part of the files
        if has_weights(folder):
            return folder
    if on_disk:
        logger.info("%s: fetching from the Hugging Face hub", repository)
    return None


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights in a supported format."""
    return (folder / TORCH_FILE).is_file() or any(folder.rglob("*.safetensors"))


@contextmanager
def no_bars() -> Iterator[None]:
    """Disable the hub library's progress bars."""
    from huggingface_hub import utils

    shown = not utils.are_progress_bars_disabled()  # type: ignore[attr-defined]
    utils.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if shown:
            utils.enable_progress_bars()  # type: ignore[attr-defined]


def repository_of(description: EncoderDescription, place: str) -> str:
    """The repository of an encoder's published weights; for timm it follows from the model's name.

    Raises:
        WeightsError: timm has no such model, or publishes no weights of it.
    """
    if description.library != "timm":
        return description.published_weights
    from mmprep.models.encoders.weights.timm_models import published_repository

    return published_repository(description.model, place)
