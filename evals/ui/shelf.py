"""Pages of the site that were made already, kept as long as the registry says nothing new about them."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from ..site.site import Site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...registry.registry import Registry
    from ..config import Check
    from ..site.page import Page

_MOST_BYTES = 64 << 20


class Shelf:
    """Makes pages, and keeps the last ones: up to 64 MiB of them. Threads may share it."""

    def __init__(self, *, links: Sequence[tuple[str, str]] = (), checks: Sequence[Check] = ()) -> None:
        self._links = links
        self._checks = checks
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._reading, self._making = Lock(), Lock()

    def page(self, registry: Registry, path: str) -> Page:
        """Return a page of the site as the registry is now.

        Raises:
            NotFound: there is no such page.
        """
        site = Site(registry, links=self._links, checks=self._checks)
        key = site.key(path)
        if (kept := self._kept(key)) is not None:
            return kept
        with self._making:  # one at a time: who waits finds what was made meanwhile
            if (kept := self._kept(key)) is None:
                kept = site.page(path)
                self._keep(key, kept)
        return kept

    def _kept(self, key: str) -> Page | None:
        with self._reading:
            if key in self._pages:
                self._pages.move_to_end(key)
            return self._pages.get(key)

    def _keep(self, key: str, page: Page) -> None:
        with self._reading:
            self._pages[key] = page
            while len(self._pages) > 1 and sum(len(p.content) for p in self._pages.values()) > _MOST_BYTES:
                self._pages.popitem(last=False)
