"""From a table to a stored index build, anew or by repairing the build before it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import indexes
from .blobs import BlobStore
from .diff import Traits
from .errors import CorruptBlob, IndexFailed
from .indexes import Built, Recall
from .tables import EmbeddingTable
from .types import Progress, Repair

#: One-sided 99% quantile of the normal distribution: how much of a drop in recall is put down to chance.
_Z = 2.33
_NOISE_FLOOR = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBuild:
    """A build whose blobs are stored, not yet in the database.

    Attributes:
        method: ``build``, ``add`` or ``update``: how it came about.
        note: why another method than the repair asked for was taken; empty if it was that one.
    """

    method: str
    version_digest: str
    faiss_digest: str
    ids_digest: str
    nbytes: int
    rows: int
    traits: Traits
    recall: float | None
    recall_k: int
    recall_queries: int
    duration_s: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldBuild:
    """The build that a repair starts from."""

    faiss_digest: str
    ids_digest: str
    trained_rows: int | None
    recall: float | None


def build(
    table: EmbeddingTable,
    version_digest: str,
    *,
    factory: str,
    search: str,
    metric: str,
    blobs: BlobStore,
    progress: Progress | None = None,
    note: str = "",
) -> NewBuild:
    """Train and fill an index of a whole table, measure its recall, store it."""
    start = time.perf_counter()
    built = indexes.build(table, factory, metric, search=search, progress=progress)
    found = indexes.recall(built, table)
    return _store(built, found, "build", version_digest, blobs, start, note)


def repair(
    action: Repair,
    old_build: OldBuild,
    old: Callable[[], EmbeddingTable],
    new: EmbeddingTable,
    version_digest: str,
    *,
    factory: str,
    search: str,
    metric: str,
    blobs: BlobStore,
    progress: Progress | None = None,
) -> NewBuild:
    """Do the named repair; build anew where that is the repair, or where recall got worse by it.

    Worse means: lower than the recall of the build it replaces by more than chance explains (one-sided 99%
    on the sampled queries) and by more than 0.002.
    """

    def anew(note: str = "") -> NewBuild:
        return build(
            new,
            version_digest,
            factory=factory,
            search=search,
            metric=metric,
            blobs=blobs,
            progress=progress,
            note=note,
        )

    if action not in (Repair.ADD, Repair.UPDATE):
        return anew()
    start = time.perf_counter()
    try:
        built = load(old_build, metric, blobs)
        indexes.revise(built, old(), new)
    except (CorruptBlob, IndexFailed) as exc:
        return anew(f"'{action}' was not possible: {exc.message}")
    found = indexes.recall(built, new)
    if _worse(found, old_build):
        note = f"recall fell from {old_build.recall:.3f} to {found.value:.3f} by '{action}'" if found else ""
        return anew(note)
    return _store(built, found, str(action), version_digest, blobs, start)


def _worse(found: Recall | None, old: OldBuild) -> bool:
    if found is None or old.recall is None:
        return False
    chance = _Z * math.sqrt(2) * found.error
    return found.value < old.recall - max(_NOISE_FLOOR, chance)


def load(old: OldBuild, metric: str, blobs: BlobStore) -> Built:
    """Read a stored build.

    Raises:
        CorruptBlob: a blob is missing or damaged.
        IndexFailed: FAISS cannot read the file.
    """
    slots = indexes.parse_slots(blobs.read(old.ids_digest))
    return indexes.read(blobs.path(old.faiss_digest), slots, metric, old.trained_rows)


def _store(
    built: Built,
    found: Recall | None,
    method: str,
    version_digest: str,
    blobs: BlobStore,
    start: float,
    note: str = "",
) -> NewBuild:
    stored = blobs.put_file(lambda path: indexes.write(built, path))
    ids = blobs.put(indexes.serialise_slots(built.slots))
    return NewBuild(
        method=method,
        version_digest=version_digest,
        faiss_digest=stored.digest,
        ids_digest=ids.digest,
        nbytes=stored.nbytes + ids.nbytes,
        rows=built.rows,
        traits=built.traits,
        recall=found.value if found else None,
        recall_k=found.k if found else indexes.RECALL_K,
        recall_queries=found.queries if found else 0,
        duration_s=time.perf_counter() - start,
        note=note,
    )
