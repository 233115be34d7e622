"""Answers to what a form asks: neighbours and analogies of one version, or of two beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from ...registry.errors import EmbregError, ItemNotFound

if TYPE_CHECKING:
    from ...registry.registry import Registry
    from ...registry.tables import EmbeddingTable
    from ...registry.types import Version
    from ..queries import Answers
    from .asked import Asked

    Ask = Callable[[EmbeddingTable, Asked], Answers]

#: So many ids are suggested, and so many versions of an embedding offered besides those that have an alias.
SUGGESTED, OFFERED = 20, 20
#: Searches take turns: each uses every processor.
_TURN = Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one version answers: rows, or why none.

    Attributes:
        ref: the version, ``NAME@NUMBER`` where it could be resolved.
        metric: how rows were compared.
        answers: ids and scores, best first.
        error: what went wrong.
        missing: the field whose id the version has not.
        suggested: ids that begin like that one, as far as any do.
    """

    ref: str
    metric: str = ""
    answers: Answers = ()
    error: EmbregError | None = None
    missing: str = ""
    suggested: tuple[str, ...] = ()


def neighbors(table: EmbeddingTable, asked: Asked) -> Answers:
    """Return the nearest rows of ``id``."""
    from .. import queries

    return queries.neighbors(table, asked.texts["id"], asked.k, metric=asked.metric or None)


def analogy(table: EmbeddingTable, asked: Asked) -> Answers:
    """Return what ``c`` is to, as ``a`` is to ``b``."""
    from .. import queries

    return queries.analogy(table, asked.texts["a"], asked.texts["b"], asked.texts["c"], asked.k)


def answered(registry: Registry, asked: Asked, ask: Ask) -> tuple[Found, ...]:
    """Return the answer of the version, and of the one beside it if there is one."""
    refs = [asked.ref, *([asked.beside] if asked.beside else [])]
    return tuple(_found(registry, asked.about(ref), ask) for ref in refs)


def common(found: tuple[Found, ...]) -> frozenset[str]:
    """Return the ids that both versions answer with; none where only one was asked."""
    if len(found) < 2:
        return frozenset()
    return frozenset.intersection(*(frozenset(item for item, _ in one.answers) for one in found))


def _found(registry: Registry, asked: Asked, ask: Ask) -> Found:
    try:
        version = registry.resolve(asked.ref)
    except EmbregError as exc:
        return Found(ref=asked.ref, error=exc)
    table = registry.table(version)
    # Analogies are directions: cosine, whatever neighbours are compared by.
    metric = "cosine" if ask is analogy else asked.metric or version.space.metric
    try:
        with _TURN:
            return Found(ref=version.ref, metric=metric, answers=ask(table, asked))
    except ItemNotFound as exc:
        missing = next(name for name, text in asked.texts.items() if table.lookup([text])[0] < 0)
        suggested = near(table, asked.texts[missing])
        return Found(ref=version.ref, error=exc, missing=missing, suggested=suggested)
    except EmbregError as exc:
        return Found(ref=version.ref, error=exc)


def beginning(table: EmbeddingTable, prefix: str) -> tuple[str, ...]:
    """Return the first ids of a table that begin with ``prefix``, in row order."""
    import pyarrow.compute as pc

    ids = table.ids
    found = ids.filter(pc.starts_with(ids, prefix)) if prefix else ids
    return tuple(found.slice(0, SUGGESTED).to_pylist())


def near(table: EmbeddingTable, text: str) -> tuple[str, ...]:
    """Return ids that begin like a text: with all of it, or else with the first of its letters."""
    tried = (beginning(table, text[:letters]) for letters in (len(text), 6, 3))
    return next(filter(None, tried), ())


def offered(versions: Iterable[Version], *chosen: str) -> dict[str, list[Version]]:
    """Return the versions that a form offers, the newest first, by embedding.

    Old ones are left out where there are many, unless an alias names them or they are chosen.
    """
    by_name: dict[str, list[Version]] = {}
    for version in versions:
        by_name.setdefault(version.name, []).insert(0, version)
    return {
        name: [v for i, v in enumerate(own) if i < OFFERED or v.aliases or v.ref in chosen]
        for name, own in by_name.items()
    }


def newest(versions: Iterable[Version]) -> str:
    """Return the version that was registered last; nothing where there is none."""
    last = max(versions, key=lambda version: version.created_at, default=None)
    return last.ref if last else ""


def resolved(registry: Registry, ref: str) -> str:
    """Return ``NAME@NUMBER`` of a reference, and the reference itself where it names nothing."""
    try:
        return registry.resolve(ref).ref if ref else ""
    except EmbregError:
        return ref
