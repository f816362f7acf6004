"""Paths of all files of a dataset below the data folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import MissingInputError, ParamsError

DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def one_folder(name: str, kind: str) -> str:
    """Return a name that is to be a folder or file, so that no name leads out of the data folder.

    Args:
        name: such as a recommender's.
        kind: what it names, for the message.

    Raises:
        ParamsError: it is empty, or leads to another folder.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ParamsError(f"{kind}: found {name!r}, expected a name without '/' and '..', as it names a folder")
    return name


@dataclass(frozen=True)
class Layout:
    """The paths of one dataset.

    Attributes:
        root: the data folder, usually `data`.
        dataset: the dataset's name, a folder under `root/raw`.
    """

    root: Path
    dataset: str

    def __post_init__(self) -> None:
        if not DATASET_NAME.fullmatch(self.dataset):
            raise ParamsError(
                f"dataset: found {self.dataset!r}, expected letters, digits, '_', '-' and '.', as it names folders"
            )

    @property
    def raw(self) -> Path:
        """Folder of the downloaded reviews, metadata and `images/`."""
        return self.root / "raw" / self.dataset

    def require_raw(self) -> Path:
        """Return the raw folder.

        Raises:
            MissingInputError: it does not exist; the message lists the datasets that do.
        """
        if not self.raw.is_dir():
            existing = sorted(path.name for path in self.raw.parent.glob("[!.]*") if path.is_dir())
            raise MissingInputError(
                f"{self.raw}: no such dataset folder; put the reviews, the metadata and images/ there"
                + (f" (datasets here: {', '.join(existing)})" if existing else "")
            )
        return self.raw

    @property
    def raw_interactions(self) -> Path:
        """Table INTERACTIONS: one row per accepted review, ids as published."""
        return self.root / "interim" / self.dataset / "interactions.parquet"

    @property
    def raw_items(self) -> Path:
        """Table RAW_ITEMS: one row per item, ids as published."""
        return self.root / "interim" / self.dataset / "items.parquet"

    @property
    def rejects(self) -> Path:
        """Table REJECTS: one row per rejected input row or file."""
        return self.root / "interim" / self.dataset / "rejects.parquet"

    @property
    def downloads(self) -> Path:
        """Table DOWNLOADS: one row per URL with its download status."""
        return self.root / "interim" / self.dataset / "downloads.parquet"

    @property
    def download_journal(self) -> Path:
        """Outcomes recorded since the downloads table was last written; empty unless a download runs or was killed."""
        return self.root / "interim" / self.dataset / ".downloads.jsonl"

    @property
    def parameters(self) -> Path:
        """Effective parameters of the dataset's stages."""
        return self.root / "parameters" / f"{self.dataset}.json"

    @property
    def core(self) -> Path:
        """Table KCORE: the interactions of the k-core under dense indices, before the split."""
        return self.root / "interim" / self.dataset / "core.parquet"

    @property
    def interactions(self) -> Path:
        """Table SPLIT_INTERACTIONS: the k-core interactions, each with its split."""
        return self.root / "processed" / self.dataset / "interactions.parquet"

    @property
    def users(self) -> Path:
        """Table USERS: dense index to published id."""
        return self.root / "processed" / self.dataset / "users.parquet"

    @property
    def items(self) -> Path:
        """Table ITEMS: dense index to published id, text and photo."""
        return self.root / "processed" / self.dataset / "items.parquet"

    def features(self, encoder: str) -> Path:
        """Folder of one encoder's vectors, `part-*.parquet`."""
        return self.root / "features" / self.dataset / one_folder(encoder, "encoder")

    def graph(self, name: str) -> Path:
        """Table EDGES of one graph, such as `cooccurrence`, `knn/minilm` or `interaction/symmetric`."""
        parts = [one_folder(part, "graph") for part in f"{name}.parquet".split("/")]
        return self.root.joinpath("graphs", self.dataset, *parts)

    def graph_folder(self, kind: str) -> Path:
        """Folder of a graph with several parts."""
        return self.root / "graphs" / self.dataset / kind

    def modalities(self, kind: str) -> Path:
        """Digests of the features or graphs (`knn`) of the modalities that training uses, JSON."""
        return self.root / "modalities" / self.dataset / f"{kind}.json"

    @property
    def reliabilities(self) -> Path:
        """Table RELIABILITIES: one row per train interaction with its estimated reliability."""
        return self.root / "denoised" / self.dataset / "reliabilities.parquet"

    def run(self, recommender: str) -> "RunLayout":
        """The files of one trained recommender."""
        return RunLayout(self.root / "runs" / self.dataset / one_folder(recommender, "recommender"))

    def seeds(self, recommender: str) -> "SeedsLayout":
        """The files of one recommender trained from several seeds."""
        return SeedsLayout(self.root / "seeds" / self.dataset / one_folder(recommender, "recommender"))

    def search(self, recommender: str) -> "SearchLayout":
        """The files of a hyperparameter search for one recommender."""
        return SearchLayout(self.root / "searches" / self.dataset / one_folder(recommender, "recommender"))

    def experiment(self, name: str) -> "ExperimentLayout":
        """The results of one experiment file."""
        folder, name = self.root / "experiments" / self.dataset, one_folder(name, "experiment")
        return ExperimentLayout(
            table=folder / f"{name}.csv",
            logs=folder / name,
            picture=self.root / "plots" / self.dataset / f"{name}.png",
            settings=folder / f"{name}.settings.csv",
        )

    def experiment_cost(self, digest: str) -> Path:
        """Training cost of an experiment, JSON, named by the digest of everything that determines the experiment."""
        return self.root / "experiments" / self.dataset / "costs" / f"{digest}.json"

    def metrics(self, stage: str) -> Path:
        """A stage's metrics for `dvc metrics show`, JSON."""
        return self.root / "metrics" / self.dataset / f"{stage}.json"

    def picture(self, name: str) -> Path:
        """A figure drawn by a command, PNG."""
        return self.root / "plots" / self.dataset / f"{name}.png"

    def relative(self, path: Path) -> str:
        """A path relative to the data folder, the same on every machine, as provenance records it."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class RunLayout:
    """The files of one training run."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The best epoch's parameters, safetensors."""
        return self.folder / "checkpoint.safetensors"

    @property
    def config(self) -> Path:
        """Provenance of the checkpoint: recommender, parameters, inputs, versions."""
        return self.folder / "config.json"

    @property
    def embeddings(self) -> Path:
        """The best epoch's `users` and `items` embeddings, safetensors."""
        return self.folder / "embeddings.safetensors"

    @property
    def history(self) -> Path:
        """One row per epoch: each loss term and the validation metrics, CSV."""
        return self.folder / "history.csv"

    @property
    def training(self) -> Path:
        """The best epoch and its validation metrics, JSON."""
        return self.folder / "training.json"

    @property
    def training_cost(self) -> Path:
        """Seconds per epoch and memory used by training, JSON. Not tracked by DVC, as it differs from run to run."""
        return self.folder / "training_cost.json"

    @property
    def metrics(self) -> Path:
        """The test metrics, JSON."""
        return self.folder / "metrics.json"

    @property
    def metrics_by_group(self) -> Path:
        """The test metrics by user group and item group, JSON."""
        return self.folder / "metrics_by_group.json"

    @property
    def recommendations(self) -> Path:
        """Table RECOMMENDATIONS: each user's top items with scores."""
        return self.folder / "recommendations.parquet"

    @property
    def resume_file(self) -> Path:
        """Training state to resume from, safetensors; hidden, and removed when training ends."""
        return self.folder / ".resume.safetensors"


@dataclass(frozen=True)
class SeedsLayout:
    """The files of one recommender trained from several seeds."""

    folder: Path

    def run(self, seed: int) -> RunLayout:
        """The files of the run from one seed."""
        return RunLayout(self.folder / str(seed))

    @property
    def summary(self) -> Path:
        """Mean and standard deviation of each metric over the seeds, JSON."""
        return self.folder / "seeds.json"


@dataclass(frozen=True)
class SearchLayout:
    """The files of a hyperparameter search."""

    folder: Path

    def run(self, key: str) -> RunLayout:
        """The files of one parameter combination's run."""
        return RunLayout(self.folder / key)

    @property
    def table(self) -> Path:
        """One row per combination with its validation metrics, CSV."""
        return self.folder / "combinations.csv"

    @property
    def best(self) -> Path:
        """The combination with the best validation metric, with its test metrics, JSON."""
        return self.folder / "best.json"


@dataclass(frozen=True)
class ExperimentLayout:
    """The results of one experiment file.

    Attributes:
        table: measured and published metrics, CSV.
        logs: folder of each experiment's output.
        picture: figure of the metrics, PNG.
        settings: parameters of each row and where they come from, CSV.
    """

    table: Path
    logs: Path
    picture: Path
    settings: Path
