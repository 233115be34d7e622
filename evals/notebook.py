"""What Python users call: evaluations of registered versions, and of plain vectors without any registry.

Both go through the same suites with the same seeds, so the same rows have the same numbers. What is
registered is measured by the runner, which keeps its runs; as soon as something plain takes part, nothing is
recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..registry.errors import UsageError, printable
from . import comparing, runner
from .calls import Params, Settings, Side, What, is_registry, listed, notes, only, opened, ready, runs_of
from .graphs import EXACT
from .plain import Ids
from .plain_data import Datasets, LabelsOf
from .results import Compared, Run, Runs
from .side_by_side import side_by_side
from .statistics import CONFIDENCE

if TYPE_CHECKING:
    import pyarrow as pa

    from ..registry.registry import Registry
    from ..registry.types import Progress
    from .calls import Home


@overload
def evaluate(
    what: Registry,
    ref: str,
    *,
    suites: Sequence[str] | None = None,
    baseline: What | None = None,
    datasets: Datasets | None = None,
    labels: LabelsOf | None = None,
    params: Params | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    queries: int | None = None,
    neighbors: str = EXACT,
    force: bool = False,
    progress: Progress | None = None,
) -> Runs: ...


@overload
def evaluate(
    what: What,
    *,
    ids: Ids | None = None,
    metric: str | None = None,
    name: str = "array",
    suites: Sequence[str] | None = None,
    baseline: What | None = None,
    baseline_ids: Ids | None = None,
    datasets: Datasets | None = None,
    labels: LabelsOf | None = None,
    params: Params | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    queries: int | None = None,
    neighbors: str = EXACT,
    registry: Home | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Runs: ...


def evaluate(
    what: Any,
    ref: Any = None,
    *,
    ids: Ids | None = None,
    metric: str | None = None,
    name: str = "array",
    suites: Sequence[str] | None = None,
    baseline: What | None = None,
    baseline_ids: Ids | None = None,
    datasets: Datasets | None = None,
    labels: LabelsOf | None = None,
    params: Params | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    queries: int | None = None,
    neighbors: str = EXACT,
    registry: Home | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Runs:
    """Measure vectors, or a registered version.

    >>> import embreg
    >>> import numpy as np
    >>> vectors = np.random.default_rng(0).standard_normal((500, 32))
    >>> runs = embreg.evaluate(vectors, suites=["hubness"])
    >>> runs.value("hubness.skewness") > 0
    True

    Runs on a version alone are recorded in its registry and read back the next time. Where vectors, labels or
    datasets take part that are not registered, nothing is recorded; nor is anything written of vectors.

    Args:
        what: vectors ``(n, d)`` (a numpy array, a torch tensor, a list of rows, an Arrow table, a data frame
            or an ``EmbeddingTable``), a reference, or a registry, ``ref`` being what is measured then. Rows
            that hold NaN or infinity take no part, which the notes of the result tell.
        ref: a reference, where a registry comes first.
        ids: of the rows of vectors, each once, or the name of a table's column; by default ``"0"``, ``"1"`` …
        metric: by which vectors are compared: ``cosine`` (by default), ``dot`` or ``l2``.
        name: how vectors are called in the results.
        suites: names; by default every suite, those whose needs are not met being skipped with the reason.
        baseline: vectors or a reference to compare with (drift). Vectors without ids have those of the other
            side by position, if there are as many.
        baseline_ids: of the rows of such vectors.
        datasets: names of registered or built-in ones; or by name ``(kind, rows)``, where a kind as a name
            says it already: ``{"pairs": [("cat", "dog", 7.5)]}``. Rows are tuples, an Arrow table, or the
            path of a file. By default those of the registry, where there is one, and where none of a kind is
            at hand a built-in one, if at least half of it are ids of the rows.
        labels: of the rows in their order, None for none, or by id: a dataset of the kind ``labels``.
        params: parameters by suite.
        seed: of every random choice.
        confidence: of the intervals, between 0 and 1, exclusive.
        queries: rows that the neighbour graph is asked for, 0 for all; by default all up to 50,000 rows, and
            10,000 of more.
        neighbors: how those of a table of more rows are found: ``exact``, or ``approx`` by an index, then of
            all rows by default. What the index misses is measured on 1,000 rows: figures are corrected for
            it, and have wider intervals.
        registry: of references; by default that of ``$EMBREG_REGISTRY``, ``embreg.toml`` or ``.embreg``.
        force: measure again what was recorded before.
        progress: told which run is being done.

    Returns:
        One run per suite and dataset, or index, in the order of the suites.

    Raises:
        InputError: the vectors, ids, labels or datasets cannot be what they are given as.
        UsageError: an argument has no meaning here, or is outside its range.
        UnknownChoice: no such suite, parameter, metric or index.
        NotFound: no such registry, version or dataset.
    """
    registry, what = _measured_one(what, ref, registry)
    suites = listed(suites)
    sides = [Side(what=what, name=name, ids=ids)]
    if baseline is not None:
        sides.append(Side(what=baseline, name="baseline", ids=baseline_ids))
    elif baseline_ids is not None:
        raise UsageError("ids of a baseline, and no baseline")
    asked = Settings(
        suites=suites, datasets=datasets, labels=labels, params=params, seed=seed, confidence=confidence,
        queries=queries, neighbors=neighbors, metric=metric, progress=progress,
    )  # fmt: skip
    with opened(registry, sides, asked) as home:
        if home is not None and asked.recordable(sides):
            records = runner.evaluate(
                home, what, suites=suites, baseline=_ref(baseline), datasets=asked.names, params=params,
                seed=seed, confidence=confidence, queries=queries, neighbors=neighbors, force=force,
                progress=progress,
            )  # fmt: skip
            return runs_of(records, home.stored_table)
        first, *others = ready(sides, asked, home)
        return asked.run(first, others[0] if others else None, asked.data(first, home))


def _ref(what: What | None) -> str | None:
    return what if isinstance(what, str) else None


def _measured_one(what: Any, ref: Any, registry: Home | None) -> tuple[Home | None, Any]:
    """Return the registry and what is measured, in whichever order they came."""
    if is_registry(what):
        if ref is None:
            raise UsageError("a registry, and nothing to measure in it", hint="evaluate(registry, REF)")
        return only(registry, what), ref
    if ref is not None:
        raise UsageError("two things to measure", hint="evaluate(REF, registry=…), evaluate(vectors, ids=…)")
    return registry, what


@overload
def drift(
    a: Registry,
    b: str,
    c: str,
    /,
    *,
    params: Params | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    neighbors: str = EXACT,
    force: bool = False,
    progress: Progress | None = None,
) -> Run: ...


@overload
def drift(
    a: What,
    b: What,
    /,
    *,
    ids: Ids | None = None,
    new_ids: Ids | None = None,
    metric: str | None = None,
    params: Params | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    neighbors: str = EXACT,
    registry: Home | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Run: ...


def drift(
    a: Any,
    b: Any,
    c: Any = None,
    /,
    *,
    ids: Ids | None = None,
    new_ids: Ids | None = None,
    metric: str | None = None,
    params: Params | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    neighbors: str = EXACT,
    registry: Home | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Measure how far vectors or a version drifted from others, on the ids they share.

    >>> import embreg
    >>> import numpy as np
    >>> old = np.random.default_rng(0).standard_normal((500, 32))
    >>> turned = old @ np.linalg.qr(np.random.default_rng(1).standard_normal((32, 32)))[0]
    >>> embreg.drift(old, turned).verdict
    'rotated'

    Args:
        a: the old vectors, or a reference; or a registry, two references following.
        b: the new ones.
        c: the new ones, where a registry comes first.
        ids: of the old vectors, and of the new ones by position if there are as many.
        new_ids: of the new vectors.
        metric: by which vectors are compared: ``cosine`` (by default), ``dot`` or ``l2``.
        params: by suite.
        seed: of every random choice.
        confidence: of the intervals, between 0 and 1, exclusive.
        neighbors: as for ``evaluate``.
        registry: of references; by default as for ``evaluate``.
        force: measure again what was recorded before.
        progress: told what is being done.

    Returns:
        The run, with its ``verdict``.

    Raises:
        InputError: the vectors or ids cannot be what they are given as.
        NotFound: no such registry or version.
    """
    if is_registry(a):
        registry, a, b = only(registry, a), b, c
    elif c is not None:
        raise UsageError("drift is between two: the old and the new", hint="'compare' takes more")
    if b is None:
        raise UsageError("drift is between two: the old and the new")
    sides = [Side(what=b, name="new", ids=new_ids), Side(what=a, name="old", ids=ids)]
    asked = Settings(
        suites=["drift"], params=params, seed=seed, confidence=confidence, neighbors=neighbors,
        metric=metric, progress=progress,
    )  # fmt: skip
    with opened(registry, sides, asked) as home:
        if home is not None and asked.recordable(sides):
            run = runner.drift(
                home, a, b, params=params, seed=seed, confidence=confidence, neighbors=neighbors,
                force=force, progress=progress,
            )  # fmt: skip
            return Run.of(run, home.stored_table)
        new, old = ready(sides, asked, home)
        runs = asked.run(new, old, ())
        return Run.of(replace(runs[0], notes=(*runs.notes, *runs[0].notes)), runs[0].opener)


def compare(
    *what: Any,
    ids: Ids | Mapping[str, Ids] | None = None,
    metric: str | None = None,
    suites: Sequence[str] | None = None,
    datasets: Datasets | None = None,
    labels: LabelsOf | None = None,
    params: Params | None = None,
    seed: int = 0,
    alpha: float = 0.05,
    glance: bool = False,
    measure: bool = True,
    registry: Home | None = None,
    progress: Progress | None = None,
) -> Compared:
    """Set vectors or versions side by side; the first is what the others are held against.

    >>> import embreg
    >>> import numpy as np
    >>> full = np.random.default_rng(0).standard_normal((300, 32))
    >>> compared = embreg.compare({"full": full, "half": full[:, :16]}, suites=["hubness"])
    >>> compared.refs
    ('full', 'half')

    Args:
        *what: two or more, each vectors or a reference; or vectors by name, in one mapping. A registry may
            come first. Vectors without a name are called ``array 1`` and so on, by their place.
        ids: of the rows of all vectors, or by name; vectors without ids have those of the first that has
            some, by position, if there are as many.
        metric: by which vectors are compared: ``cosine`` (by default), ``dot`` or ``l2``.
        suites: names; by default every suite.
        datasets: as for ``evaluate``.
        labels: of the rows of the first, in their order, or by id.
        params: by suite.
        seed: of every random choice.
        alpha: at which a difference counts as significant, after Holm over all tests of the comparison.
        glance: leave out slices and most variants of a metric; they take no part in Holm's correction.
        measure: measure what was not recorded before; otherwise only that is compared, of versions alone.
        registry: of references; by default as for ``evaluate``.
        progress: told what is being done.

    Raises:
        InputError: the vectors, ids, labels or datasets cannot be what they are given as.
        UsageError: fewer than two, or two of one name.
        UnknownChoice: no such suite or parameter.
        NotFound: no such registry, version or dataset.
    """
    if what and is_registry(what[0]):
        registry, what = only(registry, what[0]), what[1:]
    sides, suites = _compared(what, ids), listed(suites)
    asked = Settings(
        suites=suites, datasets=datasets, labels=labels, params=params, seed=seed, metric=metric,
        progress=progress,
    )  # fmt: skip
    with opened(registry, sides, asked) as home:
        if home is not None and asked.recordable(sides):
            found = comparing.compare(
                home, [side.what for side in sides], suites=suites, datasets=asked.names, params=params,
                seed=seed, alpha=alpha, glance=glance, measure=measure, progress=progress,
            )  # fmt: skip
            kept = {ref: runs_of(own, home.stored_table) for ref, own in found.runs.items()}
            return Compared.of(replace(found, runs=kept))
        if not measure:
            raise UsageError("nothing is recorded of vectors: they can be compared only as they are measured")
        tables = ready(sides, asked, home)
        names = [table.given.ref for table in tables]
        if len(set(names)) < len(names):
            raise UsageError("two of them have one name", hint="name them: compare({NAME: VECTORS, …})")
        data = asked.data(tables[0], home)
        baselines = [None, *tables[:1] * (len(tables) - 1)]
        runs = {
            name: asked.run(table, baseline, data)
            for name, table, baseline in zip(names, tables, baselines, strict=True)
        }
    compared = side_by_side(
        runs, runner.discover(), _items_of(runs), np.random.default_rng(seed), alpha=alpha, glance=glance
    )  # fmt: skip
    return Compared.of(compared, notes(tables))


def _items_of(runs: Mapping[str, Runs]) -> Callable[[str], pa.Table | None]:
    """Return the opener of the per-item tables of runs in memory."""
    openers = {run.items: run.opener for own in runs.values() for run in own if run.items}
    return lambda digest: openers[digest](digest) if digest in openers else None


def _compared(what: Sequence[Any], ids: Ids | Mapping[str, Ids] | None) -> list[Side]:
    if len(what) == 1 and isinstance(what[0], Mapping):
        named = {str(name): one for name, one in what[0].items()}
    else:
        named = {f"array {i}": one for i, one in enumerate(what, 1)}
    if len(named) < 2:
        hint = "compare(A, B), or compare({NAME: VECTORS, …})"
        raise UsageError("a comparison takes at least two", hint=hint)
    if not isinstance(ids, Mapping):
        ids = (
            {name: ids for name, one in named.items() if not isinstance(one, str)} if ids is not None else {}
        )
    if unknown := [str(name) for name in ids if name not in named]:
        raise UsageError(f"ids of '{printable(unknown[0], 60)}', which is not compared")
    return [Side(what=one, name=name, ids=ids.get(name)) for name, one in named.items()]
