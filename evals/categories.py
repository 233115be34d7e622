"""Analogies by category: what the other pairs of a section say of one pair.

The pairs of a section are those that its questions are made of: (a, b), and (c, answers). Each pair is left
out in turn, and its second word is looked for with what the other pairs have in common. Only the first word
of the pair, c, is excluded from the answers, and only the first answer in the vocabulary is learnt from.

- 3CosAvg: argmax cos(x, c + mean(b) - mean(a)) over the other pairs.
- LRCos: argmax P(x is of the class) cos(x, c). The class is learnt by a logistic regression (L2, C = 1, both
  classes of equal weight) from unit rows: the words b of the other pairs against their words a and as many
  other words, which are drawn by the hash of their ids.

Source: Drozd, Gladkova & Matsuoka 2016, section 3. Their code (``vecto``) repeats each a four times among
what is not of the class; with classes of equal weight that only says how much a counts beside other words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..registry.vectors import hash_ids
from .questions import padded
from .solvers import Scores, class_cosine, nearest, search, unit
from .threads import in_threads
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

    from .subject import Subject

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
#: Weights ``(d,)`` and intercept.
Fit = tuple[Floats, float]

_C = 1.0
#: Largest entry of the gradient at which the minimum of the mean loss is reached.
_GRADIENT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A pair of a section: a word, what it goes with, and their rows (empty where out of the vocabulary)."""

    section: str
    group: str
    word: str
    answers: list[str]
    source: list[int]
    targets: list[int]

    @property
    def covered(self) -> bool:
        """Whether both words are in the vocabulary."""
        return bool(self.source and self.targets)


def pairs_of(questions: pa.Table, vocabulary: Vocabulary) -> list[Pair]:
    """Return the distinct pairs of each section, in the order in which the questions name them."""
    told: dict[tuple[str, str, str], tuple[str, list[str]]] = {}
    columns = (questions.column(name).to_pylist() for name in ("section", "group", "a", "b", "c", "answers"))
    for section, group, a, b, c, answers in zip(*columns, strict=True):
        told.setdefault((section, a, b), (group, [b]))
        # The answers of c say more than b, which is the first of several.
        known = told.get((section, c, answers[0]))
        if known is None or len(known[1]) < len(answers):
            told[section, c, answers[0]] = (group, answers)
    return [
        Pair(
            section=section,
            group=group,
            word=word,
            answers=answers,
            source=vocabulary.all(word),
            targets=[row for answer in answers for row in vocabulary.all(answer)],
        )
        for (section, word, _), (group, answers) in told.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """The covered pairs of one section: at least two.

    Attributes:
        places: int64 ``(p,)``, which pairs they are.
        words: int64 ``(p, 2)``, the rows of the first word and the first answer.
        a, b: float64 ``(p, d)``, their unit rows.
    """

    places: Rows
    words: Rows
    a: Floats
    b: Floats


def categories(subject: Subject, pairs: list[Pair]) -> list[Category]:
    """Return the sections in which a pair can be learnt from the others, in order."""
    members: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        if pair.covered:
            members.setdefault(pair.section, []).append(place)
    found = []
    for places in members.values():
        if len(places) < 2:
            continue
        words = np.array([[pairs[i].source[0], pairs[i].targets[0]] for i in places], dtype=np.int64)
        a, b = (unit(subject.table.take(column)) for column in words.T)
        found.append(Category(places=np.array(places, dtype=np.int64), words=words, a=a, b=b))
    return found


def answer(
    method: str, subject: Subject, vocabulary: Vocabulary, pairs: list[Pair], k: int
) -> tuple[Rows, NDArray[np.bool_]]:
    """Return the rows that answer each pair, int64 ``(p, k)``, best first; and which pairs were asked.

    -1 stands where there is no answer.

    Args:
        method: ``3cosavg`` or ``lrcos``.
        subject: the table.
        vocabulary: the rows that answer.
        pairs: of all sections.
        k: how many rows.
    """
    found = np.full((len(pairs), k), -1, dtype=np.int64)
    asked = np.zeros(len(pairs), dtype=bool)
    given = categories(subject, pairs)
    if not given:
        return found, asked
    places = np.concatenate([c.places for c in given])
    asked[places] = True
    searched = vocabulary.searched
    exclude = padded([np.searchsorted(searched, pairs[i].source).tolist() for i in places.tolist()])
    base = vocabulary.base(subject)
    if method == "3cosavg":
        rows = nearest(np.concatenate([_offset(category) for category in given]), base, k, exclude)
    else:
        rows = search(_classes(given, _others(subject, vocabulary, given)), base, k, exclude).rows
    found[places] = np.where(rows >= 0, searched[rows], -1)
    return found, asked


def _offset(category: Category) -> Floats:
    """Return each first word moved by the mean offset of the other pairs, float64 ``(p, d)``."""
    offsets = category.b - category.a
    moved: Floats = category.a + (offsets.sum(axis=0) - offsets) / (len(offsets) - 1)
    return moved


def _classes(given: list[Category], others: Floats) -> list[Scores]:
    # Loaded first, for its BLAS to be limited with the others: in products this small many threads only wait
    # for each other, and take ten times as long.
    import scipy.optimize  # noqa: F401

    fits: list[list[Fit]] = [[] for _ in given]
    in_threads(lambda i: fits[i].extend(_left_out(given[i], others)), range(len(given)))
    weights, intercepts = (np.array(values) for values in zip(*chain(*fits), strict=True))
    return class_cosine(weights, intercepts, np.concatenate([category.a for category in given]))


def _others(subject: Subject, vocabulary: Vocabulary, given: list[Category]) -> Floats:
    """Return unit rows of words that no pair holds: as many as the largest category has, if there are."""
    held = np.concatenate([category.words.ravel() for category in given])
    free = np.setdiff1d(vocabulary.searched, held)
    rows = subject.sample(max(len(c.places) for c in given), among=free)
    # By hash again: a smaller category takes the first of them, which must not be the most frequent.
    return unit(subject.table.take(rows[np.argsort(hash_ids(subject.table.ids_of(rows)), kind="stable")]))


def _left_out(category: Category, others: Floats) -> Iterator[Fit]:
    """Yield the class that the other pairs give for each pair: weights ``(d,)`` and intercept."""
    n = len(category.places)
    x = np.concatenate([category.b, category.a, others[:n]])
    y = np.zeros(len(x), dtype=bool)
    y[:n] = True
    start = logistic(x, y)
    for i in range(n):
        kept = np.ones(len(x), dtype=bool)
        kept[[i, n + i]] = False
        yield logistic(x[kept], y[kept], start)


def logistic(x: Floats, y: NDArray[np.bool_], start: Fit | None = None) -> Fit:
    """Return the weights ``(d,)`` and the intercept of an L2-regularised logistic regression, C = 1.

    Both classes weigh the same, as with ``class_weight="balanced"`` of scikit-learn. L-BFGS-B of SciPy
    finds the minimum of the convex objective.

    Args:
        x: float64 ``(n, d)``.
        y: bool ``(n,)``, both values at least once.
        start: where to begin; the minimum does not depend on it.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    n, d = x.shape
    weight = np.where(y, n / (2 * y.sum()), n / (2 * (~y).sum())) / n
    sign = np.where(y, 1.0, -1.0)
    strength = 1 / (_C * n)

    def objective(flat: Floats) -> tuple[float, Floats]:
        margin = sign * (x @ flat[:d] + flat[d])
        slope = -sign * weight * expit(-margin)
        loss = weight @ np.logaddexp(0, -margin) + strength / 2 * (flat[:d] @ flat[:d])
        return float(loss), np.append(x.T @ slope + strength * flat[:d], slope.sum())

    found = minimize(
        objective,
        np.zeros(d + 1) if start is None else np.append(*start),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "gtol": _GRADIENT, "ftol": 0.0},
    )
    return found.x[:d], float(found.x[d])
