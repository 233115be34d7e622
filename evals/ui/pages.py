"""Pages that no site on a disk has: questions about rows, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from ...registry.errors import printable
from ...registry.types import METRICS
from ..report.html import environment
from ..site.known import Known
from ..site.rendering import render
from . import search
from .asked import MOST_K

if TYPE_CHECKING:
    from ...registry.registry import Registry
    from .asked import Asked

#: No embedding has a name that begins so.
NEIGHBORS, ANALOGY, IDS, SCRIPT = "/-/neighbors", "/-/analogy", "/-/ids", "/-/suggest.js"
LINKS = (("Neighbours", NEIGHBORS), ("Analogies", ANALOGY))
_SUGGEST = Path(__file__).parent.parent / "report" / "templates" / "ui" / "suggest.js"


def neighbors(registry: Registry, asked: Asked) -> Response:
    """Return the page that asks for an id and shows what is nearest to it."""
    title = f"Neighbours of {printable(asked.texts['id'], 60)}" if asked.texts["id"] else "Neighbours"
    return _asking(registry, asked, search.neighbors, "ui/neighbors.html.j2", NEIGHBORS, title)


def analogy(registry: Registry, asked: Asked) -> Response:
    """Return the page that asks for three ids and shows what completes them."""
    return _asking(registry, asked, search.analogy, "ui/analogy.html.j2", ANALOGY, "Analogies")


def _asking(
    registry: Registry, asked: Asked, ask: search.Ask, template: str, action: str, title: str
) -> Response:
    from .app import status

    known = Known(registry, links=LINKS)
    versions = list(known.by_ref.values())
    asked = asked.about(search.resolved(registry, asked.ref) or search.newest(versions))
    found = search.answered(registry, asked, ask) if asked.complete else ()
    page = render(
        known,
        action.lstrip("/"),
        template,
        title,
        asked=asked,
        found=found,
        common=search.common(found),
        ids=_examples(registry, asked, found),
        offered=search.offered(versions, asked.ref, asked.beside),
        action=action,
        neighbors=NEIGHBORS,
        suggestions=IDS,
        script=SCRIPT,
        most=MOST_K,
        metrics=METRICS,
        exact=_exact,
    )
    error = found[0].error if found else None
    return HTMLResponse(page.content, status_code=status(error) if error else 200)


def _examples(registry: Registry, asked: Asked, found: Sequence[search.Found]) -> tuple[str, ...]:
    """Return some ids to begin with, where nothing was asked yet."""
    if found or not asked.ref:
        return ()
    return search.beginning(registry.table(asked.ref), "")


def _exact(text: str) -> Markup:
    """Return a text as an attribute that gives it back whole: an id in a form, an address in a link."""
    return Markup(escape(text))  # noqa: S704  escaped


def refusal(status: int, message: str, hint: str) -> Response:
    """Return the page of an error."""
    template = environment().get_template("ui/refusal.html.j2")
    title = f"{status} {HTTPStatus(status).phrase}"
    return HTMLResponse(template.render(title=title, message=message, hint=hint), status_code=status)


def script() -> Response:
    """Return the script that suggests ids."""
    return Response(_SUGGEST.read_bytes(), media_type="text/javascript")
