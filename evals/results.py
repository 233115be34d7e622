"""What evaluations return in Python: runs that answer by name, become tables, and show themselves.

The values are those of the registry and of comparisons; here they are given the ways in which a notebook, a
data frame or a script takes them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, overload

from ..registry.errors import NotFound, UsageError, printable
from ..registry.types import RunRecord
from .comparison import Comparison
from .config import Check
from .evidence import RUN_LABELS, Missing, measure_of, run_labels
from .figures import named
from .report import documents
from .report.results import comparison_html, comparison_text, runs_html, runs_text
from .runner import check_metric, discover, suite_named

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.types import MeasureRecord

#: Opens the per-item table of a digest.
Opener = Callable[[str], "pa.Table"]


def _nowhere(digest: str) -> pa.Table:
    raise NotFound(f"the items {digest[:12]} are kept nowhere")


class Run(RunRecord):
    """One suite on one version or table: a ``RunRecord`` that shows itself, and opens its items."""

    __slots__ = ("_opener",)
    _opener: Opener

    @classmethod
    def of(cls, record: RunRecord, opener: Opener) -> Self:
        """Return a record as such a run.

        Args:
            record: the run.
            opener: opens the per-item table that ``record.items`` names.
        """
        run = cls(**{f.name: getattr(record, f.name) for f in fields(RunRecord)})
        object.__setattr__(run, "_opener", opener)  # no field: a record has none, and none is to be copied
        return run

    @property
    def opener(self) -> Opener:
        """What opens the per-item table."""
        found: Opener = getattr(self, "_opener", _nowhere)
        return found

    def per_item(self) -> pa.Table:
        """Return the per-item table: a row for each question, pair, query or row that was scored.

        Raises:
            NotFound: the suite keeps none, or the run was not done.
        """
        if self.items is None:
            why = f"was {self.status}: {self.reason}" if self.reason else "keeps no items"
            raise NotFound(f"{self.suite} {printable(why, 500)}")
        return self.opener(self.items)

    def value(self, metric: str, **labels: object) -> float:
        """Return one value: ``run.value("skewness")``; see ``Runs.value``."""
        name = metric if metric.startswith(f"{self.suite}.") else f"{self.suite}.{metric}"
        return Runs([self]).value(name, **labels)

    def to_arrow(self) -> pa.Table:
        """Return one row per measure; see ``Runs.to_arrow``."""
        return Runs([self]).to_arrow()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: an entry of ``runs`` as ``embreg eval --json`` prints it."""
        return documents.run(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunRecord):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(RunRecord))

    __hash__ = None  # type: ignore[assignment]  # as of a record: it holds mappings

    def __repr__(self) -> str:
        return runs_text([self], (), discover())

    def _repr_html_(self) -> str:
        return runs_html([self], (), discover())


class Runs(tuple[Run, ...]):
    """Runs in the order of their suites: a tuple that is also asked by name.

    ``runs["hubness"]`` is the run of a suite, ``runs["similarity", "wordsim"]`` that on one of several
    datasets; ``runs.value("hubness.skewness")`` is a number.
    """

    _notes: tuple[str, ...]

    def __new__(cls, runs: Iterable[Run] = (), notes: Sequence[str] = ()) -> Self:
        """Return the runs; ``notes`` say what became of the vectors, one line each."""
        made = super().__new__(cls, tuple(runs))
        made._notes = tuple(notes)
        return made

    @property
    def notes(self) -> tuple[str, ...]:
        """What became of the vectors before they were measured, one line each."""
        return self._notes

    @overload
    def __getitem__(self, key: SupportsIndex | str | tuple[str, str], /) -> Run: ...

    @overload
    def __getitem__(self, key: slice, /) -> Runs: ...

    def __getitem__(self, key: SupportsIndex | slice | str | tuple[str, str], /) -> Run | Runs:
        """Return a run by place, by suite, or by suite and dataset; or some runs.

        Raises:
            NotFound: there is none of that name.
            UsageError: there are several.
        """
        if isinstance(key, slice):
            return Runs(super().__getitem__(key), self.notes)
        if isinstance(key, str):
            return self._on(key, {})
        if isinstance(key, tuple):
            return self._on(key[0], {"dataset": key[1]})
        return super().__getitem__(key)

    def __contains__(self, key: object, /) -> bool:
        """Whether there is a run of a suite, or this run."""
        return any(run.suite == key for run in self) if isinstance(key, str) else super().__contains__(key)

    def _on(self, suite: str, asked: Mapping[str, str]) -> Run:
        """Return the only run of a suite on the dataset and index that are asked for."""
        own = [run for run in self if run.suite == suite]
        if not own:
            suite_named(suite)
            there = ", ".join(dict.fromkeys(run.suite for run in self)) or "none"
            raise NotFound(f"no run of {suite} among these", hint=f"there are: {there}")
        known = [run_labels(run, suite_named(suite)) for run in own]
        found = [run for run, on in zip(own, known, strict=True) if asked.items() <= on.items()]
        if len(found) == 1:
            return found[0]
        told = "; ".join(dict.fromkeys(named(on) or "no dataset" for on in known))
        if not found:
            raise NotFound(f"{suite} was not run on {named(asked)}", hint=f"but on {told}")
        raise UsageError(
            f"{suite} was run {len(found)} times: {told}",
            hint=f"runs['{suite}', DATASET], or name the dataset of a value",
        )

    def value(self, metric: str, /, **labels: object) -> float:
        """Return one value.

        Args:
            metric: ``SUITE.METRIC``, with its k filled in or as ``@k``.
            labels: which measure of it: exactly these labels come first, else the only measure with them
                among its own, else the total; ``dataset`` and ``index`` pick one of several runs.

        Raises:
            UnknownChoice: no suite has such a metric.
            NotFound: there is no such value here, or several; the message says why.
            UsageError: the labels name no single run.
        """
        check_metric(metric)
        name, dot, _ = metric.partition(".")
        if not dot:
            raise UsageError(f"'{printable(metric, 60)}' names no suite", hint="SUITE.METRIC")
        asked = {label: str(value) for label, value in labels.items()}
        run = self._on(name, {label: asked[label] for label in RUN_LABELS & asked.keys()})
        check = Check(metric=metric, labels=asked)
        declared = suite_named(name).metric(check.name)
        measure = Missing("no such metric") if declared is None else measure_of(run, check, declared)
        if isinstance(measure, Missing):
            raise NotFound(f"{metric}: {measure.reason}")
        return measure.value

    def to_arrow(self) -> pa.Table:
        """Return one row per measure, and one with a reason and without a metric per run that was not done.

        Labels are text, ``section=family, group=semantic``; ``unit`` and ``better`` are the metric's own.
        """
        import pyarrow as pa

        texts = (
            "suite",
            "version",
            "baseline",
            "dataset",
            "status",
            "metric",
            "labels",
            "unit",
            "better",
            "reason",
        )
        kinds = dict.fromkeys(texts, pa.string()) | {"suite_version": pa.int64(), "n": pa.int64()}
        kinds |= dict.fromkeys(("value", "low", "high"), pa.float64())
        columns = ("suite", "suite_version", "version", "baseline", "dataset", "status", "metric", "labels",
                   "value", "n", "low", "high", "unit", "better", "reason")  # fmt: skip
        rows = [row for run in self for row in _long(run)]
        return pa.Table.from_pylist(rows, schema=pa.schema([(name, kinds[name]) for name in columns]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the document that ``embreg eval --json`` prints."""
        return documents.runs(self)

    def __repr__(self) -> str:
        return runs_text(self, self.notes, discover())

    def _repr_html_(self) -> str:
        return runs_html(self, self.notes, discover())


def _long(run: RunRecord) -> list[dict[str, Any]]:
    whole = {
        "suite": run.suite,
        "suite_version": run.suite_version,
        "version": run.version,
        "baseline": run.baseline,
        "dataset": run.dataset,
        "status": run.status,
    }
    if run.status != "done":
        return [whole | {"reason": run.reason}]
    return [whole | _told(run, measure) for measure in run.measures]


def _told(run: RunRecord, measure: MeasureRecord) -> dict[str, Any]:
    suite = discover().get(run.suite)
    metric = suite.metric(measure.metric) if suite else None
    told = measure.to_dict() | {"labels": named(measure.labels)}
    return told if metric is None else told | {"unit": metric.unit, "better": str(metric.better)}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Compared(Comparison):
    """A comparison that shows itself.

    Attributes:
        notes: what became of the vectors before they were measured, one line each.
    """

    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Comparison, notes: Sequence[str] = ()) -> Self:
        """Return a comparison as such a one."""
        values = {f.name: getattr(given, f.name) for f in fields(Comparison)}
        return cls(**values, notes=tuple(notes))

    def __repr__(self) -> str:
        return comparison_text(self, self.notes, discover())

    def _repr_html_(self) -> str:
        return comparison_html(self, self.notes, discover())
