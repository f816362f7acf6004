"""Work is shared out among hosts, within the limits."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest

from mmprep.pipeline.download.by_host import run_per_host


@dataclass(frozen=True)
class Visit:
    host: str
    number: int = 0


class Meter:
    """Does each job in some turns of the loop, and notes the order and how many were at work."""

    def __init__(self, turns: int = 3) -> None:
        self.turns = turns
        self.began: list[Visit] = []
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()

    async def work(self, job: Visit) -> None:
        self.began.append(job)
        for key in ("", job.host):
            self.now[key] += 1
            self.peak[key] = max(self.peak[key], self.now[key])
        for _ in range(self.turns + job.number % 3):
            await asyncio.sleep(0)
        for key in ("", job.host):
            self.now[key] -= 1

    def run(self, jobs: list[Visit], in_all: int, per_host: int) -> None:
        asyncio.run(run_per_host(jobs, self.work, in_all, per_host))


@pytest.mark.parametrize(("in_all", "per_host"), [(1, 1), (4, 1), (4, 2), (8, 3), (3, 8), (100, 100)])
@pytest.mark.parametrize("hosts", [1, 2, 7])
def test_all_is_done_once_and_as_much_at_once_as_the_limits_allow(hosts: int, in_all: int, per_host: int) -> None:
    jobs = [Visit(f"h{n % hosts}", n) for n in range(60)]
    meter = Meter()
    meter.run(jobs, in_all, per_host)
    assert sorted(meter.began, key=lambda job: job.number) == jobs
    assert meter.peak.pop("") == min(in_all, hosts * per_host, len(jobs))
    assert max(meter.peak.values()) <= per_host


def test_a_host_with_much_work_does_not_hold_up_another() -> None:
    meter = Meter()
    meter.run([*(Visit("big", n) for n in range(50)), *(Visit("small", n) for n in range(3))], 4, 3)
    assert [job.host for job in meter.began[:8]].count("small") == 3


def test_the_jobs_of_a_host_begin_in_their_order() -> None:
    meter = Meter()
    meter.run([Visit("a", n) for n in range(30)], 5, 5)
    assert [job.number for job in meter.began] == list(range(30))


def test_no_work_is_no_work() -> None:
    Meter().run([], 4, 4)


def test_an_error_ends_the_others_and_is_told() -> None:
    ended = []

    async def work(job: Visit) -> None:
        if job.number == 2:
            raise OSError("disk full")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(job.number)
            raise

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(run_per_host([Visit("a", n) for n in range(5)], work, 4, 4))
    assert sorted(ended) == [0, 1, 3]
