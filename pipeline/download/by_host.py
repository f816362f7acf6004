"""Concurrent jobs with round-robin scheduling over hosts and a limit per host."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar


class Job(Protocol):
    """A job that accesses one host."""

    @property
    def host(self) -> str:
        """Host name."""


J = TypeVar("J", bound=Job)


async def run_per_host(jobs: Iterable[J], work: Callable[[J], Awaitable[None]], in_all: int, per_host: int) -> None:
    """Run all jobs concurrently, round-robin over hosts, so that a slow host does not delay the others.

    Args:
        jobs: jobs; those of one host start in this order.
        work: runs one job; an exception cancels the others.
        in_all: maximum number of jobs at once.
        per_host: maximum number of jobs at once per host.
    """
    waiting: dict[str, deque[J]] = {}
    for job in jobs:
        waiting.setdefault(job.host, deque()).append(job)
    free = deque(waiting)  # hosts with waiting jobs and fewer than `per_host` running
    busy: Counter[str] = Counter()
    running: dict[asyncio.Future[None], str] = {}
    try:
        while free or running:
            while free and len(running) < in_all:
                host = free.popleft()
                running[asyncio.ensure_future(work(waiting[host].popleft()))] = host
                busy[host] += 1
                if waiting[host] and busy[host] < per_host:
                    free.append(host)
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                host = running.pop(task)
                if waiting[host] and busy[host] == per_host:
                    free.append(host)
                busy[host] -= 1
                task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
