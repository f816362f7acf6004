from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import two_groups

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.recommenders.bpr import BPR, BPRParams
from mmprep.models.training.checkpoint import ResumeFile
from mmprep.models.training.params import TrainParams
from mmprep.models.training.progress_state import LearningRateDecay, TrainingProgress
from mmprep.models.training.resource_usage import TrainingCost, peak_resident_bytes
from mmprep.models.training.trainer import build, fit

CPU = torch.device("cpu")
PARAMS = TrainParams(batch_size=64, max_epochs=4, patience=4, checkpoint_every=1, seed=1)


def test_seconds_are_the_median_and_the_device_is_named() -> None:
    cost = TrainingCost.of([9.0, 2.0, 4.0], CPU)
    assert (cost.device, cost.epoch_seconds) == ("cpu", 4.0)
    assert cost.peak_memory_mb == pytest.approx(peak_resident_bytes() / 1e6, rel=0.1)


def test_gpu_tells_its_name_and_the_most_that_tensors_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 3_000_000 + device.index)
    assert TrainingCost.of([1.0], torch.device("cuda", 0)) == TrainingCost("GPU 0", 1.0, 3.0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to compare with")
def test_peak_is_what_the_kernel_says_and_grows_with_what_is_held() -> None:
    def kernel(key: str) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return 1024 * int(line.split()[1])

    before, more = peak_resident_bytes(), 2**28
    held = np.ones((before - kernel("VmRSS") + more) // 8)
    after = peak_resident_bytes()
    assert after == pytest.approx(kernel("VmHWM"), rel=0.05)
    assert after > before + more / 2
    del held


def data() -> TrainingData:
    world = two_groups()
    return TrainingData(world.train, world.val)


def test_seconds_are_those_of_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that a training epoch moves by 2 s, and a validation by 100 s."""
    now = 0.0

    def moves(seconds: float, found: dict[str, float]) -> dict[str, float]:
        nonlocal now
        now += seconds
        return found

    monkeypatch.setattr("mmprep.models.training.trainer.time.perf_counter", lambda: now)
    monkeypatch.setattr("mmprep.models.training.trainer.train_epoch", lambda *_: moves(2.0, {"loss_bpr": 1.0}))
    monkeypatch.setattr("mmprep.models.training.trainer.validate", lambda *_: moves(100.0, {"recall@20": 0.1}))
    found = fit(build(BPR, data(), BPRParams(embedding_size=4), 0), data(), PARAMS, LearningRateDecay(0.01))
    assert found.cost.epoch_seconds == 2.0


def test_epochs_before_a_training_was_killed_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []

    def of(seconds: list[float], device: torch.device) -> TrainingCost:
        seen.append(list(seconds))
        return TrainingCost(device.type, 1.0, 1.0)

    monkeypatch.setattr(TrainingCost, "of", of)
    recommender, file = build(BPR, data(), BPRParams(embedding_size=4), 0), ResumeFile(tmp_path / "state", {})
    course = TrainingProgress(recommender, LearningRateDecay(0.01))
    for seconds in (7.0, 8.0):
        course.add({}, {"recall@20": seconds / 100}, seconds)
    file.write(course.state())
    fit(build(BPR, data(), BPRParams(embedding_size=4), 0), data(), PARAMS, LearningRateDecay(0.01), resume_file=file)
    assert seen[0][:2] == [7.0, 8.0]
    assert len(seen[0]) == 4
