"""Lineage: what a version came from, and what came from it."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from . import catalog
from .orm import AliasRow, VersionRow
from .orm_dependents import BuildRow, DerivationRow, DerivedRow, ExternalRow, IndexRow
from .orm_runs import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing in a lineage.

    Attributes:
        id: unique in the lineage: ``version:words@2``, ``index:words-flat`` …
        kind: ``version``, ``alias``, ``index``, ``external`` or ``run``.
        label: how to call it.
        state: ``fresh`` or ``stale`` for what is judged, ``done`` and the like for runs; empty otherwise.
        reason: why it is stale.
    """

    id: str
    kind: str
    label: str
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """``end`` came out of ``start``.

    ``kind`` is the name of a transform, ``target`` (of an adapter), ``built``, ``named`` or ``measured``.
    """

    start: str
    end: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A version among its ancestors, its descendants and their dependents; no edge leads back."""

    ref: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


#: The versions of a lineage by row id; what hangs on them: of which row, what, by what kind of edge.
_Rows = dict[int, VersionRow]
_Around = Iterator[tuple[int, Node, str]]


def of(session: Session, version: VersionRow) -> Lineage:
    """Return the lineage of a version: all ancestors, all descendants, and what depends on each of them."""
    rows, edges = _family(session, version)
    followers = _followers(session, rows)
    nodes = [_version_node(row, followers.get(row.id)) for row in rows.values()]
    around: dict[int, list[tuple[Node, str]]] = {number: [] for number in rows}
    for find in (_aliases, _indexes, _externals, _runs):
        for row_id, node, kind in find(session, rows):
            around[row_id].append((node, kind))
    for row_id, found in around.items():
        nodes += [node for node, _ in found]
        edges |= {Edge(start=_id(rows[row_id]), end=node.id, kind=kind): None for node, kind in found}
    return Lineage(ref=catalog.ref_of(version), nodes=tuple(nodes), edges=tuple(edges))


def _id(row: VersionRow) -> str:
    return f"version:{catalog.ref_of(row)}"


def _family(session: Session, version: VersionRow) -> tuple[_Rows, dict[Edge, None]]:
    """Return ancestors and descendants by row id, and the edges between them: a query a generation."""
    rows: _Rows = {version.id: version}
    edges: dict[Edge, None] = {}

    def meet(links: list[tuple[VersionRow, VersionRow, str]]) -> set[int]:
        """Take in edges from parent to child; return the versions that were not known."""
        known = set(rows)
        for parent, child, kind in links:
            rows.update({parent.id: parent, child.id: child})
            edges[Edge(start=_id(parent), end=_id(child), kind=kind)] = None
        return set(rows) - known

    front = {version.id}
    while front:
        front = meet([link for made in _made(session, front) for link in _links(made)])
    front = {version.id}
    while front:
        of_front = [link for made in _children(session, front) for link in _links(made)]
        front = meet([link for link in of_front if link[0].id in front])
    return rows, edges


def _links(derived: DerivedRow) -> Iterator[tuple[VersionRow, VersionRow, str]]:
    yield derived.parent, derived.version, derived.transform
    if derived.target is not None:
        yield derived.target, derived.version, "target"


def _made(session: Session, versions: AbstractSet[int]) -> list[DerivedRow]:
    return list(session.scalars(select(DerivedRow).where(DerivedRow.version_id.in_(versions))))


def _children(session: Session, parents: AbstractSet[int]) -> list[DerivedRow]:
    query = select(DerivedRow).join(VersionRow, DerivedRow.version_id == VersionRow.id)
    theirs = DerivedRow.parent_id.in_(parents) | DerivedRow.target_id.in_(parents)
    return list(session.scalars(query.where(theirs, VersionRow.deleted_at.is_(None)).order_by(VersionRow.id)))


def _followers(session: Session, rows: _Rows) -> dict[int, DerivationRow]:
    """Return how derived embeddings stand, by the id of the version that stands for each: its latest."""
    mine = {row.embedding_id for row in rows.values()}
    newest = (
        select(VersionRow.embedding_id, func.max(VersionRow.number).label("number"))
        .join(DerivedRow, DerivedRow.version_id == VersionRow.id)
        .where(VersionRow.embedding_id.in_(mine), VersionRow.deleted_at.is_(None))
        .group_by(VersionRow.embedding_id)
        .subquery()
    )
    same = (VersionRow.embedding_id == newest.c.embedding_id) & (VersionRow.number == newest.c.number)
    query = select(VersionRow.id, DerivationRow).join(newest, same)
    query = query.join(DerivationRow, DerivationRow.child_id == VersionRow.embedding_id)
    return {row[0]: row[1] for row in session.execute(query)}


def _version_node(row: VersionRow, following: DerivationRow | None) -> Node:
    """Return the node of a version; the latest of a derived embedding carries that one's state."""
    label = catalog.ref_of(row)
    if row.deleted_at is not None:
        return Node(id=_id(row), kind="version", label=label, state="deleted")
    if following is None:
        return Node(id=_id(row), kind="version", label=label)
    reason = following.reason if following.state != "fresh" else ""
    return Node(id=_id(row), kind="version", label=label, state=following.state, reason=reason)


def _aliases(session: Session, rows: _Rows) -> _Around:
    query = select(AliasRow).where(AliasRow.version_id.in_(rows)).order_by(AliasRow.name)
    for alias in session.scalars(query):
        label = f"{rows[alias.version_id].embedding.name}@{alias.name}"
        yield alias.version_id, Node(id=f"alias:{label}", kind="alias", label=label), "named"


def _indexes(session: Session, rows: _Rows) -> _Around:
    newest = select(func.max(BuildRow.id)).group_by(BuildRow.index_id)
    query = select(BuildRow.version_id, IndexRow).join(IndexRow, BuildRow.index_id == IndexRow.id)
    query = query.where(BuildRow.id.in_(newest), BuildRow.version_id.in_(rows)).order_by(IndexRow.name)
    for row_id, index in session.execute(query):
        label = f"{index.name} ({index.factory})"
        yield row_id, _judged(f"index:{index.name}", "index", label, index), "built"


def _externals(session: Session, rows: _Rows) -> _Around:
    query = select(ExternalRow).where(ExternalRow.basis_id.in_(rows)).order_by(ExternalRow.name)
    for other in session.scalars(query):
        yield other.basis_id, _judged(f"external:{other.name}", "external", other.name, other), "built"


def _judged(id_: str, kind: str, label: str, row: IndexRow | ExternalRow) -> Node:
    reason = f"{row.reason} -> {row.repair}" if row.state != "fresh" else ""
    return Node(id=id_, kind=kind, label=label, state=row.state, reason=reason)


def _runs(session: Session, rows: _Rows) -> _Around:
    """Yield one node for each version, suite and dataset, with the status of its newest run."""
    newest = select(func.max(RunRow.id)).where(RunRow.version_id.in_(rows))
    newest = newest.group_by(RunRow.version_id, RunRow.suite, RunRow.dataset)
    query = select(RunRow.version_id, RunRow.suite, RunRow.dataset, RunRow.status)
    query = query.where(RunRow.id.in_(newest)).order_by(RunRow.suite, RunRow.dataset)
    for row_id, suite, dataset, status in session.execute(query):
        label = f"{suite} on {dataset}" if dataset else suite
        id_ = f"run:{catalog.ref_of(rows[row_id])}:{label}"
        yield row_id, Node(id=id_, kind="run", label=label, state=status), "measured"
