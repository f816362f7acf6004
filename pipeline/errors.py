"""The errors that a user can cause: each says what was found, what was expected and what to do."""


class MmprepError(Exception):
    """Base of every error that the command line reports as a message instead of a traceback."""


class ParamsError(MmprepError):
    """A parameter is unknown, of the wrong type or impossible."""


class MissingInputError(MmprepError):
    """A file or folder that a stage reads is not there."""


class DataError(MmprepError):
    """A file is there, but what it holds cannot be used."""


class WeightsError(MmprepError):
    """An encoder's weights cannot be had, or are not the ones that were asked for."""


def first_line(error: Exception) -> str:
    """The first line of an error's message that says something, or its kind where none does."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
