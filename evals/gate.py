"""The gate: checks, a candidate's runs and a baseline's, and whether the one may follow the other.

Pure judgement: what must be measured is measured before, and what follows from the verdict is done
elsewhere. It fails closed: a value that is missing, undefined or not comparable fails its check.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..registry.errors import UnknownChoice, printable
from .evidence import (
    Items,
    Missing,
    Pairs,
    Reference,
    detectable,
    measure_of,
    pairs_of,
    reference_of,
    run_labels,
    runs_of,
)
from .figures import change, named, number, p_value
from .statistics import holm, permutations_for
from .suite import Better

if TYPE_CHECKING:
    from ..registry.types import MeasureRecord, RunRecord
    from .config import Check
    from .suite import Metric, Suite


class Outcome(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warned"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """A check, judged.

    Attributes:
        metric: ``SUITE.METRIC`` as the check names it.
        labels: of the measure that was judged, and its ``dataset``; as asked where there is none.
        value: the candidate's; None where missing.
        baseline: the baseline's, where the check compares.
        bound: what was asked, for people: ``>= 0.8 and drop <= 0.01``.
        reason: the cause of the outcome in one line.
        p_value: that the drop is chance, adjusted for the other tests of the gate; None untested.
        detectable: the smallest loss that this check's test would find with a power of .8; None untested.
        n: how many items the value rests on.
        low, high: the interval of the value, where one is known.
        unit: of the value and the baseline.
        nth: which of the checks was judged, from 0: one check has a result for each dataset and index.
        line: where the check stands in its file; None where that is not known.
    """

    metric: str
    labels: Mapping[str, str]
    value: float | None
    baseline: float | None
    bound: str
    outcome: Outcome
    reason: str
    severity: str = "critical"
    p_value: float | None = None
    detectable: float | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    nth: int = 0
    line: int | None = None

    @property
    def told(self) -> str:
        """The check and its reason in one line: ``METRIC (LABELS): REASON``."""
        labels = f" ({named(self.labels)})" if self.labels else ""
        return f"{printable(self.metric)}{labels}: {printable(self.reason, 500)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "metric": self.metric,
            "labels": dict(self.labels),
            "value": self.value,
            "baseline": self.baseline,
            "bound": self.bound,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "severity": self.severity,
            "p_value": self.p_value,
            "detectable": self.detectable,
            "n": self.n,
            "low": self.low,
            "high": self.high,
            "line": self.line,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says of version ``ref``, compared with ``baseline`` where there is one."""

    ref: str
    baseline: str | None
    checks: tuple[CheckResult, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether something was judged and nothing failed: a gate that skipped every check says nothing."""
        counts = self.counts
        return not counts[Outcome.FAILED] and len(self.checks) > counts[Outcome.SKIPPED]

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many checks came to each outcome."""
        counted = Counter(check.outcome for check in self.checks)
        return {outcome: counted[outcome] for outcome in Outcome}

    def of(self, outcome: Outcome) -> tuple[CheckResult, ...]:
        """Return the checks that came to an outcome."""
        return tuple(check for check in self.checks if check.outcome is outcome)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ref": self.ref,
            "baseline": self.baseline,
            "passed": self.passed,
            "counts": {str(outcome): count for outcome, count in self.counts.items()},
            "failures": [check.told for check in self.of(Outcome.FAILED)],
            "warnings": [check.told for check in self.of(Outcome.WARNED)],
            "checks": [check.to_dict() for check in self.checks],
        }


def judge(
    checks: Sequence[Check],
    suites: Mapping[str, Suite],
    candidate: Sequence[RunRecord],
    baseline: Sequence[RunRecord],
    items: Items,
    rng: np.random.Generator,
) -> tuple[CheckResult, ...]:
    """Judge checks on what was measured; one result per check and dataset, in the checks' order.

    A check fails when a hard bound is broken, or when its metric is worse than the baseline's by more
    than the tolerance *and* the loss is significant at the check's alpha: paired item by item, Holm
    across all tests of the gate. Where no test is possible the size of the loss alone decides, and
    the reason says so. What has no comparable value fails, unless the check says to skip it.

    Args:
        checks: what must hold; a label ``dataset`` picks a dataset, the others a measure.
        suites: by name.
        candidate: runs of the version that is judged.
        baseline: runs of the version it is compared with; empty where there is none.
        items: opens the per-item table of a digest (``item`` and a column per scored metric).
        rng: for the permutation tests.

    Raises:
        UnknownChoice: a check of a suite or metric that does not exist.
    """
    return tuple(_judged(case) for case in examine(checks, suites, candidate, baseline, items, rng))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A check on one dataset, and what was found for it, before it is judged.

    Attributes:
        nth: which of the checks, from 0.
        labels: of the measure, as in ``CheckResult``.
        run: the candidate's; None where none is meant.
        reference: the baseline's value; None where the check does not compare.
        pairs: the items that both versions scored; None where they are not tested.
        untested: why they are not, where the check compares.
        p: that the loss is chance, adjusted for the other tests.
        detectable: the smallest loss that the test would find; None where there is no test.
    """

    check: Check
    nth: int = 0
    metric: Metric
    labels: Mapping[str, str]
    measure: MeasureRecord | Missing
    run: RunRecord | None = None
    reference: Reference | Missing | None = None
    pairs: Pairs | None = None
    untested: str = ""
    p: float | None = None
    detectable: float | None = None


def examine(
    checks: Sequence[Check],
    suites: Mapping[str, Suite],
    candidate: Sequence[RunRecord],
    baseline: Sequence[RunRecord],
    items: Items,
    rng: np.random.Generator,
) -> tuple[Case, ...]:
    """Return what ``judge`` judges: for each check and dataset the value, its counterpart, their test."""
    found = (_cases(check, suites, candidate, baseline, items) for check in checks)
    cases = [replace(case, nth=nth) for nth, own in enumerate(found) for case in own]
    return tuple(_tested(cases, rng))


def _cases(
    check: Check,
    suites: Mapping[str, Suite],
    candidate: Sequence[RunRecord],
    baseline: Sequence[RunRecord],
    items: Items,
) -> list[Case]:
    if check.suite not in suites:
        raise UnknownChoice("suite", check.suite, suites)
    suite = suites[check.suite]
    metric = suite.metric(check.name)
    if metric is None:
        raise UnknownChoice(f"metric of {suite.name}", check.name, [m.name for m in suite.metrics])
    runs = runs_of(check, suite, candidate)
    if isinstance(runs, Missing):
        return [Case(check=check, metric=metric, labels=check.labels, measure=runs)]
    return [_case(check, suite, metric, run, baseline, items) for run in runs]


def _case(
    check: Check,
    suite: Suite,
    metric: Metric,
    run: RunRecord,
    baseline: Sequence[RunRecord],
    items: Items,
) -> Case:
    measure = measure_of(run, check, metric)
    labels = dict(check.labels if isinstance(measure, Missing) else measure.labels) | run_labels(run, suite)
    case = Case(check=check, metric=metric, labels=labels, measure=measure, run=run)
    if check.tolerance is None or isinstance(measure, Missing):
        return case
    reference = reference_of(run, measure, suite, baseline)
    case = replace(case, reference=reference)
    if isinstance(reference, Missing):
        return case
    pairs = pairs_of(run, measure, reference, metric, items)
    if isinstance(pairs, Missing):
        return replace(case, untested=pairs.reason)
    return replace(case, pairs=pairs)


def _tested(cases: Sequence[Case], rng: np.random.Generator) -> list[Case]:
    """Return the cases with their adjusted p-values, where a test can say anything.

    Holm multiplies p by up to the number of tests. A test that could not come below its alpha
    whatever the items did would let every loss through, so it is not made.
    """
    tests = sum(case.pairs is not None for case in cases)
    cases = [_tried(case, tests, rng) for case in cases]
    adjusted = iter(holm([case.p for case in cases if case.p is not None]))
    return [case if case.p is None else replace(case, p=float(next(adjusted))) for case in cases]


def _tried(case: Case, tests: int, rng: np.random.Generator) -> Case:
    if case.pairs is None:
        return case
    alpha = case.check.alpha
    permutations = permutations_for(tests, alpha)
    if tests * case.pairs.smallest_p(permutations) > alpha:
        return replace(case, untested=f"{len(case.pairs):,} items can show no loss at {alpha:g}")
    if not case.pairs.testable:
        return replace(case, untested="undefined once some of the items are left out")
    p = case.pairs.p(_worse(case.metric), rng, permutations)
    return replace(case, p=p, detectable=detectable(case.pairs, alpha / tests))


def _worse(metric: Metric) -> Literal["lower", "higher"]:
    return "higher" if metric.better is Better.LOWER else "lower"


def _judged(case: Case) -> CheckResult:
    check, measure, reference = case.check, case.measure, case.reference
    result = CheckResult(
        metric=check.metric,
        labels=case.labels,
        value=None,
        baseline=reference.value if isinstance(reference, Reference) else None,
        bound=asked(check),
        outcome=Outcome.PASSED,
        reason="",
        severity=check.severity,
        p_value=case.p,
        detectable=case.detectable,
        unit=case.metric.unit,
        nth=case.nth,
        line=check.line,
    )
    if isinstance(measure, Missing):
        outcome = Outcome.SKIPPED if check.on_missing == "skip" else _fault(check)
        return replace(result, outcome=outcome, reason=f"no value: {measure.reason}")
    result = replace(result, value=measure.value, n=measure.n, low=measure.low, high=measure.high)
    faults = _broken_bounds(check, case.metric, measure.value)
    notes: list[str] = []
    if reference is not None:
        failed, told = _against(case, measure.value, reference)
        (faults if failed else notes).append(told)
    if faults:
        return replace(result, outcome=_fault(check), reason="; ".join(faults + notes))
    unjudged = isinstance(reference, Missing) and check.min is None and check.max is None
    outcome = Outcome.SKIPPED if unjudged else Outcome.PASSED
    return replace(result, outcome=outcome, reason="; ".join(notes) or "within bounds")


def _fault(check: Check) -> Outcome:
    return Outcome.WARNED if check.severity == "warning" else Outcome.FAILED


def _broken_bounds(check: Check, metric: Metric, value: float) -> list[str]:
    told = number(value, metric.unit)
    broken = []
    if check.min is not None and value < check.min:
        broken.append(f"{told} is below {check.min:.6g}")
    if check.max is not None and value > check.max:
        broken.append(f"{told} is above {check.max:.6g}")
    return broken


def _against(case: Case, value: float, reference: Reference | Missing) -> tuple[bool, str]:
    """Return whether the comparison with the baseline fails, and what is to say about it."""
    check, unit = case.check, case.metric.unit
    if isinstance(reference, Missing):
        return check.on_missing == "fail", f"not compared: {reference.reason}"
    moved = value - reference.value
    loss = moved if case.metric.better is Better.LOWER else -moved
    told = f"{change(moved, unit)} from {number(reference.value, unit)}"
    if check.tolerance is None or not check.tolerance.exceeded(loss, reference.value):
        return False, told + _seen(case)
    told += f", beyond {check.tolerance}"
    if case.p is None or case.pairs is None:
        return True, f"{told}; no paired test: {case.untested}"
    told += f"; {p_value(case.p)} over {len(case.pairs):,} items"
    if case.p <= check.alpha:
        return True, told
    # What only one version scored took no part in the test, so the test cannot excuse a loss that lies there.
    shared = case.pairs.change * (1 if case.metric.better is Better.LOWER else -1)
    if math.isnan(shared) or check.tolerance.exceeded(loss - shared, reference.value):
        return True, f"{told}, but the loss lies in items that only one version scored"
    return False, f"{told}, not significant at {check.alpha:g}{_seen(case)}"


def _seen(case: Case) -> str:
    """Return how large a loss had to be to be found, where a test was made."""
    if case.detectable is None:
        return ""
    loss = "rise" if case.metric.better is Better.LOWER else "drop"
    return f"; can see a {loss} of {number(case.detectable, case.metric.unit)}"


def asked(check: Check) -> str:
    """Return what a check asks for, for people: ``>= 0.8 and drop <= 0.01``."""
    bounds = (
        (">=", check.min),
        ("<=", check.max),
        ("drop <=", check.max_drop),
        ("rise <=", check.max_rise),
    )
    return " and ".join(
        f"{sign} {bound:.6g}" if isinstance(bound, float | int) else f"{sign} {bound}"
        for sign, bound in bounds
        if bound is not None
    )
