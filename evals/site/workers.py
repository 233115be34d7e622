"""Pages made by several processes beside each other; each opens the registry for itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from ...registry.errors import EmbregError, NotFound, StorageError

if TYPE_CHECKING:
    from .site import Site

#: Pages that a process is given at a time, next to each other: they need the same runs.
_PIECE = 24
Made = tuple[str, bytes | None]


def made(site: Site, paths: Sequence[str], processes: int) -> Iterator[Made]:
    """Yield pages with what stands in them, None for one whose version is gone; in any order.

    Args:
        site: whose pages.
        paths: of the pages.
        processes: how many make them; with more than one the order is any.

    Raises:
        EmbregError: what making a page raised.
    """
    if processes < 2:
        for path in paths:
            yield path, _content(site, path)
        return
    pieces = [paths[at : at + _PIECE] for at in range(0, len(paths), _PIECE)]
    context = get_context("spawn")
    ends: list[Connection] = []
    try:
        for _ in range(min(processes, len(pieces))):
            own, theirs = context.Pipe()
            context.Process(target=_work, args=(theirs, site.recipe()), daemon=True).start()
            theirs.close()
            ends.append(own)
        yield from _handed_out(ends, pieces)
    finally:
        for end in ends:
            end.close()  # which ends the process


def _handed_out(ends: Sequence[Connection], pieces: Sequence[Sequence[str]]) -> Iterator[Made]:
    left = iter(pieces)
    busy = [end for end in ends if _gave(end, left)]
    while busy:
        ready = wait(busy)
        for end in [end for end in busy if end in ready]:
            try:
                answer = end.recv()
            except (EOFError, OSError) as exc:
                raise StorageError(
                    "a process that makes pages ended", hint="is there memory enough?"
                ) from exc
            if isinstance(answer, EmbregError):
                raise answer
            if not _gave(end, left):
                busy.remove(end)
            yield from answer


def _gave(end: Connection, left: Iterator[Sequence[str]]) -> bool:
    """Give a process the next piece; return whether there was one."""
    piece = next(left, None)
    if piece is not None:
        end.send(piece)
    return piece is not None


def _work(end: Connection, recipe: dict[str, Any]) -> None:
    """Make what is asked for until nobody asks any more."""
    from ...registry.registry import Registry
    from .site import Site

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this one tells of it, and hangs up
    with closing(end), suppress(EOFError, ConnectionError):  # nobody asks any more
        try:
            with Registry.open(recipe["root"]) as registry:
                site = Site.of(registry, recipe)
                while True:
                    end.send([(path, _content(site, path)) for path in end.recv()])
        except EmbregError as exc:
            end.send(EmbregError(exc.message, hint=exc.hint))


def _content(site: Site, path: str) -> bytes | None:
    try:
        return site.page(path).content
    except NotFound:
        return None
