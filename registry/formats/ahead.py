"""Pieces of a file worked on beside each other, and handed on in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..errors import EmbregError

S = TypeVar("S")
T = TypeVar("T")
#: Pieces worked on at a time: each is held in memory.
_AT_ONCE = 2


def ahead(work: Callable[[S], T], pieces: Iterator[S]) -> Iterator[T]:
    """Yield ``work`` of each piece in order, while the next ones are worked on.

    What goes wrong is raised in its turn, as if there were one thread: after all results before it.
    """
    workers = min(_AT_ONCE, os.cpu_count() or 1)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in _begun(pool, work, pieces):
                waiting.append(future)
                if len(waiting) >= workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _begun(pool: ThreadPoolExecutor, work: Callable[[S], T], pieces: Iterator[S]) -> Iterator[Future[T]]:
    """Begin each piece; where there is no next one because the file is wrong, that is what the last gives."""
    try:
        for piece in pieces:
            yield pool.submit(work, piece)
    except (EmbregError, OSError) as exc:
        failed: Future[T] = Future()
        failed.set_exception(exc)
        yield failed
