"""The log: the newest events on the first page, older ones in pages that never change once they are full."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from .page import LOG, Page, Route
from .rendering import render

if TYPE_CHECKING:
    from ...registry.types import Event
    from .known import Known

#: Events of a page, by their numbers, and how many pages there are at most.
EVENTS, PAGES = 200, 50


def routes(known: Known) -> Iterator[Route]:
    """Yield the pages of the log."""
    newest = known.newest_event
    last = newest // EVENTS
    yield Route(path=LOG, inputs=lambda: newest, make=partial(_page, known, LOG, last))
    for block in range(max(0, last - PAGES + 1), last + 1):
        path = _path(block)
        yield Route(
            path=path, inputs=partial(_inputs, block, newest), make=partial(_page, known, path, block)
        )


def _inputs(block: int, newest: int) -> object:
    return min(newest, (block + 1) * EVENTS - 1), _around(block, newest // EVENTS)


def _path(block: int) -> str:
    return f"log/{block}.html"


def _around(block: int, last: int) -> tuple[str, str]:
    """Return the pages with older and with newer events; empty where there is none."""
    older = _path(block - 1) if block > max(0, last - PAGES + 1) else ""
    return older, _path(block + 1) if block < last else ""


def _page(known: Known, path: str, block: int) -> Page:
    newest = known.newest_event
    first = block * EVENTS
    # The first page is never nearly empty: it goes back as far as a full one.
    since = newest - EVENTS if path == LOG else first - 1
    events = known.registry.log(since=max(0, since), until=first + EVENTS - 1)
    last = newest // EVENTS
    older, newer = _around(block, last)
    return render(
        known,
        path,
        "log.html.j2",
        "Log" if path == LOG else f"Log, events {first} to {first + EVENTS - 1}",
        crumbs=[] if path == LOG else [("Log", LOG)],
        events=[(event, told(event)) for event in reversed(events)],
        older=older if path != LOG else _path(last),
        newer=newer,
        count=known.registry.count_events() if path == LOG else 0,
        kept=PAGES * EVENTS,
    )


def told(event: Event) -> str:
    """Return the detail of an event as ``key=value, …``."""
    return ", ".join(f"{key}={value}" for key, value in event.detail.items() if value is not None)
