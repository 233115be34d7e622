"""What came from what: of the whole registry by embeddings, of a version by versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ...registry.errors import printable
from .layout import Drawing, Link, Thing, laid_out
from .page import DEPENDENTS, LINEAGE, Page, Route, embedding_path, version_path
from .rendering import render

if TYPE_CHECKING:
    from ...registry.lineage import Node
    from ...registry.types import Dependent, Version
    from .known import Known

#: Of a larger graph only the list is shown.
MOST = 150


def routes(known: Known) -> Iterator[Route]:
    """Yield the page of the whole registry."""
    yield Route(
        path=LINEAGE,
        inputs=lambda: (known.dependents, [(name, len(line)) for name, line in known.by_name.items()]),
        make=lambda: _page(known),
    )


def _page(known: Known) -> Page:
    things, links = _web(known)
    joined = {end for link in links for end in (link.start, link.end)}
    graph = laid_out([thing for thing in things if thing.id in joined], links)
    alone = [thing for thing in things if thing.id not in joined]
    return render(known, LINEAGE, "lineage.html.j2", "Lineage", graph=graph, alone=alone, most=MOST)


def around(known: Known, name: str) -> Drawing | None:
    """Return what an embedding comes from and what follows it, step by step; None where nothing does."""
    things, links = _web(known)
    joined: dict[str, list[str]] = {}
    for link in links:
        joined.setdefault(link.start, []).append(link.end)
        joined.setdefault(link.end, []).append(link.start)
    near, front = set[str](), {f"embedding:{name}"}
    while front:
        near |= front
        front = {other for one in front for other in joined.get(one, ())} - near
    own = [link for link in links if link.start in near]
    return laid_out([thing for thing in things if thing.id in near], own) if own else None


def _web(known: Known) -> tuple[list[Thing], list[Link]]:
    """Return the embeddings, and what follows each: indexes, derived embeddings, things outside."""
    things = {f"embedding:{name}": Thing(id=f"embedding:{name}", label=printable(name), kind="embedding",
                                         path=embedding_path(name)) for name in known.by_name}  # fmt: skip
    links = []
    for dependent in known.dependents:
        thing = _thing(dependent)
        things[thing.id] = replace(thing, path=things[thing.id].path) if thing.id in things else thing
        name, _, alias = dependent.tracks.rpartition("@")
        links.append(Link(start=f"embedding:{name}", end=thing.id, kind=f"follows {alias}"))
    return list(things.values()), links


def _thing(dependent: Dependent) -> Thing:
    kind = "embedding" if dependent.kind == "derived" else dependent.kind
    reason = f"{dependent.reason} -> {dependent.repair}" if dependent.stale else ""
    return Thing(
        id=f"{kind}:{dependent.name}",
        label=printable(dependent.name if kind == "embedding" else f"{kind} {dependent.name}"),
        kind=kind,
        state=dependent.state,
        reason=printable(reason),
        path=DEPENDENTS,
    )


def of_version(known: Known, version: Version) -> Drawing:
    """Return the ancestors and descendants of a version, and what was built from each of them."""
    found = known.registry.lineage(version.ref)
    things = [_node(known, node, version) for node in found.nodes if node.kind != "run"]
    links = [Link(start=edge.start, end=edge.end, kind=printable(edge.kind)) for edge in found.edges]
    return laid_out(things, links)


def _node(known: Known, node: Node, own: Version) -> Thing:
    path = version_path(node.label) if node.kind == "version" and node.label in known.by_ref else ""
    if node.kind in ("index", "external"):
        path = DEPENDENTS
    return Thing(
        id=node.id,
        label=printable(node.label if node.kind in ("version", "alias") else f"{node.kind} {node.label}"),
        kind="own" if node.label == own.ref else node.kind,
        state=node.state,
        reason=printable(node.reason),
        path=path,
    )
