"""``gate init``: checks for an embedding out of its recorded runs, and the floor of its metrics.

Of each suite the metric that it declares first is proposed, on the whole of its items: what the suite is
about. They are made from the version in production. Runs that are not there are not made; the halves that
noise is measured on are.

Drift has no tolerance but a bound: the worst that went into production, less the noise of that comparison.
Where nothing ever moved there is no such thing. Then the floor is what storing the rows in 8 bits moves,
which nobody minds, and the bound as many times that as a tolerance is errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..registry.errors import AliasNotFound, EmbregError, printable
from ..registry.tables import EmbeddingTable
from ..registry.types import MeasureRecord, Ref, RunRecord
from .baselines import PRODUCTION
from .codecs import trained
from .config import Check, Config, Tolerance, best
from .discovery import discover
from .evidence import Missing, comparable, measure_of, run_labels
from .figures import number
from .floor import measure_floor, rows_of
from .gate import examine
from .proposal import (
    ERRORS,
    Omitted,
    Proposal,
    Proposed,
    Slack,
    hard_bound,
    loss,
    of_errors,
    outward,
    tolerance,
)
from .runner import UNMEASURED, Session, evaluate, make_params, params_of
from .statistics import normal_quantile
from .subject import Memory, Subject
from .suite import Better, Findings, Measure, Metric, Need, Skipped, Suite

if TYPE_CHECKING:
    from ..registry.registry import Registry
    from ..registry.types import Progress, Version

#: So many of the last moves of production are looked at.
_MOVES = 5
#: So many rows are stored in 8 bits to learn what that moves.
_CODED_ROWS = 20_000
#: Pairs of halves that noise is measured on.
_SPLITS = 10
#: Beside what a suite declares first: rows that were lost show in no other number.
_BESIDES = {"drift": ("shared_share", {"of": "baseline"})}
#: Differences up to this are rounding.
_ROUNDING = 1e-9
_Number = TypeVar("_Number", MeasureRecord, Measure)


def propose(
    registry: Registry,
    name: str,
    *,
    config: Config | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Proposal:
    """Propose checks for an embedding; see the module, and ``proposal`` for how wide they are.

    Args:
        registry: where the embedding is.
        name: of the embedding, whose production (else latest) version counts; or a version of it.
        config: where parameters of suites are; its own checks do not count.
        seed: of every random choice.
        progress: told how far the halves are.

    Raises:
        NotFound: no such version.
        ConfigError: a configuration that cannot be.
    """
    version = _reference(registry, name)
    params = params_of(replace(config, gates=())) if config is not None else {}
    known = _Known(
        registry=registry, version=version, chain=accepted(registry, version), params=params,
        session=Session(registry=registry, seed=seed, progress=progress), seed=seed, progress=progress,
    )  # fmt: skip
    found = [*_measured(known), *_drifted(known)]
    return Proposal(
        ref=version.ref,
        aliases=version.aliases,
        latest=registry.resolve(version.name).ref,
        chain=tuple(v.ref for v in known.chain),
        checks=tuple(one for one in found if isinstance(one, Proposed)),
        omitted=tuple(one for one in found if isinstance(one, Omitted)),
    )


def _reference(registry: Registry, name: str) -> Version:
    if "@" in name:
        return registry.resolve(name)
    try:
        return registry.resolve(f"{name}@{PRODUCTION}")
    except AliasNotFound:
        return registry.resolve(name)


def accepted(registry: Registry, version: Version) -> tuple[Version, ...]:
    """Return what went into production one after the other, oldest first, up to a version.

    A version that production was moved back from was no good, and is left out. Where nothing was ever called
    production, a version counts if its gate passed against the one before.
    """
    there = {v.ref: v for v in registry.versions(version.name) if v.number <= version.number}
    refs: list[str] = []
    for move in registry.alias_history(version.name, PRODUCTION):
        if move.new is not None:
            number = Ref.parse(move.new).number or 0
            refs = [*(ref for ref in refs if (Ref.parse(ref).number or 0) < number), move.new]
    if not refs:
        passed = [(a, b) for a, b in pairwise(there) if (v := registry.verdict(b, a)) and v.passed]
        refs = list(dict.fromkeys(ref for pair in passed for ref in pair))
    return tuple(there[ref] for ref in refs if ref in there)[-_MOVES - 1 :]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A version, what went into production up to it, and how to read and measure more of them."""

    registry: Registry
    version: Version
    chain: Sequence[Version]
    params: Mapping[str, Mapping[str, Any]]
    session: Session
    seed: int
    progress: Progress | None

    def recorded(
        self, version: Version, suites: Sequence[str], base: Version | None = None
    ) -> list[RunRecord]:
        """Return the runs that the gate would read back: those with its parameters and seed."""
        against = base.ref if base is not None else None
        chosen: dict[str, Any] = {"suites": suites, "baseline": against, "params": self.params}
        return list(evaluate(self.registry, version.ref, **chosen, seed=self.seed, recorded=True))

    def error(self, suite: Suite, subject: Subject, measure: MeasureRecord) -> float:
        """Return the standard error of a measure as random halves have it."""
        params = make_params(suite, self.params.get(suite.name, {}))
        floors = measure_floor(suite, subject, params, seed=self.seed, splits=_SPLITS, progress=self.progress)
        own = [f.error for f in floors if (f.metric, f.labels) == (measure.metric, dict(measure.labels))]
        return own[0] if own else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picked:
    """The measure of a run that a check is proposed of."""

    suite: Suite
    metric: Metric
    measure: MeasureRecord
    run: RunRecord

    @property
    def check(self) -> Check:
        """The check, without any tolerance."""
        bound: dict[str, Any] = {tolerance(self.metric, Slack(size=0.0, why=""))[0]: Tolerance(abs=0.0)}
        labels = dict(self.measure.labels) | run_labels(self.run, self.suite)
        return Check(metric=f"{self.suite.name}.{self.measure.metric}", labels=labels, **bound)

    @property
    def itemized(self) -> bool:
        """Whether the gate judges it item by item."""
        return self.metric.item is not None or self.metric.statistic is not None

    def of(self, runs: Sequence[RunRecord]) -> float | None:
        """Return its value among other runs, where there is one that may be compared."""
        other = comparable(self.run, runs)
        found = other if isinstance(other, Missing) else measure_of(other, self.check, self.metric)
        return None if isinstance(found, Missing) else found.value


def _leading(suite: Suite, measures: Sequence[_Number], k: int) -> tuple[Metric, _Number] | None:
    """Return the first metric of a suite that has a value for the whole, and a better direction.

    Of several cuts it is the one at k, or else the first.
    """
    whole = [m for m in measures if not m.labels or m.labels == {"group": "total"}]
    for metric in suite.metrics:
        if metric.better is Better.NEITHER or metric.timed:
            continue
        own = [m for m in whole if metric.matches(m.metric)]
        usual = [m for m in own if m.metric == metric.at(k)]
        if own:
            return metric, (usual or own)[0]
    return None


# What a version is by itself: tolerances against whatever comes before it.


def _measured(known: _Known) -> Iterator[Proposed | Omitted]:
    suites = {name: s for name, s in discover().items() if Need.BASELINE not in s.needs}
    picked, omitted = [], []
    for run in known.recorded(known.version, list(suites)):
        suite = suites[run.suite]
        leading = _leading(suite, run.measures, run.params.get("k", 0)) if run.status == "done" else None
        if leading is None:
            omitted.append(Omitted(suite=run.suite, why=_unmeasured(run)))
        else:
            picked.append(_Picked(suite=suite, metric=leading[0], measure=leading[1], run=run))
    past = {v.ref: known.recorded(v, list(suites)) for v in known.chain}
    seen = _seen(known, picked, past)
    for one in picked:
        yield _with_tolerance(known, one, past, seen.get(one.check.metric + str(one.check.labels)))
    yield from omitted


def _unmeasured(run: RunRecord) -> str:
    if run.reason == UNMEASURED:
        return f"no numbers: 'embreg eval {run.version} --suite {run.suite}' measures it, or says why not"
    return printable(run.reason, 300) or "it has no number for the whole, only for variants"


def _seen(
    known: _Known, picked: Sequence[_Picked], past: Mapping[str, Sequence[RunRecord]]
) -> Mapping[str, Slack]:
    """Return what each test between the version and the one before it can see, by check."""
    if len(known.chain) < 2 or known.chain[-1].ref != known.version.ref:
        return {}
    before, checks = known.chain[-2], [one.check for one in picked if one.itemized]
    runs, rng = [one.run for one in picked], np.random.default_rng(known.seed)
    cases = examine(checks, discover(), runs, past[before.ref], known.registry.stored_table, rng)
    why = f"the smallest loss that the test of {known.version.ref} against {before.ref} sees"
    return {
        case.check.metric + str(case.check.labels): Slack(size=case.detectable, why=why)
        for case in cases
        if case.detectable
    }


def _with_tolerance(
    known: _Known, one: _Picked, past: Mapping[str, Sequence[RunRecord]], seen: Slack | None
) -> Proposed | Omitted:
    try:
        slack = seen or _noise(known, one)
    except (Skipped, EmbregError) as exc:
        return Omitted(suite=one.suite.name, why=printable(str(exc), 300))
    for old, new in pairwise(known.chain):
        slack = _at_least(slack, one, (old.ref, one.of(past[old.ref])), (new.ref, one.of(past[new.ref])))
    if slack.size <= _ROUNDING:
        return Omitted(suite=one.suite.name, why=f"{one.check.metric} shows no noise to make a tolerance of")
    key, size = tolerance(one.metric, slack)
    return Proposed(
        metric=one.check.metric, labels=dict(one.check.labels), bound=key, value=size, severity="critical",
        why=f"{number(one.measure.value, one.metric.unit)} in {known.version.ref}; {slack.why}",
    )  # fmt: skip


def _noise(known: _Known, one: _Picked) -> Slack:
    measure = one.measure
    if one.suite.needs:  # halves of the rows would be asked about what the other half holds
        if measure.low is None or measure.high is None:
            return Slack(size=0.0, why="")
        error = (measure.high - measure.low) / 2 / normal_quantile(one.run.confidence)
        return of_errors(error, f"the standard error over {measure.n:,} items is")
    error = known.error(one.suite, known.session.subject(known.version), measure)
    return of_errors(error, "random halves of the rows put its standard error at")


def _at_least(
    slack: Slack, one: _Picked, old: tuple[str, float | None], new: tuple[str, float | None]
) -> Slack:
    """Return a slack that lets a version pass that went into production."""
    if old[1] is None or new[1] is None:
        return slack
    lost, word = loss(one.metric, old[1], new[1]), "rose" if one.metric.better is Better.LOWER else "fell"
    told = f"it {word} by {number(lost, one.metric.unit)} from {old[0]} to {new[0]}, which went live"
    return slack.at_least(lost, told)


# How far a version may be from the one before: bounds.


def _drifted(known: _Known) -> Iterator[Proposed | Omitted]:
    for suite in discover().values():
        if Need.BASELINE not in suite.needs:
            continue
        try:
            yield from _bounded(known, suite)
        except (Skipped, EmbregError) as exc:
            yield Omitted(suite=suite.name, why=printable(str(exc), 300))


def _bounded(known: _Known, suite: Suite) -> Iterator[Proposed | Omitted]:
    runs = {
        f"{old.ref} {new.ref}": run
        for old, new in pairwise(known.chain)
        for run in known.recorded(new, [suite.name], old)
        if run.status == "done"
    }
    moved = [(old, new, *found) for old, new in pairwise(known.chain)
             if (run := runs.get(f"{old.ref} {new.ref}"))
             and (found := _leading(suite, run.measures, run.params.get("k", 0)))
             and _distance(found[0], found[1].value) > _ROUNDING]  # fmt: skip
    if moved:
        yield _from_history(known, suite, max(moved, key=lambda step: _distance(step[2], step[3].value)))
    else:
        yield _from_codes(known, suite)
    if suite.name in _BESIDES:
        yield _kept(suite, list(runs.values()))


def _from_history(
    known: _Known, suite: Suite, step: tuple[Version, Version, Metric, MeasureRecord]
) -> Proposed:
    """Return a bound that the furthest move of production keeps to."""
    old, new, metric, measure = step
    subject = known.session.subject(new).with_(baseline=known.session.subject(old))
    slack = of_errors(known.error(suite, subject, measure), "random halves put its standard error at")
    told = f"{number(measure.value, metric.unit)} from {old.ref} to {new.ref}, which went live; {slack.why}"
    return _bound_at(suite, metric, measure, slack, told)


def _from_codes(known: _Known, suite: Suite) -> Proposed | Omitted:
    """Return a bound for an embedding that never moved: so many times what 8 bits for a number move."""
    whole = known.session.subject(known.version)
    rows = whole.sample(_CODED_ROWS)
    old = rows_of(whole, rows)
    params = make_params(suite, known.params.get(suite.name, {}))
    found: Findings = suite.run(_coded(old).with_(baseline=old), params, np.random.default_rng(known.seed))
    leading = _leading(suite, found.measures, getattr(params, "k", 0))
    if leading is None or best(leading[0]) is None:
        told = "nothing moved yet, and it has no number of a version against itself"
        return Omitted(suite=suite.name, why=told)
    metric, measure = leading
    ideal, off = best(metric) or 0.0, _distance(metric, measure.value)
    if off <= _ROUNDING:
        told = "nothing that went live moved yet, and storing its rows in 8 bits moves nothing"
        return Omitted(suite=suite.name, why=told)
    told = (
        f"nothing that went live moved yet: {number(measure.value, metric.unit)} of {len(rows):,} rows "
        f"where 8 bits hold each number, and {ERRORS} times as far"
    )
    return _bound_at(suite, metric, replace(measure, value=ideal), Slack(size=ERRORS * off, why=""), told)


def _coded(subject: Subject) -> Subject:
    """Return the rows as they are once they were stored in 8 bits for each number."""
    vectors = subject.table.vectors
    if not vectors.any():
        raise Skipped("every row is zero")
    codec = trained("int8", vectors.astype(np.float32))
    decoded = codec.sa_decode(codec.sa_encode(np.ascontiguousarray(vectors, dtype=np.float32)))
    table = EmbeddingTable.from_arrays(
        subject.table.ids, decoded.astype(vectors.dtype), space=subject.table.space
    )
    return Subject(table, ref=f"{subject.ref} in 8 bits", store=Memory())


def _kept(suite: Suite, runs: Sequence[RunRecord]) -> Proposed | Omitted:
    """Return a warning of rows that are lost, where none that went live lost as many."""
    name, labels = _BESIDES[suite.name]
    metric = suite.metric(name)
    if metric is None:
        return Omitted(suite=suite.name, why=f"it has no {name}")
    values = [m.value for run in runs for m in run.measures if (m.metric, m.labels) == (name, labels)]
    least = min(values, default=1.0)
    lost = "no row" if least == 1 else "no more than that"
    told = f"of the rows of the one before, versions that went live lost {lost}"
    if not values:
        told = "nothing went live after another yet: no row is to be lost"
    measure = Measure(name, outward(least, 1e-3, up=False), 1, labels)
    return _bound_at(suite, metric, measure, Slack(size=0.0, why=""), told, severity="warning")


def _distance(metric: Metric, value: float) -> float:
    """Return how far a value is from that of a version against itself."""
    ideal = best(metric)
    return 0.0 if ideal is None else abs(ideal - value)


def _bound_at(
    suite: Suite,
    metric: Metric,
    measure: MeasureRecord | Measure,
    slack: Slack,
    why: str,
    severity: str = "critical",
) -> Proposed:
    key, value = hard_bound(metric, measure.value, slack)
    full = f"{suite.name}.{measure.metric}"
    return Proposed(
        metric=full, labels=dict(measure.labels), bound=key, value=value, severity=severity, why=why
    )
