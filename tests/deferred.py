"""What takes seconds to import, imported by the first test that uses it: each worker collects all tests."""

from pkgutil import resolve_name
from typing import Any


class Deferred:
    """Stands in for a module `NAME`, or for a class or function `MODULE:NAME`, until it is first called or read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *values: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever is called
        return resolve_name(self._name)(*values, **named)

    def __getattr__(self, attribute: str) -> Any:  # noqa: ANN401 - whatever is read
        if attribute.startswith("_"):  # pytest looks for such ones in all that a test module holds
            raise AttributeError(attribute)
        return getattr(resolve_name(self._name), attribute)
