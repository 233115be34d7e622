"""Runs suites on registered versions: chooses, caches, times, seeds, checks, records.

What a suite returns is believed only as far as it declared it: other metrics than its own, or a value that is
not finite, make the run an error.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import pkgutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..registry.errors import ConfigError, EmbregError, UnknownChoice, UsageError, printable
from ..registry.manifest import canonical_json
from ..registry.types import Dataset, MeasureRecord, Progress, RunRecord, Version
from . import suites as _suites
from .config import Config, check_against
from .statistics import CONFIDENCE, at_confidence
from .suite import Findings, Need, Skipped, Suite

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.registry import Registry
    from .subject import DatasetTable, Subject

ENTRY_POINT_GROUP = "embreg.suites"


@cache
def discover() -> Mapping[str, Suite]:
    """Return every suite by name: the files of ``suites/``, then the entry points of ``embreg.suites``.

    Raises:
        TypeError: a module defines no suite of its own name.
        UsageError: an installed package's entry point gives no suite.
    """
    found: dict[str, Suite] = {}
    for info in pkgutil.iter_modules(_suites.__path__):
        module = importlib.import_module(f"{_suites.__name__}.{info.name}")
        found[info.name] = Suite.of(module)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        suite = _plugged_in(entry)
        if not isinstance(suite, Suite) or suite.name in found:
            raise UsageError(f"entry point '{entry.name}' gives no suite with a name of its own")
        found[suite.name] = suite
    return MappingProxyType(dict(sorted(found.items())))


def _plugged_in(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as exc:  # a stranger's module may fail in any way; the message must name it
        raise UsageError(
            f"entry point '{entry.name}' ({entry.value}) cannot be loaded: {printable(str(exc))}",
            hint="mend or uninstall the package that brings it",
        ) from exc


def suite_named(name: str) -> Suite:
    """Return a suite by name.

    Raises:
        UnknownChoice: there is none.
    """
    known = discover()
    if name not in known:
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

    Raises:
        ConfigError: it names what does not exist, or a value of another type; with the line.
    """
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
    missing: str = ""


@dataclass(slots=True, kw_only=True)
class Session:
    """Everything that the runs of one call share: the registry, the subjects, the seed.

    Subjects keep tables mapped and neighbours at hand, so suites of one call compute them once.
    """

    registry: Registry
    seed: int = 0
    confidence: float = CONFIDENCE
    force: bool = False
    subjects: dict[str, Subject] = field(default_factory=dict)
    tables: dict[str, DatasetTable] = field(default_factory=dict)

    def subject(self, version: Version) -> Subject:
        """Return the subject of a version, the same one for every run."""
        from .subject import Subject

        if version.digest not in self.subjects:
            self.subjects[version.digest] = Subject(
                self.registry.table(version), ref=version.ref, store=self.registry.artifacts(version)
            )
        return self.subjects[version.digest]

    def dataset(self, dataset: Dataset) -> DatasetTable:
        """Return the rows of a dataset, read once."""
        from .subject import DatasetTable

        if dataset.digest not in self.tables:
            rows = self.registry.stored_table(dataset.digest)
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
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[RunRecord, ...]:
    """Measure a version, and record what was measured.

    Args:
        registry: where the version is.
        ref: the version.
        suites: names; by default every suite, those whose needs are not met being skipped with the reason.
        baseline: the version to compare with (drift).
        datasets: names; by default every registered dataset of the kind that a suite needs.
        params: parameters by suite.
        seed: of every random choice.
        confidence: of the intervals, between 0 and 1, exclusive.
        force: measure again what was measured before.
        progress: told which run is being done.

    Returns:
        One run per suite and dataset, in the order of the suites.

    Raises:
        UnknownChoice: no such suite or parameter.
        NotFound: no such version or dataset.
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"a seed lies between 0 and 2**63, not at {seed}")
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence lies between 0 and 1, not at {confidence}")
    session = Session(registry=registry, seed=seed, confidence=confidence, force=force)
    version = registry.resolve(ref)
    base = registry.resolve(baseline) if baseline is not None else None
    plans = plan(registry, suites, datasets, params or {}, has_baseline=base is not None)
    done = []
    for i, planned in enumerate(plans):
        if progress is not None:
            progress(planned.suite.name, i, len(plans))
        done.append(run(session, planned, version, base))
    if progress is not None and plans:
        progress(plans[-1].suite.name, len(plans), len(plans))
    return tuple(done)


def drift(
    registry: Registry,
    old: str,
    new: str,
    *,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
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
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[RunRecord, ...]:
    """Measure drift from each version of an embedding to the next, oldest first."""
    steps = list(pairwise(v.ref for v in registry.versions(name)))
    done = []
    for i, (old, new) in enumerate(steps):
        if progress is not None:
            progress(new, i, len(steps))
        done.append(drift(registry, old, new, params=params, seed=seed, confidence=confidence, force=force))
    return tuple(done)


def plan(
    registry: Registry,
    suites: Sequence[str] | None,
    datasets: Sequence[str] | None,
    params: Mapping[str, Mapping[str, Any]],
    *,
    has_baseline: bool,
) -> tuple[Plan, ...]:
    """Say which runs an evaluation consists of, and which of them cannot be done and why."""
    for name in params:
        suite_named(name)
    chosen = [suite_named(name) for name in dict.fromkeys(suites)] if suites else list(discover().values())
    at_hand = [registry.dataset(name) for name in datasets] if datasets else list(registry.datasets())
    plans: list[Plan] = []
    for suite in chosen:
        values = make_params(suite, params.get(suite.name, {}))
        if Need.BASELINE in suite.needs and not has_baseline:
            plans.append(Plan(suite=suite, params=values, missing="needs a baseline (--baseline REF)"))
            continue
        kind = suite.dataset_kind
        fitting = [d for d in at_hand if d.kind == kind]
        if fitting:
            plans += [Plan(suite=suite, params=values, dataset=d) for d in fitting]
        elif kind in suite.needs:
            how = f"embreg dataset add NAME FILE --kind {kind}"
            plans.append(
                Plan(suite=suite, params=values, missing=f"needs a dataset of kind {kind} ('{how}')")
            )
        else:
            plans.append(Plan(suite=suite, params=values))
    return tuple(plans)


def run(session: Session, planned: Plan, version: Version, baseline: Version | None) -> RunRecord:
    """Do one run, or read it back; record it if it was done now."""
    suite = planned.suite
    base = baseline if Need.BASELINE in suite.needs else None
    record = RunRecord(
        suite=suite.name,
        suite_version=suite.version,
        version=version.ref,
        version_digest=version.digest,
        baseline=base.ref if base else None,
        baseline_digest=base.digest if base else None,
        dataset=planned.dataset.name if planned.dataset else None,
        dataset_digest=planned.dataset.digest if planned.dataset else None,
        params=_plain(planned.params),
        seed=session.seed,
        confidence=session.confidence,
    )
    if planned.missing:
        return replace(record, status="skipped", reason=planned.missing)
    record = replace(record, cache_key=cache_key(record))
    kept = None if session.force else session.registry.cached_run(record)
    if kept is not None:
        return _read_back(session.registry, kept, record)
    record, items = _measure(session, planned, version, base, record)
    return record if record.status == "skipped" else session.registry.record(record, items)


def _plain(params: Any) -> dict[str, Any]:
    """Return parameters as JSON would give them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(params).items()}


def cache_key(record: RunRecord) -> str:
    """Return the digest over everything that determines a run's result."""
    identity = {
        "version": record.version_digest,
        "baseline": record.baseline_digest,
        "suite": [record.suite, record.suite_version],
        "params": dict(record.params),
        "dataset": record.dataset_digest,
        "seed": record.seed,
        "confidence": record.confidence,
    }
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def _read_back(registry: Registry, kept: RunRecord, asked: RunRecord) -> RunRecord:
    """Return a kept run under the names that were asked for: other versions may hold the same bytes."""
    own = replace(kept, id=None, version=asked.version, baseline=asked.baseline, dataset=asked.dataset)
    if replace(own, id=kept.id) == kept:
        return kept.as_cached()
    return registry.record(own).as_cached()


def _measure(
    session: Session, planned: Plan, version: Version, baseline: Version | None, record: RunRecord
) -> tuple[RunRecord, pa.Table | None]:
    import numpy as np

    seeds = [session.seed, *planned.suite.name.encode()]
    rng = np.random.default_rng(np.random.SeedSequence(seeds))
    start = time.perf_counter()
    try:
        subject = session.subject(version).with_(
            baseline=session.subject(baseline) if baseline else None,
            dataset=session.dataset(planned.dataset) if planned.dataset else None,
        )
        with at_confidence(record.confidence):
            findings = planned.suite.run(subject, planned.params, rng)
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
        notes=tuple(findings.notes),
        verdict=findings.verdict,
    )
    return done, findings.items


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
