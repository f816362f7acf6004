"""Common parts of all commands: errors, refusal of empty values, and the options of every stage."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mmprep.pipeline.errors import ParamsError
from mmprep.stages.cli.failures import flush_output, prepare_streams, show_error

if TYPE_CHECKING:
    from mmprep.pipeline.layout import Layout
    from mmprep.stages.config.parameters import Parameters

MOST = 2**31 - 1  # number or seed of an option: fits every library
COUNT, NUMBER = click.IntRange(1, MOST), click.IntRange(0, MOST)
F = TypeVar("F", bound=Callable[..., Any])
BEFORE = "mmprep.stages.cli.before"  # key of click's context: values of options given before the command, by flag
PLACES: dict[str, tuple[str, dict[str, Any]]] = {
    "--data": ("root", {"type": click.Path(path_type=Path), "help": "Data folder."}),
    "--params": ("file", {"type": click.Path(path_type=Path), "help": "File to use instead of params.yaml."}),
    "--dataset": ("dataset", {"help": "Dataset folder under data/raw, instead of the one in params.yaml."}),
}
"""Name and settings of the options that may be given before the command, too."""


class MayBeEmpty(click.Option):
    """Option whose empty value has a meaning of its own, which its help states."""


class Command(click.Command):
    """Command that refuses empty values: an unset shell variable would otherwise mean "all" or "the default"."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line.

        Raises:
            ParamsError: an option or argument is empty or blank.
        """
        require_values(self, ctx, args)
        return super().parse_args(ctx, args)


def require_values(command: click.Command, ctx: click.Context, args: list[str]) -> None:
    """Check a command line before click converts values, as it makes the current folder of an empty path.

    Raises:
        ParamsError: an option or argument is empty or blank.
    """
    given, _, _ = command.make_parser(ctx).parse_args(args=list(args))
    for parameter in command.params:
        if not isinstance(parameter, MayBeEmpty):
            require_not_empty(parameter, given.get(parameter.name or ""))


def require_not_empty(parameter: click.Parameter, given: object) -> None:
    """Check that no value of an option or argument is empty or blank.

    Args:
        parameter: the option or argument.
        given: its unparsed value, or a list of them if it is repeatable.

    Raises:
        ParamsError: a value is.
    """
    for value in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(value, str) and not value.strip():
            option = isinstance(parameter, click.Option)
            name = parameter.opts[0] if option else (parameter.name or "").upper()
            advice = "leave the option out for its default" if option and not parameter.required else "give it a value"
            raise ParamsError(f"{name}: found {value!r}, expected a non-empty value; {advice}")


class Commands(click.Group):
    """Command group that turns mmprep's errors into exit codes and lists commands in the order of the pipeline."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the command; raises as `Command.parse_args` does."""
        require_values(self, ctx, args)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and check that it takes the options given before it.

        Raises:
            ParamsError: it does not.
        """
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, click.Group):
            flags = {flag for parameter in command.params for flag in parameter.opts}
            for flag in ctx.meta.get(BEFORE, {}):
                if flag not in flags:
                    raise ParamsError(f"{flag}: found before `{name}`, which has no such option; leave it out")
        return name, command, rest

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the command line, and turn every error into a message and an exit code."""
        try:
            prepare_streams()
            try:
                return super().main(*args, **kwargs)
            finally:
                flush_output()
        except Exception as error:
            sys.exit(show_error(error))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order of definition."""
        del ctx
        return list(self.commands)


def option_before(flag: str) -> Callable[[F], F]:
    """Decorate the outermost group with an option that stands before the command."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        del parameter
        if value is not None:
            ctx.meta.setdefault(BEFORE, {})[flag] = value

    name, settings = PLACES[flag]
    return click.option(flag, name, expose_value=False, callback=remember, **settings)


def option(flag: str, default: object = None) -> Callable[[F], F]:
    """Decorate a command with an option that may stand before the command, too."""

    def merge(ctx: click.Context, parameter: click.Parameter, value: object) -> object:
        before = ctx.meta.get(BEFORE, {}).get(flag)
        if before is None:
            return value
        after = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if after and value != before:
            raise ParamsError(f"{flag}: found {before} before the command and {value} after it, expected one of them")
        return before

    name, settings = PLACES[flag]
    return click.option(flag, name, default=default, callback=merge, **settings)


def stage_options(command: F) -> F:
    """Add the options that every stage has."""
    for flag, default in (("--data", Path("data")), ("--params", None), ("--dataset", None)):
        command = option(flag, default)(command)
    return command


def require_current_code(root: Path, key: str, params: "Parameters") -> None:
    """Under DVC, check that data/code lists the code that is running; see `code_digests`."""
    if "DVC_STAGE" in os.environ:
        from mmprep.stages.config.code_digests import require_current

        require_current(root, key, params)


def prepare_stage(
    root: Path, file: Path | None, dataset: str | None, *, recorded: bool = True
) -> tuple["Parameters", "Layout"]:
    """Like `prepare`, and check that the files of external features exist, before any stage has run for minutes."""
    from mmprep.stages.config.load import check_external_files

    params, layout = prepare(root, file, dataset, recorded=recorded)
    check_external_files(params, layout)
    return params, layout


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
