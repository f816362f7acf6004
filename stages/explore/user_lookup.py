"""Look up a user of a dataset by original id or index, and read their rows of a table."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import USERS
from mmprep.pipeline.tables.table import Table, may_contain
from mmprep.pipeline.text import printable
from mmprep.stages.explore.item_lookup import closest


def look_up_user(layout: Layout, user: str) -> tuple[int, str]:
    """A user's dense index and original id.

    Args:
        layout: the dataset's paths.
        user: the original id, or `#` and the dense index.

    Raises:
        DataError: there is no such user; the message suggests the most similar ids.
    """
    users = USERS.read(layout.users)
    found = users.filter(pl.col("user_id") == user)
    digits = user.removeprefix("#")
    if found.is_empty() and digits != user and digits.isascii() and digits.isdigit():
        if int(digits) >= len(users):
            known = f"the {len(users)} of {layout.users}, #0 to #{len(users) - 1}"
            raise DataError(f"user: found {user}, expected one of {known}")
        found = users.filter(pl.col("user") == int(digits))
    if found.is_empty():
        close = [printable(each) for each in closest(users["user_id"], user)]
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise DataError(f"user: found {user!r}, expected an id of {layout.users}, or # and an index{hint}")
    return found.row(0)


def read_rows(path: Path, table: Table, user: int, made_by: str) -> pl.DataFrame:
    """Read a user's rows of a table that has a column `user`.

    Only the row groups that may contain any are read, as the file may hold the rows of millions of users.

    Args:
        path: of the file.
        table: its schema.
        user: dense index.
        made_by: the command that writes it, for messages.

    Raises:
        MissingInputError: there is no such file.
        DataError: the file is damaged or has other columns.
    """
    table.check(path)
    column = table.schema.get_field_index("user")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            groups = [
                n for n in range(file.num_row_groups) if may_contain(file.metadata.row_group(n).column(column), user)
            ]
            rows = file.read_row_groups(groups)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: damaged ({reason}); remove it and run `{made_by}`") from error
    return pl.DataFrame(rows.replace_schema_metadata(None)).filter(pl.col("user") == user)
