"""Rows as points of a plane: principal axes, t-SNE or UMAP; a baseline laid over them.

Under cosine the directions are projected, for lengths say nothing there. Principal axes are those of the
whole table, from its moments, so they do not depend on which rows are drawn; each points to where its
largest component is positive. t-SNE and UMAP see the drawn rows alone, and start from the principal axes,
so that what is far apart stays so as well as can be.

A baseline is laid over a version by the rows that both are drawn with. Under PCA it is moved and turned
(Schönemann 1966), never stretched, onto the version, and falls on the version's own axes; under the others
it starts from where the version's rows came to lie, and what comes out is moved, turned and scaled. What
then still lies elsewhere has moved among its neighbours.

Sources: Pearson 1901 (PCA); van der Maaten & Hinton 2008 (t-SNE); Kobak & Berens 2019 (its start); McInnes,
Healy & Melville 2018 (UMAP).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..registry.errors import UnknownChoice, UsageError
from ..registry.vectors import unit_rows

if TYPE_CHECKING:
    from .moments import Moments
    from .subject import Subject

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
#: How rows become points.
HOW = ("pca", "tsne", "umap")
#: So many rows are drawn, unless others are asked for.
POINTS = 3000
#: Rows that each direction of a rotation rests on at least, and the most directions that are turned.
_PER_DIRECTION, _MOST_DIRECTIONS = 4, 128
#: Steps to the strongest directions of wide rows, and the width from which two axes are sought by steps too.
_POWERS, _WIDE = 4, 256
#: t-SNE and UMAP are given so many principal axes of the drawn rows.
_WIDTH = 50
_PERPLEXITY, _NEIGHBORS = 30, 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Some rows of a table as points.

    Attributes:
        how: one of ``HOW``.
        ids: of the rows.
        xy: float64 ``(m, 2)``, finite.
        explained: shares of the variance of all rows along the two axes; None but for ``pca``.
    """

    how: str
    ids: Sequence[str]
    xy: Floats
    explained: tuple[float, float] | None = None


def rows_to_draw(subject: Subject, ids: Sequence[str] = (), count: int = POINTS) -> Rows:
    """Return ``count`` valid rows by the hash of their ids, and the valid ones of ``ids`` too, ascending.

    Args:
        subject: the version.
        ids: such as hubs, and those that moved most; ids that it lacks are left out.
        count: of the sample; of fewer rows all.
    """
    named = subject.table.lookup(list(ids)) if ids else np.zeros(0, dtype=np.int64)
    named = np.intersect1d(named, subject.valid)
    return np.union1d(subject.sample(count), named)


def project(subject: Subject, rows: Rows, how: str = "pca", seed: int = 0) -> Projection:
    """Return some valid rows as points.

    Args:
        subject: the version.
        rows: int64 ``(m,)``, of its valid rows.
        how: one of ``HOW``.
        seed: of t-SNE and UMAP.

    Raises:
        UnknownChoice: ``how`` is none of ``HOW``.
        UsageError: t-SNE or UMAP is not installed.
    """
    _check(how)
    if not len(rows):
        return Projection(how=how, ids=[], xy=np.zeros((0, 2)))
    x, ids = _form(subject, rows), subject.table.ids_of(rows)
    centre, axes, explained = principal(subject.moments(), unit=_by_direction(subject))
    flat = (x - centre) @ axes
    if how == "pca":
        return Projection(how=how, ids=ids, xy=flat, explained=explained)
    return Projection(how=how, ids=ids, xy=_unfolded(how, x, flat, seed))


def beside(
    subject: Subject, rows: Rows, baseline: Subject, how: str = "pca", seed: int = 0
) -> Projection | None:
    """Return the baseline's rows of the same ids, laid over what ``project`` gives of the same arguments.

    Returns:
        None where the two share none of these ids.

    Raises:
        UnknownChoice, UsageError: as of ``project``.
    """
    _check(how)
    ids = subject.table.ids_of(rows)
    found = baseline.table.lookup(pa.array(ids, pa.large_string()))
    there = np.isin(found, baseline.valid)
    if not there.any():
        return None
    x, y = _form(subject, rows[there]), _form(baseline, found[there])
    kept = [name for name, is_there in zip(ids, there, strict=True) if is_there]
    if how == "pca":
        centre, axes, _ = principal(subject.moments(), unit=_by_direction(subject))
        return Projection(how=how, ids=kept, xy=(turned(y, x) - centre) @ axes)
    drawn = project(subject, rows, how, seed).xy[there]
    return Projection(how=how, ids=kept, xy=turned(_unfolded(how, y, drawn, seed), drawn, scaled=True))


def principal(moments: Moments, *, unit: bool) -> tuple[Floats, Floats, tuple[float, float]]:
    """Return the mean of the rows ``(d,)``, two principal axes ``(d, 2)``, and their shares of the variance.

    Rows of one dimension, or all alike, have axes of zeros where there is nothing to see.

    Args:
        moments: of at least one row that is not zero.
        unit: whether directions are meant, not the rows.
    """
    n, d = moments.n_unit, moments.dim
    centre = (moments.unit_sum if unit else moments.sum) / n
    axes, shares = np.zeros((d, 2)), np.zeros(2)
    if n < 2:
        return centre, axes, (0.0, 0.0)
    covariance = moments.unit_covariance() if unit else moments.covariance()
    total, count = float(np.trace(covariance)), min(d, 2)
    if total > 0:
        values, vectors = _largest(covariance, count)
        largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(count)]
        axes[:, :count] = (vectors * np.where(largest < 0, -1.0, 1.0))[:, ::-1]
        shares[:count] = np.clip(values[::-1] / total, 0.0, 1.0)
    return centre, axes, (float(shares[0]), float(shares[1]))


def _largest(covariance: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the largest eigenvalues, ascending, and their vectors ``(d, count)``."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    d = len(covariance)
    if d > _WIDE:
        try:
            values, vectors = eigsh(covariance, k=count, v0=np.random.default_rng(0).standard_normal(d))
        except ArpackNoConvergence:
            pass
        else:
            order = np.argsort(values)
            return values[order], vectors[:, order]
    found: tuple[Floats, Floats] = eigh(covariance, subset_by_index=(d - count, d - 1))
    return found


def turned(x: Floats, onto: Floats, *, scaled: bool = False) -> Floats:
    """Return ``x`` ``(m, p)``, moved and turned as near to ``onto`` ``(m, q)`` as can be: ``(m, q)``.

    Few rows could be turned onto anything: there are four for each direction that is turned, the strongest of
    both. What lies along others is left out.

    Args:
        x: rows.
        onto: rows of the same ids.
        scaled: whether ``x`` may be scaled too.

    Source: Schönemann 1966; Schönemann & Carroll 1970 (the scale).
    """
    a, b = x - x.mean(axis=0), onto - onto.mean(axis=0)
    most = max(min(len(x) // _PER_DIRECTION, _MOST_DIRECTIONS), 2)
    a, b_axes = _strongest(a, most)[0], _strongest(b, most)[1]
    u, strengths, v = np.linalg.svd(a.T @ (b @ b_axes.T), full_matrices=False)
    size = float(np.square(a).sum())
    scale = float(strengths.sum()) / size if scaled and size > 0 else 1.0
    moved: Floats = scale * (a @ u @ v @ b_axes) + onto.mean(axis=0)
    return moved


def _strongest(x: Floats, most: int) -> tuple[Floats, Floats]:
    """Return centred rows along at most ``most`` of their strongest directions, and those ``(most, d)``.

    They are found by powers of X'X from a start that is made of the rows, so rows that are turned have the
    same directions, turned.

    Source: Halko, Martinsson & Tropp 2011, algorithm 4.4.
    """
    if x.shape[1] <= most:
        return x, np.eye(x.shape[1])
    axes = x.T @ np.random.default_rng(0).standard_normal((len(x), most))
    for _ in range(_POWERS):
        axes = x.T @ (x @ np.linalg.qr(axes)[0])
    axes = np.linalg.qr(axes)[0]
    return x @ axes, axes.T


def _check(how: str) -> None:
    if how not in HOW:
        raise UnknownChoice("projection", how, HOW)


def _by_direction(subject: Subject) -> bool:
    return subject.space.metric == "cosine"


def _form(subject: Subject, rows: Rows) -> Floats:
    x = subject.table.take(rows)
    return (unit_rows(x) if _by_direction(subject) else x).astype(np.float64)


def _unfolded(how: str, x: Floats, start: Floats, seed: int) -> Floats:
    """Return rows ``(m, d)`` as t-SNE or UMAP lays them out from where they start ``(m, 2)``."""
    if len(x) < 4:
        return start
    centred = _strongest(x - x.mean(axis=0), _WIDTH)[0]
    begin = start - start.mean(axis=0)
    spread = float(begin[:, 0].std())
    begin = begin / spread if spread > 0 else begin
    return (_tsne if how == "tsne" else _umap)(centred, begin, seed)


def _tsne(x: Floats, begin: Floats, seed: int) -> Floats:
    try:
        from sklearn.manifold import TSNE
    except ImportError as exc:
        raise _missing("t-SNE") from exc
    start = (1e-4 * begin).astype(np.float32)
    near = min(_PERPLEXITY, (len(x) - 1) / 3)
    layout: Any = TSNE(perplexity=near, init=start, learning_rate="auto", random_state=seed)
    return np.asarray(layout.fit_transform(x.astype(np.float32)), dtype=np.float64)


def _umap(x: Floats, begin: Floats, seed: int) -> Floats:
    try:
        from umap import UMAP
    except ImportError as exc:
        raise _missing("UMAP") from exc
    start, near = (10 * begin).astype(np.float32), min(_NEIGHBORS, len(x) - 1)
    layout: Any = UMAP(n_neighbors=near, init=start, random_state=seed, n_jobs=1)
    return np.asarray(layout.fit_transform(x.astype(np.float32)), dtype=np.float64)


def _missing(what: str) -> UsageError:
    return UsageError(f"{what} is not installed", hint="pip install 'embreg[maps]', or a map by pca")
