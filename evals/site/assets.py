"""The files that pages use: style, scripts, Vega. Their names hold a digest, so that no old one is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from .page import CSS, SCRIPT, Page, Route

if TYPE_CHECKING:
    from .known import Known

_TEMPLATES = Path(__file__).parent.parent / "report" / "templates"
_DIGITS = 12


class Asset:
    """One or more files of the templates, sent as one."""

    def __init__(self, name: str, media_type: str, *sources: str) -> None:
        self._name, self._media_type, self._sources = name, media_type, sources

    @cached_property
    def page(self) -> Page:
        """The file."""
        parts = [(_TEMPLATES / source).read_bytes() for source in self._sources]
        return Page(content=b"\n".join(parts), media_type=self._media_type)

    @cached_property
    def path(self) -> str:
        """Where it stands."""
        name, _, suffix = self._name.rpartition(".")
        digest = hashlib.sha256(self.page.content).hexdigest()
        return f"assets/{name}-{digest[:_DIGITS]}.{suffix}"


STYLE = Asset("style.css", CSS, "style.css", "site/site.css")
DRAWING = Asset("charts.js", SCRIPT, "charts.js")
SEARCHING = Asset("search.js", SCRIPT, "site/search.js")


@cache
def vega_path() -> str:
    """Return where Vega stands: named by what it is made from, since to put it together takes seconds."""
    from ..report.charts import drawn

    made_from = f"{version('vl-convert-python')} {Path(drawn.__file__).read_text(encoding='utf-8')}"
    return f"assets/vega-{hashlib.sha256(made_from.encode()).hexdigest()[:_DIGITS]}.js"


def routes(known: Known) -> Iterator[Route]:
    """Yield the files; those that draw only where there is something to draw."""
    for asset in (STYLE, SEARCHING, *([DRAWING] if known.heads else [])):
        yield Route(path=asset.path, inputs=partial(str, asset.path), make=partial(getattr, asset, "page"))
    if known.heads:
        yield Route(path=vega_path(), inputs=vega_path, make=_vega)


def _vega() -> Page:
    from ..report.charts import drawn

    return Page(content=drawn.library().encode(), media_type=SCRIPT)
