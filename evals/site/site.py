"""All pages of a registry: which there are, what tells each from what it was, and any one of them made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from ...registry.errors import NotFound, printable
from ..config import Check
from . import assets, datasets, dependents, embedding, home, lineage, log, search, version
from .known import Known

if TYPE_CHECKING:
    from ...registry.registry import Registry
    from .page import Page, Route

_KINDS = (home, embedding, version, dependents, lineage, datasets, log, search, assets)


class Site:
    """The pages of a registry as it is now.

    What is asked of the registry is asked once and kept, so a site is as old as the first question to it:
    make a new one for each look, and use it from one thread. Nothing is measured, and nothing is written.

    Args:
        registry: open; it stays open.
        title: of the home page; the name of the registry's directory unless said.
        checks: of the gate, whose bounds are drawn into histories.
        links: further entries of the navigation, text and address.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        title: str | None = None,
        checks: Sequence[Check] = (),
        links: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._known = Known(registry, title=title, checks=checks, links=links)

    def recipe(self) -> dict[str, Any]:
        """Return how the site was asked for, in plain values: another process makes it again by ``of``."""
        known = self._known
        checks = [
            {f.name: getattr(c, f.name) for f in fields(c)} | {"labels": dict(c.labels)} for c in known.checks
        ]
        return {"root": known.registry.root, "title": known.title, "checks": checks, "links": known.links}

    @classmethod
    def of(cls, registry: Registry, recipe: Mapping[str, Any]) -> Self:
        """Return the site that a recipe asks for, of an open registry."""
        checks = [Check(**check) for check in recipe["checks"]]
        return cls(registry, title=recipe["title"], checks=checks, links=recipe["links"])

    def paths(self) -> Mapping[str, str]:
        """Return every page by its path, with a key that changes when the page may have changed."""
        return {path: self.key(path) for path in self._routes}

    def key(self, path: str) -> str:
        """Return the key of one page, 64 hex digits.

        Raises:
            NotFound: there is no such page.
        """
        route = self._route(path)
        told = f"{self._known.edition}\n{path}\n{route.inputs()!r}"
        return hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()

    def page(self, path: str) -> Page:
        """Make one page.

        Raises:
            NotFound: there is no such page.
        """
        return self._route(path).make()

    def _route(self, path: str) -> Route:
        if path not in self._routes:
            raise NotFound(f"no page '{printable(path, 140)}'", hint="index.html leads to every page")
        return self._routes[path]

    @cached_property
    def _routes(self) -> dict[str, Route]:
        return {route.path: route for kind in _KINDS for route in kind.routes(self._known)}
