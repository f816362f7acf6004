"""A trained recommender, read back as training left it."""

from collections.abc import Mapping
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
from mmprep.pipeline.storage.files import require
from mmprep.stages.maintenance.soundness import Fault, Soundness, read_object
from mmprep.stages.training.training_data import read_training_data


@dataclass(frozen=True)
class Trained:
    """A trained recommender and what it was trained on.

    Attributes:
        recommender: with the best epoch's parameters.
        data: the interactions, features and graphs.
        encoders: of each modality that it reads.
        seed: of its training.
        inputs: the files of that data.
    """

    recommender: Recommender
    data: TrainingData
    encoders: Mapping[str, str]
    seed: int
    inputs: list[Path]


def read_trained(layout: Layout, name: str) -> Trained:
    """Read a trained recommender of a dataset.

    Raises:
        ParamsError: there is no such recommender.
        MissingInputError: it is not trained.
        DataError: its files are damaged, or its inputs have changed since, or another version has trained it.
    """
    description, files, again = describe(name), layout.run(name), f"mmprep train --recommender {name}"
    require(files.config, again)
    try:
        config = read_object(files.config)
        if not all(isinstance(config.get(key), dict) for key in ("inputs", "outputs", "params", "features", "train")):
            raise Fault("damaged", f"{files.config.name} lacks what training wrote")
        Soundness(layout).trained(files)
    except Fault as fault:
        raise DataError(f"{files.folder}: {fault}; run `{again}` again") from fault
    read = read_training_data(description, config["features"], layout, TrainParams().token_memory)
    kind = description.load()
    try:
        params = parse_section(kind.params_type, config["params"], "params", str(files.config))
        recommender = build(kind, read.data, params, seed=0)
        recommender.load_state_dict(load_file(files.checkpoint))
    except (ParamsError, RuntimeError) as error:
        raise DataError(f"{files.folder}: of another version of {name}; run `{again}` again") from error
    return Trained(recommender.eval(), read.data, config["features"], config["train"]["seed"], read.inputs)
