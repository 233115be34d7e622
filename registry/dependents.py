"""What depends on a version: judging indexes when versions move, building and repairing them.

A judgement is part of the transaction that moves the version, but reading two tables takes time, and a writer
in SQLite keeps all others waiting. So the diffs that a transaction will need are computed before it, and
a transaction that finds it needs another one (somebody rebuilt an index meanwhile) starts over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import catalog
from .catalog import Actor
from .errors import Conflict, CorruptBlob, IndexNotFound, did_you_mean, printable
from .orm import BuildRow, EmbeddingRow, IndexRow, VersionRow
from .types import Diff, IndexState, Relation, Repair, utc_now

if TYPE_CHECKING:
    from .builds import NewBuild
    from .tables import EmbeddingTable

T = TypeVar("T")
_ATTEMPTS = 20


class MissingDiff(Exception):
    """A transaction needs a diff that was not computed before it; ``Diffs.settle`` catches it."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(old, new)
        self.pair = (old, new)


class Diffs:
    """Diffs between versions by their digests, computed outside of transactions."""

    def __init__(self, load: Callable[[str], EmbeddingTable]) -> None:
        self._load = load
        self._known: dict[tuple[str, str], Diff] = {}
        self._damaged: dict[tuple[str, str], CorruptBlob] = {}

    def get(self, old: str, new: str) -> Diff:
        """Return a diff computed before, by manifest digests.

        Raises:
            MissingDiff: it was not; let it leave the transaction.
            CorruptBlob: one of the two cannot be read.
        """
        if (old, new) in self._damaged:
            raise self._damaged[old, new]
        if (old, new) not in self._known:
            raise MissingDiff(old, new)
        return self._known[old, new]

    def settle(self, transaction: Callable[[], T]) -> T:
        """Run a transaction, computing what it turns out to miss between tries."""
        from .diff import compare

        for _ in range(_ATTEMPTS):
            try:
                return transaction()
            except MissingDiff as missing:
                old, new = missing.pair
            try:
                self._known[old, new] = compare(self._load(old), self._load(new), old_ref=old, new_ref=new)
            except CorruptBlob as exc:
                self._damaged[old, new] = exc
        raise Conflict("indexes keep changing underneath", hint="run it again")


def present_build(session: Session, index: IndexRow) -> BuildRow:
    """Return the build in use: the newest."""
    query = select(BuildRow).where(BuildRow.index_id == index.id).order_by(BuildRow.id.desc()).limit(1)
    return session.scalars(query).one()


def judge(session: Session, index: IndexRow, diffs: Diffs) -> None:
    """Compare the build with the version its index tracks now, and write down the judgement."""
    from .diff import Traits, repair

    build = present_build(session, index)
    tracked = catalog.tracked(session, index.embedding, index.tracks)
    index.tracked = tracked
    if tracked is None:
        index.state, index.relation, index.repair = "stale", None, Repair.NONE
        index.reason = f"'{index.embedding.name}@{index.tracks}' names no version any more"
        return
    try:
        diff = diffs.get(build.version.digest, tracked.digest)
    except CorruptBlob as exc:  # damage must not keep new versions out: the index is what suffers
        index.state, index.relation, index.repair = "stale", None, Repair.REBUILD
        index.reason = f"cannot be compared with {catalog.ref_of(build.version)}: {exc.message}"
        return
    traits = Traits(can_add=build.can_add, can_remove=build.can_remove, trained_rows=build.trained_rows)
    action, index.reason = repair(diff, traits)
    index.repair = action
    index.relation = diff.relation
    index.state = "fresh" if action is Repair.NONE else "stale"


def judge_all(
    session: Session, embedding: EmbeddingRow, moved: str, diffs: Diffs, actor: Actor
) -> tuple[IndexState, ...]:
    """Judge every index that tracks ``moved`` (an alias or ``latest``); return those that are stale now."""
    query = select(IndexRow).where(IndexRow.embedding_id == embedding.id, IndexRow.tracks == moved)
    stale = []
    for index in session.scalars(query.order_by(IndexRow.name)):
        before = index.state
        judge(session, index, diffs)
        if index.state != before:
            catalog.log_event(
                session, actor, f"index.{index.state}", index.name, embedding=embedding.name,
                repair=index.repair, reason=index.reason,
            )  # fmt: skip
        if index.state != "fresh":
            stale.append(to_state(session, index))
    return tuple(stale)


def find_index(session: Session, name: str) -> IndexRow:
    """Return the row of an index.

    Raises:
        IndexNotFound: there is none of that name.
    """
    row = session.scalar(select(IndexRow).where(IndexRow.name == name))
    if row is None:
        known = session.scalars(select(IndexRow.name)).all()
        hint = did_you_mean(name, known, "'embreg index list' shows the indexes")
        raise IndexNotFound(f"no index '{printable(name)}'", hint=hint)
    return row


def states(session: Session, name: str | None = None) -> tuple[IndexState, ...]:
    """Return the state of one index, or of all by name."""
    if name is not None:
        return (to_state(session, find_index(session, name)),)
    return tuple(to_state(session, row) for row in session.scalars(select(IndexRow).order_by(IndexRow.name)))


def to_state(session: Session, index: IndexRow) -> IndexState:
    """Return the value of an index row and its present build."""
    build = present_build(session, index)
    return IndexState(
        name=index.name,
        tracks=f"{index.embedding.name}@{index.tracks}",
        built_from=catalog.ref_of(build.version),
        tracked=catalog.ref_of(index.tracked) if index.tracked is not None else None,
        state=index.state,
        relation=Relation(index.relation) if index.relation else None,
        repair=Repair(index.repair),
        reason=index.reason,
        factory=index.factory,
        search=index.search,
        metric=index.metric,
        rows=build.rows,
        nbytes=build.nbytes,
        recall=build.recall,
        recall_k=build.recall_k,
        recall_queries=build.recall_queries,
        method=build.method,
        duration_s=build.duration_s,
        built_at=build.created_at,
    )


def insert_build(session: Session, index: IndexRow, version: VersionRow, new: NewBuild) -> BuildRow:
    """Write a build down: from here on it is the one in use."""
    row = BuildRow(
        index_id=index.id,
        version=version,
        method=new.method,
        faiss_digest=new.faiss_digest,
        ids_digest=new.ids_digest,
        nbytes=new.nbytes,
        rows=new.rows,
        trained_rows=new.traits.trained_rows,
        can_add=new.traits.can_add,
        can_remove=new.traits.can_remove,
        recall=new.recall,
        recall_k=new.recall_k,
        recall_queries=new.recall_queries,
        duration_s=new.duration_s,
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row
