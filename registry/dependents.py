"""What depends on a version (indexes, derived embeddings, things outside), judged when versions move.

A judgement is part of the transaction that moves the version, but reading two tables takes time, and a writer
in SQLite keeps all others waiting. So the diffs that a transaction will need are computed before it, and
a transaction that finds it needs another one (somebody rebuilt an index meanwhile) starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import catalog
from .catalog import Actor
from .errors import Conflict, CorruptBlob, IndexNotFound, did_you_mean, printable
from .orm import EmbeddingRow, VersionRow
from .orm_dependents import BuildRow, DerivationRow, DerivedRow, ExternalRow, IndexRow
from .types import Dependent, Diff, IndexState, Relation, Repair, Stale, utc_now

if TYPE_CHECKING:
    from .builds import NewBuild
    from .diff import Traits
    from .tables import EmbeddingTable

T = TypeVar("T")
Judgeable = IndexRow | DerivationRow | ExternalRow
_JUDGED: tuple[Any, ...] = (IndexRow, DerivationRow, ExternalRow)
_KINDS = ("index", "derived", "external")
_ATTEMPTS = 20


class MissingDiff(Exception):
    """A transaction needs diffs that were not computed before it; ``Diffs.settle`` catches it."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = sorted(pairs)
        super().__init__(self.pairs)


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
            raise MissingDiff([(old, new)])
        return self._known[old, new]

    def expect(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Miss all that is missing at once: a transaction with many dependents starts over once, not often.

        Raises:
            MissingDiff: as its name says.
        """
        missing = {pair for pair in pairs if pair not in self._known and pair not in self._damaged}
        if missing:
            raise MissingDiff(missing)

    def settle(self, transaction: Callable[[], T]) -> T:
        """Run a transaction, computing what it turns out to miss between tries."""
        from .diff import compare

        for _ in range(_ATTEMPTS):
            try:
                return transaction()
            except MissingDiff as missing:
                pairs = missing.pairs
            for old, new in pairs:
                try:
                    a, b = self._load(old), self._load(new)
                    self._known[old, new] = compare(a, b, old_ref=old, new_ref=new)
                except CorruptBlob as exc:
                    self._damaged[old, new] = exc
        raise Conflict("indexes keep changing underneath", hint="run it again")


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a dependent was made from, and what can be done to it in place."""

    version: VersionRow
    traits: Traits


def present_build(session: Session, index: IndexRow) -> BuildRow:
    """Return the build in use: the newest."""
    query = select(BuildRow).where(BuildRow.index_id == index.id).order_by(BuildRow.id.desc()).limit(1)
    return session.scalars(query).one()


def present_derived(session: Session, derivation: DerivationRow) -> DerivedRow | None:
    """Return how the latest living version of a derived embedding came about; None where none is left."""
    query = select(DerivedRow).join(VersionRow, DerivedRow.version_id == VersionRow.id)
    query = query.where(VersionRow.embedding_id == derivation.child_id, VersionRow.deleted_at.is_(None))
    return session.scalar(query.order_by(VersionRow.number.desc()).limit(1))


def _origin(session: Session, row: Judgeable) -> VersionRow | None:
    """Return the version that a dependent was made from; None where none is left."""
    if isinstance(row, ExternalRow):
        return row.basis
    if isinstance(row, IndexRow):
        return present_build(session, row).version
    derived = present_derived(session, row)
    return None if derived is None else derived.parent


def _basis(session: Session, row: Judgeable) -> _Basis | None:
    from .diff import ANY_TYPE, Traits

    if isinstance(row, ExternalRow):
        return _Basis(row.basis, ANY_TYPE)
    if isinstance(row, IndexRow):
        build = present_build(session, row)
        traits = Traits(
            can_add=build.can_add,
            can_remove=build.can_remove,
            trained_rows=build.trained_rows,
            directions=row.metric == "cosine",
        )
        return _Basis(build.version, traits)
    derived = present_derived(session, row)
    if derived is None:
        return None
    # A fitted transform is valid for rows like those it was fitted on, as a trained index is.
    return _Basis(derived.parent, Traits(can_add=True, can_remove=True, trained_rows=derived.fitted_rows))


def judge(session: Session, row: Judgeable, diffs: Diffs) -> None:
    """Compare what a dependent was made from with the version it tracks now, and write down the judgement."""
    from .diff import repair

    row.tracked = tracked = catalog.tracked(session, row.embedding, row.tracks)
    row.state, row.relation, row.repair = "stale", None, Repair.REBUILD
    basis = _basis(session, row)
    if tracked is None:
        row.repair = Repair.NONE
        row.reason = f"'{row.embedding.name}@{row.tracks}' names no version any more"
        return
    if basis is None:
        row.reason = "no version of it is left"
        return
    try:
        diff = diffs.get(basis.version.digest, tracked.digest)
    except CorruptBlob as exc:  # damage must not keep new versions out: the dependent is what suffers
        row.reason = f"cannot be compared with {catalog.ref_of(basis.version)}: {exc.message}"
        return
    row.repair, row.reason = repair(diff, basis.traits)
    row.relation = diff.relation
    row.state = "fresh" if row.repair == Repair.NONE else "stale"


def judge_all(session: Session, embedding: EmbeddingRow, moved: str, diffs: Diffs, actor: Actor) -> Stale:
    """Judge everything that tracks ``moved`` (an alias or ``latest``); return what is stale now."""
    stale = Stale()
    rows = list(_tracking(session, embedding, moved))
    target = catalog.tracked(session, embedding, moved)
    bases = [basis for basis in (_basis(session, row) for row in rows) if basis is not None]
    if target is not None:
        diffs.expect((basis.version.digest, target.digest) for basis in bases)
    for row in rows:
        before = row.state
        judge(session, row, diffs)
        kind, name = _named(row)
        if row.state != before:
            catalog.log_event(
                session, actor, f"{kind}.{row.state}", name, embedding=embedding.name,
                repair=row.repair, reason=row.reason,
            )  # fmt: skip
        if row.state != "fresh":
            stale += _as_stale(session, row)
    return stale


def judge_child(session: Session, embedding: EmbeddingRow, diffs: Diffs) -> None:
    """Judge an embedding that is derived itself, after its latest version went."""
    row = session.scalar(select(DerivationRow).where(DerivationRow.child_id == embedding.id))
    if row is not None:
        judge(session, row, diffs)


def _tracking(session: Session, embedding: EmbeddingRow, moved: str) -> Iterator[Judgeable]:
    for kind in _JUDGED:
        query = select(kind).where(kind.embedding_id == embedding.id, kind.tracks == moved)
        yield from session.scalars(query.order_by(kind.id))


def tracking(session: Session, embedding: EmbeddingRow, alias: str) -> list[str]:
    """Return what tracks an alias, in words."""
    return [" ".join(_named(row)) for row in _tracking(session, embedding, alias)]


def _as_stale(session: Session, row: Judgeable) -> Stale:
    if isinstance(row, IndexRow):
        return Stale(indexes=(to_state(session, row),))
    return Stale(others=(to_dependent(session, row),))


def _named(row: Judgeable) -> tuple[str, str]:
    if isinstance(row, DerivationRow):
        return "derived", row.child.name
    return ("index" if isinstance(row, IndexRow) else "external"), row.name


def everything(session: Session, *, stale: bool = False) -> tuple[Dependent, ...]:
    """Return every dependent, or those that are stale: indexes, derived, what is outside; each by name."""
    queries = [select(kind).where(kind.state != "fresh") if stale else select(kind) for kind in _JUDGED]
    found = [to_dependent(session, row) for query in queries for row in session.scalars(query)]
    return tuple(sorted(found, key=lambda d: (_KINDS.index(d.kind), d.name)))


def to_dependent(session: Session, row: Judgeable) -> Dependent:
    """Return the value of a dependent of any kind."""
    kind, name = _named(row)
    origin = _origin(session, row)
    return Dependent(
        kind=kind,
        name=name,
        tracks=f"{row.embedding.name}@{row.tracks}",
        built_from=catalog.ref_of(origin) if origin is not None else None,
        tracked=catalog.ref_of(row.tracked) if row.tracked is not None else None,
        state=row.state,
        relation=Relation(row.relation) if row.relation else None,
        repair=Repair(row.repair),
        reason=row.reason,
        remedy=_remedy(row),
    )


def _remedy(row: Judgeable) -> str:
    if isinstance(row, ExternalRow):
        done = f"then 'embreg dependent done {row.name}'"
        return ", ".join(part for part in (row.command, row.note, done) if part)
    if isinstance(row, DerivationRow):
        return f"embreg derive --stale {row.child.name}"
    return f"embreg index rebuild {row.name}"


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
        health=dict(new.health),
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row
