"""The datasets: what versions are measured on, and what is suspicious about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .page import DATASETS, Page, Route
from .rendering import render

if TYPE_CHECKING:
    from .known import Known


def routes(known: Known) -> Iterator[Route]:
    """Yield the page."""
    yield Route(path=DATASETS, inputs=lambda: (known.datasets, _used(known)), make=lambda: _page(known))


def _used(known: Known) -> dict[str, int]:
    """Return how many runs were made on each dataset."""
    counted = Counter(head.dataset for heads in known.heads.values() for head in heads if head.dataset)
    return dict(sorted(counted.items()))


def _page(known: Known) -> Page:
    used = _used(known)
    there = {dataset.name for dataset in known.datasets}
    builtin = [d for d in known.registry.builtin_datasets() if d.name in used]
    gone = [name for name in used if name not in there and name not in {d.name for d in builtin}]
    return render(
        known, DATASETS, "datasets.html.j2", "Datasets",
        datasets=known.datasets, builtin=builtin, used=used, gone=gone,
    )  # fmt: skip
