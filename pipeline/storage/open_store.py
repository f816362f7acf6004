"""Open the store at a path or a URL."""

from pathlib import Path

from mmprep.pipeline.storage.files import expand_user
from mmprep.pipeline.storage.local_store import LocalStore
from mmprep.pipeline.storage.store import Store


def open_store(where: str | Path) -> Store:
    """Open the store at a path or a URL without reading anything.

    Raises:
        ParamsError: no installed library supports the URL's scheme, or the path begins with `~` and an unknown user.
    """
    scheme, mark, rest = str(where).partition("://")
    if mark and scheme not in ("file", "local"):
        from mmprep.pipeline.storage.remote_store import open_remote_store  # only URLs need fsspec

        return open_remote_store(str(where))
    return LocalStore(expand_user(rest if mark else str(where), "MMPREP_CACHE"))
