"""Runs suites on registered versions: chooses, caches, times, seeds, checks, records.

What a suite returns is believed only as far as it declared it: other metrics than its own, or a value that is
not finite, make the run an error.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from ..registry.errors import ConfigError, EmbregError, UnknownChoice, UsageError, printable
from ..registry.manifest import canonical_json
from ..registry.types import Dataset, MeasureRecord, Progress, RunRecord, Version
from .config import Config, check_against
from .discovery import discover as discover
from .discovery import left_out
from .figures import interval, number
from .graphs import EXACT, METHODS
from .statistics import CONFIDENCE, at_confidence
from .suite import Findings, Need, Skipped, Suite

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.registry import Registry
    from ..registry.serving import PresentBuild
    from .standins import StandIns
    from .subject import DatasetTable, Subject


#: Why a run is skipped where nothing is to be measured.
UNMEASURED = "not measured yet"


def suite_named(name: str) -> Suite:
    """Return a suite by name.

    Raises:
        UnknownChoice: there is none.
        UsageError: an installed package brings one that cannot be used.
    """
    known = discover()
    if name not in known:
        if (broken := left_out(name)) is not None:
            raise UsageError(broken.message, hint=broken.hint)
        raise UnknownChoice("suite", name, known)
    return known[name]


def check_metric(name: str) -> None:
    """Refuse a name that is neither METRIC nor SUITE.METRIC of any suite.

    Raises:
        UnknownChoice: it is neither.
    """
    owner, dot, metric = name.partition(".")
    suites = [suite_named(owner)] if dot else list(discover().values())
    if not any(suite.metric(metric if dot else name) for suite in suites):
        raise UnknownChoice("metric", name, {m.name for suite in suites for m in suite.metrics})


def make_params(suite: Suite, values: Mapping[str, Any]) -> Any:
    """Return the parameters of a suite from plain values (TOML, or text from a command line).

    Each value takes the type of the field's default.

    Raises:
        UsageError: no such parameter, or a value of another type.
    """
    defaults = suite.params()
    known = {f.name: getattr(defaults, f.name) for f in fields(suite.params)}
    given = {}
    for name, value in values.items():
        if name not in known:
            raise UnknownChoice(f"parameter of {suite.name}", name, known)
        given[name] = _coerce(f"{suite.name}.{name}", value, known[name])
    return suite.params(**given)


def params_of(config: Config) -> dict[str, dict[str, Any]]:
    """Return the parameters of suites that a configuration gives, after a check of all it says.

    What it says of a suite that is left out (``discovery.left_out``) is passed over: who asks for that suite
    by name is told, and other work goes on.

    Raises:
        ConfigError: it names what does not exist, or a value of another type; with the line.
    """
    config = replace(
        config,
        suites={name: values for name, values in config.suites.items() if left_out(name) is None},
        gates=tuple(check for check in config.gates if left_out(check.suite) is None),
    )
    check_against(config, discover())
    for name, values in config.suites.items():
        try:
            make_params(suite_named(name), values)
        except UsageError as exc:
            place = f"{printable(str(config.path))}: line {config.lines.get(name)}"
            raise ConfigError(f"{place}: {exc.message}", hint=exc.hint) from exc
    return {name: dict(values) for name, values in config.suites.items()}


def _coerce(what: str, value: Any, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return _boolean(value)
        if kind is tuple:
            pieces = value.split(",") if isinstance(value, str) else list(value)
            item = type(default[0]) if default else str
            return tuple(item(p.strip() if isinstance(p, str) else p) for p in pieces)
        if kind is int and isinstance(value, float):
            raise ValueError
        return kind(value)
    except (ValueError, TypeError) as exc:
        raise UsageError(f"{what} = {printable(str(value), 60)}: expected {kind.__name__}") from exc


def _boolean(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise ValueError
    return words[str(value).lower()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run that was asked for; ``missing`` says why it cannot be done."""

    suite: Suite
    params: Any
    dataset: Dataset | None = None
    index: PresentBuild | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What the runs of one call may rest on beside the rows, and how a caller gives what is missing.

    Attributes:
        datasets: those at hand.
        stand_ins: built-in ones as they stand to the rows.
        baseline: whether there is a version to compare with.
        indexes: the plans of a suite that measures indexes, one for each, from its own plan.
        ask_baseline: how a baseline is given.
        ask_dataset: how a dataset of the kind ``{kind}`` is.
    """

    datasets: Sequence[Dataset]
    stand_ins: StandIns
    baseline: bool
    indexes: Callable[[Plan], list[Plan]]
    ask_baseline: str = "--baseline REF"
    ask_dataset: str = "'embreg dataset add NAME FILE --kind {kind}'"


class Named(Protocol):
    """What runs can be about: a version, or a table that none holds."""

    @property
    def ref(self) -> str:
        """How it is called."""

    @property
    def digest(self) -> str:
        """What it is, in 64 hex digits; empty where nobody computed it."""


@dataclass(slots=True, kw_only=True)
class Session:
    """Everything that the runs of one call share: the registry, the subjects, the seed.

    Subjects keep tables mapped and neighbours at hand, so suites of one call compute them once.
    """

    registry: Registry
    seed: int = 0
    confidence: float = CONFIDENCE
    force: bool = False
    recorded: bool = False
    queries: int | None = None
    neighbors: str = EXACT
    progress: Progress | None = None
    subjects: dict[str, Subject] = field(default_factory=dict)
    tables: dict[str, DatasetTable] = field(default_factory=dict)

    def subject(self, version: Version) -> Subject:
        """Return the subject of a version, the same one for every run."""
        from .subject import Subject

        if version.digest not in self.subjects:
            self.subjects[version.digest] = Subject(
                self.registry.table(version),
                ref=version.ref,
                store=self.registry.artifacts(version),
                queries=self.queries,
                method=self.neighbors,
                progress=inner_progress(version.ref, self.progress),
            )
        return self.subjects[version.digest]

    def about(self, planned: Plan, version: Version, baseline: Version | None) -> Subject:
        """Return the subject of one run."""
        return self.subject(version).with_(
            baseline=self.subject(baseline) if baseline else None,
            dataset=self.dataset(planned.dataset) if planned.dataset else None,
            index=planned.index,
        )

    def dataset(self, dataset: Dataset) -> DatasetTable:
        """Return the rows of a dataset, read once."""
        from .subject import DatasetTable

        if dataset.digest not in self.tables:
            rows = self.registry.dataset_rows(dataset)
            self.tables[dataset.digest] = DatasetTable(name=dataset.name, kind=dataset.kind, rows=rows)
        return self.tables[dataset.digest]


def evaluate(
    registry: Registry,
    ref: str,
    *,
    suites: Sequence[str] | None = None,
    baseline: str | None = None,
    datasets: Sequence[str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    queries: int | None = None,
    neighbors: str = EXACT,
    force: bool = False,
    recorded: bool = False,
    builtin: Mapping[str, Sequence[str]] | None = None,
    progress: Progress | None = None,
) -> tuple[RunRecord, ...]:
    """Measure a version, and record what was measured.

    Args:
        registry: where the version is.
        ref: the version.
        suites: names; by default every suite, those whose needs are not met being skipped with the reason.
        baseline: the version to compare with (drift).
        datasets: names; by default every registered dataset of the kind that a suite needs, and where there
            is none a built-in one, if at least half of it are ids of the version.
        params: parameters by suite.
        seed: of every random choice.
        confidence: of the intervals, between 0 and 1, exclusive.
        queries: rows that the neighbour graph is asked for, 0 for all; by default all up to 50,000 rows, and
            10,000 of more.
        neighbors: how those of a large table are found: ``exact``, or ``approx`` by an index, whose recall
            widens the intervals; by default of all rows then. Such runs are not compared with exact ones.
        force: measure again what was measured before.
        recorded: measure nothing, and write nothing down: what was not measured before is skipped.
        builtin: names of built-in datasets by suite: these are run on besides, and no built-in one in place
            of what the registry lacks.
        progress: told which run is being done.

    Returns:
        One run per suite and dataset, or index, in the order of the suites.

    Raises:
        UnknownChoice: no such suite, parameter or index.
        NotFound: no such version or dataset.
    """
    from .standins import StandIns

    check_settings(seed, confidence, queries, neighbors)
    session = Session(
        registry=registry,
        seed=seed,
        confidence=confidence,
        force=force,
        recorded=recorded,
        queries=queries,
        neighbors=neighbors,
        progress=progress,
    )
    version = registry.resolve(ref)
    base = registry.resolve(baseline) if baseline is not None else None
    stand_ins = StandIns(
        table=lambda: session.subject(version).table,
        wanted=not datasets and builtin is None,
        besides={suite: _named(registry, names) for suite, names in (builtin or {}).items()},
    )
    material = Material(
        datasets=_named(registry, datasets) if datasets else registry.datasets(),
        stand_ins=stand_ins,
        baseline=base is not None,
        indexes=lambda planned: _on_indexes(registry, version.name, planned),
    )
    plans = plan(material, suites, params or {})
    return one_by_one(plans, lambda planned: run(session, planned, version, base), progress)


def check_settings(seed: int, confidence: float, queries: int | None, neighbors: str) -> None:
    """Refuse what no run can be told.

    Raises:
        UsageError: one of them is outside its range.
        UnknownChoice: no such way to find neighbours.
    """
    if neighbors not in METHODS:
        raise UnknownChoice("kind of neighbors", neighbors, METHODS)
    if not 0 <= seed < 2**63:
        raise UsageError(f"a seed lies between 0 and 2**63, not at {seed}")
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence lies between 0 and 1, not at {confidence}")
    if queries is not None and queries < 0:
        raise UsageError(f"{queries} queries of the neighbour graph: 0 or more")


def one_by_one(
    plans: Sequence[Plan], do: Callable[[Plan], RunRecord], progress: Progress | None
) -> tuple[RunRecord, ...]:
    """Do runs in order, and tell which one is being done."""
    done = []
    for i, planned in enumerate(plans):
        if progress is not None:
            progress(planned.suite.name, i, len(plans))
        done.append(do(planned))
    if progress is not None and plans:
        progress(plans[-1].suite.name, len(plans), len(plans))
    return tuple(done)


def inner_progress(ref: str, told: Progress | None) -> Progress | None:
    """Return a callback for steps inside a run: they are told as ``REF: STEP``."""
    if told is None:
        return None
    return lambda step, done, total: told(f"{ref}: {step}", done, total)


def drift(
    registry: Registry,
    old: str,
    new: str,
    *,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    neighbors: str = EXACT,
    force: bool = False,
    progress: Progress | None = None,
) -> RunRecord:
    """Measure how far ``new`` drifted from ``old``, on the ids they share; the run carries the verdict."""
    (run,) = evaluate(
        registry,
        new,
        suites=["drift"],
        baseline=old,
        params=params,
        seed=seed,
        confidence=confidence,
        neighbors=neighbors,
        force=force,
        progress=progress,
    )
    return run


def drift_history(
    registry: Registry,
    name: str,
    *,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    neighbors: str = EXACT,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[RunRecord, ...]:
    """Measure drift from each version of an embedding to the next, oldest first."""
    steps = list(pairwise(v.ref for v in registry.versions(name)))
    chosen: dict[str, Any] = {"params": params, "seed": seed, "confidence": confidence, "force": force}
    done = []
    for i, (old, new) in enumerate(steps):
        if progress is not None:
            progress(new, i, len(steps))
        done.append(drift(registry, old, new, **chosen, neighbors=neighbors))
    return tuple(done)


def plan(
    material: Material, suites: Sequence[str] | None, params: Mapping[str, Mapping[str, Any]]
) -> tuple[Plan, ...]:
    """Say which runs an evaluation of an embedding consists of; which cannot be done, and why.

    Raises:
        UnknownChoice: no such suite or parameter.
    """
    for suite_name in params:
        suite_named(suite_name)
    chosen = [suite_named(name) for name in dict.fromkeys(suites)] if suites else list(discover().values())
    plans: list[Plan] = []
    for suite in chosen:
        planned = Plan(suite=suite, params=make_params(suite, params.get(suite.name, {})))
        if Need.BASELINE in suite.needs and not material.baseline:
            plans.append(replace(planned, missing=f"needs a baseline ({material.ask_baseline})"))
            continue
        own = _on_datasets(planned, material)
        if Need.INDEX in suite.needs:
            own = [p for one in own for p in ([one] if one.missing else material.indexes(one))]
        plans += own
    return tuple(plans)


def _named(registry: Registry, names: Sequence[str]) -> tuple[Dataset, ...]:
    """Return the datasets that names stand for, each once."""
    return tuple(
        registry.dataset(own) for own in dict.fromkeys(n for x in names for n in registry.dataset_names(x))
    )


def _on_datasets(planned: Plan, material: Material) -> list[Plan]:
    """Return a plan for each dataset of the suite's kind; the plan itself where it can do without."""
    kind, stand_ins = planned.suite.dataset_kind, material.stand_ins
    fitting = [d for d in material.datasets if d.kind == kind]
    if not fitting and (served := stand_ins.serving(planned.suite, planned.params)) is not None:
        fitting = [served]
    own = [replace(planned, dataset=d, missing=stand_ins.lack(d)) for d in fitting]
    if not own and kind in planned.suite.needs:
        how = material.ask_dataset.format(kind=kind)
        why = filter(None, (f"needs a dataset of kind {kind} ({how})", stand_ins.short(planned.suite)))
        own = [replace(planned, missing="; ".join(why))]
    besides = stand_ins.besides.get(planned.suite.name, ())
    more = [replace(planned, dataset=d, missing=stand_ins.lack(d)) for d in besides if d.kind == kind]
    return (own or [planned]) + more


def _on_indexes(registry: Registry, name: str, planned: Plan) -> list[Plan]:
    """Return a plan for each index of an embedding, or for the one that the parameters name."""
    known = {state.name: state.tracks.rpartition("@")[0] for state in registry.indexes()}
    asked = planned.params.index
    if asked and asked not in known:
        raise UnknownChoice("index", asked, known)
    if asked and known[asked] != name:
        return [replace(planned, missing=f"index '{asked}' follows '{known[asked]}', not '{name}'")]
    chosen = [asked] if asked else [index for index, followed in known.items() if followed == name]
    if not chosen:
        how = f"embreg index build INDEX {name} --factory HNSW32"
        return [replace(planned, missing=f"no index follows '{name}' ('{how}')")]
    return [
        replace(planned, params=replace(planned.params, index=index), index=registry.present_build(index))
        for index in chosen
    ]


def run(session: Session, planned: Plan, version: Version, baseline: Version | None) -> RunRecord:
    """Do one run, or read it back; record it if it was done now."""
    base = baseline if Need.BASELINE in planned.suite.needs else None
    asked = graph_params(session.queries, session.neighbors)
    record = drafted(planned, version, base, session.seed, session.confidence, asked)
    if planned.missing:
        return record
    record = replace(record, cache_key=cache_key(record, planned.index.digests if planned.index else ()))
    kept = None if session.force else session.registry.cached_run(record)
    if session.recorded:
        unmeasured = replace(record, status="skipped", reason=UNMEASURED)
        return unmeasured if kept is None else _renamed(kept, record)
    if kept is not None:
        return _read_back(session.registry, kept, record)
    record, items = measure(planned, record, lambda: session.about(planned, version, base))
    return record if record.status == "skipped" else session.registry.record(record, items)


def drafted(
    planned: Plan,
    version: Named,
    base: Named | None,
    seed: int,
    confidence: float,
    graph: Mapping[str, Any],
) -> RunRecord:
    """Return the record of a run before it is done; skipped, where the plan misses something.

    Args:
        planned: the run.
        version: what it is about.
        base: what that is compared with.
        seed: of every random choice.
        confidence: of the intervals.
        graph: what was asked of the neighbour graph (``graph_params``).
    """
    suite = planned.suite
    return RunRecord(
        suite=suite.name,
        suite_version=suite.version,
        version=version.ref,
        version_digest=version.digest,
        baseline=base.ref if base else None,
        baseline_digest=base.digest if base else None,
        dataset=planned.dataset.name if planned.dataset else None,
        dataset_digest=planned.dataset.digest if planned.dataset else None,
        params=_plain(planned.params) | dict(graph),
        seed=seed,
        confidence=confidence,
        status="skipped" if planned.missing else "done",
        reason=planned.missing,
    )


def _plain(params: Any) -> dict[str, Any]:
    """Return parameters as JSON would give them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(params).items()}


def graph_params(queries: int | None, neighbors: str) -> dict[str, Any]:
    """Return what was asked of the neighbour graph, where that is not the rule: other runs do not compare."""
    asked: dict[str, Any] = {} if queries is None else {"graph_queries": queries}
    return asked if neighbors == EXACT else asked | {"graph_neighbors": neighbors}


def cache_key(record: RunRecord, build: Sequence[str] = ()) -> str:
    """Return the digest over everything that determines a run's result.

    Args:
        record: the run.
        build: digests of the index that is measured, if one is: built anew, it is measured anew.
    """
    identity: dict[str, Any] = {
        "version": record.version_digest,
        "baseline": record.baseline_digest,
        "suite": [record.suite, record.suite_version],
        "params": dict(record.params),
        "dataset": record.dataset_digest,
        "seed": record.seed,
        "confidence": record.confidence,
    }
    if build:
        identity["build"] = list(build)
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def _read_back(registry: Registry, kept: RunRecord, asked: RunRecord) -> RunRecord:
    """Return a kept run under the names that were asked for: other versions may hold the same bytes."""
    own = _renamed(kept, asked)
    return own if own == kept.as_cached() else registry.record(replace(own, id=None)).as_cached()


def _renamed(kept: RunRecord, asked: RunRecord) -> RunRecord:
    return replace(kept, version=asked.version, baseline=asked.baseline, dataset=asked.dataset, cached=True)


def measure(
    planned: Plan, record: RunRecord, subject_of: Callable[[], Subject]
) -> tuple[RunRecord, pa.Table | None]:
    """Do one run; return it with what was measured, and its per-item table.

    Args:
        planned: the run.
        record: its draft, with the seed and the confidence.
        subject_of: opens what is measured; where that fails, so does the run.
    """
    import numpy as np

    seeds = [record.seed, *planned.suite.name.encode()]
    rng = np.random.default_rng(np.random.SeedSequence(seeds))
    start = time.perf_counter()
    try:
        subject = subject_of()
        with at_confidence(record.confidence):
            findings = planned.suite.run(subject, planned.params, rng)
            notes = (*findings.notes, *_approximations(subject))
        measures = check_findings(planned.suite, findings)
    except Skipped as skipped:
        return replace(record, status="skipped", reason=str(skipped)), None
    except Exception as exc:  # noqa: BLE001  one broken suite, perhaps a stranger's, must not cost the others
        reason = exc.message if isinstance(exc, EmbregError) else f"{type(exc).__name__}: {exc}"
        return replace(record, status="error", reason=printable(reason)), None
    done = replace(
        record,
        duration_s=time.perf_counter() - start,
        measures=measures,
        absent=tuple(
            {"metric": a.metric, "labels": dict(a.labels), "reason": a.reason} for a in findings.absent
        ),
        notes=notes,
        verdict=findings.verdict,
    )
    return done, findings.items


def _approximations(subject: Subject) -> list[str]:
    """Return what to know of the approximate neighbours that a run took, a line for each graph."""
    told = []
    for side in filter(None, (subject.baseline, subject)):
        name = f" of {printable(side.ref, 140)}" if subject.baseline is not None else ""
        for graph in side.approximated:
            recall, (low, high) = graph.recall()
            told.append(
                f"neighbours{name} approximate: recall@{graph.found.k} {number(recall, 'share')} "
                f"{interval(low, high, 'share')} on {len(graph.exact.queries):,} queries ({graph.index})"
            )
    return told


def check_findings(suite: Suite, findings: Findings) -> tuple[MeasureRecord, ...]:
    """Return the measures of a suite if every one is declared, finite and labelled once.

    Raises:
        TypeError: the suite broke its contract.
    """
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    records = []
    for m in findings.measures:
        labels = {str(k): str(v) for k, v in m.labels.items()}
        key = (m.metric, tuple(sorted(labels.items())))
        if suite.metric(m.metric) is None or key in seen:
            raise TypeError(
                f"{suite.name} returned '{m.metric}' {labels}, which it does not declare, or twice"
            )
        if not _finite((m.value, m.low, m.high)):
            raise TypeError(f"{suite.name} returned {m.value} [{m.low}, {m.high}] for '{m.metric}' {labels}")
        seen.add(key)
        records.append(
            MeasureRecord(
                metric=m.metric,
                labels=labels,
                value=float(m.value),
                n=int(m.n),
                low=None if m.low is None else float(m.low),
                high=None if m.high is None else float(m.high),
            )
        )
    undeclared = [a.metric for a in findings.absent if suite.metric(a.metric) is None]
    if undeclared:
        raise TypeError(f"{suite.name} names '{undeclared[0]}' as absent, which it does not declare")
    return tuple(records)


def _finite(values: Iterable[float | None]) -> bool:
    return all(v is None or math.isfinite(v) for v in values)
