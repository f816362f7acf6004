"""The commands of the row cache."""

import os

import click

from mmprep.stages.cli.console import bar, show_cached, timed
from mmprep.stages.cli.group import Commands


@click.group("cache", cls=Commands)
def cache_() -> None:
    """The row cache: what was encoded once, for all who share it.

    It serves all datasets. It lies at $MMPREP_CACHE, a folder or a URL such as s3://bucket/prefix, else in the user's
    cache folder.
    """


@cache_.command()
def stats() -> None:
    """What the cache holds, by encoder.

    Example: mmprep cache stats
    """
    from mmprep.pipeline.cache.row_cache import cache_place
    from mmprep.stages.maintenance import cache as verb

    place = cache_place(os.environ)
    found = verb.stats(place)
    click.echo(f"row cache at {place}" + ("" if found else ": empty"))
    for row in found:
        show_cached(row)


@cache_.command("verify")
def verify_cache() -> None:
    """Read all of it, and set aside what is damaged.

    Example: mmprep cache verify
    """
    from mmprep.pipeline.cache.row_cache import cache_place
    from mmprep.stages.maintenance import cache as verb

    with timed("cache verify") as done:
        found = verb.verify(cache_place(os.environ), bar)
        done({"shards": found.shards, "rows": found.rows, "damaged": len(found.damaged)})
    for name in found.damaged:
        click.echo(f"set aside: {name}")


@cache_.command()
@click.option("--unused-days", type=click.IntRange(min=0), help="Remove what was not used for so many days.")
@click.option("--encoder", help="Remove only what this encoder made.")
def prune(unused_days: int | None, encoder: str | None) -> None:
    """Remove what nobody needs, and tidy up the rest.

    Without an option nothing is removed but what was set aside as damaged; small shards are merged.

    Example: mmprep cache prune --unused-days 90
    """
    from mmprep.pipeline.cache.row_cache import cache_place
    from mmprep.stages.maintenance import cache as verb

    with timed("cache prune") as done:
        pruned = verb.prune(cache_place(os.environ), unused_days, encoder)
        done({"bytes_freed": pruned.bytes, "folders_removed": ", ".join(pruned.folders) or "none"})
