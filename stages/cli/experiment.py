"""The commands that run the tables and figures of papers."""

from typing import Any

import click

from mmprep.pipeline.errors import DataError
from mmprep.stages.cli.console import bar, show_experiment, show_experiment_file

# What they run is imported inside the commands, so that `mmprep --help` answers at once.


@click.command()
def experiments() -> None:
    """The tables and figures that `mmprep experiment` runs.

    Example: mmprep experiments
    """
    from mmprep.stages.experiments import spec as files

    for name in files.names():
        show_experiment_file(name, files.load(files.find(name)))


@click.command()
@click.argument("file")
@click.option("--rows", "labels", multiple=True, help="Only the row of this label; once for each.")
@click.option("--seeds", help="How many seeds, from train.seed on, or which: 3, or 0,1,2.")
@click.option("--dataset", help="A folder under data/raw, instead of the one that params.yaml names.")
@click.option("--like", help="Which of the paper's datasets this one is, if its name does not tell.")
@click.option("--as-published", is_flag=True, help="With the paper's batch size and other settings for that dataset.")
@click.option("--no-picture", "picture", is_flag=True, flag_value=False, default=True, help="Draw nothing.")
def experiment(**asked: Any) -> None:  # noqa: ANN401 - the options as mmprep.stages.experiments.experiment.ExperimentRequest has them
    """A table or figure of a paper, on our data.

    FILE is one of experiments/ or a path. Each row, with each seed, is an experiment that `dvc exp show` lists; what
    has run does not run again. The workspace stays as it is.

    Example: mmprep experiment da_mrs-table3 --seeds 3 --dataset baby
    """
    from mmprep.stages.experiments import experiment as verb

    found = verb.run(verb.ExperimentRequest(**asked), bar)
    show_experiment(found)
    if found.failed:
        raise DataError("\n".join(found.failed))
