"""Catalogue of mmprep's graphs: nodes, inputs, edges and source paper of each kind."""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import suggestion

PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # it names a file
Nodes = Literal["items", "users", "users and items", "patches or tokens"]


@dataclass(frozen=True)
class GraphDescription:
    """A kind of graph, stored in graphs/DATASET/KIND.parquet or graphs/DATASET/KIND/PART.parquet.

    Attributes:
        kind: its name, and its section under `graphs` in params.yaml if it has parameters.
        nodes: the nodes that its edges connect.
        reads: its inputs.
        a_part_each: what each of its parts, a file each, stands for; empty if it is a single file.
        asked_by_part: whether parts are built separately, by `mmprep graph --graph KIND/PART`.
        rule: how its edges are selected and weighted.
        paper: its source.
    """

    kind: str
    nodes: Nodes
    reads: str
    a_part_each: str
    asked_by_part: bool
    rule: str
    paper: str

    @property
    def usage(self) -> str:
        """Its name as an argument of `mmprep graph --graph`."""
        return f"{self.kind}/{self.a_part_each}" if self.asked_by_part else self.kind


DESCRIPTIONS = (
    GraphDescription(
        kind="knn",
        nodes="items",
        reads="features of the encoder",
        a_part_each="ENCODER",
        asked_by_part=True,
        rule="the k most similar items by cosine",
        paper="Zhang et al., LATTICE, MM 2021, eq 2-4",
    ),
    GraphDescription(
        kind="mixed",
        nodes="items",
        reads="graphs knn/ENCODER of train.image, train.text and train.audio",
        a_part_each="",
        asked_by_part=False,
        rule="the weighted sum of the modalities' neighbours",
        paper="Zhou and Shen, FREEDOM, MM 2023, eq 4",
    ),
    GraphDescription(
        kind="consistent",
        nodes="items",
        reads="features of train.image, train.text and train.audio",
        a_part_each="MODALITY",
        asked_by_part=False,
        rule="the k most similar items among those that no modality finds less similar than its mean",
        paper="Xv et al., DA-MRS, KDD 2024, section 3.1",
    ),
    GraphDescription(
        kind="cooccurrence",
        nodes="items",
        reads="train interactions",
        a_part_each="",
        asked_by_part=False,
        rule="the k items with most common users, at least min_count",
        paper="Xv et al., DA-MRS, KDD 2024, section 3.1",
    ),
    GraphDescription(
        kind="user_user",
        nodes="users",
        reads="train interactions",
        a_part_each="",
        asked_by_part=False,
        rule="the k users with most common items, at least min_count",
        paper="Wang et al., DualGNN, TMM 2021; Zhou et al., DRAGON, ECAI 2023",
    ),
    GraphDescription(
        kind="interaction",
        nodes="users and items",
        reads="train interactions",
        a_part_each="NORMALISATION",
        asked_by_part=False,
        rule="interactions: symmetric over users, then items; user_mean and item_mean average over the other side",
        paper="He et al., LightGCN, SIGIR 2020, eq 3",
    ),
    GraphDescription(
        kind="intra_item",
        nodes="patches or tokens",
        reads="patches or tokens of the encoder",
        a_part_each="ENCODER",
        asked_by_part=True,
        rule="the k most similar patches or tokens of the same item by cosine",
        paper="Multimodal Denoising Recommendation ... Hierarchical Cross-Modal Alignment (MDR-CHCA)",
    ),
)

CATALOGUE = {description.kind: description for description in DESCRIPTIONS}


@dataclass(frozen=True)
class GraphName:
    """Name of a graph, or of one part of it: the path of its file below graphs/DATASET, without the suffix.

    Attributes:
        kind: kind of the graph, as in the catalogue; files not written by mmprep may have another.
        part: such as an encoder; empty for a graph of one file, and for a graph whose parts are built together.
    """

    kind: str
    part: str = ""

    @classmethod
    def parse_request(cls, text: str) -> "GraphName":
        """Parse an argument of `mmprep graph --graph`: with a part if and only if parts are built separately.

        Raises:
            ParamsError: the graph is unknown.
        """
        name = cls.parse(text)
        description = CATALOGUE.get(name.kind)
        has_part = "/" in text
        if description is None or description.asked_by_part != has_part or (has_part and not PART.fullmatch(name.part)):
            known = [each.usage for each in DESCRIPTIONS]
            raise ParamsError(f"graph: found {text!r}, expected a graph{suggestion(text, known)}")
        return name

    @classmethod
    def parse(cls, text: str) -> "GraphName":
        """Parse the name of a graph or of a part, such as `mixed` or `interaction/symmetric`, without checking it."""
        kind, _, part = text.partition("/")
        return cls(kind, part)

    @classmethod
    def of_file(cls, path: PurePath) -> "GraphName":
        """The name of the graph in a file, from its path below graphs/DATASET."""
        return cls.parse(path.with_suffix("").as_posix())

    def __str__(self) -> str:
        return f"{self.kind}/{self.part}" if self.part else self.kind

    @property
    def request(self) -> str:
        """Argument of `mmprep graph --graph` that builds it: the kind if its parts are built together."""
        return self.kind if self.kind in CATALOGUE and not CATALOGUE[self.kind].asked_by_part else str(self)

    @property
    def command(self) -> str:
        """The command that builds it."""
        return f"mmprep graph --graph {self.request}"

    @property
    def metrics(self) -> str:
        """Name of its metrics file below metrics/DATASET, such as `graph-knn-minilm`."""
        return "-".join(filter(None, ("graph", self.kind, self.part)))

    @property
    def description(self) -> GraphDescription:
        """Its entry in the catalogue.

        Raises:
            KeyError: its kind is not in the catalogue.
        """
        return CATALOGUE[self.kind]
