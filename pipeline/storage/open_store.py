"""Open the store that a path or a URL names."""

from pathlib import Path

from mmprep.pipeline.storage.local_store import LocalPlace
from mmprep.pipeline.storage.store import Place


def open_store(where: str | Path) -> Place:
    """Open the store of a path or a URL; nothing is read yet.

    Raises:
        ParamsError: no installed library knows the URL's scheme.
    """
    scheme, mark, rest = str(where).partition("://")
    if mark and scheme not in ("file", "local"):
        from mmprep.pipeline.storage.remote_store import remote_place  # only URLs need fsspec

        return remote_place(str(where))
    return LocalPlace(Path(rest if mark else where).expanduser())
