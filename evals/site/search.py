"""Search: a page, and the names, messages and metrics that its script looks through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...registry.errors import printable
from . import embedding
from .page import (
    DATASETS,
    DEPENDENTS,
    SCRIPT,
    SEARCH,
    Page,
    Route,
    embedding_path,
    metrics_path,
    version_path,
)
from .rendering import render

if TYPE_CHECKING:
    from .known import Known

INDEX = "assets/search-index.js"
_MOST = 300
#: What is found: its kind, its name, further words, where it is.
Entry = tuple[str, str, str, str]


def routes(known: Known) -> Iterator[Route]:
    """Yield the page and its index."""
    yield Route(path=SEARCH, inputs=lambda: "", make=lambda: render(known, SEARCH, "search.html.j2", "Search",
                                                                    index=INDEX))  # fmt: skip
    yield Route(path=INDEX, inputs=lambda: list(entries(known)), make=lambda: _index(known))


def entries(known: Known) -> Iterator[Entry]:
    """Yield what can be found."""
    for name, line in known.by_name.items():
        aliases = [alias for version in line for alias in version.aliases]
        yield "embedding", name, _words(*aliases), embedding_path(name)
    for version in known.by_ref.values():
        words = _words(
            *(f"{version.name}@{alias}" for alias in version.aliases),
            version.message,
            version.space.model or "",
        )
        yield "version", version.ref, words, version_path(version.ref)
    for name in known.by_name:
        for suite in embedding.suites_of(known, name):
            own = known.suites.get(suite)
            metrics = [m.name for m in own.metrics] if own else []
            yield "metrics", f"{suite} of {name}", _words(*metrics), metrics_path(name, suite)
    for dependent in known.dependents:
        yield dependent.kind, dependent.name, _words(dependent.tracks, dependent.state), DEPENDENTS
    for dataset in known.datasets:
        yield "dataset", dataset.name, dataset.kind, DATASETS


def _words(*texts: str) -> str:
    return " · ".join(printable(text, _MOST) for text in texts if text)


def _index(known: Known) -> Page:
    text = json.dumps(list(entries(known)), separators=(",", ":")).replace("<", "\\u003c")
    return Page(content=f"window.embregIndex = {text};\n".encode(), media_type=SCRIPT)
