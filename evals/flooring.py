"""Drift with its floor: the comparison of two registered versions, its noise, and versions that are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..registry.errors import InputError, UsageError
from .config import best
from .floor import Floor, measure_floor
from .runner import Session, drift, make_params, suite_named
from .statistics import CONFIDENCE, at_confidence
from .suite import Better, Skipped

if TYPE_CHECKING:
    from ..registry.registry import Registry
    from ..registry.types import Progress, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorReport:
    """A drift run, and what of it is noise.

    Attributes:
        run: the drift.
        floors: the noise of its measures, in their order.
        alike: drift from the old version to each of those that ought to equal it.
    """

    run: RunRecord
    floors: tuple[Floor, ...]
    alike: tuple[RunRecord, ...]

    def furthest(self, floor: Floor) -> float | None:
        """Return the worst value among the versions that ought to be equal; None where there is none."""
        metric = suite_named(self.run.suite).metric(floor.metric)
        found = [
            m.value
            for run in self.alike
            for m in run.measures
            if (m.metric, dict(m.labels)) == (floor.metric, dict(floor.labels))
        ]
        if not found or metric is None:
            return None
        ideal = best(metric)
        if metric.better is Better.NEITHER or ideal is None:
            return max(found, key=abs)
        return min(found) if metric.better is Better.HIGHER else max(found)


def drift_floor(
    registry: Registry,
    old: str,
    new: str,
    *,
    like: Sequence[str] = (),
    params: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    force: bool = False,
    splits: int = 10,
    progress: Progress | None = None,
) -> FloorReport:
    """Measure drift from ``old`` to ``new``, and its floor; see ``floor``.

    Args:
        registry: where the versions are.
        old: the earlier version.
        new: the later one.
        like: versions that ought to equal ``old``, such as the same model trained from another seed.
        params: by suite.
        seed: of every random choice.
        confidence: of the noise, between 0 and 1, exclusive.
        force: measure the drift again.
        splits: pairs of random halves.
        progress: told what is being done.

    Raises:
        NotFound: no such version.
        InputError: there is too little to halve.
        UsageError: ``like`` names one of the two.
    """
    compared = {registry.resolve(ref).digest for ref in (old, new)}
    if itself := [ref for ref in like if registry.resolve(ref).digest in compared]:
        hint = "name versions that ought to equal the first, and are neither of the two"
        raise UsageError(f"{itself[0]} is one of the two that are compared", hint=hint)
    chosen: dict[str, Any] = {"params": params, "seed": seed, "confidence": confidence, "force": force}
    run = drift(registry, old, new, **chosen, progress=progress)
    alike = tuple(drift(registry, old, ref, **chosen, progress=progress) for ref in like)
    if run.status != "done":
        return FloorReport(run=run, floors=(), alike=alike)
    session = Session(registry=registry, seed=seed, confidence=confidence)
    suite = suite_named("drift")
    subject = session.subject(registry.resolve(new)).with_(baseline=session.subject(registry.resolve(old)))
    values = make_params(suite, (params or {}).get(suite.name, {}))
    try:
        with at_confidence(confidence):
            floors = measure_floor(suite, subject, values, seed=seed, splits=splits, progress=progress)
    except Skipped as skipped:
        raise InputError(f"no floor: {skipped}", hint="leave --floor out") from skipped
    return FloorReport(run=run, floors=floors, alike=alike)
