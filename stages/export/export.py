"""Verb `export`: write a dataset's splits, ids and features in file formats of other projects."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from mmprep.models.encoders.catalogue import Modality
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import atomic_folder, restore, write_json
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import SPLITS
from mmprep.stages.export import arrays, ducho, mmrec
from mmprep.stages.export.base import Dataset, Encoded, read_dataset

Target = Literal["mmrec", "ducho", "numpy"]
WRITERS: dict[Target, Callable[[Dataset, Path, Progress], dict[str, Any]]] = {
    "mmrec": mmrec.write,
    "ducho": ducho.write,
    "numpy": arrays.write,
}

PROVENANCE = "provenance.json"
CONTENTS = "files.txt"
MARK = "# What `mmprep export` wrote here. It replaces this folder only while it holds nothing else."


class ExportParams(Params):
    """Parameters of an export.

    Attributes:
        target: the file format.
        image: encoder of photos; None for none.
        text: encoder of texts; None for none.
        audio: encoder of recordings; None for none.
    """

    target: Target
    image: str | None
    text: str | None
    audio: str | None


def run(
    target: Target,
    layout: Layout,
    out: Path,
    image: str | None = None,
    text: str | None = None,
    audio: str | None = None,
    progress: Progress = silent,
    written_as: Mapping[Modality, str] | None = None,
) -> dict[str, Any]:
    """Export a dataset to a folder, which appears whole or not at all.

    Args:
        target: `mmrec`, `ducho` or `numpy`; docs/export.md lists the files of each.
        layout: the dataset's paths.
        out: the folder; a new one, an empty one, or an earlier export, which is replaced.
        image: the encoder of photos; None or empty leaves the modality out.
        text: the encoder of texts; the same.
        audio: the encoder of recordings; the same.
        progress: for the command line.
        written_as: for `mmrec`, encoders of any modality to write in place of those of photos or texts.

    Raises:
        ParamsError: there is no such target, or an encoder is of another modality, or the target reads no audio.
        MissingInputError: a stage has not run.
        DataError: `out` holds files that mmprep did not write, or the dataset is damaged or does not fit the format.
    """
    if target not in WRITERS:
        raise ParamsError(f"to: found {target!r}, expected {', '.join(WRITERS)}")
    restore(out)
    require_replaceable(out)
    names: dict[Modality, str | None] = {"image": image, "text": text, "audio": audio}
    encoders = {modality: name for modality, name in names.items() if name}
    replaced = written_as or {}
    files: dict[str, str] = {}
    if target == "mmrec":
        files = {mmrec.FEATURE_FILES[place]: described(name, encoders.get(place)) for place, name in replaced.items()}
        encoders = mmrec.feature_encoders(encoders, replaced, out)
    elif replaced:
        raise ParamsError(f"as: found with --to {target}, which has a place for every modality; leave it out")
    dataset = read_dataset(layout, encoders, replaced.keys())
    with atomic_folder(out) as folder:
        metrics = WRITERS[target](dataset, folder, progress)
        params = ExportParams(target=target, image=image or None, text=text or None, audio=audio or None)
        inputs = inputs_of(dataset, user_graph=metrics.get("user_graph", False))
        encoded = {modality: tell(features, target) for modality, features in dataset.encoded.items()}
        notes: dict[str, Any] = {"dataset": layout.dataset, "encoded": encoded}
        if replaced:
            notes["written_as"] = dict(replaced)
        provenance = record("export", layout, params, inputs, **notes)
        write_json(folder / PROVENANCE, provenance.to_dict())
        write_contents(folder)
    return {**summarise(dataset), **metrics, **files}


def described(name: str, usual: str | None) -> str:
    """The encoder of a file, and the one that it replaces."""
    return f"{name}, in place of {usual}" if usual not in (None, name) else name


def tell(encoded: Encoded, target: Target) -> dict[str, Any]:
    """Provenance entry of an encoder's features, with the substitute for missing vectors."""
    filled = {"mean": "the mean of the other items' vectors", "zeros": "zeros"}
    entry = encoded.to_dict()
    if encoded.without_vector:
        provenance = encoded.features.provenance
        entry["items_without_vector_got"] = "no file" if target == "ducho" else filled[provenance["missing"]]
    return entry


def inputs_of(dataset: Dataset, *, user_graph: bool) -> list[Path]:
    """The files that an export depends on."""
    layout = dataset.layout
    parts = [part for encoded in dataset.encoded.values() for part in encoded.parts]
    graphs = [layout.graph(mmrec.USER_GRAPH)] if user_graph else []
    return sorted({layout.interactions, layout.users, layout.items, *parts, *graphs})


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Metrics common to all exports."""
    counts = dataset.interactions["split"].value_counts()
    by_split = dict(counts.iter_rows())
    return {
        "users": len(dataset.user_ids),
        "items": len(dataset.item_ids),
        **{split: by_split.get(split, 0) for split in SPLITS},
    }


def require_replaceable(out: Path) -> None:
    """Check that replacing `out` deletes only files of an earlier export.

    Raises:
        DataError: `out` is a file or a link, or holds a file that no export wrote.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise DataError(f"{out}: found a {'link' if out.is_symlink() else 'file'}, expected a new folder; name another")
    if not out.exists() or not any(out.iterdir()):
        return
    listed = read_contents(out)
    if listed is None:
        raise DataError(f"{out}: exists and is no earlier export; name a new folder")
    existing = (path for path in out.rglob("*") if path.is_symlink() or not path.is_dir())
    others = sorted({path.relative_to(out).as_posix() for path in existing} - listed)
    if others:
        raise DataError(
            f"{out}: found {len(others)} files that mmprep did not write, such as {others[0]}; move them away or "
            "name a new folder"
        )


def write_contents(folder: Path) -> None:
    """List an export's files, so that a later export can check that it may replace them."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    lines = [MARK, *sorted([*files, CONTENTS])]
    (folder / CONTENTS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def read_contents(folder: Path) -> set[str] | None:
    """The files that an export wrote; None if the folder is not an export."""
    path = folder / CONTENTS
    if not path.is_file() or path.is_symlink():
        return None
    lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    return set(lines[1:]) if lines[:1] == [MARK] else None
