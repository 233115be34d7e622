"""How many dimensions the rows fill near each one of them, by the distances of its nearest neighbours.

Distances are those of the space: Euclidean, or for cosine the Euclidean distances of unit rows. They come
from the scores of the shared neighbour graph, or from the rows where cosines near 1 leave scores few digits.
Inner products are no distances.

Copies would say that there is no dimension at all, so only the first of several equal rows takes part, as a
row and as a neighbour. Copies are rows of the same bytes, rows at distance 0, and under cosine rows within
1e-6 of it, which is the rounding of a row that is scaled.

Rows that are neighbours of each other see the same rows, and their estimates go together: intervals are
normal, with the covariance of neighbours added (Conley 1999). Without it they would be a third too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..registry.vectors import split
from .double_sampling import Values
from .statistics import normal_quantile

if TYPE_CHECKING:
    from .graphs import ApproximateGraph
    from .subject import NeighborGraph, Subject

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

#: Cosines above this one are computed again, in float64; below, float32 scores hold 3 digits of 1 - cosine.
_NEAR = 1 - 1e-4
#: Squared distance of unit rows that point the same way.
_SAME = 1e-12
#: Below this squared distance float32 cosines are off by a hundredth of it, and rows tie that differ.
_DENSE = 1e-5
#: Mean logarithms of ratios of distances below this one are rounding: the distances are equal.
_EQUAL = 1e-5
_BLOCK = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Radii:
    """Distances of the nearest neighbours of some rows, copies left out.

    Attributes:
        logs: float64 ``(q, k)``, logarithms of the distances; 0 where not kept.
        kept: bool ``(q, k)``, which neighbours take part.
        rows: int64 ``(q,)``, the rows, ascending; ``neighbors`` ``(q, k)``, their neighbours.
    """

    rows: Rows
    neighbors: Rows
    logs: Floats
    kept: NDArray[np.bool_]

    def some(self, which: NDArray[np.bool_]) -> Radii:
        """Return those of some of the rows, bool ``(q,)``."""
        return Radii(
            rows=self.rows[which],
            neighbors=self.neighbors[which],
            logs=self.logs[which],
            kept=self.kept[which],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """An estimate from n rows; without an interval where that reaches infinity."""

    value: float
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The exact distances of some of the rows whose approximate ones are measured.

    Attributes:
        exact: their distances.
        rows: int64 ``(m,)``, these rows, ascending; also those that take no part.
        queries: int64 ``(q,)``, all rows, likewise.
    """

    exact: Radii
    rows: Rows
    queries: Rows

    def mean(self, values: Floats, of: Rows, exact: Floats, of_exact: Rows) -> tuple[float, float] | str:
        """Return the mean of the exact values of all rows, and the error that it has from their being few.

        Args:
            values: approximate values.
            of: the rows that have them.
            exact: exact values.
            of_exact: the rows that have them.
        """
        both = Values(
            found=_over(self.queries, values, of),
            exact=_over(self.rows, exact, of_exact),
            places=np.searchsorted(self.queries, self.rows),
        )
        found = both.corrected()
        return found if isinstance(found, str) else (found.value, found.error)


def _over(rows: Rows, values: Floats, of: Rows) -> Floats:
    """Return the values of ``rows``, NaN for those that have none."""
    own = np.full(len(rows), np.nan)
    own[np.searchsorted(rows, of)] = values
    return own


def checked_radii(subject: Subject, graph: ApproximateGraph) -> tuple[Radii, Checked] | str:
    """Return the distances in an approximate graph beside the exact ones, or why there are none."""
    found, exact = radii(subject, graph.found), radii(subject, graph.exact, beside=graph.found)
    if isinstance(found, str):
        return found
    if isinstance(exact, str):
        return exact
    return found, Checked(exact=exact, rows=graph.exact.queries, queries=graph.found.queries)


def radii(subject: Subject, graph: NeighborGraph, beside: NeighborGraph | None = None) -> Radii | str:
    """Return the distances in the neighbour graph of a table, or the reason why there are none.

    Args:
        subject: the table.
        graph: its neighbours.
        beside: a graph of more rows, by which copies are known too.
    """
    metric = subject.space.metric
    if metric == "dot":
        return "inner products are not distances"
    squares, copy = _squares(subject, graph)
    if metric == "cosine" and not copy.all() and float(np.median(squares[~copy])) < _DENSE:
        return "most neighbours are at cosines so near 1 that float32 scores do not order them"
    first = _first_copies(subject, graph, copy)
    if beside is not None:
        first = np.minimum(first, _first_copies(subject, beside, _squares(subject, beside)[1]))
    kept = ~copy & (first[graph.rows] == graph.rows)
    own = first[graph.queries] == graph.queries
    logs = np.log(squares, where=kept, out=np.zeros(squares.shape)) / 2
    return Radii(rows=graph.queries, neighbors=graph.rows, logs=logs, kept=kept).some(own)


def _squares(subject: Subject, graph: NeighborGraph) -> tuple[Floats, NDArray[np.bool_]]:
    """Return squared distances ``(q, k)``, and which of them are those of copies."""
    if subject.space.metric == "cosine":
        squares = _chords(subject, graph)
        return squares, squares <= _SAME
    squares = -subject.widened(graph.queries, graph.rows, graph.scores)
    return squares, squares <= 0.0


def lid(radii: Radii, checked: Checked | None = None) -> Dimension | str:
    """Return the maximum-likelihood local dimension of Levina & Bickel, averaged by inverses.

    1/m(x) = mean over j < k of log(T_k / T_j), with T_j the distance of the j-th neighbour; its mean over
    rows is an unbiased estimate of 1/m. Rows that lose neighbours to copies have a smaller k.

    Args:
        radii: distances.
        checked: the exact ones of some rows, where the radii are approximate; they correct the mean.

    Source: Levina & Bickel 2004, equation 8; MacKay & Ghahramani 2005 (the average of inverses).
    """
    radii = _with_two(radii)
    if not len(radii.rows):
        return "no row has two neighbours that are not copies"
    return _inverted(_lid_inverses, 1.0, radii, checked)


def _lid_inverses(radii: Radii) -> Floats:
    counts = radii.kept.sum(axis=1)
    furthest = np.where(radii.kept, radii.logs, -np.inf).max(axis=1)
    inverses: Floats = (counts * furthest - radii.logs.sum(axis=1)) / (counts - 1)
    return inverses


def twonn(radii: Radii, checked: Checked | None = None) -> Dimension | str:
    """Return (n - 1) / Σ log(r2 / r1), with r1 and r2 the distances of a row's two nearest neighbours.

    This is the maximum-likelihood form, without bias for independent rows. Facco et al. fit a line to the
    distribution of r2 / r1 instead, after dropping its largest tenth.

    Args:
        radii: distances.
        checked: the exact ones of some rows, where the radii are approximate; they correct the sum.

    Source: Facco, d'Errico, Rodriguez & Laio 2017, equations 2-4; Denti et al. 2022, section 2 (the form).
    """
    radii = _with_two(radii)
    n = len(radii.rows)
    if n < 2:
        return "fewer than two rows have two neighbours that are not copies"
    return _inverted(_twonn_inverses, (n - 1) / n, radii, checked)


def _twonn_inverses(radii: Radii) -> Floats:
    nearest = np.partition(np.where(radii.kept, radii.logs, np.inf), 1, axis=1)
    inverses: Floats = nearest[:, 1] - nearest[:, 0]
    return inverses


def _with_two(radii: Radii) -> Radii:
    """Return the distances of the rows that have two neighbours which are not copies."""
    return radii.some(radii.kept.sum(axis=1) >= 2)


def _inverted(
    inverses: Callable[[Radii], Floats], factor: float, radii: Radii, checked: Checked | None
) -> Dimension | str:
    """Return ``factor`` over the mean of ``inverses`` >= 0, one for each row of ``radii``."""
    values = inverses(radii)
    mean = float(values.mean())
    error = _error(values - mean, radii)
    if checked is not None:
        exact = _with_two(checked.exact)
        corrected = checked.mean(values, radii.rows, inverses(exact), exact.rows)
        if isinstance(corrected, str):
            return corrected
        mean, error = corrected[0], math.hypot(error, corrected[1])
    if mean <= _EQUAL:
        return "the neighbours of a row are all equally far from it"
    half = normal_quantile() * error
    bounds = (factor / (mean + half), factor / (mean - half)) if mean - half > _EQUAL else (None, None)
    return Dimension(value=factor / mean, n=len(values), low=bounds[0], high=bounds[1])


def _error(centred: Floats, radii: Radii) -> float:
    """Return the standard error of a mean over rows, with the covariance of rows that are neighbours."""
    n = len(centred)
    place = np.minimum(np.searchsorted(radii.rows, radii.neighbors), n - 1)
    here, rank = np.nonzero(radii.rows[place] == radii.neighbors)
    there = place[here, rank]
    pairs = np.unique(np.minimum(here, there) * n + np.maximum(here, there))
    alone = float(centred @ centred)
    together = alone + 2 * float(centred[pairs // n] @ centred[pairs % n])
    return math.sqrt(max(alone, together)) / n


def _chords(subject: Subject, graph: NeighborGraph) -> Floats:
    """Return the squared distances of unit rows, float64 ``(q, k)``, as exact as the rows are."""
    squares = 2 - 2 * graph.scores.astype(np.float64)
    query, place = np.nonzero(graph.scores > _NEAR)
    for part in split(len(query), _BLOCK):
        q, j = query[part], place[part]
        x, y = (_units(subject, rows) for rows in (graph.queries[q], graph.rows[q, j]))
        squares[q, j] = np.square(x - y).sum(axis=1)
    return squares


def _units(subject: Subject, rows: Rows) -> Floats:
    x: Floats = subject.table.take(rows).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _first_copies(subject: Subject, graph: NeighborGraph, copy: NDArray[np.bool_]) -> Rows:
    """Return, for each row of the table, the first row that is known as a copy of it: itself, mostly.

    Args:
        subject: the table.
        graph: its neighbours.
        copy: bool ``(q, k)``, which neighbours have distance 0.
    """
    valid = subject.valid
    _, start, place = np.unique(subject.table.fingerprints[valid], return_index=True, return_inverse=True)
    first = np.arange(subject.table.rows)
    first[valid] = valid[start[place]]
    nearest = np.where(copy, graph.rows, subject.table.rows).min(axis=1)
    first[graph.queries] = np.minimum(first[graph.queries], nearest)
    return first
