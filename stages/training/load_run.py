"""A trained run with its recommender and training data, as training left them."""

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from mmprep.models.recommenders.base import Recommender, TrainingData
from mmprep.models.recommenders.catalogue import describe
from mmprep.models.training.params import TrainParams
from mmprep.models.training.trainer import build
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import parse_section
from mmprep.stages.training.run import TrainedRun
from mmprep.stages.training.training_data import read_training_data


@dataclass(frozen=True)
class LoadedRun:
    """A trained recommender in memory.

    Attributes:
        run: the run on disk.
        recommender: with the best epoch's parameters.
        data: the interactions, features and graphs that it was trained on.
        inputs: the files of that data.
    """

    run: TrainedRun
    recommender: Recommender
    data: TrainingData
    inputs: list[Path]


def load_run(layout: Layout, name: str) -> LoadedRun:
    """Load a trained recommender of a dataset.

    Raises:
        ParamsError: there is no such recommender.
        MissingInputError: it is not trained.
        DataError: its files are damaged, its inputs have changed since, or another version trained it.
    """
    description = describe(name)
    run = TrainedRun.open(layout.run(name), name)
    run.require_whole()
    run.require_fresh(layout)
    loaded = read_training_data(description, run.config.features, layout, TrainParams().token_memory)
    run.require_sizes(loaded.data.n_users, loaded.data.n_items)
    kind = description.load()
    try:
        params = parse_section(kind.params_type, run.config.params, "params", str(run.files.config))
        recommender = build(kind, loaded.data, params, seed=0)
        recommender.load_state_dict(load_file(run.files.checkpoint))
    except (ParamsError, RuntimeError) as error:
        raise DataError(f"{run.files.folder}: of another version of {name}; run `{run.made_by}` again") from error
    return LoadedRun(run, recommender.eval(), loaded.data, loaded.inputs)
