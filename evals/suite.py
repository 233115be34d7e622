"""The contract of a suite.

A suite is a value: a name, a version, its parameters, the metrics it may return, what it needs, and one
pure function. It sees arrays and values; it never touches the database, files, click or a global
random state. Adding a suite is adding one file under ``suites/`` that defines ``SUITE``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from .subject import Subject


class Better(StrEnum):
    """In which direction a metric gets better; ``NEITHER`` cannot be gated by a drop or rise."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Need(StrEnum):
    """What a suite cannot run without; a dataset need is the kind of the dataset.

    A suite that needs an index runs once for each index of the embedding, and has a parameter ``index``: the
    name of the one to take, which the runner fills in.
    """

    BASELINE = "baseline"
    INDEX = "index"
    ANALOGIES = "analogies"
    PAIRS = "pairs"
    LABELS = "labels"
    QRELS = "qrels"
    POSITIVES = "positives"


#: Needs that a dataset of that kind fulfils.
DATASET_NEEDS = frozenset({Need.ANALOGIES, Need.PAIRS, Need.LABELS, Need.QRELS, Need.POSITIVES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """How a metric that is no mean of its items follows from them.

    Attributes:
        columns: c numeric columns of the per-item table; an item with a null among them is not scored.
        of: ``(values, counts) -> (b,)``: the metric of b resamples of n items. ``values`` is float64
            ``(n, c)``, ``counts`` float64 ``(b, n)`` says how often each item occurs in each resample; the
            result is float64, NaN where undefined. It must change smoothly with the counts: items are left
            out in turn to learn what each adds, which fails for a median.
    """

    columns: tuple[str, ...]
    of: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a number means.

    Attributes:
        name: as users write it after ``SUITE.``; ``@k`` stands for the run's own k (``recall@k`` is
            returned as ``recall@10``).
        unit: ``share``, ``cosine``, ``bytes`` …
        better: which direction is better.
        doc: one sentence.
        source: paper and section, or ``own``.
        formula: what is computed, in one line of plain text; the letters are those of the suite's module.
        low, high: the range it can take; None where unbounded.
        ideal: of a suite that compares with a baseline, what a version compared with itself has, where that
            is not the better end of the range.
        item: the column of the per-item table whose mean this is; gates compare it paired. A measure with
            the label ``x=y`` is the mean of the column ``ITEM[x=y]`` where there is one.
        statistic: instead of ``item``, where the metric follows from its items in another way.
        independent: a column with the mean of ``item`` that tests take instead of it, where the values of
            ``item`` depend on each other.
        ties: one or two groups of columns of the per-item table, where items are not independent: two of
            them that hold the same values in a group, or in the one and the other, depend on each other
            (analogies share word pairs). A null ties nothing.
        timed: whether a clock has a part in it, so that two runs on one machine differ.
    """

    name: str
    unit: str = field(kw_only=True)
    better: Better = field(kw_only=True)
    doc: str = field(kw_only=True)
    source: str = field(kw_only=True)
    formula: str = field(default="", kw_only=True)
    low: float | None = field(default=None, kw_only=True)
    high: float | None = field(default=None, kw_only=True)
    ideal: float | None = field(default=None, kw_only=True)
    item: str | None = field(default=None, kw_only=True)
    statistic: Statistic | None = field(default=None, kw_only=True)
    independent: str | None = field(default=None, kw_only=True)
    ties: tuple[tuple[str, ...], ...] = field(default=(), kw_only=True)
    timed: bool = field(default=False, kw_only=True)

    def at(self, k: int) -> str:
        """Return the name with its k filled in: ``recall@k`` -> ``recall@10``."""
        return self.name.replace("@k", f"@{k}")

    def matches(self, name: str) -> bool:
        """Whether ``name``, as returned by a run, is this metric."""
        return re.sub(r"@\d+\b", "@k", name) == self.name


@dataclass(frozen=True, slots=True)
class Measure:
    """One finite number: the ``metric`` name with its k filled in, and what it was taken on.

    Attributes:
        labels: which slice or variant (``{"section": "capital"}``), strings both.
        n: how many items (rows, questions, pairs) the value rests on.
        low, high: interval at the run's confidence, where one is known.
    """

    metric: str
    value: float
    n: int
    labels: Mapping[str, str] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """A declared metric that has no value here, and why."""

    metric: str
    reason: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a suite returns.

    Attributes:
        measures: the numbers.
        absent: declared metrics that are undefined here, with the reason.
        items: optional per-item Arrow table. Its first column ``item`` (string, unique) pairs two
            versions; columns named by ``Metric.item`` (or ``Metric.statistic``) hold each item's own value,
            null where it was not scored; columns named like a label (``section``) slice it.
        notes: one-line remarks for people.
        verdict: one word for the whole (drift).
    """

    measures: Sequence[Measure]
    absent: Sequence[Absent] = ()
    items: pa.Table | None = None
    notes: Sequence[str] = ()
    verdict: str | None = None


class Skipped(Exception):
    """Raised by a suite that has nothing to measure here; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite as a value.

    Attributes:
        name: also the module's name.
        version: raised whenever a formula changes; results of two versions are never compared.
        params: a frozen, keyword-only dataclass with a default for every field.
        metrics: everything ``run`` may return.
        needs: what must be there; a missing need skips the suite with a reason.
        wants: what it can use but runs without.
        builtin: whether a dataset that it wants may be a built-in one; one that it needs always may.
        run: ``(subject, params, rng) -> Findings``.
        doc: what the suite answers, one sentence.
    """

    name: str
    version: int
    params: type[Any]
    metrics: tuple[Metric, ...]
    needs: frozenset[Need]
    run: Callable[[Subject, Any, np.random.Generator], Findings]
    doc: str
    wants: frozenset[Need] = frozenset()
    builtin: bool = False

    def __post_init__(self) -> None:
        if Need.INDEX in self.needs and "index" not in {f.name for f in fields(self.params)}:
            raise TypeError(f"suite '{self.name}' needs an index, and has no parameter 'index'")

    def metric(self, name: str) -> Metric | None:
        """Return the declared metric that ``name`` (with or without its k filled in) means."""
        plain = re.sub(r"@\d+\b", "@k", name)
        return next((m for m in self.metrics if m.name in (plain, name)), None)

    @property
    def dataset_kind(self) -> str | None:
        """The kind of dataset the suite runs on, or can use; None where it knows none."""
        kinds = (self.needs | self.wants) & DATASET_NEEDS
        return str(next(iter(kinds))) if kinds else None

    def __repr__(self) -> str:
        return f"Suite({self.name!r}, version={self.version})"

    @classmethod
    def of(cls, module: Any) -> Self:
        """Return the ``SUITE`` that a module defines.

        Raises:
            TypeError: the module defines none, or under another name than its own.
        """
        suite = getattr(module, "SUITE", None)
        own = module.__name__.rpartition(".")[2]
        if not isinstance(suite, cls) or suite.name != own:
            raise TypeError(f"{module.__name__} must define SUITE = Suite(name='{own}', …)")
        return suite
