"""Common parts of all commands: the exit codes of errors, and the options of every stage."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mmprep.pipeline.errors import DataError, MissingInputError, MmprepError, ParamsError, WeightsError

if TYPE_CHECKING:
    from mmprep.pipeline.layout import Layout
    from mmprep.stages.config.parameters import Parameters

EXIT_CODES: dict[type[Exception], int] = {ParamsError: 2, MissingInputError: 3, DataError: 4, WeightsError: 5}
F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Command group that turns mmprep's errors into exit codes and lists commands in the order of the pipeline."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click exits quietly when the reader has closed the pipe
        except (MmprepError, OSError) as error:  # OSError: such as a full disk or a read-only folder
            for line in str(error).splitlines() or [type(error).__name__]:
                click.echo(click.style("error: ", fg="red", bold=True) + line, err=True)
            ctx.exit(next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order of definition."""
        del ctx
        return list(self.commands)


def stage_options(command: F) -> F:
    """Add the options that every stage has."""
    for option in (
        click.option("--data", "root", type=click.Path(path_type=Path), default=Path("data"), help="Data folder."),
        click.option("--params", "file", type=click.Path(path_type=Path), help="File to use instead of params.yaml."),
        click.option("--dataset", help="Dataset folder under data/raw, instead of the one in params.yaml."),
    ):
        command = option(command)
    return command


def require_current_code(root: Path, key: str, params: "Parameters") -> None:
    """Under DVC, check that data/code lists the code that is running; see `code_digests`."""
    if "DVC_STAGE" in os.environ:
        from mmprep.stages.config.code_digests import require_current

        require_current(root, key, params)


def prepare(
    root: Path, file: Path | None, dataset: str | None, *, recorded: bool = True
) -> tuple["Parameters", "Layout"]:
    """Load the validated parameters and the dataset's paths.

    Args:
        root: the data folder.
        file: the parameter file; None for params.yaml.
        dataset: the dataset; None for the file's.
        recorded: whether a command that DVC runs gets the parameters that stage `parameters` has written, on which
            its own stage depends.
    """
    from mmprep.pipeline.layout import Layout
    from mmprep.stages.config.load import DEFAULT_FILE, load

    params = load(file or DEFAULT_FILE, dataset)
    layout = Layout(root, params.dataset)
    if recorded and "DVC_STAGE" in os.environ and file is None and layout.parameters.is_file():
        params = load(layout.parameters, params.dataset)
    return params, layout
