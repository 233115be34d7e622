"""Alignment: do rows that belong together lie together, and do all others keep apart?

The dataset holds positive pairs of ids (a, b). Both are rows of the table, or the b have vectors that the
dataset carries: another modality, language or encoder of the same width. All rows are taken as unit vectors,
whatever the metric of the table, and x_i, y_i are those of the two ids of pair i; distinct ids on a side are
its rows.

- **alignment** is mean |x_i - y_i|², **uniformity** log mean exp(-2|u_i - u_j|²) over distinct rows i != j
  of a side, and its mean over both sides (Wang & Isola 2020, section 4.1, alpha = 2, t = 2).
- **InfoNCE** is the cross entropy of x_i'y_j / temperature against j = i (van den Oord, Li & Vinyals 2018,
  eq. 4), as a mean over both directions (Radford et al. 2021, figure 3). Negatives are the other pairs: all
  that are measured, or those of a random batch, as while training. A row is never a negative of itself; other
  rows that belong to it are not taken out, as in training.
- **recall@k**: whether a distinct row finds one of its own among its k nearest rows of the other side.
- **modality gap** is |mean x_i - mean y_i| (Liang et al. 2022, section 2.1); of n pairs of random directions
  about sqrt(2/n).

Of very many pairs so many are measured, chosen by the hash of their ids: versions draw the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...registry.datasets import vectors_in
from ...registry.errors import UsageError
from ...registry.vectors import hash_ids, split
from .. import knn
from ..statistics import bootstrap_mean, wilson
from ..subject import Subject
from ..suite import Absent, Better, Findings, Measure, Metric, Need, Skipped, Suite
from ..vocabulary import EXACT, rows_of, scarce, unique

if TYPE_CHECKING:
    from ..subject import DatasetTable

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

INFONCE = Metric(
    "infonce",
    unit="nats",
    low=0.0,
    better=Better.LOWER,
    item="infonce",
    doc="Cross entropy of telling a row's own partner from those of all other measured pairs.",
    formula="mean of log Σ_j exp(x_i'y_j / t) - x_i'y_i / t over pairs i and both directions, t temperature",
    source="van den Oord et al. 2018, eq. 4; Radford et al. 2021, figure 3",
)
INFONCE_IN_BATCH = Metric(
    "infonce_in_batch",
    unit="nats",
    low=0.0,
    better=Better.LOWER,
    doc="Cross entropy of telling a row's own partner from those of a random batch.",
    formula="InfoNCE with j over the pairs of i's batch, batches drawn at random",
    source="van den Oord et al. 2018, eq. 4; Radford et al. 2021, figure 3",
)
ALIGNMENT = Metric(
    "alignment",
    unit="squared distance",
    low=0.0,
    high=4.0,
    better=Better.LOWER,
    item="alignment",
    doc="Mean squared distance between the unit vectors of a pair.",
    formula="mean over pairs of |x_i - y_i|²",
    source="Wang & Isola 2020, section 4.1",
)
UNIFORMITY = Metric(
    "uniformity",
    unit="log potential",
    low=-8.0,
    high=0.0,
    better=Better.LOWER,
    doc="Log of the mean Gaussian potential (t = 2) of distinct rows; lower is more evenly spread.",
    formula="log mean over i ≠ j of exp(-2 |u_i - u_j|²), per side, and the mean of both sides",
    source="Wang & Isola 2020, section 4.1",
)
RECALL = Metric(
    "recall@k",
    unit="share",
    low=0.0,
    high=1.0,
    better=Better.HIGHER,
    doc="Share of the rows of one side with a partner among their k nearest of the other.",
    formula="|{rows u of a side with a partner in N_k(u)}| / |{rows u}|, N_k(u) on the other side",
    source="Radford et al. 2021, section 3.1 (image and text retrieval)",
)
MODALITY_GAP = Metric(
    "modality_gap",
    unit="distance",
    low=0.0,
    high=2.0,
    better=Better.NEITHER,
    doc="Distance between the mean unit vectors of the two sides.",
    formula="|mean over pairs of x_i - y_i|",
    source="Liang et al. 2022, section 2.1",
)
COVERAGE = Metric(
    "coverage",
    unit="share",
    low=0.0,
    high=1.0,
    better=Better.HIGHER,
    doc="Share of the pairs of two different ids that both have a vector which is not 0.",
    formula="|{pairs (a, b) with a ≠ b, x ≠ 0, y ≠ 0}| / |{pairs given}|",
    source="own",
)
_WAYS = ("a-to-b", "b-to-a")
#: Numbers in one block of similarities (64 MiB).
_BLOCK = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        temperature: of InfoNCE, in units of cosine.
        batch: pairs of a random batch, for InfoNCE as while training.
        cuts: cuts of recall.
        most_pairs: how many pairs are measured at most.
    """

    temperature: float = 0.07
    batch: int = 256
    cuts: tuple[int, ...] = (1, 5, 10)
    most_pairs: int = 10_000

    def __post_init__(self) -> None:
        if not 1e-6 <= self.temperature <= 1e6:
            raise UsageError(f"alignment.temperature lies between 1e-6 and 1e6, not at {self.temperature}")
        for name, value in (("batch", self.batch), ("most_pairs", self.most_pairs)):
            if value < 2:
                raise UsageError(f"alignment.{name} must be at least 2, not {value}")
        if not self.cuts or min(self.cuts) < 1:
            raise UsageError("alignment.cuts must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The distinct rows of one side, and which of them each pair holds.

    Attributes:
        units: float64 ``(m, d)``, unit vectors.
        at: int64 ``(n,)``, the row of each pair.
        keys: int64 ``(m,)``; equal keys on the two sides are one row of one table, negative ones never.
    """

    units: Floats
    at: Rows
    keys: Rows

    @property
    def of_pairs(self) -> Floats:
        """Unit vectors of the pairs, float64 ``(n, d)``."""
        return self.units[self.at]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Positive pairs that can be measured.

    Attributes:
        names: ``a|b`` of each, told apart.
        sides: a and b.
        given, usable: how many pairs the dataset holds, and how many of them can be measured.
    """

    names: list[str]
    sides: tuple[Side, Side]
    given: int
    usable: int

    @property
    def n(self) -> int:
        """How many pairs are measured."""
        return len(self.names)

    @classmethod
    def of(cls, subject: Subject, dataset: DatasetTable, most: int) -> Self:
        """Match the pairs of a dataset with rows, and choose at most so many.

        Raises:
            Skipped: no pair can be measured.
        """
        carried = vectors_in(dataset.rows, "positives")
        other = subject if carried is None else Subject(carried)
        if other.table.dim != subject.table.dim:
            raise Skipped(f"the sides have {subject.table.dim} and {other.table.dim} dimensions")
        ids = [dataset.rows.column(name).combine_chunks() for name in ("a", "b")]
        rows = [rows_of(side, names) for side, names in zip((subject, other), ids, strict=True)]
        usable = (rows[0] >= 0) & (rows[1] >= 0)
        if other is subject:
            usable &= rows[0] != rows[1]
        if not usable.any():
            raise Skipped(f"in none of the {len(usable):,} pairs of '{dataset.name}' have both ids a vector")
        names = unique([f"{a}|{b}" for a, b in zip(*(i.to_pylist() for i in ids), strict=True)])
        kept = _chosen(names, np.flatnonzero(usable), most)
        a = _side(subject, rows[0][kept])
        b = _side(other, rows[1][kept], apart=other is not subject)
        return cls(names=[names[i] for i in kept], sides=(a, b), given=len(usable), usable=int(usable.sum()))


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Measure how the pairs of a dataset lie.

    Raises:
        Skipped: there is no dataset, or none of its pairs can be measured.
    """
    if subject.dataset is None:
        raise Skipped("needs a dataset of positives")
    pairs = Pairs.of(subject, subject.dataset, params.most_pairs)
    apart = np.square(pairs.sides[0].of_pairs - pairs.sides[1].of_pairs).sum(axis=1)
    losses = infonce(pairs, np.arange(pairs.n), params.temperature) if pairs.n > 1 else None
    found = [
        _coverage(pairs),
        _mean(ALIGNMENT.name, np.minimum(apart, 4.0), rng),
        *_losses(losses, rng),
        _in_batch(pairs, params, rng),
        *_uniformity(pairs, rng),
        *_recalls(pairs, params.cuts),
        _gap(pairs, rng),
    ]
    return Findings(
        measures=[f for f in found if isinstance(f, Measure)],
        absent=[f for f in found if isinstance(f, Absent)],
        items=_items(pairs, apart, losses),
        notes=[*_notes(pairs), *scarce(subject.dataset.name, pairs.usable, pairs.given, EXACT)],
    )


def _chosen(names: list[str], usable: Rows, most: int) -> Rows:
    """Return at most so many of the usable pairs, ascending: those with the smallest hashes."""
    if len(usable) <= most:
        return usable
    hashes = hash_ids(names[i] for i in usable)
    return np.sort(usable[np.argpartition(hashes, most)[:most]])


def _side(subject: Subject, rows: Rows, *, apart: bool = False) -> Side:
    distinct, at = np.unique(rows, return_inverse=True)
    x = subject.table.take(distinct).astype(np.float64)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    return Side(units=units, at=at, keys=-1 - distinct if apart else distinct)


def infonce(pairs: Pairs, chosen: Rows, temperature: float) -> Floats:
    """Return the cross entropies ``(2, m)`` of some pairs among themselves, from a to b and from b to a.

    Entry i is log sum_j exp(s_ij) - s_ii with s_ij = x_i'y_j / temperature, over every j but those whose row
    is the asking row itself.

    Args:
        pairs: the pairs.
        chosen: int64 ``(m,)``, which of them.
        temperature: above 0.
    """
    a, b = pairs.sides
    x, y = (side.units[side.at[chosen]] for side in (a, b))
    keys = a.keys[a.at[chosen]], b.keys[b.at[chosen]]
    own = np.einsum("ij,ij->i", x, y) / temperature
    there = _log_sums(x, y, keys, temperature)
    back = _log_sums(y, x, keys[::-1], temperature)
    losses: Floats = np.maximum(np.stack([there - own, back - own]), 0.0)
    return losses


def _log_sums(x: Floats, y: Floats, keys: tuple[Rows, Rows], temperature: float) -> Floats:
    """Return log sum_j exp(x_i'y_j / temperature) of every i, over the j whose key is not that of i."""
    sums = np.empty(len(x))
    for part in split(len(x), max(1, _BLOCK // len(y))):
        logits = x[part] @ y.T / temperature
        logits[keys[0][part, None] == keys[1]] = -np.inf
        top = logits.max(axis=1)
        sums[part] = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return sums


def _mean(metric: str, values: Floats, rng: np.random.Generator, **labels: str) -> Measure:
    low, high = bootstrap_mean(values, rng)
    return Measure(metric, float(values.mean()), len(values), labels, low=low, high=high)


def _losses(losses: Floats | None, rng: np.random.Generator) -> Iterator[Measure | Absent]:
    if losses is None:
        yield Absent(INFONCE.name, "a single pair has no negatives")
        return
    yield _mean(INFONCE.name, losses.mean(axis=0), rng)
    for way, values in zip(_WAYS, losses, strict=True):
        yield _mean(INFONCE.name, values, rng, direction=way)


def _in_batch(pairs: Pairs, params: Params, rng: np.random.Generator) -> Measure | Absent:
    """Return InfoNCE over random batches; the pairs that do not fill one are left out."""
    batches = pairs.n // params.batch
    if not batches:
        return Absent(INFONCE_IN_BATCH.name, f"{pairs.n:,} pairs do not fill a batch of {params.batch:,}")
    drawn = rng.permutation(pairs.n)[: batches * params.batch].reshape(batches, -1)
    losses = [infonce(pairs, chosen, params.temperature).mean(axis=0) for chosen in drawn]
    return _mean(INFONCE_IN_BATCH.name, np.concatenate(losses), rng)


def _uniformity(pairs: Pairs, rng: np.random.Generator) -> Iterator[Measure | Absent]:
    """Yield the uniformity of each side, then their mean.

    The mean potential m is a U-statistic: to first order its logarithm is the mean over rows of
    log m + 2(h/m - 1), with h the mean potential of a row (Hoeffding 1948). The sides depend on each other:
    the interval of their mean is at most as wide as the mean of their intervals, which is what is taken.
    """
    sides = [potentials(side.units) for side in pairs.sides]
    if small := [name for name, values in zip("ab", sides, strict=True) if len(values) < 2]:
        yield Absent(UNIFORMITY.name, f"side {small[0]} has a single row, and so no distance")
        return
    linear = [np.log(side.mean()) + 2 * (side / side.mean() - 1) for side in sides]
    spans = np.clip([[x.mean(), *bootstrap_mean(x, rng)] for x in linear], -8.0, 0.0)
    for name, span, side in zip("ab", spans, sides, strict=True):
        yield _log_potential(span, len(side), side=name)
    yield _log_potential(spans.mean(axis=0), min(map(len, sides)))


def _log_potential(span: Floats, n: int, **labels: str) -> Measure:
    value, low, high = span.tolist()
    if n < 3:  # two rows have one distance, which says nothing about its spread
        return Measure(UNIFORMITY.name, value, n, labels)
    return Measure(UNIFORMITY.name, value, n, labels, low=low, high=high)


def potentials(units: Floats) -> Floats:
    """Return the mean of exp(-2|u_i - u_j|²) over j != i, for each of m unit rows ``(m, d)``; m >= 2."""
    sums = np.empty(len(units))
    for part in split(len(units), max(1, _BLOCK // len(units))):
        block = np.exp(4 * np.minimum(units[part] @ units.T, 1.0) - 4)
        block[np.arange(len(block)), np.arange(part.start, part.stop)] = 0.0
        sums[part] = block.sum(axis=1)
    return sums / max(1, len(units) - 1)


def _recalls(pairs: Pairs, cuts: tuple[int, ...]) -> Iterator[Measure | Absent]:
    for way, (asking, answering) in zip(_WAYS, (pairs.sides, pairs.sides[::-1]), strict=True):
        shared = np.isin(asking.keys, answering.keys)
        candidates = len(answering.units) - int(shared.any())
        ranks = _first_ranks(asking, answering, min(max(cuts), candidates)) if candidates else None
        for k in sorted(set(cuts)):
            name = RECALL.at(k)
            if ranks is None or k >= candidates:
                reason = f"{candidates} rows to choose from: every one is among the first {k}"
                yield Absent(name, reason, {"direction": way})
                continue
            hits, n = int((ranks <= k).sum()), len(ranks)
            low, high = wilson(hits, n)
            yield Measure(name, hits / n, n, {"direction": way}, low=low, high=high)


def _first_ranks(asking: Side, answering: Side, k: int) -> Rows:
    """Return the rank from 1 of the first partner of each asking row, k + 1 where it is not among k."""
    own = _positions(asking.keys, answering.keys)
    found = knn.neighbors(asking.units, answering.units, k, "cosine", exclude=own[:, None]).rows
    width = len(answering.units)
    partners = np.unique(asking.at * width + answering.at)
    wanted = np.arange(len(asking.units))[:, None] * width + found
    hit = np.isin(wanted, partners)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, k + 1)


def _positions(keys: Rows, among: Rows) -> Rows:
    """Return where each key stands in ``among``, which holds each once; -1 where it does not."""
    order = np.argsort(among)
    place = np.minimum(np.searchsorted(among, keys, sorter=order), len(among) - 1)
    return np.where(among[order[place]] == keys, order[place], -1)


def _gap(pairs: Pairs, rng: np.random.Generator) -> Measure:
    """Return the modality gap: the mean of the differences along the direction of their own mean."""
    apart = pairs.sides[0].of_pairs - pairs.sides[1].of_pairs
    mean = apart.mean(axis=0)
    gap = float(np.linalg.norm(mean))
    if gap == 0:
        return Measure(MODALITY_GAP.name, 0.0, pairs.n)
    low, high = bootstrap_mean(apart @ (mean / gap), rng)
    gap, low, high = np.clip([gap, low, high], 0.0, 2.0).tolist()
    return Measure(MODALITY_GAP.name, gap, pairs.n, low=low, high=high)


def _coverage(pairs: Pairs) -> Measure:
    low, high = wilson(pairs.usable, pairs.given)
    return Measure(COVERAGE.name, pairs.usable / pairs.given, pairs.given, low=low, high=high)


def _notes(pairs: Pairs) -> list[str]:
    notes = []
    if pairs.n < pairs.usable:
        notes.append(f"{pairs.n:,} of {pairs.usable:,} pairs are measured (alignment.most_pairs)")
    repeated = sum(pairs.n - len(side.units) for side in pairs.sides)
    if repeated:
        notes.append(f"{repeated:,} ids stand in further pairs: to InfoNCE those partners are negatives")
    return notes


def _items(pairs: Pairs, apart: Floats, losses: Floats | None) -> pa.Table:
    missing = pa.nulls(pairs.n, pa.float64())
    return pa.table(
        {
            "item": pa.array(pairs.names, pa.string()),
            "alignment": np.minimum(apart, 4.0),
            "infonce": missing if losses is None else losses.mean(axis=0),
        }
    )


SUITE = Suite(
    name="alignment",
    version=1,
    params=Params,
    metrics=(INFONCE, INFONCE_IN_BATCH, ALIGNMENT, UNIFORMITY, RECALL, MODALITY_GAP, COVERAGE),
    needs=frozenset({Need.POSITIVES}),
    run=run,
    doc="Do rows that belong together lie together, and do all others keep apart?",
)
