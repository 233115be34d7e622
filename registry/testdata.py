"""The datasets of a registry: adding them from files, finding them by name, forgetting them."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from . import builtin, catalog
from .blobs import BlobStore
from .errors import CorruptBlob, DatasetNotFound, InvalidRef, UsageError, did_you_mean, printable
from .home import Home
from .orm_runs import DatasetRow, RunRow
from .records import get_table, put_table, to_parquet
from .types import AddedDataset, Dataset, check_name, utc_now

if TYPE_CHECKING:
    import pyarrow as pa

    from .tables import EmbeddingTable

_MOST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDataset:
    """What is to be added, and what is told of it; an empty ``licence`` or ``source`` tells nothing."""

    name: str
    path: Path
    kind: str
    encoding: str = "utf-8"
    vectors: EmbeddingTable | None = None
    licence: str = ""
    source: str = ""


def add(home: Home, new: NewDataset, *, dry_run: bool) -> AddedDataset:
    """Parse a file and keep its rows under a name; see ``Registry.add_dataset``."""
    _check(new.name)
    rows, warnings = _read(new)
    before = _by_name(home, new.name)
    dataset = Dataset(
        name=new.name,
        kind=new.kind,
        digest=hashlib.sha256(to_parquet(rows)).hexdigest(),
        items=rows.num_rows,
        licence=new.licence,
        source=new.source or printable(str(new.path), _MOST),
        created_at=utc_now(),
        warnings=warnings,
    )
    if before is not None and _same(home.blobs, before, dataset, rows):
        dataset = replace(
            dataset,
            digest=before.digest,
            licence=new.licence or before.licence,
            source=new.source or before.source,
            created_at=before.created_at,
        )
    if not dry_run:
        _keep(home, before, dataset, rows)
    old = None if before is None else before.digest
    return AddedDataset(**asdict(dataset), replaced=old, dry_run=dry_run)


def _check(name: str) -> None:
    """Refuse what cannot be the name of a registered dataset."""
    if builtin.is_builtin(check_name(name, "name of a dataset")):
        raise InvalidRef(
            f"'{printable(name)}' cannot be registered: what is built in is called '{builtin.PREFIX}/…'",
            hint="choose another name",
        )


def _read(new: NewDataset) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the rows of the file, and what is suspicious about them."""
    from .datasets import parse, sections_of, with_vectors
    from .suspicions import suspicions

    rows = parse(new.path, new.kind, encoding=new.encoding)
    if new.vectors is not None:
        rows = with_vectors(rows, new.kind, new.vectors)
    sections = sections_of(new.path, encoding=new.encoding) if new.kind == "analogies" else ()
    return rows, suspicions(rows, new.kind, sections)


def _same(blobs: BlobStore, before: Dataset, now: Dataset, rows: pa.Table) -> bool:
    """Whether a name stood for these very rows before."""
    if before.kind != now.kind or before.items != now.items:
        return False
    if before.digest == now.digest:
        return True
    # The digest is that of a file, which another version of a library may have written differently.
    try:
        return bool(get_table(blobs, before.digest).equals(rows))
    except CorruptBlob:
        return False


def _keep(home: Home, before: Dataset | None, dataset: Dataset, rows: pa.Table) -> None:
    """Store the rows of a dataset and write it down where it is not as before; the log tells of it."""
    # Rows that are stored already are not stored again, unless they are damaged.
    if before is None or before.digest != dataset.digest or not home.blobs.intact(dataset.digest):
        put_table(home.blobs, rows)
    if dataset == before:
        return
    with home.database.write() as session:
        home.require(dataset.digest)
        row = session.scalar(select(DatasetRow).where(DatasetRow.name == dataset.name))
        if row is None:
            row = DatasetRow(name=dataset.name)
            session.add(row)
        row.kind, row.digest, row.items = dataset.kind, dataset.digest, dataset.items
        row.source, row.licence, row.warnings = dataset.source, dataset.licence, list(dataset.warnings)
        row.created_at = dataset.created_at
        catalog.log_event(
            session,
            home.actor,
            "dataset.added",
            dataset.name,
            kind=dataset.kind,
            digest=dataset.digest,
            items=dataset.items,
            licence=dataset.licence,
            source=dataset.source,
            warnings=len(dataset.warnings),
        )


def remove(home: Home, name: str) -> Dataset:
    """Forget a dataset; see ``Registry.remove_dataset``."""
    if builtin.is_builtin(name):
        kind = builtin.find(name).dataset.kind
        raise UsageError(
            f"'{printable(name)}' is built in, and cannot be removed",
            hint=f"it is left alone as soon as a dataset of kind {kind} is registered",
        )
    with home.database.write() as session:
        row = find(session, name)
        dataset = to_dataset(row)
        catalog.log_event(
            session, home.actor, "dataset.removed", name, kind=dataset.kind, digest=dataset.digest
        )
        session.delete(row)
    return dataset


def find(session: Session, name: str) -> DatasetRow:
    """Return the row of a registered dataset.

    Raises:
        DatasetNotFound: there is none of that name.
    """
    row = session.scalar(select(DatasetRow).where(DatasetRow.name == name))
    if row is None:
        known = session.scalars(select(DatasetRow.name)).all()
        hint = did_you_mean(name, known, "'embreg dataset add NAME FILE --kind KIND' registers one")
        raise DatasetNotFound(f"no dataset '{printable(name)}'", hint=hint)
    return row


def names(home: Home, name: str) -> tuple[str, ...]:
    """Return the names of the datasets that a name stands for; see ``Registry.dataset_names``."""
    if builtin.is_builtin(name):
        return tuple(found.dataset.name for found in builtin.named(name))
    with home.database.read() as session:
        recorded = select(RunRow.id).where(RunRow.dataset == name).limit(1)
        if session.scalar(recorded) is None:
            find(session, name)
    return (name,)


def every(session: Session, kind: str | None) -> tuple[Dataset, ...]:
    """Return the registered datasets by name: all, or those of one kind."""
    query = select(DatasetRow).order_by(DatasetRow.name)
    if kind is not None:
        query = query.where(DatasetRow.kind == kind)
    return tuple(to_dataset(row) for row in session.scalars(query))


def rows_of(home: Home, dataset: Dataset) -> pa.Table:
    """Return the rows of a dataset, registered or built in.

    Raises:
        CorruptBlob: they are gone or damaged.
    """
    built_in = builtin.rows_of(dataset.digest) if builtin.is_builtin(dataset.name) else None
    return get_table(home.blobs, dataset.digest) if built_in is None else built_in


def to_dataset(row: DatasetRow) -> Dataset:
    """Return the value of a dataset row."""
    return Dataset(
        name=row.name,
        kind=row.kind,
        digest=row.digest,
        items=row.items,
        source=row.source,
        licence=row.licence,
        warnings=tuple(row.warnings),
        created_at=row.created_at,
    )


def _by_name(home: Home, name: str) -> Dataset | None:
    with home.database.read() as session:
        row = session.scalar(select(DatasetRow).where(DatasetRow.name == name))
        return None if row is None else to_dataset(row)
