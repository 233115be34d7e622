"""What pictures need beside what is recorded: norms down the table, some rows as points of a plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ..registry.errors import EmbregError
from .item_columns import numbers
from .norms import norms_by_rank
from .projection import beside, project, rows_to_draw
from .subject import Subject

if TYPE_CHECKING:
    from ..registry.registry import Registry
    from ..registry.types import RunRecord, Version
    from .norms import NormsByRank
    from .projection import Projection


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """Rows as points of a plane, and what is known of them.

    Attributes:
        now, before: of the version and of its baseline, on the same axes.
        labels: id -> class, of the registered labels.
        movement: id -> how far it moved.
        occurrence: id -> in how many neighbour lists it is.
    """

    now: Projection
    before: Projection | None
    labels: Mapping[str, str]
    movement: Mapping[str, float]
    occurrence: Mapping[str, float]


class Subjects:
    """The tables of a version and of its baseline, opened when they are first asked for."""

    def __init__(self, registry: Registry, version: Version, base: Version | None) -> None:
        self._registry = registry
        self._opened: dict[str, Subject] = {}
        self.version, self.base = version, base

    def _open(self, version: Version) -> Subject:
        if version.ref not in self._opened:
            self._opened[version.ref] = Subject(self._registry.table(version), ref=version.ref)
        return self._opened[version.ref]

    @property
    def new(self) -> Subject:
        """The version."""
        return self._open(self.version)

    @property
    def old(self) -> Subject | None:
        """The baseline; None where there is none."""
        return self._open(self.base) if self.base else None

    @property
    def old_if_there(self) -> Subject | None:
        """The baseline; None also where its bytes are gone: half a picture is more than none."""
        try:
            old = self.old
            return old if old is not None and old.valid.size >= 0 else None
        except EmbregError:
            return None


def norms(subjects: Subjects) -> tuple[NormsByRank, NormsByRank | None]:
    """Return the norms of a version down the table, and those of its baseline where they can be had."""
    old = subjects.old_if_there
    return norms_by_rank(subjects.new), norms_by_rank(old) if old else None


def map_of(
    registry: Registry,
    subjects: Subjects,
    runs: Sequence[RunRecord],
    tables: Mapping[str, pa.Table],
    besides: Sequence[str],
    how: str,
) -> Map:
    """Return some thousand rows as points.

    Args:
        registry: where labels are registered.
        subjects: the two versions.
        runs: of the version.
        tables: their items, by digest.
        besides: ids that are drawn in any case.
        how: rows become points: ``pca``, ``tsne`` or ``umap``.

    Raises:
        UsageError: ``how`` needs a package that is not installed.
    """
    new, old = subjects.new, subjects.old_if_there
    rows = rows_to_draw(new, besides)
    now = project(new, rows, how)
    of = {run.suite: tables[run.items] for run in runs if run.items is not None and run.items in tables}
    return Map(
        now=now,
        before=beside(new, rows, old, how) if old is not None else None,
        labels=_labels(registry, now.ids),
        movement=_column(of.get("drift"), "semantic_displacement", now.ids),
        occurrence=_column(of.get("hubness"), "k_occurrence", now.ids),
    )


def _labels(registry: Registry, ids: Sequence[str]) -> dict[str, str]:
    """Return the classes of ids by the registered labels, those of the first dataset that has any."""
    wanted = set(ids)
    for dataset in registry.datasets("labels"):
        rows = registry.dataset_rows(dataset)
        told = zip(rows.column("id").to_pylist(), rows.column("label").to_pylist(), strict=True)
        if found := {item: label for item, label in told if item in wanted}:
            return found
    return {}


def _column(items: pa.Table | None, column: str, ids: Sequence[str]) -> dict[str, float]:
    """Return a column of some items, by their ids; those without a finite value are left out."""
    if items is None or column not in items.column_names:
        return {}
    names = items.column("item").cast(pa.large_string())
    kept = items.filter(pc.is_in(names, value_set=pa.array(ids, pa.large_string())))
    told = zip(kept.column("item").to_pylist(), numbers(kept, column).tolist(), strict=True)
    return {item: value for item, value in told if math.isfinite(value)}
