"""Indexes: building them, repairing them, asking them."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from . import builds, catalog, dependents, indexes
from .builds import NewBuild, OldBuild
from .dependents import Diffs
from .diff import Health
from .errors import Conflict, InputError, NotFound
from .home import Home, to_ref
from .orm import EmbeddingRow
from .orm_dependents import BuildRow, IndexRow
from .serving import PresentBuild
from .tables import EmbeddingTable, check_k
from .types import LATEST, IndexState, Progress, Ref, Repair, Version, check_alias, check_name


def build(
    home: Home,
    name: str,
    ref: str | Ref,
    *,
    factory: str,
    search: str,
    track: str,
    progress: Progress | None,
) -> IndexState:
    """Build an index and let it track; see ``Registry.index``."""
    check_name(name, "name of an index")
    version = home.resolve(ref)
    with home.database.read() as session:
        embedding = catalog.find_embedding(session, version.name)
        if track != LATEST:
            catalog.find_alias(session, embedding, check_alias(track))
        _owned(session, name, embedding)
    new = builds.build(
        home.table(version.digest),
        version.digest,
        factory=factory,
        search=search,
        metric=version.space.metric,
        blobs=home.blobs,
        progress=progress,
    )
    diffs = home.diffs()

    def transaction() -> IndexState:
        with home.database.write() as session:
            index = _index_row(session, name, version, factory, search, track)
            return _adopt(home, session, index, version, new, diffs)

    return diffs.settle(transaction)


def _owned(session: Session, name: str, embedding: EmbeddingRow) -> IndexRow | None:
    """Return the index of that name, if there is one, unless it belongs to another embedding."""
    found: IndexRow | None = session.scalar(select(IndexRow).where(IndexRow.name == name))
    if found is not None and found.embedding_id != embedding.id:
        raise Conflict(
            f"index '{name}' belongs to '{found.embedding.name}'", hint="choose another name for this one"
        )
    return found


def _index_row(
    session: Session, name: str, version: Version, factory: str, search: str, track: str
) -> IndexRow:
    embedding = catalog.find_embedding(session, version.name)
    index = _owned(session, name, embedding)
    if index is None:
        index = IndexRow(name=name, embedding=embedding, state="stale", repair=Repair.REBUILD, reason="")
        session.add(index)
    index.tracks, index.factory, index.search = track, factory, search
    index.metric = version.space.metric
    session.flush()
    return index


def _adopt(
    home: Home, session: Session, index: IndexRow, version: Version, new: NewBuild, diffs: Diffs
) -> IndexState:
    """Make a stored build the one in use, judge it, and write the event."""
    home.require(new.faiss_digest, new.ids_digest)
    row = catalog.resolve(session, to_ref(version.ref))
    dependents.insert_build(session, index, row, new)
    dependents.judge(session, index, diffs)
    catalog.log_event(
        session,
        home.actor,
        "index.built",
        index.name,
        embedding=version.name,
        version=version.number,
        method=new.method,
        recall=new.recall,
        note=new.note,
    )
    session.flush()
    return dependents.to_state(session, index)


def rebuild(home: Home, name: str, full: bool, progress: Progress | None) -> IndexState:
    """Do the repair an index needs; see ``Registry.rebuild``."""
    state, old_id, old_build, old_digest = _present(home, name)
    if not state.stale and not full:
        return state
    if state.tracked is None:
        raise NotFound(state.reason, hint=f"build it anew: 'embreg index build {name} REF --factory S'")
    version = home.resolve(state.tracked)
    new = builds.repair(
        Repair.REBUILD if full else state.repair,
        old_build,
        lambda: home.table(old_digest),
        home.table(version.digest),
        version.digest,
        factory=state.factory,
        search=state.search,
        metric=version.space.metric,
        blobs=home.blobs,
        progress=progress,
    )
    diffs = home.diffs()

    def transaction() -> IndexState:
        with home.database.write() as session:
            index = dependents.find_index(session, name)
            if dependents.present_build(session, index).id != old_id:
                raise Conflict(f"index '{name}' was rebuilt by somebody else meanwhile; theirs stands")
            index.metric = version.space.metric
            return _adopt(home, session, index, version, new, diffs)

    return diffs.settle(transaction)


def _present(home: Home, name: str) -> tuple[IndexState, int, OldBuild, str]:
    """Return an index's state, and the id, the blobs and the version digest of its present build."""
    with home.database.read() as session:
        index = dependents.find_index(session, name)
        row = dependents.present_build(session, index)
        build = OldBuild(
            faiss_digest=row.faiss_digest,
            ids_digest=row.ids_digest,
            trained_rows=row.trained_rows,
            recall=row.recall,
            health=row.health,
        )
        return dependents.to_state(session, index), row.id, build, row.version.digest


def present_build(home: Home, name: str) -> PresentBuild:
    """Return the build of an index in use; see ``Registry.present_build``."""
    state, _, build, digest = _present(home, name)
    return PresentBuild(
        state=state,
        digests=(build.faiss_digest, build.ids_digest, digest),
        basis=lambda: home.table(digest),
        health=Health.from_dict(build.health),
        load=lambda: builds.load(build, state.metric, home.blobs),
    )


def search(home: Home, name: str, item: str, k: int) -> tuple[tuple[str, float], ...]:
    """Ask an index for the neighbours of a row; see ``Registry.search``."""
    state, _, build, digest = _present(home, name)
    check_k(k, state.rows - 1)
    table = home.table(digest)
    query = table.take([table.row_of(item)])
    built = builds.load(build, state.metric, home.blobs)
    slots, scores = indexes.search(built, query, k + 1)
    found = indexes.names(built, slots[0], scores[0])
    return tuple((i, s) for i, s in found if i != item)[:k]


def search_vectors(
    home: Home, name: str, queries: EmbeddingTable, k: int
) -> dict[str, tuple[tuple[str, float], ...]]:
    """Ask an index for the neighbours of vectors from outside; see ``Registry.search_vectors``."""
    state, _, build, digest = _present(home, name)
    check_k(k, state.rows)
    dim = home.table(digest).dim
    if queries.dim != dim:
        raise InputError(
            f"queries of width {queries.dim} for an index of width {dim}",
            hint="they must come from the encoder of the version it was built from, or through an adapter",
        )
    built = builds.load(build, state.metric, home.blobs)
    slots, scores = indexes.search(built, queries.vectors, k)
    ids = queries.ids.to_pylist()
    return {ids[i]: tuple(indexes.names(built, slots[i], scores[i])) for i in range(queries.rows)}


def remove(home: Home, name: str) -> None:
    """Forget an index and its builds."""
    with home.database.write() as session:
        index = dependents.find_index(session, name)
        session.execute(delete(BuildRow).where(BuildRow.index_id == index.id))
        catalog.log_event(session, home.actor, "index.removed", name, embedding=index.embedding.name)
        session.delete(index)
