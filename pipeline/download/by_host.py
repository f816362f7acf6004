"""Much work at once, shared out fairly among the hosts that it concerns."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar


class Job(Protocol):
    """Work that concerns one host."""

    @property
    def host(self) -> str:
        """The host's name."""


J = TypeVar("J", bound=Job)


async def run_per_host(jobs: Iterable[J], work: Callable[[J], Awaitable[None]], in_all: int, per_host: int) -> None:
    """Do all jobs, the hosts by turns, so that a slow one does not hold the others up.

    Args:
        jobs: in the order in which each host's are begun.
        work: does one job; what it raises ends the others.
        in_all: jobs at once.
        per_host: jobs of a host at once.
    """
    waiting: dict[str, deque[J]] = {}
    for job in jobs:
        waiting.setdefault(job.host, deque()).append(job)
    free = deque(waiting)  # the hosts that have a job waiting and may have another one running
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
