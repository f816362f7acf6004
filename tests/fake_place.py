"""A place for experiments in which nothing trains."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmprep.stages.experiments.workspace import Experiment, ExperimentError


@dataclass
class FakePlace:
    """Records what runs; each run's recall is its seed over 100, and an epoch takes as many seconds.

    What is `cached` is restored, and has taken nothing. `counts` are what stage `filter` keeps.
    """

    done: dict[str, Experiment] = field(default_factory=dict)
    ran: list[tuple[str, Mapping[str, Any], str]] = field(default_factory=list)
    prepared: int = 0
    lost: set[str] = field(default_factory=set)
    left: bytes | None = None
    cached: bool = False
    broken: str = ""
    counts: dict[str, float] = field(default_factory=dict)

    def digest(self, dataset: str, *asked: object) -> str:
        return f"{abs(hash((dataset, str(asked)))):x}"

    def find(self, digest: str) -> Experiment | None:
        return next((found for name, found in self.done.items() if name.endswith(digest)), None)

    def prepare(self) -> None:
        self.prepared += 1

    def run(self, name: str, values: Mapping[str, Any], target: str, log: Path) -> Experiment:
        assert log == Path(f"data/experiments/toys/p-table1/{name}.log")
        self.ran.append((name, values, target))
        if self.broken and self.broken in f"{name} {target}":
            raise ExperimentError("loss is not finite")
        self.done[name] = Experiment(name, name, f"refs/exps/{name}")
        self.lost.discard(name)
        seed = float(name.split("-s")[-1].split("-")[0])
        if not self.cached:
            self.left = json.dumps({"device": "cpu", "epoch_seconds": seed, "peak_memory_mb": 1000 * seed}).encode()
        return self.done[name]

    def metrics(self, experiment: Experiment, path: str) -> dict[str, float] | None:
        if path == "data/metrics/toys/filter.json":
            return self.counts
        assert path in {f"data/runs/toys/{name}/metrics.json" for name in ("bpr", "vbpr", "mdr_chca")}
        if experiment.name in self.lost:
            return None
        seed = float(experiment.name.split("-s")[-1].split("-")[0])
        return {"recall@20": seed / 100, "ndcg@20": seed / 200}

    def pop_file(self, path: Path) -> bytes | None:
        assert path.name == "training_cost.json"
        left, self.left = self.left, None
        return left
