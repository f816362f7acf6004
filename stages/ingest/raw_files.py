"""Files of a raw folder: those to read, with their formats, and reasons why the others are not read."""

import logging
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.photos.folder import IMAGES
from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.pipeline.tables.rejects import Rejects
from mmprep.stages.ingest import delimited, matrices, named_fields
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.catalogue import COMPANIONS, KINDS, LIST_NAMES, SUFFIXES, detect_format, explain
from mmprep.stages.ingest.columns import NO_COLUMNS, ColumnsParams
from mmprep.stages.ingest.given_splits import LATTICE, MMREC, split_of
from mmprep.stages.ingest.records import Parse
from mmprep.stages.ingest.user_lists import LISTS

logger = logging.getLogger(__name__)

FEATURES = (".npy", ".b", ".b.gz")  # external features, for encoders with `library: file`
CAUSES_SHOWN = 5
SUMMARY = (
    "reviews or metadata of an Amazon edition, or another format of docs/formats.md; see ingest.columns for tables"
)
ADVICE = {
    Reason.OTHER_NAME: f"expected files that end in {', '.join(f'.{kind}' for kind in KINDS)} (also .gz or .zst), "
    ".zip or .parquet; rename, unpack or remove it",
    Reason.UNKNOWN_FORMAT: f"not read; expected {SUMMARY}",
    Reason.SEVERAL_FILES: "not read; unpack it",
    Reason.ENCRYPTED: "not read; unpack it",
    Reason.CUT_OFF_FILE: "not read; fetch it again",
    Reason.EXPANDS_TOO_MUCH: "not read; unpack it yourself if you trust it",
}


@dataclass(frozen=True)
class RawFile:
    """A file of a known format.

    Attributes:
        source: its path below the raw folder.
        path: the file itself.
        known: its format.
        head: its beginning.
        parse: parses one line of it.
    """

    source: str
    path: Path
    known: Format
    head: FileHead
    parse: Parse


def recognise_files(
    raw: Path, named: tuple[str, ...], columns: ColumnsParams = NO_COLUMNS
) -> tuple[list[RawFile], Rejects]:
    """Files of known formats in a raw folder, and a reject for each of the others.

    Args:
        raw: the folder.
        named: paths below the folder to read, in this order; empty for all files by name.
        columns: section `ingest.columns`.

    Raises:
        MissingInputError: a file is missing or a dangling link, or none holds reviews.
    """
    files, unknown = [], Rejects()
    causes: list[str] = []
    for path in paths_to_read(raw, named):
        identified = identify(path, bool(named), columns)
        source = path.relative_to(raw).as_posix()
        if isinstance(identified, Reason):
            cause = explain(path, columns) if identified is Reason.UNKNOWN_FORMAT else ""
            unknown.append(Reject(source, None, identified, cause))
            advice = f"not read: {cause}" if cause else ADVICE.get(identified, "not read")
            logger.warning("%s: %s; %s", path, identified.value, advice)
            causes.append(f"{source}: {cause or identified.value}")
        else:
            known, head = identified
            files.append(RawFile(source, path, known, head, known.parser(head)))
    files = without_second_splits(files, unknown)
    if not any(file.known.kind == "reviews" for file in files):
        causes += [f"{file.source}: {file.known.name}" for file in files]
        shown = "; ".join(causes[:CAUSES_SHOWN]) + (" ..." if len(causes) > CAUSES_SHOWN else "")
        raise MissingInputError(
            f"{raw}: no reviews found among {len(files) + len(unknown)} files{f'; {shown}' if shown else ''}; expected "
            f"{SUMMARY}"
        )
    chosen = (delimited.CHOSEN, named_fields.OBJECTS, named_fields.PARQUET)
    if columns.named and not any(file.known in chosen for file in files):
        raise MissingInputError(
            f"{raw}: no file has the columns of ingest.columns ({', '.join(map(str, columns.named.values()))}); "
            "correct them, or remove ingest.columns for files of a known format"
        )
    return files, unknown


def without_second_splits(files: list[RawFile], unknown: Rejects) -> list[RawFile]:
    """Leave out files of a split that another file gives as well, with a warning and a reject each.

    MMSSL's folders have each split twice, as lists and as a matrix. JSON takes precedence over text, text over a
    matrix, and an `.npz` over a pickle.
    """
    given_by: dict[str, RawFile] = {}
    order = (LATTICE, LISTS, matrices.MATRIX)
    parts = [file for file in files if file.known in order]
    for file in sorted(parts, key=lambda file: (order.index(file.known), file.path.suffix != ".npz", file.source)):
        split = (matrices.split_of if file.known is matrices.MATRIX else split_of)(file.path)
        if first := given_by.get(split):
            unknown.append(Reject(file.source, None, Reason.SAME_SPLIT, ""))
            logger.warning("%s: not read; %s gives the %s split already", file.path, first.source, split)
        else:
            given_by[split] = file
    kept = [file for file in files if file.known not in order or file in given_by.values()]
    last = [file for file in given_by.values() if file.known is matrices.MATRIX]
    return [file for file in kept if file not in last] + last


def matrix_paths(files: list[RawFile]) -> list[Path]:
    """Paths of the matrices of published splits among files."""
    return [file.path for file in files if file.known is matrices.MATRIX]


def identify(path: Path, named: bool, columns: ColumnsParams = NO_COLUMNS) -> tuple[Format, FileHead] | Reason:
    """The format and head of any file that may be in the raw folder, or why it is not read."""
    if path.is_symlink() and not path.exists():
        return Reason.DANGLING_LINK
    if path.is_dir() or not (named or path.name.endswith(SUFFIXES) or path.name in matrices.NAMES | LIST_NAMES):
        return Reason.OTHER_NAME
    return detect_format(path, columns) if path.is_file() else Reason.NOT_A_FILE  # reading a pipe would block


def paths_to_read(raw: Path, named: tuple[str, ...]) -> list[Path]:
    """Paths of the files to examine.

    Raises:
        ParamsError: a path is not below the folder.
        MissingInputError: a file is missing or a dangling link.
    """
    for name in named:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ParamsError(f"ingest.files: found {name!r}, expected files below {raw}")
    if named:
        paths = [raw / name for name in dict.fromkeys(named)]
    else:
        paths = sorted(path for path in raw.iterdir() if not is_left_alone(path))
    for path in paths:
        if not path.exists() and (named or path.name.endswith(SUFFIXES)):
            fault = "a link to a file that is not there" if path.is_symlink() else "no such file; see ingest.files"
            raise MissingInputError(f"{path}: {fault}")
    return paths


def is_left_alone(path: Path) -> bool:
    """Whether a path is skipped without a reject: photos, features, id tables, READMEs, licences, hidden files."""
    name = path.name
    return (
        name in COMPANIONS
        or name.startswith((".", "README", "LICENSE"))
        or name.endswith(FEATURES)
        or name.split(".")[0] == IMAGES
    )


def companions_of(files: list[RawFile]) -> set[Path]:
    """Id tables beside the files of published splits."""
    folders = {file.path.parent for file in files if file.known in (LATTICE, LISTS, MMREC)}
    return {folder / name for folder in folders for name in COMPANIONS if (folder / name).is_file()}
