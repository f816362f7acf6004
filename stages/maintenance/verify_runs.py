"""Check that a trained recommender is what training wrote, from the current inputs."""

from mmprep.pipeline.layout import RunLayout
from mmprep.pipeline.tables.integrity import IntegrityChecker, IntegrityError, size_of
from mmprep.pipeline.tables.schemas import ITEMS, USERS
from mmprep.stages.training.run import TrainedRun


def check_run(files: RunLayout, checker: IntegrityChecker) -> None:
    """Check a run: its config, its weights against their digests, its history, its inputs, and its embeddings' number.

    Raises:
        IntegrityError: it is not ok; or what reading raises.
    """
    if not files.config.exists():
        raise IntegrityError("damaged", f"no {files.config.name}, as training did not end")
    run = TrainedRun.open(files, files.folder.name)
    run.require_whole()
    checker.require_inputs(run.values)
    layout = checker.layout
    tables = (("users", layout.users, USERS), ("items", layout.items, ITEMS))
    for found, (what, path, table) in zip(run.sizes(), tables, strict=True):
        expected = size_of(path, table)
        if expected is not None and found != expected:
            raise IntegrityError("stale", f"embeddings of {found} {what}, but there are {expected}")
