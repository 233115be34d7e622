"""Index: how much of the exact neighbourhoods does a FAISS build find, how fast, in how many bytes?

The build of an index that follows the embedding is asked for the neighbours of rows of the measured version.
Where it was built from another version, ids are matched, and the numbers are those of an index that nobody
rebuilt: rows it lacks cannot be found, rows that moved are found where they were.

Recall is by distance, so ties are fair: an answer counts when it is not farther than the k-th true neighbour,
d <= d_k (1 + 1e-6) + tiny. A query's own row is left out of its answers and of its neighbours, the next k
answers are looked at, paddings (-1) and ids that the version lacks are no hits, and an id counts once.
Sources: Jégou, Douze & Schmid 2011, section IV; Aumüller et al. 2020 ("ANN-Benchmarks"), section 3.1.

``index status`` shows a recall@10 too, measured when the build was made, by the same 1,000 queries. On the
version that the build was made from the two agree, apart from what they ask differently: that one queries
rows of zeros and special rows as well, and counts them as neighbours; where a row does not find itself it
counts any k of k + 1 answers, here the first k count; and its cosines are those of float32 rows, told apart
to 1e-9, while here those within 2e-7 of each other are ties.

Times are taken with the build in memory and the queries prepared, by this process, beside whatever else the
machine does: set them beside others of the same machine only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import InputError, UsageError, printable
from ...registry.vectors import Vectors, split
from .. import knn
from ..statistics import bootstrap_mean
from ..suite import Absent, Better, Findings, Measure, Metric, Need, Skipped, Suite

if TYPE_CHECKING:
    import pyarrow as pa

    from ...registry.fitness import Fitness
    from ...registry.serving import Knob, OpenBuild, PresentBuild
    from ..subject import Subject

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

RECALL = Metric(
    "recall@k",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    item="recall",
    doc="Share of the first k answers that are true nearest neighbours.",
    formula="mean over queries q of |{first k answers a: d(q, a) <= d_k(q) (1 + 1e-6) + tiny}| / k",
    source="Jégou, Douze & Schmid 2011, section IV; Aumüller et al. 2020, section 3.1",
)
_TIME: dict[str, Any] = {"unit": "ms", "better": Better.LOWER, "low": 0.0, "source": "own", "timed": True}
LATENCY_P50 = Metric(
    "latency_p50",
    **_TIME,
    doc="Median time of a single query on one thread.",
    formula="Q_.5 of the times of the queries",
)
LATENCY_P99 = Metric(
    "latency_p99",
    **_TIME,
    doc="99th percentile of the time of a single query on one thread.",
    formula="Q_.99 of the times of the queries",
)
QPS = Metric(
    "qps",
    unit="1/s",
    better=Better.HIGHER,
    low=0.0,
    doc="Queries a second, asked all at once on all threads.",
    formula="queries / seconds",
    source="Aumüller et al. 2020, section 3.1",
    timed=True,
)
PARETO = Metric(
    "pareto",
    unit="flag",
    better=Better.NEITHER,
    low=0.0,
    high=1.0,
    doc="1 where no other point of the sweep has at least its recall in at most its median time, else 0.",
    formula="1 if no point has recall >= and time <=, one of them strictly, else 0",
    source="Aumüller et al. 2020, section 3.1",
    timed=True,
)
BYTES = Metric(
    "bytes",
    unit="bytes",
    better=Better.LOWER,
    low=0.0,
    doc="Size of the build: the FAISS file and the id map.",
    formula="bytes of the FAISS file + bytes of the id map",
    source="own",
)
BYTES_PER_VECTOR = Metric(
    "bytes_per_vector",
    unit="bytes",
    better=Better.LOWER,
    low=0.0,
    doc="Size of the build over the rows that it holds.",
    formula="bytes / rows of the build",
    source="own",
)
CLIP_SHARE = Metric(
    "sq_clip_share",
    unit="share",
    better=Better.LOWER,
    low=0.0,
    high=1.0,
    doc="Share of the components of the rows that the build lacks which lie outside the range that its "
    "scalar quantizer was trained on.",
    formula="|{components outside [low, high] of their dimension}| / |{components}|",
    source="own",
)
DISTORTION_RATIO = Metric(
    "pq_distortion_ratio",
    unit="ratio",
    better=Better.LOWER,
    low=0.0,
    doc="Distortion, by the build's codes, of the rows it lacks over that of the rows it was trained for.",
    formula="e(rows it lacks) / e(rows held out of its training), e = Σ |x - x^|² / Σ |x - mean|²",
    source="Jégou, Douze & Schmid 2011, equation 8",
)
IMBALANCE = Metric(
    "ivf_imbalance",
    unit="ratio",
    better=Better.LOWER,
    low=1.0,
    doc="Imbalance factor of the inverted lists if they held the measured rows; 1 where all are as long.",
    formula="L Σ s_l² / (Σ s_l)², s_l the length of list l of L",
    source="Jégou, Douze & Schmid 2011, section IV.D",
)
_POINT = (RECALL, LATENCY_P50, LATENCY_P99, QPS)
#: Fewer times have no 99th percentile.
_PERCENTILES_FROM = 100
#: Rounding of a float32 cosine, as a squared distance.
_TINY = 4e-7
#: Elements of rows compared at a time.
_BLOCK = 1 << 22
#: The most that these are turned up to; ``nprobe`` goes up to the number of lists.
_MOST = {"efSearch": 1024, "k_factor_rf": 64, "k_factor": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        index: name of the index; empty for each that follows the embedding, one run each.
        k: how many neighbours.
        queries: how many rows are searched for, those with the smallest id hashes.
        timed: how many single queries are timed at each setting.
        sweep: whether search parameters (nprobe, efSearch, k_factor_rf) are turned through powers of two.
    """

    index: str = ""
    k: int = 10
    queries: int = 1000
    timed: int = 200
    sweep: bool = True

    def __post_init__(self) -> None:
        for name, value in (("k", self.k), ("queries", self.queries), ("timed", self.timed)):
            if value < 1:
                raise UsageError(f"index.{name} must be at least 1, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What the build is asked at every setting.

    Attributes:
        places: int64, the row of the measured version in each slot of the build; -1 where there is none.
        rows: row numbers of the queries, ascending; at least one.
        queries: ``(q, d)``.
        bounds: float64 ``(q,)``, the distance up to which a row is a neighbour; None without a recall.
        why: why there is no recall.
    """

    subject: Subject
    params: Params
    build: OpenBuild
    places: Rows
    rows: Rows
    queries: Vectors
    bounds: Floats | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """What was measured at one setting.

    Attributes:
        labels: the parameter that was turned and its value; none at the build's own setting.
        recall: float64 ``(q,)``; None where it has none.
        latencies: milliseconds.
        rate: queries a second, on so many threads.
    """

    labels: dict[str, str]
    recall: Floats | None
    latencies: Floats
    rate: float
    threads: int

    @property
    def column(self) -> str:
        """The column of the items: ``recall``, ``recall[nprobe=16]``."""
        return "recall" + "".join(f"[{label}={value}]" for label, value in self.labels.items())

    @property
    def median(self) -> float:
        """Median time of a query, milliseconds."""
        return float(np.median(self.latencies))


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Measure the build of an index that follows the embedding.

    Raises:
        Skipped: the subject has no index, or, but for cosine, rows so long that none could hold them.
        CorruptBlob: a file of the build is missing or damaged.
        IndexFailed: FAISS cannot read it, or refuses to search.
    """
    if subject.index is None:
        raise Skipped("needs an index ('embreg index build INDEX REF --factory HNSW32')")
    try:
        return _run(subject, subject.index, params, rng)
    except InputError as exc:
        raise Skipped(exc.message) from exc


def _run(subject: Subject, present: PresentBuild, params: Params, rng: np.random.Generator) -> Findings:
    build = present.open()
    width = subject.table.dim
    misfit = "" if width == build.dim else f"the rows have {width} dimensions, the build {build.dim}"
    found: list[Measure | Absent] = []
    notes, items = [_about(present, subject)], None
    if misfit or not subject.valid.size:
        reason = misfit or "there is no row that is not zero to ask for"
        found += [Absent(m.at(params.k), reason) for m in (*_POINT, PARETO)]
        found += _sizes(present)
    else:
        task = _task(subject, build, params)
        own, swept = _point(task), []
        if params.sweep:
            swept = [point for knob in build.knobs() for point in _turns(task, knob, own)]
        found += [*_measures(task, own, rng), *_sizes(present)]
        found += [m for point in swept for m in _measures(task, point, rng)]
        found += _frontier(task, swept)
        items = _items(task, [own, *swept])
        notes += [*_told(task, swept), _how(task, own)]
    fitness = build.fitness(subject.table, subject.ref)
    found += _health(fitness, misfit)
    notes.append(f"repair {fitness.repair}: {fitness.cause}")
    return Findings(
        measures=[f for f in found if isinstance(f, Measure)],
        absent=[f for f in found if isinstance(f, Absent)],
        items=items,
        notes=notes,
        verdict=str(fitness.repair),
    )


def _about(present: PresentBuild, subject: Subject) -> str:
    state = present.state
    settings = f" ({printable(state.search)})" if state.search else ""
    told = f"'{state.name}': {printable(state.factory)}{settings}, {state.rows:,} rows of {state.built_from}"
    if state.built_from == subject.ref:
        return told
    return f"{told}; measured on {subject.ref}: this is what it answers until it is rebuilt"


def _sizes(present: PresentBuild) -> Iterator[Measure | Absent]:
    state = present.state
    yield Measure(BYTES.name, float(state.nbytes), state.rows)
    if state.rows:
        yield Measure(BYTES_PER_VECTOR.name, state.nbytes / state.rows, state.rows)
    else:
        yield Absent(BYTES_PER_VECTOR.name, "the build holds no rows")


def _task(subject: Subject, build: OpenBuild, params: Params) -> _Task:
    rows, bounds, why = subject.sample(params.queries), None, ""
    try:
        graph = subject.neighbors(params.k)
    except Skipped as skipped:
        why = str(skipped)
    else:
        rows = subject.sample(params.queries, among=graph.queries)
        last = graph.rows[np.searchsorted(graph.queries, rows), params.k - 1]
        bounds = _bounds(subject, rows, last)
    return _Task(
        subject=subject,
        params=params,
        build=build,
        places=build.places(subject.table),
        rows=rows,
        queries=subject.table.take(rows),
        bounds=bounds,
        why=why,
    )


def _bounds(subject: Subject, rows: Rows, last: Rows) -> Floats:
    """Return the distances ``(q,)`` up to which a row is as near as the last true neighbour."""
    truth = _distances(subject, rows, last[:, None])[:, 0]
    cosine = subject.space.metric == "cosine"
    tiny = _TINY if cosine else 1e-30 * float(np.square(subject.norms[rows]).max())
    bounds: Floats = truth + 1e-6 * np.abs(truth) + tiny
    return bounds


def _distances(subject: Subject, rows: Rows, others: Rows) -> Floats:
    """Return the distances of rows ``(q,)`` to others ``(q, m)``: squared, or negated products under dot."""
    table, metric, width = subject.table, subject.space.metric, others.shape[1]
    near = np.empty(others.shape)
    for part in split(len(rows), max(1, _BLOCK // (width * table.dim))):
        x, y = table.take(np.repeat(rows[part], width)), table.take(others[part].ravel())
        near[part] = -knn.between(x, y, metric).reshape(-1, width)
    return 2 + 2 * near if metric == "cosine" else near


def _turns(task: _Task, knob: Knob, own: _Point) -> Iterator[_Point]:
    """Yield the points of one search parameter, ascending, until all neighbours are found."""
    complete = False
    for value in levels(knob, task.params.k):
        if value == knob.value:
            point = replace(own, labels=_labels(knob, value))
        elif complete:
            continue
        else:
            with task.build.turned(knob, value):
                point = _point(task, _labels(knob, value))
        complete = complete or (point.recall is not None and bool((point.recall == 1).all()))
        yield point


def levels(knob: Knob, k: int) -> list[float]:
    """Return what a search parameter is turned to, ascending: powers of two, and what it is set to.

    ``nprobe`` goes up to the number of lists, itself included. ``efSearch``, which FAISS never takes below k,
    goes up to 1,024, and the factors of a refined index up to 64, none past the number of rows.
    """
    first = k if knob.name == "efSearch" else 1
    most = min(_MOST.get(knob.name, knob.most), knob.most)
    ends = {float(most)} if knob.name == "nprobe" else set()
    return sorted({float(1 << i) for i in range(32) if first <= 1 << i <= most} | {knob.value} | ends)


def _labels(knob: Knob, value: float) -> dict[str, str]:
    return {knob.name: f"{value:g}"}


def _point(task: _Task, labels: dict[str, str] | None = None) -> _Point:
    """Measure the build as it is set; one answer more than k is for the query itself."""
    params, build = task.params, task.build
    asked = build.batch(task.queries, params.k + 1)
    return _Point(
        labels=labels or {},
        recall=None if task.bounds is None else _recall(task, asked.slots, task.bounds),
        latencies=1e3 * build.latencies(task.queries, params.k + 1, params.timed),
        rate=asked.rate,
        threads=asked.threads,
    )


def _recall(task: _Task, slots: Rows, bounds: Floats) -> Floats:
    found = np.append(task.places, -1)[slots]  # the last of them is slot -1
    near = _distances(task.subject, task.rows, np.maximum(found, 0)) <= bounds[:, None]
    return shares(found, task.rows, near, task.params.k)


def shares(found: Rows, own: Rows, near: NDArray[np.bool_], k: int) -> Floats:
    """Return the share of k that the first k answers of each query hit, float64 ``(q,)``.

    Args:
        found: int64 ``(q, m)``, the rows that answered, best first; -1 for no row.
        own: int64 ``(q,)``, the row of each query, which is left out.
        near: bool ``(q, m)``, which of them are not farther than the k-th true neighbour.
        k: how many answers are asked for.
    """
    others = found != own[:, None]
    first = others & (np.cumsum(others, axis=1) <= k)
    hits: Floats = (first & near & (found >= 0) & ~_repeated(found)).sum(axis=1) / k
    return hits


def _repeated(found: Rows) -> NDArray[np.bool_]:
    """Return which answers of a query ``(q, m)`` it was given before."""
    order = np.argsort(found, axis=1, kind="stable")
    ordered = np.take_along_axis(found, order, axis=1)
    again = np.zeros(found.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return again


def _measures(task: _Task, point: _Point, rng: np.random.Generator) -> Iterator[Measure | Absent]:
    labels, times, name = point.labels, point.latencies, RECALL.at(task.params.k)
    if point.recall is None:
        yield Absent(name, task.why, labels)
    else:
        low, high = bootstrap_mean(point.recall, rng)
        yield Measure(name, float(point.recall.mean()), len(task.rows), labels, low, high)
    yield Measure(LATENCY_P50.name, point.median, len(times), labels)
    if len(times) >= _PERCENTILES_FROM:
        yield Measure(LATENCY_P99.name, float(np.quantile(times, 0.99)), len(times), labels)
    else:
        reason = f"a 99th percentile takes {_PERCENTILES_FROM} times; there are {len(times)}"
        yield Absent(LATENCY_P99.name, reason, labels)
    yield Measure(QPS.name, point.rate, len(task.rows), labels)


def _frontier(task: _Task, swept: Sequence[_Point]) -> Iterator[Measure | Absent]:
    """Yield which points of a sweep are worth having."""
    if task.bounds is None or not swept:
        unswept = (
            "the type has no search parameter to turn" if task.params.sweep else "no sweep was asked for"
        )
        yield Absent(PARETO.name, unswept if not swept else task.why)
        return
    for point, best in zip(swept, _best(swept), strict=True):
        yield Measure(PARETO.name, float(best), len(task.rows), point.labels)


def _best(swept: Sequence[_Point]) -> NDArray[np.bool_]:
    return pareto(np.array(_means(swept)), np.array([point.median for point in swept]))


def _means(points: Sequence[_Point]) -> list[float]:
    return [float(point.recall.mean()) for point in points if point.recall is not None]


def pareto(recall: Floats, time: Floats) -> NDArray[np.bool_]:
    """Return which points ``(n,)`` no other dominates: as much recall in as little time, and more or less."""
    as_good = (recall[None, :] >= recall[:, None]) & (time[None, :] <= time[:, None])
    better = (recall[None, :] > recall[:, None]) | (time[None, :] < time[:, None])
    return np.asarray(~(as_good & better).any(axis=1))


def _told(task: _Task, swept: Sequence[_Point]) -> list[str]:
    """Say in a line which points of a sweep are worth having."""
    if task.bounds is None or not swept:
        return []
    best = sorted(
        (point.median, recall, name, value)
        for point, recall, flag in zip(swept, _means(swept), _best(swept), strict=True)
        for name, value in point.labels.items()
        if flag
    )
    told = [f"{name}={value} {recall:.3f} in {median:.3g} ms" for median, recall, name, value in best]
    return [f"recall that no other setting reaches in as little time: {', '.join(told)}"]


def _how(task: _Task, own: _Point) -> str:
    threads = f"{own.threads} thread{'s' if own.threads > 1 else ''}"
    return f"qps: {len(task.rows):,} queries at once on {threads}; latency: one query on one thread"


def _items(task: _Task, points: Sequence[_Point]) -> pa.Table | None:
    import pyarrow as pa

    if task.bounds is None:
        return None
    items = pa.array(task.subject.table.ids_of(task.rows), pa.string())
    return pa.table({"item": items} | {point.column: pa.array(point.recall) for point in points})


def _health(fitness: Fitness, misfit: str) -> Iterator[Measure | Absent]:
    """Yield how the codebooks hold the rows that the build lacks."""
    before, found = fitness.before, fitness.found
    none = misfit or ("" if fitness.lacking else "the build holds every row as it is")
    if found.clip_share is None:
        reason = none or "the type has no scalar quantizer that was trained on a range"
        yield Absent(CLIP_SHARE.name, reason)
    else:
        yield Measure(CLIP_SHARE.name, found.clip_share, fitness.seen)
    if found.distortion is None or not before.distortion:
        yield Absent(DISTORTION_RATIO.name, none or _no_ratio(found.distortion, before.distortion))
    else:
        yield Measure(DISTORTION_RATIO.name, found.distortion / before.distortion, fitness.seen)
    if fitness.imbalance is None:
        yield Absent(IMBALANCE.name, misfit or "the type has no inverted lists")
    else:
        yield Measure(IMBALANCE.name, fitness.imbalance, fitness.listed)


def _no_ratio(found: float | None, before: float | None) -> str:
    if found is None:
        return "the type has no codes that were trained"
    if before is None:
        return "the build was trained on every row of its version: none is left to compare with"
    return "its codes of the rows it was trained for are exact"


SUITE = Suite(
    name="index",
    version=1,
    params=Params,
    metrics=(*_POINT, PARETO, BYTES, BYTES_PER_VECTOR, CLIP_SHARE, DISTORTION_RATIO, IMBALANCE),
    needs=frozenset({Need.INDEX}),
    run=run,
    doc="How much of the exact neighbourhoods does a FAISS build find, how fast, in how many bytes?",
)
