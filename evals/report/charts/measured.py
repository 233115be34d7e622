"""What a picture of a suite is made from: a run, and its items where they are at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

    from ....registry.types import MeasureRecord, RunRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One suite on one version.

    Attributes:
        run: the run, done.
        items: its per-item table; None where it kept none or nobody opened it.
    """

    run: RunRecord
    items: pa.Table | None = None

    def measure(self, metric: str, **labels: str) -> MeasureRecord | None:
        """Return the measure of a metric with exactly these labels; None where there is none."""
        found = (m for m in self.run.measures if m.metric == metric and dict(m.labels) == labels)
        return next(found, None)

    def column(self, name: str, kind: str) -> Floats:
        """Return a column of the items of one kind, as ``anisotropy`` has them; empty without items."""
        if self.items is None:
            return np.zeros(0)
        kinds = np.array(self.items.column("kind").to_pylist(), dtype=object)
        found: Floats = self.items.column(name).to_numpy()[kinds == kind]
        return found


def ends(measure: MeasureRecord) -> dict[str, float]:
    """Return the interval of a measure as fields of a picture's data; none where it has none."""
    if measure.low is None or measure.high is None:
        return {}
    return {"low": round(measure.low, 5), "high": round(measure.high, 5)}
