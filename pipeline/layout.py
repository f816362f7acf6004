"""Where each file of a dataset lies under the data folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import MissingInputError, ParamsError

DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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
        """The folder of reviews, metadata and `images/` as downloaded."""
        return self.root / "raw" / self.dataset

    def require_raw(self) -> Path:
        """Return the raw folder.

        Raises:
            MissingInputError: there is none; the message lists the datasets that there are.
        """
        if not self.raw.is_dir():
            there = sorted(path.name for path in self.raw.parent.glob("[!.]*") if path.is_dir())
            raise MissingInputError(
                f"{self.raw}: no such dataset folder; put the reviews, the metadata and images/ there"
                + (f" (datasets here: {', '.join(there)})" if there else "")
            )
        return self.raw

    @property
    def raw_interactions(self) -> Path:
        """Table INTERACTIONS: a row a review kept, ids as published."""
        return self.root / "interim" / self.dataset / "interactions.parquet"

    @property
    def raw_items(self) -> Path:
        """Table RAW_ITEMS: a row an item, ids as published."""
        return self.root / "interim" / self.dataset / "items.parquet"

    @property
    def rejects(self) -> Path:
        """Table REJECTS: a row an input row or file not taken."""
        return self.root / "interim" / self.dataset / "rejects.parquet"

    @property
    def downloads(self) -> Path:
        """Table DOWNLOADS: a row a URL and what became of it."""
        return self.root / "interim" / self.dataset / "downloads.parquet"

    @property
    def download_journal(self) -> Path:
        """What a download has noted since it last wrote the table; empty unless it runs or was killed."""
        return self.root / "interim" / self.dataset / ".downloads.jsonl"

    @property
    def core(self) -> Path:
        """Table CORE: the interactions of the k-core under dense indices, before the split."""
        return self.root / "interim" / self.dataset / "core.parquet"

    @property
    def interactions(self) -> Path:
        """Table SPLIT_INTERACTIONS: the interactions under dense indices, each with its split."""
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
        """The folder of one encoder's vectors, `part-*.parquet`."""
        return self.root / "features" / self.dataset / encoder

    def graph(self, name: str) -> Path:
        """Table EDGES of one graph, such as `cooccurrence`, `knn/minilm` or `interaction/symmetric`."""
        return self.root / "graphs" / self.dataset / f"{name}.parquet"

    def graph_folder(self, kind: str) -> Path:
        """The folder of a graph that has parts."""
        return self.root / "graphs" / self.dataset / kind

    @property
    def reliabilities(self) -> Path:
        """Table RELIABILITIES: a row a train interaction, and how far it is believed."""
        return self.root / "denoised" / self.dataset / "reliabilities.parquet"

    def run(self, recommender: str) -> "RunLayout":
        """The files of one trained recommender."""
        return RunLayout(self.root / "runs" / self.dataset / recommender)

    def seeds(self, recommender: str) -> "SeedsLayout":
        """The files of one recommender trained from several seeds."""
        return SeedsLayout(self.root / "seeds" / self.dataset / recommender)

    def search(self, recommender: str) -> "SearchLayout":
        """The files of a search for one recommender's parameters."""
        return SearchLayout(self.root / "searches" / self.dataset / recommender)

    def experiment(self, name: str) -> "ExperimentLayout":
        """What has come of one file of experiments."""
        folder = self.root / "experiments" / self.dataset
        return ExperimentLayout(
            folder / f"{name}.csv", folder / name, self.root / "plots" / self.dataset / f"{name}.png"
        )

    def experiment_cost(self, digest: str) -> Path:
        """What the training of an experiment took, JSON, by the digest of all that determines the experiment."""
        return self.root / "experiments" / self.dataset / "costs" / f"{digest}.json"

    def metrics(self, stage: str) -> Path:
        """The JSON that a stage reports for `dvc metrics show`."""
        return self.root / "metrics" / self.dataset / f"{stage}.json"

    def picture(self, name: str) -> Path:
        """A picture that a verb draws, PNG."""
        return self.root / "plots" / self.dataset / f"{name}.png"

    def relative(self, path: Path) -> str:
        """A path as provenance names it: below the data folder, the same on every machine."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class RunLayout:
    """The files of one training run in their folder."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The best epoch's parameters, safetensors."""
        return self.folder / "checkpoint.safetensors"

    @property
    def config(self) -> Path:
        """What made the checkpoint: recommender, parameters, inputs, versions."""
        return self.folder / "config.json"

    @property
    def embeddings(self) -> Path:
        """The best epoch's `users` and `items` embeddings, safetensors."""
        return self.folder / "embeddings.safetensors"

    @property
    def history(self) -> Path:
        """A row an epoch: each loss term and the validation metrics."""
        return self.folder / "history.csv"

    @property
    def training(self) -> Path:
        """The best epoch and its validation metrics, JSON."""
        return self.folder / "training.json"

    @property
    def training_cost(self) -> Path:
        """The seconds of an epoch and the memory that training took, JSON. DVC does not know it: no two are alike."""
        return self.folder / "training_cost.json"

    @property
    def metrics(self) -> Path:
        """The test metrics, JSON."""
        return self.folder / "metrics.json"

    @property
    def metrics_by_group(self) -> Path:
        """The test metrics of groups of users and of items, JSON."""
        return self.folder / "metrics_by_group.json"

    @property
    def recommendations(self) -> Path:
        """Table RECOMMENDATIONS: each user's best items with scores."""
        return self.folder / "recommendations.parquet"

    @property
    def resume_file(self) -> Path:
        """What a killed training continues from, safetensors; hidden, and gone when training has ended."""
        return self.folder / ".resume.safetensors"


@dataclass(frozen=True)
class SeedsLayout:
    """The files of one recommender trained from several seeds, in their folder."""

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
    """The files of a search over parameters, in their folder."""

    folder: Path

    def run(self, key: str) -> RunLayout:
        """The files of one combination's run."""
        return RunLayout(self.folder / key)

    @property
    def table(self) -> Path:
        """A row a combination with its validation metrics, CSV."""
        return self.folder / "combinations.csv"

    @property
    def best(self) -> Path:
        """The combination that validation chose, with its test metrics, JSON."""
        return self.folder / "best.json"


@dataclass(frozen=True)
class ExperimentLayout:
    """What has come of one file of experiments.

    Attributes:
        table: our numbers and those that were published, CSV.
        logs: a folder with what each experiment printed.
        picture: the numbers drawn, PNG.
    """

    table: Path
    logs: Path
    picture: Path
