"""Command that writes the features of papers into params.yaml."""

from pathlib import Path

import click

from mmprep.stages.cli.group import Command, prepare, stage_options


@click.command(cls=Command)
@stage_options
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Print what would change and write nothing.")
def features(root: Path, file: Path | None, dataset: str | None, name: str | None, dry_run: bool) -> None:
    """Write the features that a paper uses to params.yaml.

    Without NAME, list the presets. A preset sets extract.encoders, the encoders' sections, graphs.encoders and the
    modalities of section train; every key that changes is printed with its value before and after.

    Example: mmprep features mmrec --dry-run
    """
    from mmprep.stages.config.feature_presets import PRESETS, apply
    from mmprep.stages.config.load import DEFAULT_FILE

    if name is None:
        for preset in PRESETS.values():
            click.echo(f"{preset.name}\n  {preset.summary}\n  used by: {preset.used_by}")
        return
    _, layout = prepare(root, file, dataset)
    path = file or DEFAULT_FILE
    changes = apply(name, path, layout, write=not dry_run)
    click.echo(f"{path}: {'would change' if dry_run else 'changed'} {len(changes)} keys")
    for change in changes:
        click.echo(f"  {change}")
