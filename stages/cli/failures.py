"""Errors on the command line: which are the user's or the system's making, and their messages and exit codes."""

import os
import platform
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

import click

from mmprep.pipeline.errors import DataError, MissingInputError, MmprepError, ParamsError, WeightsError, first_line

EXIT_CODES: dict[type[Exception], int] = {ParamsError: 2, MissingInputError: 3, DataError: 4, WeightsError: 5}
# In messages of torch, whose RuntimeError has no class of its own for them, and of NumPy.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "storage size calculation overflowed",
    "multiplication overflow",
    "array is too big",
    "maximum allowed dimension exceeded",
)
NO_THREADS = ("can't start new thread", "resource temporarily unavailable")
STREAMS = 3  # standard input, output and error


def explain(error: Exception) -> str | None:
    """The message for an error of the user's or the system's making; None for a fault of mmprep."""
    if isinstance(error, OSError) and error.filename is None and is_of_output(error):
        return f"{error}: 'standard output'"
    if isinstance(error, (MmprepError, OSError)):  # OSError: such as a full disk or a read-only folder
        return str(error) or type(error).__name__
    text = str(error).lower()
    if isinstance(error, MemoryError) or has_any(OUT_OF_MEMORY, error, text):
        return (
            f"out of memory ({first_line(error)}); lower the sizes in params.yaml, such as batch_size, embedding_size "
            "or token_memory, or use a machine with more memory"
        )
    if has_any(NO_THREADS, error, text):
        return f"the system starts no more threads ({first_line(error)}); raise the limit of processes (ulimit -u)"
    if isinstance(error, UnicodeEncodeError) and any("\ud800" <= each <= "\udfff" for each in error.object):
        return f"found {error.object[:200]!a}, which is not UTF-8, expected a UTF-8 name or text; rename it"
    return None


def is_of_output(error: Exception) -> bool:
    """Whether an error was raised where click or rich writes to a stream, as such an error has no file name."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__")).startswith(("click.", "rich."))


def has_any(phrases: Sequence[str], error: Exception, text: str) -> bool:
    """Whether a library's error has one of these phrases in its message."""
    return isinstance(error, (RuntimeError, ValueError)) and any(phrase in text for phrase in phrases)


def show_error(error: Exception) -> int:
    """Print an error, one that is mmprep's fault with its traceback; return the exit code."""
    message = explain(error)
    if message is None:
        traceback.print_exception(error, file=sys.stderr)
        message = (
            f"{type(error).__name__} in mmprep: a fault of mmprep, not of your input; please report it with the lines "
            f"above, the command and params.yaml (mmprep {version('mmprep')}, Python {platform.python_version()}, "
            f"{platform.system()} {platform.machine()})"
        )
    for line in message.splitlines():
        click.echo(click.style("error: ", fg="red", bold=True) + line, err=True)
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def prepare_streams() -> None:
    """Make standard output and standard error accept any text, and give closed descriptors to no file of data.

    Raises:
        OSError: standard output is closed.
    """
    output_is_closed = sys.stdout is None
    for descriptor in range(STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest closed descriptor, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the process ends
    if output_is_closed:
        raise OSError("standard output: closed, expected a terminal, a file or a pipe; redirect it, such as >/dev/null")
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write buffered output, so that a full disk or a closed pipe is noticed before Python ends.

    Raises:
        OSError: it cannot be written, other than to a pipe whose reader has gone.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at its end
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from error
