"""What was measured: runs, measures, verdicts, shared artifacts."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, delete, select, type_coerce
from sqlalchemy.orm import Session, lazyload

from . import catalog
from .blobs import BlobStore
from .errors import CorruptBlob, NotFound
from .home import Home
from .orm import VersionRow
from .orm_runs import ArtifactRow, MeasureRow, RunRow, VerdictRow
from .types import MeasureRecord, Ref, RunRecord, VerdictRecord, utc_now

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]


def to_parquet(table: pa.Table) -> memoryview:
    """Return the bytes of the Parquet file that a small Arrow table is stored as."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="ZSTD")
    return sink.getbuffer()


def put_table(blobs: BlobStore, table: pa.Table) -> str:
    """Store a small Arrow table as Parquet; return its digest."""
    return blobs.put([to_parquet(table)]).digest


def get_table(blobs: BlobStore, digest: str) -> pa.Table:
    """Read what ``put_table`` stored, checked against its digest."""
    import pyarrow.parquet as pq

    return pq.read_table(io.BytesIO(blobs.read(digest)))


def put_arrays(blobs: BlobStore, arrays: Arrays) -> str:
    """Store named arrays as ``.npz``; return the digest."""
    import numpy as np

    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return blobs.put([sink.getbuffer()]).digest


def get_arrays(blobs: BlobStore, digest: str) -> Arrays:
    """Read what ``put_arrays`` stored, checked against its digest."""
    import numpy as np

    with np.load(io.BytesIO(blobs.read(digest)), allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def add_run(home: Home, run: RunRecord, items: pa.Table | None) -> RunRecord:
    """Store a run and its items, with an event; see ``Registry.record``."""
    if items is not None:
        run = replace(run, items=put_table(home.blobs, items))
    with home.database.write() as session:
        home.require(*([run.items] if run.items else []))
        run = replace(run, id=insert_run(session, run))
        catalog.log_event(
            session,
            home.actor,
            "run.recorded",
            run.version,
            embedding=Ref.parse(run.version).name,
            suite=run.suite,
            status=run.status,
            baseline=run.baseline,
            dataset=run.dataset,
        )
    return run


def insert_run(session: Session, run: RunRecord) -> int:
    """Write a run down with its measures; return its number."""
    row = RunRow(
        version=_by_ref(session, run.version),
        baseline=_by_ref(session, run.baseline) if run.baseline else None,
        suite=run.suite,
        suite_version=run.suite_version,
        dataset=run.dataset,
        dataset_digest=run.dataset_digest,
        params=dict(run.params),
        status=run.status,
        reason=run.reason,
        verdict=run.verdict,
        seed=run.seed,
        confidence=run.confidence,
        duration_s=run.duration_s,
        cache_key=run.cache_key,
        absent=[dict(a) for a in run.absent],
        notes=list(run.notes),
        items=run.items,
        created_at=utc_now(),
    )
    row.measures = [
        MeasureRow(metric=m.metric, labels=dict(m.labels), value=m.value, n=m.n, low=m.low, high=m.high)
        for m in run.measures
    ]
    session.add(row)
    session.flush()
    return row.id


def _by_ref(session: Session, ref: str) -> VersionRow:
    return catalog.resolve(session, Ref.parse(ref))


def to_run(row: RunRow, measures: Sequence[MeasureRecord] | None = None) -> RunRecord:
    """Return the value of a run row, with its numbers where they were read already."""
    if measures is None:
        measures = [
            MeasureRecord(metric=m.metric, labels=m.labels, value=m.value, n=m.n, low=m.low, high=m.high)
            for m in row.measures
        ]
    return RunRecord(
        suite=row.suite,
        suite_version=row.suite_version,
        id=row.id,
        version=catalog.ref_of(row.version),
        version_digest=row.version.digest,
        baseline=catalog.ref_of(row.baseline) if row.baseline is not None else None,
        baseline_digest=row.baseline.digest if row.baseline is not None else None,
        dataset=row.dataset,
        dataset_digest=row.dataset_digest,
        params=row.params,
        status=row.status,
        reason=row.reason,
        verdict=row.verdict,
        seed=row.seed,
        confidence=row.confidence,
        duration_s=row.duration_s,
        cache_key=row.cache_key,
        measures=tuple(measures),
        absent=tuple(row.absent),
        notes=tuple(row.notes),
        items=row.items,
        created_at=row.created_at,
    )


def cached_run(session: Session, asked: RunRecord) -> RunRecord | None:
    """Return a finished run of the same cache key: the newest under the names asked for, else the newest."""
    query = select(RunRow).where(RunRow.cache_key == asked.cache_key, RunRow.status == "done")
    found = [to_run(row) for row in session.scalars(query.order_by(RunRow.id.desc()))]
    names = (asked.version, asked.baseline, asked.dataset)
    own = [run for run in found if (run.version, run.baseline, run.dataset) == names]
    return next(iter([*own, *found]), None)


def runs_of(
    session: Session, *, embedding: str | None = None, version: str | None = None, suite: str | None = None
) -> tuple[RunRecord, ...]:
    """Return runs, oldest first: of all versions of an embedding, of one version, of one suite."""
    wanted: list[Any] = [VersionRow.deleted_at.is_(None)]
    if embedding is not None:
        wanted.append(VersionRow.embedding_id == catalog.find_embedding(session, embedding).id)
    if version is not None:
        wanted.append(RunRow.version_id == _by_ref(session, version).id)
    if suite is not None:
        wanted.append(RunRow.suite == suite)
    query = select(RunRow).options(lazyload(RunRow.measures))
    query = query.join(VersionRow, RunRow.version_id == VersionRow.id).where(*wanted)
    rows = session.scalars(query.order_by(VersionRow.number, RunRow.id)).all()
    measures = _measures(session, wanted)
    return tuple(to_run(row, measures.get(row.id, ())) for row in rows)


def _measures(session: Session, wanted: list[Any]) -> dict[int, list[MeasureRecord]]:
    """Return the numbers of some runs, by run: there may be 100,000, with a few hundred labels."""
    query = (
        select(
            MeasureRow.run_id, MeasureRow.metric, type_coerce(MeasureRow.labels, String),
            MeasureRow.value, MeasureRow.n, MeasureRow.low, MeasureRow.high,
        )
        .join(RunRow, MeasureRow.run_id == RunRow.id)
        .join(VersionRow, RunRow.version_id == VersionRow.id)
        .where(*wanted)
        .order_by(MeasureRow.id)
    )  # fmt: skip
    read: dict[str, dict[str, str]] = {}
    found: dict[int, list[MeasureRecord]] = {}
    for run, metric, text, value, n, low, high in session.execute(query):
        if text not in read:
            read[text] = json.loads(text)
        labels = dict(read[text])
        measure = MeasureRecord(metric=metric, labels=labels, value=value, n=n, low=low, high=high)
        found.setdefault(run, []).append(measure)
    return found


def run_numbered(session: Session, number: int) -> RunRecord:
    """Return the run with this number.

    Raises:
        NotFound: there is none, or its version was deleted.
    """
    row = session.get(RunRow, number)
    if row is None or row.version.deleted_at is not None:
        hint = "'embreg eval REF' shows the numbers of its runs; those of deleted versions are gone"
        raise NotFound(f"no run {number}", hint=hint)
    return to_run(row)


def add_verdict(home: Home, verdict: VerdictRecord) -> None:
    """Store a verdict, with an event."""
    with home.database.write() as session:
        insert_verdict(session, verdict)
        catalog.log_event(
            session,
            home.actor,
            "gate.passed" if verdict.passed else "gate.failed",
            verdict.version,
            embedding=Ref.parse(verdict.version).name,
            baseline=verdict.baseline,
        )


def insert_verdict(session: Session, verdict: VerdictRecord) -> None:
    """Write a gate's answer down."""
    session.add(
        VerdictRow(
            version=_by_ref(session, verdict.version),
            baseline=_by_ref(session, verdict.baseline) if verdict.baseline else None,
            version_digest=verdict.version_digest,
            baseline_digest=verdict.baseline_digest,
            passed=verdict.passed,
            config_digest=verdict.config_digest,
            checks=[dict(c) for c in verdict.checks],
            created_at=utc_now(),
        )
    )


def newest_verdict(session: Session, digest: str, baseline_digest: str | None) -> VerdictRecord | None:
    """Return the newest verdict on one pair of manifest digests."""
    query = select(VerdictRow).where(VerdictRow.version_digest == digest)
    query = query.where(VerdictRow.baseline_digest.is_(baseline_digest) if baseline_digest is None
                        else VerdictRow.baseline_digest == baseline_digest)  # fmt: skip
    row = session.scalar(query.order_by(VerdictRow.id.desc()).limit(1))
    return None if row is None else to_verdict(row)


def to_verdict(row: VerdictRow) -> VerdictRecord:
    """Return the value of a verdict row."""
    return VerdictRecord(
        version=catalog.ref_of(row.version),
        version_digest=row.version_digest,
        baseline=catalog.ref_of(row.baseline) if row.baseline is not None else None,
        baseline_digest=row.baseline_digest,
        passed=row.passed,
        config_digest=row.config_digest,
        checks=tuple(row.checks),
        created_at=row.created_at,
    )


def get_artifact(session: Session, blobs: BlobStore, version_digest: str, name: str) -> Arrays | None:
    """Return shared arrays of a version; None where there are none, or they are damaged."""
    row = session.scalar(_artifact(version_digest, name))
    if row is None:
        return None
    try:
        return get_arrays(blobs, row.digest)
    except CorruptBlob:  # derived data: computed again, and written anew
        return None


def put_artifact(session: Session, version_digest: str, name: str, digest: str) -> None:
    """Point a version's artifact at stored arrays, instead of what it pointed at before."""
    row = session.scalar(_artifact(version_digest, name))
    if row is None:
        row = ArtifactRow(version_digest=version_digest, name=name, created_at=utc_now())
        session.add(row)
    row.digest = digest


def _artifact(version_digest: str, name: str) -> Any:
    return select(ArtifactRow).where(ArtifactRow.version_digest == version_digest, ArtifactRow.name == name)


class Artifacts:
    """Named arrays that belong to one version, kept as blobs; what cannot be kept is computed again."""

    def __init__(self, home: Home, version_digest: str) -> None:
        self._home = home
        self._digest = version_digest
        self._loaded: dict[str, Arrays] = {}

    def get(self, name: str) -> Arrays | None:
        """Return the arrays kept under ``name``, or None."""
        if name not in self._loaded:
            with self._home.database.read() as session:
                kept = get_artifact(session, self._home.blobs, self._digest, name)
            if kept is None:
                return None
            self._loaded[name] = kept
        return self._loaded[name]

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under ``name``, in place of what was there."""
        self._loaded[name] = arrays
        digest = put_arrays(self._home.blobs, arrays)
        with self._home.database.write() as session:
            put_artifact(session, self._digest, name, digest)

    def drop(self, name: str) -> None:
        """Forget what is kept under ``name``, if anything is; the next sweep takes its blob."""
        self._loaded.pop(name, None)
        with self._home.database.write() as session:
            own = ArtifactRow.version_digest == self._digest
            session.execute(delete(ArtifactRow).where(own, ArtifactRow.name == name))
