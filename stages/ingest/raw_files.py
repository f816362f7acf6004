"""The files of a raw folder: which are read, by what format, and why the others are not."""

import logging
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.photos.folder import IMAGES
from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.pipeline.tables.rejects import Rejects
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.catalogue import COMPANIONS, FORMATS, SUFFIXES, detect_format
from mmprep.stages.ingest.given_splits import LATTICE, MMREC
from mmprep.stages.ingest.records import Parse

logger = logging.getLogger(__name__)

FEATURES = (".npy", ".b", ".b.gz")  # of others, for encoders whose library is file
ADVICE = {
    Reason.OTHER_NAME: f"expected files that end in one of {', '.join(SUFFIXES)}; rename it, unpack it or take it away",
    Reason.UNKNOWN_FORMAT: f"not read; expected {'; '.join(known.name for known in FORMATS)}",
    Reason.CUT_OFF_FILE: "not read; fetch it again",
}


@dataclass(frozen=True)
class RawFile:
    """A file of a known format.

    Attributes:
        source: its path below the raw folder.
        path: where it is.
        known: its format.
        parse: reads one line of it.
    """

    source: str
    path: Path
    known: Format
    parse: Parse


def recognise_files(raw: Path, named: tuple[str, ...]) -> tuple[list[RawFile], Rejects]:
    """The files of known formats in a raw folder, by name, and a reject for each of the others.

    Args:
        raw: the folder.
        named: the files to read, below it; empty for all.

    Raises:
        MissingInputError: a file is not there or a link to nothing, or none holds reviews.
    """
    files, unknown = [], Rejects()
    for path in paths_to_read(raw, named):
        found = identify(path, bool(named))
        source = path.relative_to(raw).as_posix()
        if isinstance(found, Reason):
            unknown.append(Reject(source, None, found, ""))
            logger.warning("%s: %s; %s", path, found.value, ADVICE.get(found, "not read"))
        else:
            known, head = found
            files.append(RawFile(source, path, known, known.parser(head)))
    if not any(file.known.kind == "reviews" for file in files):
        formats = "; ".join(known.name for known in FORMATS if known.kind == "reviews")
        raise MissingInputError(f"{raw}: no reviews found among {len(files) + len(unknown)} files; expected {formats}")
    return files, unknown


def identify(path: Path, named: bool) -> tuple[Format, FileHead] | Reason:
    """The format and head of a file that may lie in the raw folder by mistake, or why it is not read."""
    if path.is_symlink() and not path.exists():
        return Reason.DANGLING_LINK
    if path.is_dir() or not (named or path.name.endswith(SUFFIXES)):
        return Reason.OTHER_NAME
    return detect_format(path) if path.is_file() else Reason.NOT_A_FILE  # a pipe would be waited for


def paths_to_read(raw: Path, named: tuple[str, ...]) -> list[Path]:
    """The files to look into.

    Raises:
        ParamsError: a name leads out of the folder.
        MissingInputError: one is not there, or a link to nothing.
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
            what = "a link to a file that is not there" if path.is_symlink() else "no such file; see ingest.files"
            raise MissingInputError(f"{path}: {what}")
    return paths


def is_left_alone(path: Path) -> bool:
    """Whether something in a raw folder is of no concern here: photos, features, tables of ids, hidden files."""
    name = path.name
    return (
        name in COMPANIONS
        or name.startswith((".", "README", "LICENSE"))
        or name.endswith(FEATURES)
        or name.split(".")[0] == IMAGES
    )


def companions_of(files: list[RawFile]) -> set[Path]:
    """The tables of ids beside the files of given splits."""
    folders = {file.path.parent for file in files if file.known in (LATTICE, MMREC)}
    return {folder / name for folder in folders for name in COMPANIONS if (folder / name).is_file()}
