"""What commands that train the same recommender many times share: titles for the progress, and the test of a run."""

from contextlib import AbstractContextManager

from safetensors.torch import load_file
from scipy.sparse import csr_array

from mmprep.models.training.evaluator import evaluate
from mmprep.models.training.params import EvaluateParams
from mmprep.pipeline.layout import RunLayout
from mmprep.pipeline.progress import Advance, Progress
from mmprep.pipeline.storage.files import write_json
from mmprep.pipeline.tables.interactions import SplitMatrices


def entitled(title: str, progress: Progress) -> Progress:
    """The same progress, that tells which of many runs it is of."""

    def opened(task: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        return progress(f"{task} {title}", total, unit)

    return opened


def evaluate_run(files: RunLayout, params: EvaluateParams, splits: SplitMatrices) -> dict[str, float]:
    """The test metrics of a run that training has just written or found whole; also written into its folder.

    Raises:
        DataError: there is nothing to test on.
    """
    embeddings = load_file(files.embeddings)
    mask = csr_array(splits.train + splits.val) if params.mask_val else splits.train
    metrics = evaluate(embeddings["users"], embeddings["items"], splits.test, splits.train, mask)
    write_json(files.metrics, metrics)
    return metrics
