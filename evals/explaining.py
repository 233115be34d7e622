"""What each check of a gate would do, before anything is measured: the judgement of ``gate``, laid open.

Only what is recorded is read. Where the candidate was not measured, the baseline's own value stands for what
it will be held against; how small a loss a test can see is not known before there are items to pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry.errors import printable
from .config import best, doubts
from .discovery import discover
from .evidence import Missing, comparable, measure_of, run_labels
from .gate import Case, asked, examine
from .gating import ask
from .reference import tested
from .runner import UNMEASURED
from .suite import Better, Need

if TYPE_CHECKING:
    from pathlib import Path

    from ..registry.registry import Registry
    from ..registry.types import RunRecord
    from .config import Config
    from .suite import Suite

#: What is said of a check that compares with a baseline, of a version that was not measured.
LATER = "unknown until measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A value from which a check fails.

    Attributes:
        side: ``below`` or ``above``: values beyond it on that side fail.
        tested: whether they fail only if a test calls the loss significant.
    """

    side: str
    value: float
    tested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A check on one dataset, and what it would do.

    Attributes:
        labels: of the measure as far as they are known, with its dataset and index.
        bound: what is asked, for people.
        how: how that is judged: by a hard bound, by a test item by item, by size only.
        baseline: the recorded value of the baseline; None where there is none.
        limits: from where it fails; none where that hangs on a baseline that is not recorded.
        detectable: the smallest loss that its test can see; None where there is no test, or none is known.
        unknown: what is not known yet and why; empty where everything is.
        line: of the check in its file.
    """

    metric: str
    labels: Mapping[str, str]
    bound: str
    how: str
    baseline: float | None
    limits: tuple[Limit, ...]
    detectable: float | None
    unknown: str
    severity: str
    on_missing: str
    line: int | None
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The checks of a configuration, as they stand to a version and its baseline.

    Attributes:
        config: path of the file.
        doubts: what the file says and hardly means.
    """

    ref: str
    baseline: str | None
    config: str
    checks: tuple[Explained, ...]
    doubts: tuple[str, ...]


def explain(
    registry: Registry,
    ref: str,
    *,
    config: Config | Path | str | None,
    baseline: str | None = None,
    no_baseline: bool = False,
    seed: int = 0,
) -> Explanation:
    """Say what a gate would do; nothing is measured, judged or written down.

    Args:
        registry: where the version is.
        ref: the version.
        config: as for ``gate``.
        baseline: likewise.
        no_baseline: likewise.
        seed: of the runs that are looked for.

    Raises:
        ConfigError, NotFound, UsageError: as ``gate``.
    """
    import numpy as np

    known = ask(registry, ref, config, baseline=baseline, no_baseline=no_baseline)
    suites, checks = discover(), known.config.gates
    runs, others = known.runs(registry, seed=seed, recorded=True)
    cases = examine(checks, suites, runs, others, registry.stored_table, np.random.default_rng(seed))
    tests = sum(case.p is not None for case in cases)
    return Explanation(
        ref=known.version.ref,
        baseline=known.baseline.ref if known.baseline else None,
        config=str(known.config.path),
        checks=tuple(_explained(case, suites[case.check.suite], others, tests) for case in cases),
        doubts=doubts(known.config, suites),
    )


def _explained(case: Case, suite: Suite, others: Sequence[RunRecord], tests: int) -> Explained:
    check, labels = case.check, dict(case.labels)
    if case.run is not None:
        labels |= run_labels(case.run, suite)
    against = _against(case, suite, others)
    value = None if isinstance(against, Missing) else against
    return Explained(
        metric=check.metric,
        labels=labels,
        bound=asked(check),
        how=_how(case, suite, tests),
        baseline=value,
        limits=_limits(case, suite, value),
        detectable=case.detectable,
        unknown=_unknown(case, against),
        severity=check.severity,
        on_missing=check.on_missing,
        line=check.line,
        unit=case.metric.unit,
    )


def _against(case: Case, suite: Suite, others: Sequence[RunRecord]) -> float | Missing:
    """Return the value that the candidate is held against, whether or not it was measured itself."""
    if case.reference is not None:
        return case.reference if isinstance(case.reference, Missing) else case.reference.value
    if Need.BASELINE in suite.needs:
        ideal = best(case.metric) if case.check.tolerance is not None else None
        return Missing("") if ideal is None else ideal
    if case.run is None:
        return case.measure if isinstance(case.measure, Missing) else Missing("")
    other = comparable(case.run, others)
    measure = other if isinstance(other, Missing) else measure_of(other, case.check, case.metric)
    return measure if isinstance(measure, Missing) else measure.value


def _limits(case: Case, suite: Suite, baseline: float | None) -> tuple[Limit, ...]:
    check = case.check
    limits = [Limit(side="below", value=check.min)] if check.min is not None else []
    limits += [Limit(side="above", value=check.max)] if check.max is not None else []
    if check.tolerance is not None and baseline is not None:
        room, lower = check.tolerance.room(baseline), case.metric.better is Better.LOWER
        beyond = baseline + room if lower else baseline - room
        limits.append(Limit(side="above" if lower else "below", value=beyond, tested=_is_tested(case, suite)))
    return tuple(limits)


def _is_tested(case: Case, suite: Suite) -> bool:
    """Whether a loss must be significant, or must be once there are items to pair."""
    if not isinstance(case.measure, Missing):
        return case.p is not None
    itemized = case.metric.item is not None or case.metric.statistic is not None
    return itemized and Need.BASELINE not in suite.needs


def _how(case: Case, suite: Suite, tests: int) -> str:
    check = case.check
    told = ["hard bound"] if check.min is not None or check.max is not None else []
    if check.tolerance is None:
        return told[0]
    if case.pairs is not None and case.p is not None:
        corrected = f", Holm over {tests} tests" if tests > 1 else ""
        told.append(f"{case.pairs.test} over {len(case.pairs):,} items at {check.alpha:g}{corrected}")
    elif case.untested:
        told.append(f"by size only: {case.untested}")
    else:
        told.append(tested(case.metric, suite))
    return "; ".join(told)


def _unknown(case: Case, against: float | Missing) -> str:
    """Return what is to be said of what nobody measured yet."""
    if isinstance(case.measure, Missing):
        if case.run is None or case.run.reason != UNMEASURED:
            return f"no value: {printable(case.measure.reason)}"
        return LATER if case.check.tolerance is not None else ""
    if case.check.tolerance is not None and isinstance(against, Missing):
        return f"not compared: {printable(against.reason)}"
    return ""
