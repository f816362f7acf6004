"""Files of a raw folder: those to read, with their formats, and reasons why the others are not read."""

import logging
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.photos.folder import IMAGES
from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.pipeline.tables.rejects import Rejects
from mmprep.stages.ingest import matrices
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.catalogue import COMPANIONS, FORMATS, SUFFIXES, detect_format
from mmprep.stages.ingest.given_splits import LATTICE, MMREC, split_of
from mmprep.stages.ingest.records import Parse

logger = logging.getLogger(__name__)

FEATURES = (".npy", ".b", ".b.gz")  # external features, for encoders with `library: file`
ADVICE = {
    Reason.OTHER_NAME: f"expected files that end in one of {', '.join(SUFFIXES)}; rename, unpack or remove it",
    Reason.UNKNOWN_FORMAT: f"not read; expected {'; '.join(known.name for known in FORMATS)}",
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
        parse: parses one line of it.
    """

    source: str
    path: Path
    known: Format
    parse: Parse


def recognise_files(raw: Path, named: tuple[str, ...]) -> tuple[list[RawFile], Rejects]:
    """Files of known formats in a raw folder, and a reject for each of the others.

    Args:
        raw: the folder.
        named: paths below the folder to read, in this order; empty for all files by name.

    Raises:
        MissingInputError: a file is missing or a dangling link, or none holds reviews.
    """
    files, unknown = [], Rejects()
    for path in paths_to_read(raw, named):
        identified = identify(path, bool(named))
        source = path.relative_to(raw).as_posix()
        if isinstance(identified, Reason):
            unknown.append(Reject(source, None, identified, ""))
            logger.warning("%s: %s; %s", path, identified.value, ADVICE.get(identified, "not read"))
        else:
            known, head = identified
            files.append(RawFile(source, path, known, known.parser(head)))
    files = without_second_splits(files, unknown)
    if not any(file.known.kind == "reviews" for file in files):
        formats = "; ".join(known.name for known in FORMATS if known.kind == "reviews")
        raise MissingInputError(f"{raw}: no reviews found among {len(files) + len(unknown)} files; expected {formats}")
    return files, unknown


def without_second_splits(files: list[RawFile], unknown: Rejects) -> list[RawFile]:
    """Leave out matrices of a split that another file gives as well, with a warning and a reject each.

    MMSSL's folders have each split twice, as lists and as a matrix. An `.npz` takes precedence over a pickle.
    """
    given_by = {split_of(file.path): file for file in files if file.known is LATTICE}
    kept = [file for file in files if file.known is not matrices.MATRIX]
    for file in sorted(files, key=lambda file: (file.path.suffix != ".npz", file.source)):
        if file.known is not matrices.MATRIX:
            continue
        split = matrices.split_of(file.path)
        if first := given_by.get(split):
            unknown.append(Reject(file.source, None, Reason.SAME_SPLIT, ""))
            logger.warning("%s: not read; %s gives the %s split already", file.path, first.source, split)
        else:
            given_by[split] = file
            kept.append(file)
    return kept


def matrix_paths(files: list[RawFile]) -> list[Path]:
    """Paths of the matrices of published splits among files."""
    return [file.path for file in files if file.known is matrices.MATRIX]


def identify(path: Path, named: bool) -> tuple[Format, FileHead] | Reason:
    """The format and head of any file that may be in the raw folder, or why it is not read."""
    if path.is_symlink() and not path.exists():
        return Reason.DANGLING_LINK
    if path.is_dir() or not (named or path.name.endswith(SUFFIXES) or path.name in matrices.NAMES):
        return Reason.OTHER_NAME
    return detect_format(path) if path.is_file() else Reason.NOT_A_FILE  # reading a pipe would block


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
    folders = {file.path.parent for file in files if file.known in (LATTICE, MMREC)}
    return {folder / name for folder in folders for name in COMPANIONS if (folder / name).is_file()}
