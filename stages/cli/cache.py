"""Commands of the row cache."""

import os

import click

from mmprep.stages.cli.console import bar, show_cached, timed
from mmprep.stages.cli.group import NUMBER, Commands


@click.group("cache", cls=Commands)
def cache_() -> None:
    """Manage the row cache, which stores each encoding once.

    All datasets share it. Its location is $MMPREP_CACHE, a folder or a URL such as s3://bucket/prefix, or by default
    the user's cache folder.
    """


@cache_.command()
def stats() -> None:
    """Show rows and size of the cache by encoder.

    Example: mmprep cache stats
    """
    from mmprep.pipeline.cache.row_cache import cache_place
    from mmprep.stages.maintenance import cache as verb

    place = cache_place(os.environ)
    folders = verb.stats(place)
    click.echo(f"row cache at {place}" + ("" if folders else ": empty"))
    for row in folders:
        show_cached(row)


@cache_.command("verify")
def verify_cache() -> None:
    """Read the whole cache and set damaged shards aside.

    Example: mmprep cache verify
    """
    from mmprep.pipeline.cache.row_cache import cache_place
    from mmprep.stages.maintenance import cache as verb

    with timed("cache verify") as done:
        verified = verb.verify(cache_place(os.environ), bar)
        done({"shards": verified.shards, "rows": verified.rows, "damaged": len(verified.damaged)})
    for name in verified.damaged:
        click.echo(f"set aside: {name}")


@cache_.command()
@click.option("--unused-days", type=NUMBER, help="Remove encodings not used for this many days.")
@click.option("--encoder", help="Remove only encodings of this encoder.")
def prune(unused_days: int | None, encoder: str | None) -> None:
    """Remove unused encodings and merge small shards.

    Without an option, only shards set aside as damaged are removed; small shards are merged.

    Example: mmprep cache prune --unused-days 90
    """
    from mmprep.pipeline.cache.row_cache import cache_place
    from mmprep.stages.maintenance import cache as verb

    with timed("cache prune") as done:
        pruned = verb.prune(cache_place(os.environ), unused_days, encoder)
        done({"bytes_freed": pruned.bytes, "folders_removed": ", ".join(pruned.folders) or "none"})
