"""Open the store that a path or a URL names."""

from pathlib import Path

from mmprep.pipeline.storage.local_store import LocalStore
from mmprep.pipeline.storage.store import Store


def open_store(where: str | Path) -> Store:
    """Open the store of a path or a URL; nothing is read yet.

    Raises:
        ParamsError: no installed library knows the URL's scheme.
    """
    scheme, mark, rest = str(where).partition("://")
    if mark and scheme not in ("file", "local"):
        from mmprep.pipeline.storage.remote_store import open_remote_store  # only URLs need fsspec

        return open_remote_store(str(where))
    return LocalStore(Path(rest if mark else where).expanduser())
