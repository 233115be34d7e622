"""From a stream of row batches to stored parts: one pass, bounded memory, writing overlapped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .blobs import BlobStore
from .errors import InputError, printable
from .manifest import Manifest, PartEntry
from .tables import FINGERPRINT, ID, VECTOR, assemble, load_part, normalised, part_rows, serialise
from .types import Progress, Space
from .vectors import Batch, SetHash, Vectors, fingerprints, hash_ids, row_norms

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What was stored: the manifest, statistics of the rows, and what a person should know."""

    manifest: Manifest
    statistics: dict[str, Any]
    warnings: tuple[str, ...]


def ingest(
    batches: Iterable[Batch],
    *,
    space: Space,
    blobs: BlobStore,
    storage: str = "arrow",
    on_nonfinite: str = "fail",
    source: str = "source",
    expected_rows: int | None = None,
    progress: Progress | None = None,
) -> Ingested:
    """Store rows as parts and return the manifest that binds them; nothing is published yet.

    Args:
        batches: the rows, in order; all with ids or all without (then they are numbered).
        space: as declared; ``normalised`` is measured here and replaced.
        blobs: where the parts go.
        storage: ``arrow`` or ``parquet``.
        on_nonfinite: ``fail``, or ``drop`` the rows that hold NaN or infinity.
        source: how to call the source in a message.
        expected_rows: for progress only.
        progress: told after each batch.

    Raises:
        InputError: duplicate ids, rows that are not finite, no rows at all.
        StorageError: the disk refused.
    """
    intake = _Intake(source=source, on_nonfinite=on_nonfinite, dtype=space.dtype)
    checked = intake.rows(batches, progress, expected_rows)
    parts = list(_store_parts(_assemble_parts(checked, space, source), blobs, storage))
    if not parts:
        raise InputError(f"{source}: no rows", hint="a version holds at least one vector")
    manifest = Manifest(
        space=replace(space, normalised=intake.normalised),
        storage=storage,
        parts=tuple(entry for entry, _ in parts),
        content=intake.content.hexdigest(),
        attributes=parts[0][1],
    )
    intake.check_unique(lambda rows: _ids_at(manifest, blobs, rows))
    return Ingested(manifest=manifest, statistics=intake.statistics(), warnings=intake.warnings())


def _store_parts(
    parts: Iterable[pa.Table], blobs: BlobStore, storage: str
) -> Iterator[tuple[PartEntry, dict[str, str]]]:
    """Write each part while the next one fills: at most one is in flight."""

    def store(part: pa.Table) -> tuple[PartEntry, dict[str, str]]:
        blob = blobs.put(serialise(part, storage))
        extra = [f for f in part.schema if f.name not in (ID, VECTOR, FINGERPRINT)]
        entry = PartEntry(digest=blob.digest, rows=part.num_rows, nbytes=blob.nbytes)
        return entry, {f.name: str(f.type) for f in extra}

    with ThreadPoolExecutor(max_workers=1) as writer:
        flying: Future[tuple[PartEntry, dict[str, str]]] | None = None
        for part in parts:
            if flying is not None:
                yield flying.result()
            flying = writer.submit(store, part)
            del part
        if flying is not None:
            yield flying.result()


def _assemble_parts(rows: Iterable[_Rows], space: Space, source: str) -> Iterator[pa.Table]:
    """Cut checked rows into full parts, the last one perhaps short.

    Two buffers take turns: when a part is asked for, the one before the last is on disk.
    """
    size = part_rows(space.dim, space.dtype)
    pieces: list[_Rows] = []
    buffer, spare = (np.empty((size, space.dim), dtype=space.dtype) for _ in range(2))
    filled = 0
    for batch in rows:
        start = 0
        while start < len(batch.ids):
            length = min(size - filled, len(batch.ids) - start)
            piece = batch.slice(start, length)
            buffer[filled : filled + length] = piece.vectors
            piece.vectors = buffer[filled : filled + length]
            pieces.append(piece)
            start += length
            filled += length
            if filled == size:
                yield _join(pieces, buffer, source)
                pieces, filled = [], 0
                buffer, spare = spare, buffer
    if pieces:
        yield _join(pieces, buffer[:filled], source)


def _join(pieces: list[_Rows], vectors: Vectors, source: str) -> pa.Table:
    extra = [piece.attributes for piece in pieces if piece.attributes is not None]
    try:
        attributes = pa.concat_tables(extra) if extra else None
    except pa.ArrowInvalid as exc:
        raise InputError(f"{source}: columns change along the way: {printable(str(exc))}") from exc
    ids = pa.concat_arrays([piece.ids for piece in pieces])
    return assemble(ids, vectors, np.concatenate([piece.prints for piece in pieces]), attributes)


def _ids_at(manifest: Manifest, blobs: BlobStore, rows: NDArray[np.int64]) -> list[str]:
    """Read some ids back from the stored parts."""
    named: list[str] = []
    start = 0
    for part in manifest.parts:
        here = rows[(rows >= start) & (rows < start + part.rows)] - start
        if here.size:
            table = load_part(blobs.path(part.digest), manifest.storage, part.digest)
            named += table.column(ID).take(pa.array(here)).to_pylist()
        start += part.rows
    return named


@dataclass(slots=True)
class _Rows:
    """Checked rows on their way into a part."""

    ids: pa.Array
    vectors: Vectors
    prints: NDArray[np.uint64]
    attributes: pa.Table | None

    def slice(self, start: int, length: int) -> _Rows:
        stop = start + length
        return _Rows(
            self.ids.slice(start, length),
            self.vectors[start:stop],
            self.prints[start:stop],
            None if self.attributes is None else self.attributes.slice(start, length),
        )


@dataclass(slots=True)
class _Intake:
    """Checks rows, and keeps what must be known of all of them."""

    source: str
    on_nonfinite: str
    dtype: str
    seen: int = 0
    kept: int = 0
    dropped: list[str] = field(default_factory=list)
    dropped_count: int = 0
    zero_rows: int = 0
    content: SetHash = field(default_factory=SetHash)
    id_hashes: list[NDArray[np.uint64]] = field(default_factory=list)
    norm_sum: float = 0.0
    norm_squares: float = 0.0
    norm_min: float = math.inf
    norm_max: float = 0.0
    off_unit: bool = False

    def rows(
        self, batches: Iterable[Batch], progress: Progress | None, expected: int | None
    ) -> Iterator[_Rows]:
        for batch in batches:
            checked = self._check(batch)
            if progress is not None:
                progress("rows", self.seen, expected)
            if len(checked.ids):
                yield checked

    def _check(self, batch: Batch) -> _Rows:
        vectors, start = batch.vectors, self.seen
        count = len(vectors)
        if batch.ids is None:
            ids = pa.array([str(i) for i in range(start, start + count)], pa.large_string())
        else:
            ids = batch.ids.cast(pa.large_string())
        extra = None if batch.attributes is None else pa.Table.from_batches([batch.attributes])
        self.seen += count
        norms = row_norms(vectors)
        finite = np.isfinite(norms)
        if not finite.all():
            ids, vectors, extra, norms = self._drop(ids, vectors, extra, norms, finite, start)
        self._remember(norms)
        prints = fingerprints(vectors)
        names = ids.to_pylist()
        self.content.add(names, prints)
        self.id_hashes.append(hash_ids(names))
        self.kept += len(names)
        return _Rows(ids, vectors, prints, extra)

    def _drop(
        self,
        ids: pa.Array,
        vectors: Vectors,
        extra: pa.Table | None,
        norms: NDArray[np.float64],
        finite: NDArray[np.bool_],
        start: int,
    ) -> tuple[pa.Array, Vectors, pa.Table | None, NDArray[np.float64]]:
        bad = np.flatnonzero(~finite)
        named = [printable(i, 60) for i in ids.take(pa.array(bad[:_NAMED])).to_pylist()]
        if self.on_nonfinite == "fail":
            column = int(np.flatnonzero(~np.isfinite(vectors[bad[0]]))[0])
            raise InputError(
                f"{self.source}: row {start + int(bad[0])}, dimension {column}: NaN or infinity"
                f" (ids: {', '.join(named)}{' …' if len(bad) > _NAMED else ''})",
                hint="mend the source, or leave such rows out with --on-nonfinite drop",
            )
        self.dropped_count += len(bad)
        self.dropped += named[: _NAMED - len(self.dropped)]
        mask = pa.array(finite)
        kept = None if extra is None else extra.filter(mask)
        return ids.filter(mask), np.ascontiguousarray(vectors[finite]), kept, norms[finite]

    def _remember(self, norms: NDArray[np.float64]) -> None:
        if not norms.size:
            return
        self.zero_rows += int(np.count_nonzero(norms == 0))
        self.norm_sum += float(norms.sum())
        self.norm_squares += float((norms**2).sum())
        self.norm_min = min(self.norm_min, float(norms.min()))
        self.norm_max = max(self.norm_max, float(norms.max()))
        self.off_unit |= bool(norms.any()) and not normalised(norms, self.dtype)

    @property
    def normalised(self) -> bool:
        return not self.off_unit and self.zero_rows < self.kept

    def check_unique(self, ids_at: Callable[[NDArray[np.int64]], list[str]]) -> None:
        """Refuse an id that occurs twice; ids of one hash are read back to tell chance from fault."""
        hashes = np.concatenate(self.id_hashes)
        self.id_hashes.clear()
        ordered = np.sort(hashes)
        twice_hashed = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        if not len(twice_hashed):
            return
        rows = np.flatnonzero(np.isin(hashes, twice_hashed))
        first: dict[str, int] = {}
        twice: list[tuple[str, int, int]] = []
        for name, row in zip(ids_at(rows), rows.tolist(), strict=True):
            if first.setdefault(name, row) != row:
                twice.append((name, first[name], row))
        if twice:
            told = [f"'{printable(i, 60)}' in rows {a} and {b}" for i, a, b in twice[:_NAMED]]
            raise InputError(
                f"{self.source}: {len(twice):,} duplicate ids: {', '.join(told)}"
                f"{' …' if len(twice) > _NAMED else ''}",
                hint="every row needs an id of its own",
            )

    def statistics(self) -> dict[str, Any]:
        mean = self.norm_sum / self.kept
        variance = max(0.0, self.norm_squares / self.kept - mean * mean)
        return {
            "norm_mean": mean,
            "norm_std": math.sqrt(variance),
            "norm_min": self.norm_min,
            "norm_max": self.norm_max,
            "zero_rows": self.zero_rows,
            "dropped_rows": self.dropped_count,
        }

    def warnings(self) -> tuple[str, ...]:
        told = []
        if self.dropped_count:
            told.append(
                f"{self.dropped_count:,} rows with NaN or infinity were left out:"
                f" {', '.join(self.dropped)}{' …' if self.dropped_count > _NAMED else ''}"
            )
        if self.zero_rows:
            told.append(f"{self.zero_rows:,} rows are all zero: they take no part in statistics")
        return tuple(told)
