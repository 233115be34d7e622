"""From a table to a stored index build, anew or by repairing the build before it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import health, indexes
from .blobs import BlobStore
from .diff import Health, Traits, unhealthy
from .errors import CorruptBlob, IndexFailed
from .indexes import Built
from .recall import RECALL_K, Recall, recall
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
        health: of the rows it was trained for, ``Health.to_dict``; repairs hand it on.
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
    health: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldBuild:
    """The build that a repair starts from."""

    faiss_digest: str
    ids_digest: str
    trained_rows: int | None
    recall: float | None
    health: Mapping[str, float] = field(default_factory=dict)


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
    fit = health.baseline(built, table).to_dict()
    return _store(built, recall(built, table), "build", version_digest, blobs, start, fit, note)


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
    """Do the named repair; build anew where that is the repair, or where it would not do.

    It would not do where what the build was trained for does not serve the new rows (``diff.unhealthy``), or
    where recall got worse by it: lower than that of the build it replaces by more than chance explains
    (one-sided 99% on the sampled queries) and by more than 0.002.
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
    before = Health.from_dict(old_build.health)
    try:
        built = load(old_build, metric, blobs)
        revision = indexes.revision(old(), new)
        reason = health.unfit(built, before, new, revision.fresh)
        if reason is None:
            indexes.revise(built, new, revision)
            reason = unhealthy(before, Health(imbalance=health.imbalance(built)))
    except (CorruptBlob, IndexFailed) as exc:
        return anew(f"'{action}' was not possible: {exc.message}")
    if reason is not None:
        return anew(f"'{action}' was not enough: {reason}")
    found = recall(built, new)
    if _worse(found, old_build):
        note = f"recall fell from {old_build.recall:.3f} to {found.value:.3f} by '{action}'" if found else ""
        return anew(note)
    return _store(built, found, str(action), version_digest, blobs, start, old_build.health)


def _worse(found: Recall | None, old: OldBuild) -> bool:
    if found is None or old.recall is None:
        return False
    chance = _Z * math.sqrt(2) * found.error
    return found.value < old.recall - max(_NOISE_FLOOR, chance)


def load(old: OldBuild, metric: str, blobs: BlobStore) -> Built:
    """Read a stored build, whose bytes are checked before FAISS, which trusts them, sees them.

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
    fit: Mapping[str, float],
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
        recall_k=found.k if found else RECALL_K,
        recall_queries=found.queries if found else 0,
        duration_s=time.perf_counter() - start,
        note=note,
        health=fit,
    )
