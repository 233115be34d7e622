"""Neighbour quality: are the nearest rows the right ones, do they agree, and how near are they?

Everything is measured on the shared neighbour graph, which above some size holds the lists of a sample of the
rows (``Subject.neighbors``), each among all rows. Sources: Manning, Raghavan & Schütze 2008, section 16.3
(purity); Jarvis & Patrick 1973 and Jégou, Harzallah & Schmid 2007 (reciprocity).

Labels come from the attribute column that is named, else from a dataset of kind ``labels``, else from the
column ``label``. Rows without a label are not scored, and as a neighbour count as wrong.

The intrinsic dimension (``evals.dimension``) is that of the distances of the space, copies left out.

Where an index found the lists, those of a sample are known exactly too: means, shares and quantiles are
corrected by what they differ in (``evals.double_sampling``). For reciprocity all k neighbours of some of
these rows are followed back, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...registry.errors import UsageError, printable
from ...registry.vectors import hash_ids, split, unit_rows
from .. import dimension, knn
from ..dimension import Dimension
from ..double_sampling import Figure, Values
from ..labels import Labels, scarcity
from ..statistics import bootstrap_mean, wilson
from ..suite import Absent, Better, Findings, Measure, Metric, Need, Suite
from ..vocabulary import unique

if TYPE_CHECKING:
    from ..graphs import ApproximateGraph
    from ..subject import NeighborGraph, Subject

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_SHARE: dict[str, Any] = {"unit": "share", "low": 0.0, "high": 1.0}
PURITY = Metric(
    "purity@k",
    **_SHARE,
    better=Better.HIGHER,
    item="purity",
    doc="Share of a row's k nearest neighbours with its own label.",
    formula="mean over labelled i of |{j in N_k(i): label j = label i}| / k",
    source="Manning, Raghavan & Schütze 2008, section 16.3",
)
LIFT = Metric(
    "purity_lift@k",
    unit="ratio",
    low=0.0,
    better=Better.HIGHER,
    doc="Purity over the purity that neighbours drawn at random would have.",
    formula="purity@k / mean over labelled i of (|{rows with the label of i}| - 1) / (n - 1)",
    source="own",
)
LABEL_COVERAGE = Metric(
    "label_coverage",
    **_SHARE,
    better=Better.HIGHER,
    doc="Share of the rows of the neighbour graph that have a label.",
    formula="|{i with a label}| / |{i}|",
    source="own",
)
RECIPROCITY = Metric(
    "reciprocity@k",
    **_SHARE,
    better=Better.HIGHER,
    item="reciprocity",
    independent="counted_once",
    doc="Share of the neighbour relations that go both ways.",
    formula="|{(i, j): j in N_k(i) and i in N_k(j)}| / |{(i, j): j in N_k(i)}|",
    source="Jarvis & Patrick 1973",
)
TOP1_COSINE = Metric(
    "top1_cosine",
    unit="cosine",
    low=-1.0,
    high=1.0,
    better=Better.NEITHER,
    item="top1_cosine",
    doc="Cosine of a row with its nearest neighbour: the mean, and quantiles q.",
    formula="mean over i of cos(x_i, x_j), j the nearest of i; with a label q its quantile Q_q",
    source="own",
)
MARGIN = Metric(
    "margin@k",
    unit="score",
    low=0.0,
    better=Better.NEITHER,
    doc="Quantile q of the gap between the score of the first and of the k-th neighbour.",
    formula="Q_q of s(i, first) - s(i, k-th), s the score by the metric of the table",
    source="own",
)
DUPLICATE_RATE = Metric(
    "duplicate_rate",
    **_SHARE,
    better=Better.LOWER,
    doc="Share of the rows whose nearest neighbour points the same way: cosine above 1 - 1e-6.",
    formula="|{i: cos(x_i, x_j) > 1 - 1e-6, j the nearest of i}| / |{i}|",
    source="own",
)
LID = Metric(
    "lid",
    unit="dimensions",
    low=0.0,
    better=Better.NEITHER,
    doc="Local intrinsic dimension by maximum likelihood over lid_k neighbours, averaged by inverses.",
    formula="1 / mean over i of Σ_{j < k} log(T_k / T_j) / (k - 1), T_j the distance of the j-th of N_k(i)",
    source="Levina & Bickel 2004, equation 8; MacKay & Ghahramani 2005",
)
TWONN = Metric(
    "twonn",
    unit="dimensions",
    low=0.0,
    better=Better.NEITHER,
    doc="Intrinsic dimension by the ratios of the distances of the two nearest neighbours.",
    formula="(n - 1) / Σ_i log(T_2 / T_1), T_j the distance of the j-th neighbour of i",
    source="Facco et al. 2017; Denti et al. 2022, section 2",
)
_QUANTILES = (0.05, 0.5, 0.95)
_SAME = 1 - 1e-6
#: More classes than this are not reported one by one.
_CLASSES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        k: how many neighbours.
        label: attribute column with the label of each row; empty for the dataset of labels, and without one
            for the column ``label`` where there is one.
        edges: neighbour relations that are followed back to estimate reciprocity on a sampled graph, or an
            approximate one.
        lid_k: neighbours behind ``lid`` and ``twonn``.
    """

    k: int = 10
    label: str = ""
    edges: int = 2000
    lid_k: int = 20

    def __post_init__(self) -> None:
        for name, value, least in (("k", self.k, 1), ("edges", self.edges, 1), ("lid_k", self.lid_k, 2)):
            if value < least:
                raise UsageError(f"neighbors.{name} must be at least {least}, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lists:
    """The neighbour lists that are measured.

    Attributes:
        graph: of k neighbours.
        wide: of as many as the dimensions take.
        approximate: the same two with the exact lists of some queries, where an index found them.
    """

    graph: NeighborGraph
    wide: NeighborGraph
    approximate: tuple[ApproximateGraph, ApproximateGraph] | None = None

    @classmethod
    def of(cls, subject: Subject, k: int, wide_k: int) -> _Lists:
        wide = subject.approximate_neighbors(wide_k)
        graph = subject.approximate_neighbors(k)
        if wide is None or graph is None:
            exact = subject.neighbors(wide_k)
            return cls(graph=exact.first(k), wide=exact)
        return cls(graph=graph.found, wide=wide.found, approximate=(graph, wide))

    def values(self, of: Callable[[NeighborGraph], Floats]) -> Values:
        """Return the value of each query by its k neighbours."""
        if self.approximate is None:
            return Values(found=of(self.graph))
        graph = self.approximate[0]
        return Values(found=of(graph.found), exact=of(graph.exact), places=graph.places)


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Measure the neighbourhoods of a table.

    Raises:
        Skipped: the table has fewer than k + 1 rows that are not zero.
        ItemNotFound: the table has no column ``params.label``.
    """
    n = len(subject.valid)
    lists = _Lists.of(subject, params.k, max(params.k, min(params.lid_k, n - 1)))
    graph = lists.graph
    top1 = lists.values(lambda graph: _top1(subject, graph))
    columns = {"top1_cosine": top1.found}
    found: list[Measure | Absent] = list(_nearness(subject, lists, top1, rng))
    if graph.whole:
        mutual = mutuality(graph)
        columns["reciprocity"] = mutual.mean(axis=1)
        columns["counted_once"] = counted_once(subject, graph, mutual)
    if lists.approximate is not None:
        found.append(_corrected_reciprocity(subject, lists.approximate[0], params.edges, columns, rng))
    elif graph.whole:
        low, high = bootstrap_mean(columns["counted_once"], rng)
        value = float(mutual.mean())
        # What is counted once counts twice there: of few rows the mean of a resample may step over 1.
        found.append(Measure(RECIPROCITY.at(graph.k), value, len(mutual), low=low, high=min(high, 1.0)))
    else:
        found.append(_followed_back(subject, graph, params.edges, rng))
    found += _dimensions(subject, lists, params.lid_k)
    labels = Labels.of(subject, params.label)
    if labels is None:
        reason = "no labels: name an attribute column in neighbors.label, or add a dataset of kind labels"
        found += [Absent(m.at(graph.k), reason) for m in (PURITY, LIFT, LABEL_COVERAGE)]
    else:
        codes = labels.codes
        same = lists.values(lambda graph: purity(graph, codes))
        columns["purity"] = same.found
        found += _purity(subject, graph, labels, same, rng)
    return Findings(
        measures=[f for f in found if isinstance(f, Measure)],
        absent=[f for f in found if isinstance(f, Absent)],
        items=_items(subject, graph, columns, labels),
        notes=scarcity(subject, labels, params.label),
    )


def _told(metric: str, figure: Figure | str, labels: dict[str, str] | None = None) -> Measure | Absent:
    if isinstance(figure, str):
        return Absent(metric, figure, labels or {})
    return Measure(metric, figure.value, figure.n, labels or {}, figure.low, figure.high)


def _top1(subject: Subject, graph: NeighborGraph) -> Floats:
    if subject.space.metric == "cosine":
        return np.clip(graph.scores[:, 0].astype(np.float64), -1.0, 1.0)
    cosines = np.empty(len(graph.queries))
    for part in split(len(cosines), 8192):
        pair = graph.queries[part], graph.rows[part, 0]
        x, y = (unit_rows(subject.table.take(rows)).astype(np.float64) for rows in pair)
        cosines[part] = np.einsum("ij,ij->i", x, y)
    return np.clip(cosines, -1.0, 1.0)


def _nearness(
    subject: Subject, lists: _Lists, top1: Values, rng: np.random.Generator
) -> Iterator[Measure | Absent]:
    yield _told(TOP1_COSINE.name, top1.mean(rng, -1.0, 1.0))
    for q in _QUANTILES:
        yield _told(TOP1_COSINE.name, top1.quantile(q), {"q": str(q)})
    margins = lists.values(lambda graph: _margin(subject, graph))
    for q in _QUANTILES:
        yield _told(MARGIN.at(lists.graph.k), margins.quantile(q), {"q": str(q)})
    copies = top1.of(lambda cosines: (cosines > _SAME).astype(np.float64))
    yield _told(DUPLICATE_RATE.name, copies.share())


def _margin(subject: Subject, graph: NeighborGraph) -> Floats:
    ends = [0, graph.k - 1]
    scores = subject.widened(graph.queries, graph.rows[:, ends], graph.scores[:, ends])
    margins: Floats = scores[:, 0] - scores[:, 1]
    return margins


def mutuality(graph: NeighborGraph) -> NDArray[np.bool_]:
    """Return, for each place ``(n, k)`` of a whole graph, whether that neighbour lists the row as well."""
    # Row numbers go up to the largest query, so this names every directed edge once.
    base = int(graph.queries[-1]) + 1
    there = graph.queries[:, None] * base + graph.rows
    back = graph.rows * base + graph.queries[:, None]
    known = np.sort(there, axis=None)
    place = np.searchsorted(known, back)
    mutual: NDArray[np.bool_] = known[np.minimum(place, known.size - 1)] == back
    return mutual


def counted_once(subject: Subject, graph: NeighborGraph, mutual: NDArray[np.bool_]) -> Floats:
    """Return what each row ``(n,)`` adds to reciprocity, both relations of a mutual pair counted at one end.

    Counted at both ends, as in a row's own reciprocity, the rows would not be independent, and intervals and
    tests that take them so too narrow. The end is a matter of the two ids, so it is the same in any version.
    """
    own = hash_ids(subject.table.ids.to_pylist())
    here, there = own[graph.queries][:, None], own[graph.rows]
    chosen = (here < there) ^ ((here ^ there) & np.uint64(1)).astype(bool)
    counted: Floats = 2 * (mutual & chosen).mean(axis=1)
    return counted


def _followed_back(subject: Subject, graph: NeighborGraph, edges: int, rng: np.random.Generator) -> Measure:
    """Estimate reciprocity: find the neighbours of the far ends of some random edges."""
    drawn = np.sort(rng.choice(graph.rows.size, size=min(edges, graph.rows.size), replace=False))
    origin, end = graph.queries[drawn // graph.k], graph.rows.reshape(-1)[drawn]
    mutual = int(_lists_back(subject, graph.k, origin, end).sum())
    low, high = wilson(mutual, len(drawn))
    return Measure(RECIPROCITY.at(graph.k), mutual / len(drawn), len(drawn), low=low, high=high)


def _lists_back(subject: Subject, k: int, origin: Rows, end: Rows) -> NDArray[np.bool_]:
    """Return whether each row of ``end`` has its counterpart in ``origin`` among its k exact neighbours."""
    valid, vectors = subject.valid, subject.table.vectors
    base = vectors if len(valid) == len(vectors) else vectors[valid]
    own = np.searchsorted(valid, end)
    found = knn.neighbors(base[own], base, k, subject.space.metric, exclude=own[:, None])
    back: NDArray[np.bool_] = (valid[found.rows] == origin[:, None]).any(axis=1)
    return back


def _corrected_reciprocity(
    subject: Subject,
    graph: ApproximateGraph,
    edges: int,
    columns: dict[str, Floats],
    rng: np.random.Generator,
) -> Measure | Absent:
    """Estimate reciprocity: follow the exact neighbours of some rows back, and correct that of all rows."""
    k, exact = graph.exact.k, graph.exact
    size = min(max(edges // k, 1), len(exact.queries))
    drawn = np.sort(rng.choice(len(exact.queries), size=size, replace=False))
    origin, ends = np.repeat(exact.queries[drawn], k), exact.rows[drawn].ravel()
    true = _lists_back(subject, k, origin, ends).reshape(-1, k).mean(axis=1)
    if "reciprocity" not in columns:
        return _told(RECIPROCITY.at(k), Values(found=true).mean(rng, 0.0, 1.0))
    values = Values(found=columns["reciprocity"], exact=true, places=graph.places[drawn])
    corrected = values.corrected()
    if isinstance(corrected, str):
        return Absent(RECIPROCITY.at(k), corrected)
    low, high = corrected.interval(bootstrap_mean(columns["counted_once"], rng))
    value = min(max(corrected.value, 0.0), 1.0)
    return Measure(RECIPROCITY.at(k), value, len(values.found), low=max(low, 0.0), high=min(high, 1.0))


def _dimensions(subject: Subject, lists: _Lists, k: int) -> Iterator[Measure | Absent]:
    graph, checked = lists.wide, None
    radii: dimension.Radii | str
    if lists.approximate is None:
        radii = dimension.radii(subject, graph.first(min(k, graph.k)))
    else:
        both = dimension.checked_radii(subject, lists.approximate[1].first(min(k, graph.k)))
        radii, checked = (both, None) if isinstance(both, str) else both
    for metric, estimate, least in ((LID, dimension.lid, k), (TWONN, dimension.twonn, 2)):
        found: Dimension | str
        if graph.k < least:
            found = (
                f"{least} neighbours need at least {least + 1} rows that are not zero; there are {graph.n}"
            )
        else:
            found = radii if isinstance(radii, str) else estimate(radii, checked)
        if isinstance(found, str):
            yield Absent(metric.name, found)
        else:
            yield Measure(metric.name, found.value, found.n, low=found.low, high=found.high)


def purity(graph: NeighborGraph, codes: Rows) -> Floats:
    """Return the share of each query's neighbours with its own label, NaN for queries without one."""
    own = codes[graph.queries]
    same = (codes[graph.rows] == own[:, None]).mean(axis=1)
    return np.where(own >= 0, same, np.nan)


def _purity(
    subject: Subject, graph: NeighborGraph, labels: Labels, same: Values, rng: np.random.Generator
) -> Iterator[Measure | Absent]:
    own = labels.codes[graph.queries]
    known = own >= 0
    n, k = int(known.sum()), graph.k
    low, high = wilson(n, len(own))
    yield Measure(LABEL_COVERAGE.name, n / len(own), len(own), low=low, high=high)
    if not n:
        yield from (Absent(m.at(k), "no row of the graph has a label") for m in (PURITY, LIFT))
        return
    whole = same.mean(rng, 0.0, 1.0)
    yield _told(PURITY.at(k), whole)
    rows = labels.codes[subject.valid]
    sizes = np.bincount(rows[rows >= 0], minlength=len(labels.names))
    chance = float((sizes[own[known]] - 1).mean()) / (graph.n - 1)
    if isinstance(whole, str):
        yield Absent(LIFT.at(k), whole)
    elif chance > 0:
        # Of approximate lists what is not known of the purity is not known of the lift.
        lift = Figure(value=whole.value / chance, n=n) if same.exact is None else whole.over(chance)
        yield _told(LIFT.at(k), lift)
    else:
        yield Absent(LIFT.at(k), "every row has a label of its own")
    classes = np.unique(own[known])
    if 1 < len(classes) <= _CLASSES:
        names = unique([printable(labels.names[code]) for code in classes])
        for code, name in zip(classes, names, strict=True):
            yield _told(PURITY.at(k), same.some(own == code).mean(rng, 0.0, 1.0), {"class": name})


def _items(
    subject: Subject, graph: NeighborGraph, columns: dict[str, Floats], labels: Labels | None
) -> pa.Table:
    made = {"item": pa.array(subject.table.ids_of(graph.queries), pa.string())}
    for name in ("top1_cosine", "purity", "reciprocity", "counted_once"):
        values = columns.get(name)
        missing = pa.nulls(len(graph.queries), pa.float64())
        made[name] = missing if values is None else pa.array(values, pa.float64(), from_pandas=True)
    if labels is not None:
        own = labels.codes[graph.queries]
        place = pa.array(own, mask=own < 0)
        made["class"] = pa.array(labels.names, pa.string()).take(place)
    return pa.table(made)


SUITE = Suite(
    name="neighbors",
    version=2,
    params=Params,
    metrics=(PURITY, LIFT, LABEL_COVERAGE, RECIPROCITY, TOP1_COSINE, MARGIN, DUPLICATE_RATE, LID, TWONN),
    needs=frozenset(),
    wants=frozenset({Need.LABELS}),
    run=run,
    doc="Are the nearest rows the right ones, do they agree, and how near are they?",
)
