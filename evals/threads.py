"""Independent pieces of numpy work beside each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def workers() -> int:
    """Return how many threads the kernel uses: the processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    work: Callable[[T], None], tasks: Sequence[T], tell: Callable[[int, int], None] | None = None
) -> None:
    """Do independent tasks in threads, each with a BLAS of one thread.

    Whole tiles run beside each other, so no thread waits for another inside a product: on a busy
    machine barriers cost more than the work between them.

    Args:
        work: does one task.
        tasks: what there is to do, in about this order.
        tell: told how many tasks of how many are done.
    """
    if len(tasks) < 2:
        for task in tasks:
            work(task)
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers()) as pool:
        for done, _ in enumerate(pool.map(work, tasks), 1):
            if tell is not None:
                tell(done, len(tasks))
