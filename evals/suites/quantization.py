"""Quantization: how much of the neighbourhoods survives when vectors are kept in fewer bytes?

Each codec (``evals.codecs``) is fitted to a sample of the table, never to the queries; every row goes through
it, and the exact float32 queries search the decoded rows (asymmetric, as FAISS does). Under cosine the *unit*
rows are encoded, as an index would, and lengths after decoding do not matter; under dot and L2 the rows as
they are. Truth is the shared neighbour graph. Source: Jégou, Douze & Schmid 2011, section IV (recall).

With the label ``rescore=F`` the F k rows found first are ranked anew with their exact vectors, and the best k
of them count. ``recall@1`` is told of both searches: ``search=asymmetric``, and ``search=symmetric`` where
the queries are decoded codes too. Of decoded rows at one distance the lower row number is found first.

Recall is by distance, so ties are fair: a returned row counts when it is not farther than the k-th true
neighbour, d <= d_k (1 + 1e-6) + tiny.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import UnknownChoice, UsageError
from ...registry.vectors import row_norms, split, unit_rows
from .. import codecs, knn
from ..codecs import Codec, Unfit
from ..statistics import Sums, bootstrap_mean, normal_interval
from ..suite import Absent, Better, Findings, Measure, Metric, Suite
from ..threads import in_threads

if TYPE_CHECKING:
    import pyarrow as pa

    from ..subject import Subject

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]

RECALL = Metric(
    "recall@k",
    unit="share",
    better=Better.HIGHER,
    low=0.0,
    high=1.0,
    item="recall",
    doc="Share of the k rows found among the decoded rows (and ranked anew, with rescore) that are true "
    "nearest neighbours.",
    formula="mean over queries q of |{first k found x: d(q, x) <= d_k(q) (1 + 1e-6) + tiny}| / k",
    source="Jégou, Douze & Schmid 2011, section IV",
)
DISTORTION = Metric(
    "distortion",
    unit="distance",
    better=Better.LOWER,
    low=0.0,
    doc="Mean distance of a row from what is decoded; under cosine in units of the row's norm.",
    formula="mean over i of |x_i - x^_i|, x^ the decoded row",
    source="own; its mean square is the distortion of Jégou, Douze & Schmid 2011, section II",
)
COSINE_MEAN = Metric(
    "cosine_mean",
    unit="cosine",
    better=Better.HIGHER,
    low=-1.0,
    high=1.0,
    doc="Mean cosine of a row with what is decoded, 0 where that is zero.",
    formula="mean over i of cos(x_i, x^_i)",
    source="own",
)
COSINE_MIN = Metric(
    "cosine_min",
    unit="cosine",
    better=Better.HIGHER,
    low=-1.0,
    high=1.0,
    doc="Smallest cosine of a row with what is decoded, 0 where that is zero.",
    formula="min over i of cos(x_i, x^_i)",
    source="own",
)
BYTES = Metric(
    "bytes_per_vector",
    unit="bytes",
    better=Better.LOWER,
    low=0.0,
    doc="Size of one encoded row.",
    formula="bytes of a code",
    source="own",
)
RATIO = Metric(
    "ratio",
    unit="ratio",
    better=Better.HIGHER,
    low=0.0,
    doc="Size of a row of the table over the size of an encoded row.",
    formula="d × bytes of a component / bytes of a code",
    source="own",
)
_METRICS = (RECALL, DISTORTION, COSINE_MEAN, COSINE_MIN, BYTES, RATIO)
_TRAINING_ROWS = 100_000
#: Numbers decoded at a time.
_BLOCK = 1 << 25
#: Numbers compared at a time, in float64.
_COMPARED = 1 << 18
#: Rounding of a float32 cosine, as a squared distance.
_TINY = 4e-7
#: Squares of lengths between these are numbers of float32 that hold all their digits.
_LENGTHS = (1e-15, 1e15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        k: how many neighbours.
        queries: how many rows of the neighbour graph are searched for.
        codecs: names, see ``evals.codecs``.
        rescore: so many times k candidates are ranked anew with their exact vectors.
        symmetric: whether decoded queries search too.
    """

    k: int = 10
    queries: int = 1000
    codecs: tuple[str, ...] = (
        "fp16", "bf16", "int8", "int4", "1-bit", "pq", "rabitq", "truncate-1/2", "truncate-1/4"
    )  # fmt: skip
    rescore: tuple[int, ...] = (2, 4)
    symmetric: bool = True

    def __post_init__(self) -> None:
        for name, value in (
            ("k", self.k),
            ("queries", self.queries),
            *(("rescore", f) for f in self.rescore),
        ):
            if value < 1:
                raise UsageError(f"quantization.{name} must be at least 1, not {value}")
        if len(set(self.rescore)) < len(self.rescore):
            raise UsageError("quantization.rescore names a number twice")
        for name in self.codecs:
            if name not in codecs.NAMES:
                raise UnknownChoice("codec", name, codecs.NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What every codec is measured on.

    Attributes:
        rows: row numbers of the queries, ascending.
        queries: float32 ``(q, d)``, in the form that is encoded.
        truth: float64 ``(q, k)``, true squared distances (negated scores under dot) of the k neighbours.
        depth: how many rows are looked for.
        exponent: of the power of two in whose units rows are searched: 0, unless they are very long or short.
        symmetric: whether decoded queries search too.
    """

    subject: Subject
    k: int
    rows: Rows
    queries: Floats
    truth: NDArray[np.float64]
    depth: int
    exponent: int
    symmetric: bool

    @property
    def metric(self) -> str:
        return self.subject.space.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passage:
    """What became of the table: rows found, best first, and how far rows moved.

    Attributes:
        found: int64 ``(q, depth)``, by the exact queries.
        symmetric: int64 ``(q, 1)``, by the decoded queries; None where they did not search.
        distortion, cosine: mean over the rows, and its standard error.
    """

    found: Rows
    symmetric: Rows | None
    distortion: tuple[float, float]
    cosine: tuple[float, float]
    cosine_min: float


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Measure what each codec keeps of a table.

    Raises:
        Skipped: the table has fewer than k + 1 rows that are not zero.
    """
    task = _task(subject, params)
    size = min(len(subject.valid), _TRAINING_ROWS)
    training = _form(subject, np.sort(rng.choice(subject.valid, size=size, replace=False)))
    found: list[Measure | Absent] = []
    recalls: dict[str, list[_Recall]] = {}
    itemsize = np.dtype(subject.space.dtype).itemsize
    for i, name in enumerate(params.codecs):
        subject.tell(f"codec {name}", i, len(params.codecs))
        labels = {"codec": name}
        try:
            codec = codecs.fit(name, training, itemsize)
            passage = _pass(task, codec)
        except Unfit as reason:
            found += [Absent(m.at(params.k), str(reason), labels) for m in _METRICS]
            continue
        recalls[name] = list(_recalls(task, passage, params.rescore))
        found += [m.measure(task, {"codec": name}, rng) for m in recalls[name]]
        found += _measures(task, codec, passage)
    return Findings(
        measures=[f for f in found if isinstance(f, Measure)],
        absent=[f for f in found if isinstance(f, Absent)],
        items=_items(task, recalls),
    )


def _task(subject: Subject, params: Params) -> _Task:
    graph = subject.neighbors(params.k)
    rows = subject.sample(params.queries, among=graph.queries)
    place = np.searchsorted(graph.queries, rows)
    scores = subject.widened(rows, graph.rows[place], graph.scores[place])
    cosine, longest = subject.space.metric == "cosine", float(subject.norms[subject.valid].max())
    inside = cosine or _LENGTHS[0] <= longest <= _LENGTHS[1]
    return _Task(
        subject=subject,
        k=params.k,
        rows=rows,
        queries=_form(subject, rows),
        truth=2 - 2 * scores if cosine else -scores,
        depth=min(params.k * max(params.rescore, default=1), graph.n - 1),
        exponent=0 if inside else int(np.rint(np.log2(longest))),
        symmetric=params.symmetric,
    )


def _form(subject: Subject, rows: Rows) -> Floats:
    """Return rows as they are encoded: unit rows under cosine, float32."""
    x = subject.table.take(rows)
    return unit_rows(x) if subject.space.metric == "cosine" else np.ascontiguousarray(x, dtype=np.float32)


def _pass(task: _Task, codec: Codec) -> _Passage:
    """Send every row through the codec, and search what comes out, block by block."""
    valid = task.subject.valid
    own, queries = task.rows, task.queries
    if task.symmetric:
        own, queries = np.tile(own, 2), np.vstack([queries, codec.through(queries)])
    best = knn.Neighbors(np.empty((len(own), 0), np.int64), np.empty((len(own), 0), np.float32))
    moved, cosines = Sums(), Sums()
    for part in split(len(valid), max(task.depth + 1, _BLOCK // task.subject.table.dim)):
        rows = _form(task.subject, valid[part])
        decoded = codec.through(rows)
        if not (np.isfinite(decoded).all() and np.isfinite(queries).all()):
            raise Unfit(f"some numbers are beyond the range of {codec.name}")
        apart, cosine = _compare(rows, decoded)
        moved.add(apart)
        cosines.add(cosine)
        # One more than asked, for the query itself, which is among the decoded rows.
        depth = min(task.depth + 1, len(rows))
        here = codec.nearest(queries, rows, decoded, depth, task.metric, task.exponent)
        best = _merged(best, knn.Neighbors(valid[part][here.rows], here.scores), task.depth + 1)
    found = _without(best.rows, own)
    return _Passage(
        found=found[: len(task.rows)],
        symmetric=found[len(task.rows) :, :1] if task.symmetric else None,
        distortion=moved.mean,
        cosine=cosines.mean,
        cosine_min=cosines.least,
    )


def _compare(x: Floats, y: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distance and the cosine of each row of ``x`` and its counterpart, float64."""
    distances, cosines = np.empty(len(x)), np.empty(len(x))

    def compare(part: slice) -> None:
        a, b = x[part].astype(np.float64), y[part].astype(np.float64)
        gap = a - b
        lengths = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
        cosines[part] = np.einsum("ij,ij->i", a, b) / np.where(lengths > 0, lengths, 1.0)
        distances[part] = np.sqrt(np.einsum("ij,ij->i", gap, gap))

    in_threads(compare, list(split(len(x), max(1, _COMPARED // x.shape[1]))))
    return distances, np.clip(cosines, -1.0, 1.0)


def _merged(a: knn.Neighbors, b: knn.Neighbors, k: int) -> knn.Neighbors:
    """Return the best ``k`` of both; rows of ``a`` come before rows of ``b``, so ties stay by row."""
    rows, scores = np.hstack([a.rows, b.rows]), np.hstack([a.scores, b.scores])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return knn.Neighbors(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))


def _without(rows: Rows, own: Rows) -> Rows:
    """Return ``(q, k)`` of ``(q, k + 1)``: each query's own row left out, else the last one."""
    drop = rows == own[:, None]
    drop[~drop.any(axis=1), -1] = True
    kept: Rows = rows[~drop].reshape(len(rows), -1)
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recall:
    """The recall of each query at ``k``, under labels of its own beside the codec."""

    k: int
    labels: dict[str, str]
    values: NDArray[np.float64]

    @property
    def column(self) -> str:
        """The column of the items: ``recall``, ``recall[rescore=2]``."""
        return "recall" + "".join(f"[{label}={value}]" for label, value in self.labels.items())

    def measure(self, task: _Task, labels: dict[str, str], rng: np.random.Generator) -> Measure:
        low, high = bootstrap_mean(self.values, rng)
        labels = labels | self.labels
        return Measure(RECALL.at(self.k), float(self.values.mean()), len(task.rows), labels, low, high)


def _recalls(task: _Task, passage: _Passage, rescore: tuple[int, ...]) -> Iterator[_Recall]:
    k, distances = task.k, _distances(task, passage.found)
    true = distances <= _bound(task, task.truth[:, -1])[:, None]
    yield _Recall(k=k, labels={}, values=true[:, :k].mean(axis=1))
    for factor in rescore:
        # Exact vectors put the true neighbours first.
        kept = np.minimum(true[:, : factor * k].sum(axis=1), k) / k
        yield _Recall(k=k, labels={"rescore": str(factor)}, values=kept)
    first = _bound(task, task.truth[:, 0])
    searches = {"asymmetric": distances[:, 0]}
    if passage.symmetric is not None:
        searches["symmetric"] = _distances(task, passage.symmetric)[:, 0]
    for search, nearest in searches.items():
        yield _Recall(k=1, labels={"search": search}, values=(nearest <= first).astype(np.float64))


def _distances(task: _Task, found: Rows) -> NDArray[np.float64]:
    """Return the true squared distances (negated scores under dot) of found rows, ``(q, m)``."""
    near = np.empty(found.shape)
    queries = task.queries.astype(np.float64)
    for part in split(len(found), max(1, (1 << 20) // (found.shape[1] * task.queries.shape[1]))):
        rows = _form(task.subject, found[part].ravel()).astype(np.float64).reshape(*found[part].shape, -1)
        if task.metric == "dot":
            near[part] = -np.einsum("qd,qkd->qk", queries[part], rows)
        else:
            near[part] = np.square(rows - queries[part, None]).sum(axis=2)
    return near


def _bound(task: _Task, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances ``(q,)`` up to which a row is as near as the true neighbour."""
    tiny = _TINY if task.metric == "cosine" else 1e-30 * float(np.square(row_norms(task.queries)).max())
    bound: NDArray[np.float64] = truth + 1e-6 * np.abs(truth) + tiny
    return bound


def _measures(task: _Task, codec: Codec, passage: _Passage) -> Iterator[Measure]:
    n, space, labels = len(task.subject.valid), task.subject.space, {"codec": codec.name}
    (moved, error), (cosine, scatter) = passage.distortion, passage.cosine
    low, high = normal_interval(moved, error, 0.0)
    yield Measure(DISTORTION.name, moved, n, labels, low, high)
    low, high = normal_interval(cosine, scatter, -1.0, 1.0)
    yield Measure(COSINE_MEAN.name, min(cosine, 1.0), n, labels, low, high)
    yield Measure(COSINE_MIN.name, passage.cosine_min, n, labels)
    yield Measure(BYTES.name, float(codec.bytes), n, labels)
    yield Measure(RATIO.name, space.dim * np.dtype(space.dtype).itemsize / codec.bytes, n, labels)


def _items(task: _Task, recalls: dict[str, list[_Recall]]) -> pa.Table:
    import pyarrow as pa

    ids: list[str] = task.subject.table.ids_of(task.rows)
    columns: dict[str, list[NDArray[np.float64]]] = {"recall": []}
    for one in (m for own in recalls.values() for m in own):
        columns.setdefault(one.column, []).append(one.values)
    return pa.table(
        {
            "item": pa.array([f"{name} {item}" for name in recalls for item in ids], pa.string()),
            "codec": pa.array([name for name in recalls for _ in ids], pa.string()),
        }
        | {name: np.concatenate([np.zeros(0), *values]) for name, values in columns.items()}
    )


SUITE = Suite(
    name="quantization",
    version=2,
    params=Params,
    metrics=_METRICS,
    needs=frozenset(),
    run=run,
    doc="How much of the neighbourhoods survives when vectors are kept in fewer bytes?",
)
