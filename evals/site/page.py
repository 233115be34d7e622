"""What a page is, where it stands, and how it is found again."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HTML, CSS, SCRIPT = "text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8"

HOME, DEPENDENTS, LINEAGE = "index.html", "dependents.html", "lineage.html"
DATASETS, LOG, SEARCH = "datasets.html", "log.html", "search.html"

_SLUG, _DIGITS = 40, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page, or a file that pages use, as it is sent: ``media_type`` is that of HTTP."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A page that there is, not made yet.

    Attributes:
        path: relative to the site, with ``/``.
        inputs: returns all that the page is made from, cheaply, as a value whose ``repr`` tells it apart.
        make: returns the page.
    """

    path: str
    inputs: Callable[[], Any]
    make: Callable[[], Page]


def slug(name: str) -> str:
    """Return a file name for a name: a few of its letters, and a digest that tells it from all others.

    It is the same on every file system: lower-case ASCII, neither long nor a reserved word.
    """
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", letters)[:_SLUG].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{words}-{digest}" if words else digest


def embedding_path(name: str) -> str:
    """Return where the page of an embedding stands."""
    return f"embeddings/{slug(name)}.html"


def metrics_path(name: str, suite: str) -> str:
    """Return where the metrics of a suite over the versions of an embedding stand."""
    return f"metrics/{slug(name)}/{slug(suite)}.html"


def version_path(ref: str) -> str:
    """Return where the page of a version ``NAME@NUMBER`` stands."""
    name, _, number = ref.rpartition("@")
    return f"versions/{slug(name)}/{number}.html"


def comparison_path(old: str, new: str) -> str:
    """Return where the comparison of a version with an older one stands."""
    (name, _, number), (other, _, other_number) = new.rpartition("@"), old.rpartition("@")
    against = other_number if other == name else f"{slug(other)}-{other_number}"
    return f"comparisons/{slug(name)}/{number}-against-{against}.html"
