"""Export for MMRec: the folder that it reads as `data/NAME`, and the dataset's yaml for its `configs/dataset`."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmprep.models.encoders.catalogue import Modality
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.reader import require_graph_is_fresh
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import EDGES, SPLITS
from mmprep.stages.export.base import Dataset

logger = logging.getLogger(__name__)

USER_GRAPH = "user_user"
USER_NEIGHBOURS = 200  # as in MMRec's own script
FEATURE_FILES: dict[Modality, str] = {"image": "image_feat.npy", "text": "text_feat.npy"}
USER_GRAPH_FILE = "user_graph_dict.npy"


def write(dataset: Dataset, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write interactions, id tables, features, yaml and, if the graph `user_user` exists, the user graph.

    Raises:
        DataError: MMRec would count too few users or items, or the graph is of other interactions.
    """
    require_countable(dataset)
    name = dataset.layout.dataset
    rows, left_out = interaction_rows(dataset.interactions)
    with progress("exporting", 4 + len(dataset.encoded), "files") as advance:
        rows.write_csv(folder / f"{name}.inter", separator="\t")
        advance(1, "interactions")
        write_mapping(dataset.user_ids, "user_id", "userID", folder / "u_id_mapping.csv")
        write_mapping(dataset.item_ids, "asin", "itemID", folder / "i_id_mapping.csv")
        advance(2, "ids")
        for modality, encoded in dataset.encoded.items():
            np.save(folder / FEATURE_FILES[modality], encoded.filled(), allow_pickle=False)
            advance(1, modality)
        has_graph = write_user_graph(dataset, folder / USER_GRAPH_FILE)
        (folder / f"{name}.yaml").write_text(config(name), encoding="utf-8")
        advance(1, "yaml")
    counted = {f"{modality}_filled": encoded.without_vector for modality, encoded in dataset.encoded.items()}
    return {**counted, "columns_left_out": ", ".join(left_out) or "none", "user_graph": has_graph}


def parse_written_as(options: Sequence[str]) -> dict[Modality, str]:
    """Parse options `as`: `text=acoustic` writes the features of encoder `acoustic` as MMRec's features of texts.

    Raises:
        ParamsError: an option has another form, or names a file twice.
    """
    written_as: dict[Modality, str] = {}
    for option in options:
        name, _, encoder = option.partition("=")
        modality = next((modality for modality in FEATURE_FILES if modality == name), None)
        if modality is None or not encoder:
            raise ParamsError(f"as: found {option!r}, expected image=ENCODER or text=ENCODER")
        if modality in written_as:
            raise ParamsError(f"as: found {modality} twice, expected one encoder for {FEATURE_FILES[modality]}")
        written_as[modality] = encoder
    return written_as


def feature_encoders(
    encoders: Mapping[Modality, str], written_as: Mapping[Modality, str], out: Path
) -> dict[Modality, str]:
    """The encoder whose features each of MMRec's two files gets.

    Args:
        encoders: of the exported modalities.
        written_as: encoders to write in place of those, by the modality of the file.
        out: the folder of the export, for the message.

    Raises:
        ParamsError: features of audio would get no file.
    """
    audio = encoders.get("audio")
    if audio is not None and audio not in written_as.values():
        free = next((modality for modality in FEATURE_FILES if modality not in {**encoders, **written_as}), "text")
        others = "".join(f" --as {modality}={name}" for modality, name in written_as.items() if modality != free)
        raise ParamsError(
            f"audio: found {audio}, but MMRec reads features of images and texts alone; write it as its {free} "
            f"features by `mmprep export --to mmrec {out}{others} --as {free}={audio}`, or leave it out by --audio ''"
        )
    return {modality: name for modality, name in {**encoders, **written_as}.items() if modality != "audio"}


def require_countable(dataset: Dataset) -> None:
    """Check that the last user and item have interactions, as MMRec counts both by their largest numbers.

    Raises:
        DataError: one of them has none, so that the shapes of features and interactions would not match.
    """
    for kind, ids in (("user", dataset.user_ids), ("item", dataset.item_ids)):
        largest = dataset.interactions[kind].max()
        if largest != len(ids) - 1:
            raise DataError(
                f"{dataset.layout.interactions}: the last {kind}, {ids[-1]}, has no interaction, and MMRec counts "
                f"{kind}s by the largest number; lower noise.removed or change noise.seed, and run `mmprep split`"
            )


def interaction_rows(interactions: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The rows of the .inter file, and the columns left out because some interactions lack a value."""
    left_out = [name for name in ("rating", "timestamp") if interactions[name].null_count()]
    label = pl.col("split").replace_strict({split: n for n, split in enumerate(SPLITS)}, return_dtype=pl.Int8)
    rows = interactions.select(
        pl.col("user").alias("userID"), pl.col("item").alias("itemID"), "rating", "timestamp", label.alias("x_label")
    )
    return rows.drop(left_out), left_out


def write_mapping(ids: pl.Series, name: str, number: str, path: Path) -> None:
    """Write a table of ids and their numbers, separated by tabs despite the suffix .csv."""
    frame = ids.alias(name).to_frame().with_columns(pl.int_range(pl.len()).alias(number))
    frame.write_csv(path, separator="\t")


def write_user_graph(dataset: Dataset, path: Path) -> bool:
    """Write the graph of users who buy the same items, if it was built, as the pickled dictionary that MMRec loads.

    Returns:
        Whether the graph exists.

    Raises:
        DataError: it was built from other interactions.
    """
    table = dataset.layout.graph(USER_GRAPH)
    if not table.exists():
        return False
    edges = Edges.from_frame(EDGES.read(table))
    require_graph_is_fresh(dataset.layout, table, read_provenance(table))
    neighbours = user_graph(edges, len(dataset.user_ids))
    with path.open("wb") as file:
        np.save(file, np.array(neighbours, dtype=object), allow_pickle=True)
    return True


def user_graph(edges: Edges, n_users: int) -> dict[int, list[list[Any]]]:
    """Each user's neighbours, the strongest first, as {user: [[users], [weights]]}.

    Every user has an entry, as MMRec counts the users by them. Weights are floats, as it takes a softmax of them.

    Raises:
        DataError: the number of a user is out of range.
    """
    edges.to_matrix(n_users)  # checks the numbers
    bounds = np.searchsorted(edges.source, np.arange(n_users + 1)).tolist()
    graph: dict[int, list[list[Any]]] = {}
    for user in range(n_users):
        best = slice(bounds[user], min(bounds[user + 1], bounds[user] + USER_NEIGHBOURS))
        graph[user] = [edges.target[best].tolist(), edges.weight[best].tolist()]
    return graph


def config(name: str) -> str:
    """The dataset's yaml. It also names files that were not exported, as MMRec checks whether they exist."""
    return (
        "USER_ID_FIELD: userID\n"
        "ITEM_ID_FIELD: itemID\n"
        "TIME_FIELD: timestamp\n"
        "filter_out_cod_start_users: True\n"
        f'inter_file_name: "{name}.inter"\n'
        f'vision_feature_file: "{FEATURE_FILES["image"]}"\n'
        f'text_feature_file: "{FEATURE_FILES["text"]}"\n'
        f'user_graph_dict_file: "{USER_GRAPH_FILE}"\n'
        'field_separator: "\\t"\n'
    )
