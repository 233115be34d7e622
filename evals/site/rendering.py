"""Pages from templates: addresses that hold wherever the site stands, and texts that are safe."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...registry.errors import printable
from ..report.html import environment
from ..report.listing import nbytes
from . import assets
from .page import DATASETS, DEPENDENTS, HOME, HTML, LINEAGE, LOG, SEARCH, Page, embedding_path, version_path

if TYPE_CHECKING:
    from jinja2 import Environment

    from .known import Known

_PLACES = (
    ("Embeddings", HOME),
    ("Dependents", DEPENDENTS),
    ("Lineage", LINEAGE),
    ("Datasets", DATASETS),
    ("Log", LOG),
)


def render(
    known: Known,
    path: str,
    template: str,
    title: str,
    *,
    crumbs: Sequence[tuple[str, str]] = (),
    pictures: bool = False,
    **values: Any,
) -> Page:
    """Return a page.

    Args:
        known: the registry.
        path: where the page will stand.
        template: below ``templates``, or of ``templates/site`` where no folder is named.
        title: of the page.
        crumbs: the pages above it, text and path.
        pictures: whether there are any, and Vega is needed.
        values: for the template.
    """
    root = "../" * path.count("/")
    drawing = (assets.vega_path(), assets.DRAWING.path)
    html = templates().get_template(template if "/" in template else f"site/{template}").render(
        values
        | {
            "site": known.title,
            "title": title,
            "here": path,
            "root": root,
            "places": _PLACES,
            "links": known.links,
            "crumbs": crumbs,
            "pictures": pictures,
            "style": assets.STYLE.path,
            "scripts": [assets.SEARCHING.path, *(drawing if pictures else ())],
            "search": SEARCH,
            "embreg": __version__,
            "version_at": lambda ref: f"{root}{version_path(ref)}" if ref in known.by_ref else "",
            "embedding_at": lambda name: f"{root}{embedding_path(name)}" if name in known.by_name else "",
        }
    )  # fmt: skip
    return Page(content=html.encode("utf-8", "backslashreplace"), media_type=HTML)


@cache
def templates() -> Environment:
    """Return the templates of reports, with what a site writes besides."""
    found = environment().overlay()
    found.filters = found.filters | {"when": when, "day": day, "size": nbytes, "word": word}
    return found


def when(at: datetime) -> str:
    """Return a moment to the minute: ``2026-11-22 16:59 UTC``."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def day(at: datetime) -> str:
    """Return the date of a moment."""
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def word(text: str) -> str:
    """Return a text as one word of a shell, on one line."""
    return shlex.quote(printable(text, 300))
