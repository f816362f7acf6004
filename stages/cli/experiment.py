"""Commands that reproduce tables and figures of papers."""

from typing import Any

import click

from mmprep.pipeline.errors import DataError
from mmprep.stages.cli.console import bar, show_applied_settings, show_experiment, show_experiment_file
from mmprep.stages.cli.group import Command, option

# Experiments are imported inside the commands, so that `mmprep --help` answers at once.


@click.command(cls=Command)
def experiments() -> None:
    """List the tables and figures that `mmprep experiment` runs.

    Example: mmprep experiments
    """
    from mmprep.stages.experiments import spec as files

    for name in files.names():
        path = files.find(name)
        file = files.load(path)
        show_experiment_file(name, file, files.load_paper(file, path))


@click.command(cls=Command)
@click.argument("file")
@click.option("--rows", "labels", multiple=True, help="Run only the row with this label; repeatable.")
@click.option("--seeds", help="Number of seeds, counting up from train.seed, or a list: 3, or 0,1,2.")
@option("--dataset")
@click.option("--like", help="The paper's dataset that this one corresponds to, if the names differ.")
@click.option("--as-published", is_flag=True, help="Start from defaults and use the paper's settings.")
@click.option("--dry-run", is_flag=True, help="Print the settings of each row and where they come from; run nothing.")
@click.option("--no-picture", "picture", is_flag=True, flag_value=False, default=True, help="Draw no figure.")
def experiment(*, dry_run: bool, **options: Any) -> None:  # noqa: ANN401 - the options as mmprep.stages.experiments.experiment.ExperimentRequest has them
    """Reproduce a table or figure of a paper on this dataset.

    FILE is a name in experiments/ or a path. Each row with each seed is an experiment that `dvc exp show` lists;
    finished ones are not run again. The workspace is left unchanged.

    Example: mmprep experiment da_mrs-table3 --seeds 3 --dataset baby
    """
    from mmprep.stages.experiments import experiment as verb

    request = verb.ExperimentRequest(**options)
    if dry_run:
        show_applied_settings(verb.settings(request), "would run with")
        return
    report = verb.run(request, bar)
    show_experiment(report)
    if report.failed:
        raise DataError("\n".join(report.failed))
