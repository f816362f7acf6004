"""User-facing errors: each message says what was found, what was expected and what to do."""


class MmprepError(Exception):
    """Base of all errors that the command line reports as a message instead of a traceback."""


class ParamsError(MmprepError):
    """A parameter is unknown, of the wrong type or impossible."""


class MissingInputError(MmprepError):
    """A file or folder that a stage reads does not exist."""


class DataError(MmprepError):
    """A file exists, but its content cannot be used."""


class WeightsError(MmprepError):
    """An encoder's weights are not available, or are not the requested ones."""


def first_line(error: Exception) -> str:
    """First non-empty line of an error's message, or the error's class name if it has none."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
