"""Schemas of all Parquet tables."""

from typing import Literal

import pyarrow as pa

from mmprep.pipeline.tables.table import Table

TRAIN, VAL, TEST = "train", "val", "test"

SPLITS = (TRAIN, VAL, TEST)

TextField = Literal["title", "description", "categories", "brand"]

TEXT_FIELDS: tuple[TextField, ...] = ("title", "description", "categories", "brand")

ExtraText = Literal["features", "details"]

EXTRA_TEXTS: tuple[ExtraText, ...] = ("features", "details")


def column(name: str, kind: pa.DataType) -> pa.Field:
    """A non-nullable column."""
    return pa.field(name, kind, nullable=False)


INTERACTIONS = Table(
    "interactions",
    pa.schema(
        [
            column("user_id", pa.large_string()),
            column("item_id", pa.large_string()),
            pa.field("rating", pa.float32()),  # null where the source has none
            pa.field("timestamp", pa.int64()),  # seconds since 1970, UTC; null where the source has none
            pa.field("split", pa.large_string()),  # one of SPLITS where the source is split already, else null
        ]
    ),
    "mmprep ingest",
    has_content_digest=True,
)

RAW_ITEMS = Table(
    "items",
    pa.schema(
        [
            column("item_id", pa.large_string()),
            *(column(name, pa.large_string()) for name in TEXT_FIELDS),  # empty where unknown
            pa.field("image", pa.large_string()),  # path below the raw folder; null without a usable photo
            pa.field("image_url", pa.large_string()),
        ]
    ),
    "mmprep ingest",
    has_content_digest=True,
    optional=tuple(column(name, pa.large_string()) for name in EXTRA_TEXTS),  # where ingest.extra_text names them
)

REJECTS = Table(
    "rejects",
    pa.schema(
        [
            column("source", pa.large_string()),  # the file, below the raw folder
            pa.field("line", pa.int64()),  # from 1; null where the whole file is rejected
            column("reason", pa.large_string()),  # one of Reason
            column("excerpt", pa.large_string()),
        ]
    ),
    "mmprep ingest",
)

DOWNLOADS = Table(
    "downloads",
    pa.schema(
        [
            column("url", pa.large_string()),
            pa.field("item_id", pa.large_string()),  # null for a raw file
            pa.field("path", pa.large_string()),  # below the raw folder; null without a file
            column("status", pa.large_string()),  # one of Status
            pa.field("http_status", pa.int32()),  # null without a response
            column("bytes", pa.int64()),  # of the file
            column("attempts", pa.int32()),
            column("detail", pa.large_string()),
        ]
    ),
    "mmprep download",
)

KCORE = Table(
    "k-core interactions",
    pa.schema([column("user", pa.int32()), column("item", pa.int32()), *list(INTERACTIONS.schema)[2:]]),
    "mmprep filter",
)

USERS = Table(
    "users",
    pa.schema([column("user", pa.int32()), column("user_id", pa.large_string())]),
    "mmprep filter",
)

ITEMS = Table(
    "items",
    pa.schema([column("item", pa.int32()), *RAW_ITEMS.schema]),
    "mmprep filter",
    optional=RAW_ITEMS.optional,
)

SPLIT_INTERACTIONS = Table(
    "split interactions",
    pa.schema([*list(KCORE.schema)[:-1], column("split", pa.large_string())]),
    "mmprep split",
)

EDGES = Table(
    "edges",
    pa.schema(
        [
            column("source", pa.int32()),
            column("target", pa.int32()),
            column("weight", pa.float32()),
        ]
    ),
    "mmprep graph",
)

INTRA_EDGES = Table(
    "edges within items",
    pa.schema(
        [
            column("item", pa.int32()),
            column("source", pa.int16()),  # position among the item's patches or tokens, from 0
            column("target", pa.int16()),
            column("weight", pa.float32()),
        ]
    ),
    "mmprep graph",
)

RELIABILITIES = Table(
    "reliabilities",
    pa.schema(
        [
            column("user", pa.int32()),
            column("item", pa.int32()),
            column("user_id", pa.large_string()),
            column("item_id", pa.large_string()),
            column("f", pa.float32()),  # probability of the interaction if the user likes the item
            column("g", pa.float32()),  # probability if not
        ]
    ),
    "mmprep denoise",
)

RECOMMENDATIONS = Table(
    "recommendations",
    pa.schema(
        [
            column("user", pa.int32()),
            column("rank", pa.int32()),  # from 1
            column("item", pa.int32()),
            column("score", pa.float32()),
            column("user_id", pa.large_string()),
            column("item_id", pa.large_string()),
            column("title", pa.large_string()),
        ]
    ),
    "mmprep evaluate",
)
