"""Verb `verify`: find damaged and stale artefacts of a dataset by the checksums, shapes and inputs that they record."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from mmprep.pipeline.errors import MissingInputError, MmprepError
from mmprep.pipeline.graphs.catalogue import GraphName
from mmprep.pipeline.layout import Layout, RunLayout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.tables.integrity import IntegrityChecker, IntegrityError, State
from mmprep.pipeline.tables.schemas import (
    DOWNLOADS,
    EDGES,
    INTERACTIONS,
    INTRA_EDGES,
    ITEMS,
    KCORE,
    RAW_ITEMS,
    RECOMMENDATIONS,
    REJECTS,
    RELIABILITIES,
    SPLIT_INTERACTIONS,
    USERS,
)
from mmprep.stages.maintenance.verify_features import check_features
from mmprep.stages.maintenance.verify_runs import check_run

Artefact = tuple[Path, str, Callable[[], None]]
"""A file or folder, the command that makes it, and its check, which raises if it is damaged or stale."""


@dataclass(frozen=True)
class Finding:
    """Result of checking one artefact.

    Attributes:
        path: the file or folder.
        state: `stale` means intact, but made of other inputs than the current ones.
        fault: what is wrong, and the command to run; empty if ok.
    """

    path: Path
    state: State
    fault: str = ""


def run(layout: Layout, progress: Progress = silent) -> list[Finding]:
    """Check all existing artefacts of a dataset: their bytes, shapes and inputs.

    Raises:
        MissingInputError: there are none.
    """
    checker = IntegrityChecker(layout)
    listed = list(artefacts(layout, checker))
    if not listed:
        raise MissingInputError(f"{layout.raw_interactions.parent}: nothing to verify; run `dvc repro` first")
    findings = []
    with progress("verifying", len(listed), "artefacts") as advance:
        checker.note = partial(advance, 0)
        for artefact in listed:
            findings.append(examine(artefact))
            advance(1, "")
    return findings


def examine(artefact: Artefact) -> Finding:
    """Run an artefact's check."""
    path, made_by, check = artefact
    state: State = "damaged"
    try:
        check()
    except IntegrityError as fault:
        state, what = fault.state, str(fault)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        what = f"does not hold what mmprep records in its files ({type(error).__name__}: {error})"
    except (MmprepError, OSError, ValueError, MemoryError, pa.ArrowException, SafetensorError) as error:
        what = (
            next(iter(str(error).splitlines()), type(error).__name__).removeprefix(f"{path}: ").removeprefix(f"{path}/")
        )
    else:
        return Finding(path, "ok")
    return Finding(path, state, what if made_by in what else f"{what}; run `{made_by}`")


def artefacts(layout: Layout, checker: IntegrityChecker) -> Iterator[Artefact]:
    """All existing artefacts, in pipeline order."""
    for path, table in (
        (layout.raw_interactions, INTERACTIONS),
        (layout.raw_items, RAW_ITEMS),
        (layout.rejects, REJECTS),
        (layout.downloads, DOWNLOADS),
        (layout.core, KCORE),
        (layout.users, USERS),
        (layout.items, ITEMS),
        (layout.interactions, SPLIT_INTERACTIONS),
    ):
        if path.exists():
            yield path, table.made_by, partial(checker.table, path, table)
    for folder in folders(layout.root / "features" / layout.dataset):
        yield folder, f"mmprep extract --encoder {folder.name}", partial(check_features, folder, checker)
    for path in graph_files(layout):
        name = GraphName.of_file(path.relative_to(layout.graph_folder("")))
        table = INTRA_EDGES if name.kind == "intra_item" else EDGES
        yield path, name.command, partial(checker.table, path, table)
    for folder in folders(layout.root / "runs" / layout.dataset):
        yield from run_artefacts(RunLayout(folder), checker)
    if layout.reliabilities.exists():
        check = partial(checker.table, layout.reliabilities, RELIABILITIES)
        yield layout.reliabilities, RELIABILITIES.made_by, check
    for path in files(layout.root / "metrics" / layout.dataset, "json"):
        yield path, made_metrics(path.stem), partial(checker.metrics, path)


def run_artefacts(run: RunLayout, checker: IntegrityChecker) -> Iterator[Artefact]:
    """Artefacts of one recommender's training and evaluation."""
    name = run.folder.name
    yield run.folder, f"mmprep train --recommender {name}", partial(check_run, run, checker)
    evaluate = f"mmprep evaluate --recommender {name}"
    if run.recommendations.exists():
        yield run.recommendations, evaluate, partial(checker.table, run.recommendations, RECOMMENDATIONS)
    for path in (run.metrics, run.metrics_by_group):
        if path.exists():
            yield path, evaluate, partial(checker.metrics, path)


def folders(parent: Path) -> list[Path]:
    """Non-empty folders, without the hidden ones, which are leftovers of killed stages."""
    return [path for path in sorted(parent.glob("[!.]*")) if path.is_dir() and any(path.iterdir())]


def files(parent: Path, kind: str) -> list[Path]:
    """Files with an extension, without the hidden ones."""
    return sorted(parent.glob(f"[!.]*.{kind}"))


def graph_files(layout: Layout) -> list[Path]:
    """Graph files; some kinds have a folder of their own."""
    top = layout.graph_folder("")
    return [path for folder in (top, *folders(top)) for path in files(folder, "parquet")]


def made_metrics(name: str) -> str:
    """The command that writes `metrics/DATASET/NAME.json`."""
    stage, _, which = name.partition("-")
    if stage == "graph":
        return GraphName(*which.split("-", 1)).command
    return f"mmprep {stage}{' --encoder ' if stage == 'extract' else ''}{which}"
