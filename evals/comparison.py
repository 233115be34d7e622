"""The values of a comparison: versions side by side, each held against the first of them.

``side_by_side`` makes them of runs, ``comparing`` of versions in a registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .figures import named

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.types import RunRecord

#: Values closer than this, relative to the larger, moved by rounding only.
_ROUNDING = 1e-6


class Mark(StrEnum):
    """What a test says of a version's value beside the first one's."""

    BETTER = "better"
    WORSE = "worse"
    #: Significant, of a metric that gets neither better nor worse.
    DIFFERENT = "different"
    #: Tested, and not significant.
    NONE = "none"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A version's value of one row, and how it differs from that of the first version.

    Attributes:
        value: None where it has none, or none that may be set beside the others; ``reason`` says why.
        low, high: the interval of the value, where one is known.
        n: how many items the value rests on.
        run: number of the run in its registry.
        reason: why there is no value, or no test.
        change: the value less the first version's; None where either is missing, and of the first itself.
        judged: ``better`` or ``worse`` by the metric's direction, whatever the test says; empty where nothing
            moved, or the metric has no direction.
        items: how many items were compared in pairs.
        p_value: two-sided, adjusted for all tests of the comparison; None where not tested.
        mark: None of the first version, and where there is nothing to compare.
    """

    ref: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    run: int | None = None
    reason: str = ""
    change: float | None = None
    judged: str = ""
    items: int | None = None
    p_value: float | None = None
    mark: Mark | None = None

    @property
    def moved(self) -> bool:
        """Whether the value differs from the first version's by more than rounding."""
        if self.value is None or self.change is None:
            return False
        return abs(self.change) > _ROUNDING * max(abs(self.value), abs(self.value - self.change))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"mark": None if self.mark is None else str(self.mark)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric of one suite on one dataset, with one set of labels; a cell for each version, in order."""

    suite: str
    dataset: str | None
    metric: str
    labels: Mapping[str, str]
    unit: str
    better: str
    cells: tuple[Cell, ...]

    @property
    def moved(self) -> bool:
        """Whether a version differs from the first one by more than rounding, or only some have a value."""
        return len({cell.value is None for cell in self.cells}) > 1 or any(cell.moved for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "suite": self.suite,
            "metric": self.metric,
            "labels": dict(self.labels),
            "dataset": self.dataset,
            "unit": self.unit,
            "better": self.better,
            "values": [cell.to_dict() for cell in self.cells],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A suite (on a dataset) that no version has a value of, and why."""

    suite: str
    dataset: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """The word for the whole of a version's run, where its suite gives one (drift)."""

    suite: str
    ref: str
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Versions side by side.

    Attributes:
        refs: the versions; the first is what the others are held against.
        rows: by suite, dataset and metric.
        alpha: at which a difference is marked.
        tests: how many the p-values are adjusted for.
        more: how many rows there are beyond those at a glance.
        verdicts: words for whole runs.
        left_out: what has no rows.
        runs: what was compared, by version.
    """

    refs: tuple[str, ...]
    rows: tuple[Row, ...]
    alpha: float
    tests: int
    more: int = 0
    verdicts: tuple[Spoken, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    runs: Mapping[str, tuple[RunRecord, ...]] = field(default_factory=dict, repr=False)

    def changed(self) -> Comparison:
        """Return the comparison with the rows that moved; its tests stay what they were."""
        return replace(self, rows=tuple(row for row in self.rows if row.moved))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "refs": list(self.refs),
            "alpha": self.alpha,
            "tests": self.tests,
            "more": self.more,
            "rows": [row.to_dict() for row in self.rows],
            "verdicts": [asdict(one) for one in self.verdicts],
            "left_out": [asdict(one) for one in self.left_out],
        }

    def to_arrow(self) -> pa.Table:
        """Return one row per value: what it is of (labels as text), then the columns of ``Cell``."""
        import pyarrow as pa

        texts = ("suite", "dataset", "metric", "labels", "unit", "better", "ref", "reason", "judged", "mark")
        whole, told = ("n", "run", "items"), ("value", "low", "high", "change", "p_value")
        fields = [(name, pa.string()) for name in texts[:7]]
        fields += [(name, pa.float64()) for name in told] + [(name, pa.int64()) for name in whole]
        fields += [(name, pa.string()) for name in texts[7:]]
        long = [
            {"suite": row.suite, "dataset": row.dataset, "metric": row.metric, "labels": named(row.labels),
             "unit": row.unit, "better": row.better} | cell.to_dict()
            for row in self.rows
            for cell in row.cells
        ]  # fmt: skip
        return pa.Table.from_pylist(long, schema=pa.schema(fields))
