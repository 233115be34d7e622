"""Linear probe: can a linear classifier read the class of a row from its vector? Source: Alain & Bengio 2017.

A multinomial logistic regression is fitted on part of the labelled rows and tested on the others. The split
is stratified and decided by the hash of each id under a salt from the seed: the order of rows has no say, and
versions that share ids are tested on the same ones.

The features are the rows less the mean of the training rows, over one number, the root mean square of what is
left: rows that are turned, moved or scaled give the same probe. What is minimised is the objective of
scikit-learn's ``LogisticRegression``, -C sum log p + |W|²/2 with free intercepts: convex, and strictly so in
W. L-BFGS-B of SciPy finds the minimum. Two classes are told apart by a softmax too; scikit-learn takes the
sigmoid there, which is the same at twice the C.

Labels come from an attribute column, or from a dataset of kind ``labels``. Classes with a single row cannot
be both learnt and tested: they are left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...registry.errors import UsageError, printable
from ...registry.vectors import hash_ids, split
from ..labels import Labels, scarcity
from ..statistics import wilson
from ..suite import Absent, Better, Findings, Measure, Metric, Need, Skipped, Suite
from ..vocabulary import unique

if TYPE_CHECKING:
    from ..subject import Subject

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_SHARE: dict[str, Any] = {"unit": "share", "low": 0.0, "high": 1.0}
ACCURACY = Metric(
    "accuracy",
    **_SHARE,
    better=Better.HIGHER,
    item="correct",
    doc="Share of the tested rows whose class the probe names.",
    formula="|{tested rows named right}| / |{tested rows}|",
    source="Alain & Bengio 2017",
)
MACRO_F1 = Metric(
    "macro_f1",
    **_SHARE,
    better=Better.HIGHER,
    doc="Mean over classes of the harmonic mean of precision and recall.",
    formula="mean over classes of 2 TP / (2 TP + FP + FN)",
    source="Manning, Raghavan & Schütze 2008, sections 8.3 and 13.6",
)
MAJORITY = Metric(
    "majority",
    **_SHARE,
    better=Better.NEITHER,
    doc="Accuracy of always naming the class with the most rows to learn from.",
    formula="|{tested rows of the largest class}| / |{tested rows}|",
    source="own",
)
LIFT = Metric(
    "lift",
    unit="ratio",
    low=0.0,
    better=Better.HIGHER,
    doc="Accuracy over that of always naming the largest class.",
    formula="accuracy / majority",
    source="own",
)
COVERAGE = Metric(
    "coverage",
    **_SHARE,
    better=Better.HIGHER,
    doc="Share of the labels whose id is a row that is not 0, in a class of at least two.",
    formula="|{labels of a row that takes part}| / |{labels}|",
    source="own",
)
CLASSES = Metric(
    "classes",
    unit="classes",
    low=2.0,
    better=Better.NEITHER,
    doc="How many classes are told apart.",
    formula="|{classes with at least two rows}|",
    source="own",
)
LEFT_OUT = Metric(
    "classes_left_out",
    unit="classes",
    low=0.0,
    better=Better.LOWER,
    doc="Classes with fewer than two rows, which are left out.",
    formula="|{classes with fewer than two rows}|",
    source="own",
)
#: More classes than this are not reported one by one.
_REPORTED = 50
#: Largest entry of the gradient (of the mean loss) at which the minimum is reached.
_GRADIENT = 1e-8
#: Spread, in units of the mean length of a row, below what float32 rows can hold: all rows are equal.
_NO_SPREAD = 1e-12
#: Numbers of one block of rows or of resampled cells.
_BLOCK = 4 << 20
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        label: attribute column with the class of each row; empty for the dataset of labels, and without one
            for the column ``label`` where there is one.
        test_share: share of each class that is tested on.
        train_rows: at most so many rows are learnt from (but one of each class).
        max_classes: with more classes than this nothing is measured.
        c: inverse strength of the regularisation, as scikit-learn's C.
        iterations: of the solver, at most.
    """

    label: str = ""
    test_share: float = 0.2
    train_rows: int = 10_000
    max_classes: int = 1000
    c: float = 1.0
    iterations: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise UsageError(f"probe.test_share lies between 0 and 1, not at {self.test_share}")
        if not 1e-9 <= self.c <= 1e9:
            raise UsageError(f"probe.c lies between 1e-9 and 1e9, not at {self.c}")
        for name, least in (("train_rows", 2), ("max_classes", 2), ("iterations", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"probe.{name} must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """Rows to learn from and to test on.

    Attributes:
        train, test: int64 row numbers, ascending.
        codes: int64 ``(n,)``, class 0 … m-1 of each row of the table, -1 where it takes no part.
        names: of the m classes.
        left_out: classes with fewer than two rows.
        given: labels there are; ``usable`` of them are of a row in a class that is kept.
    """

    train: Rows
    test: Rows
    codes: Rows
    names: list[str]
    left_out: int
    given: int

    @property
    def usable(self) -> int:
        """Labels of a row that takes part."""
        return int((self.codes >= 0).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted probe.

    Attributes:
        mean: float64 ``(d,)``, and ``scale``: what is taken from rows, and what divides them.
        weights: float64 ``(d, m)``; intercepts: ``(m,)``, of mean 0.
        gradient: largest entry of the gradient of the mean loss, where the solver stopped.
    """

    mean: Floats
    scale: float
    weights: Floats
    intercepts: Floats
    gradient: float

    def features(self, x: NDArray[np.floating[Any]]) -> Floats:
        """Return the features of rows ``(n, d)``."""
        features: Floats = (x.astype(np.float64) - self.mean) / self.scale
        return features

    def predict(self, x: NDArray[np.floating[Any]]) -> Rows:
        """Return the most likely class of each row ``(n, d)``; of equals the first."""
        best: Rows = (self.features(x) @ self.weights + self.intercepts).argmax(axis=1)
        return best


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Fit a probe and test it.

    Raises:
        Skipped: there are no labels, fewer than two classes of two rows, or too many classes.
        ItemNotFound: the table has no column ``params.label``.
    """
    labels = Labels.of(subject, params.label)
    if labels is None:
        raise Skipped("no labels: name an attribute column in probe.label, or add a dataset of kind labels")
    parts = _split(subject, labels, params, rng)
    table = subject.table
    fit = fit_probe(
        table.take(parts.train), parts.codes[parts.train], len(parts.names), params.c, params.iterations
    )
    blocks = split(len(parts.test), max(1, _BLOCK // table.dim))
    predicted = np.concatenate([fit.predict(table.take(parts.test[part])) for part in blocks])
    found = list(_found(parts, predicted, rng))
    return Findings(
        measures=[f for f in found if isinstance(f, Measure)],
        absent=[f for f in found if isinstance(f, Absent)],
        items=_items(subject, parts, predicted),
        notes=[*_notes(parts, fit), *scarcity(subject, labels, params.label)],
    )


def _split(subject: Subject, labels: Labels, params: Params, rng: np.random.Generator) -> _Split:
    salt = int(rng.integers(1 << 63))
    rows = subject.valid[labels.codes[subject.valid] >= 0]
    sizes = np.bincount(labels.codes[rows], minlength=len(labels.names))
    kept = np.flatnonzero(sizes >= 2)
    if len(kept) < 2:
        raise Skipped(f"a probe needs two classes of at least two rows; there is {_count(len(kept))}")
    if len(kept) > params.max_classes:
        raise Skipped(f"{len(kept):,} classes are more than probe.max_classes = {params.max_classes:,}")
    # By name, so that neither the order of rows nor classes left out change the probe.
    kept = np.array(sorted(kept.tolist(), key=labels.names.__getitem__))
    code_of = np.full(len(labels.names), -1)
    code_of[kept] = np.arange(len(kept))
    codes = np.full(len(labels.codes), -1)
    codes[rows] = code_of[labels.codes[rows]]
    train, test = _drawn(subject, codes, sizes[kept], params, salt)
    return _Split(
        train=train,
        test=test,
        codes=codes,
        names=[labels.names[i] for i in kept],
        left_out=len(labels.names) - len(kept),
        given=labels.given,
    )


def _drawn(subject: Subject, codes: Rows, sizes: Rows, params: Params, salt: int) -> tuple[Rows, Rows]:
    """Return the rows to learn from and to test on, at least one each of every class."""
    rows = np.flatnonzero(codes >= 0)
    order = np.lexsort((hash_ids(subject.table.ids_of(rows), salt), codes[rows]))
    rows = rows[order]
    tested = np.clip(np.rint(params.test_share * sizes).astype(np.int64), 1, sizes - 1)
    learnt = sizes - tested
    if learnt.sum() > params.train_rows:
        learnt = np.maximum(learnt * params.train_rows // learnt.sum(), 1)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    test = place < np.repeat(tested, sizes)
    train = ~test & (place < np.repeat(tested + learnt, sizes))
    return np.sort(rows[train]), np.sort(rows[test])


def fit_probe(x: NDArray[np.floating[Any]], codes: Rows, classes: int, c: float, iterations: int) -> Fit:
    """Return the multinomial logistic regression of classes on rows.

    Args:
        x: ``(n, d)``, finite.
        codes: int64 ``(n,)``, 0 … classes - 1, each at least once.
        classes: m.
        c: inverse strength of the regularisation.
        iterations: of the solver, at most.
    """
    from scipy.optimize import minimize

    mean, scale, features = _standard(x)
    n, d = x.shape
    rows = np.arange(n)
    strength = 1 / (c * n)

    def objective(flat: Floats) -> tuple[float, Floats]:
        """Return the mean loss with its penalty, and the gradient."""
        weights, intercepts = flat[: d * classes].reshape(d, classes), flat[d * classes :]
        logits = features @ weights + intercepts
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[rows, codes]
        chances = np.exp(logits, out=logits)
        totals = chances.sum(axis=1)
        loss = float((np.log(totals) - own).mean() + strength / 2 * (weights * weights).sum())
        chances /= totals[:, None]
        chances[rows, codes] -= 1
        slope = features.T @ chances / n + strength * weights
        return loss, np.concatenate([slope.ravel(), chances.mean(axis=0)])

    found = minimize(
        objective,
        np.zeros((d + 1) * classes),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxfun": 2 * iterations, "gtol": _GRADIENT, "ftol": 1e-15},
    )
    intercepts = found.x[d * classes :]
    return Fit(
        mean=mean,
        scale=scale,
        weights=found.x[: d * classes].reshape(d, classes),
        intercepts=intercepts - intercepts.mean(),
        gradient=float(np.abs(found.jac).max()),
    )


def _standard(x: NDArray[np.floating[Any]]) -> tuple[Floats, float, Floats]:
    """Return the mean ``(d,)``, the root mean square about it, and the features ``(n, d)`` of rows."""
    rows = x.astype(np.float64)
    mean = rows.mean(axis=0)
    features = rows - mean
    scale = math.sqrt(float(np.square(features).mean()))
    if scale <= _NO_SPREAD * float(np.abs(rows).max()):
        return mean, 1.0, np.zeros_like(features)
    features /= scale
    return mean, scale, features


def _found(parts: _Split, predicted: Rows, rng: np.random.Generator) -> Iterator[Measure | Absent]:
    truth, n = parts.codes[parts.test], len(parts.test)
    correct = predicted == truth
    largest = int(np.bincount(parts.codes[parts.train]).argmax())
    majority = _proportion(MAJORITY.name, truth == largest)
    accuracy = _proportion(ACCURACY.name, correct)
    yield accuracy
    yield majority
    # Every class is tested, so the share of the largest one is never 0.
    lift = [x / majority.value for x in (accuracy.value, *wilson(int(correct.sum()), n))]
    yield Measure(LIFT.name, lift[0], n, low=lift[1], high=lift[2])
    yield _macro_f1(truth, predicted, len(parts.names), rng)
    low, high = wilson(parts.usable, parts.given)
    yield Measure(COVERAGE.name, parts.usable / parts.given, parts.given, low=low, high=high)
    yield Measure(CLASSES.name, float(len(parts.names)), parts.usable)
    yield Measure(LEFT_OUT.name, float(parts.left_out), len(parts.names) + parts.left_out)
    if len(parts.names) <= _REPORTED:
        for code, name in enumerate(unique([printable(name) for name in parts.names])):
            yield _proportion(ACCURACY.name, correct[truth == code], **{"class": name})


def _proportion(metric: str, true: NDArray[np.bool_], **labels: str) -> Measure:
    successes, n = int(true.sum()), len(true)
    low, high = wilson(successes, n)
    return Measure(metric, successes / n, n, labels, low=low, high=high)


def _macro_f1(truth: Rows, predicted: Rows, classes: int, rng: np.random.Generator) -> Measure:
    """Return the macro F1, with its bootstrap over the tested rows: a redraw of the confusion matrix."""
    cells, counts = np.unique(truth * classes + predicted, return_counts=True)
    n = len(truth)
    value = float(_f1(counts[None].astype(np.float64), cells, classes)[0])
    means = [
        _f1(rng.multinomial(n, counts / n, size=part.stop - part.start).astype(np.float64), cells, classes)
        for part in split(_RESAMPLES, max(1, _BLOCK // max(classes, len(cells))))
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Measure(MACRO_F1.name, value, n, low=float(low), high=float(high))


def _f1(counts: Floats, cells: Rows, classes: int) -> Floats:
    """Return the macro F1 of confusion matrices, float64 ``(b,)``.

    Args:
        counts: ``(b, cells)``, rows in each cell.
        cells: int64, true class times ``classes`` plus the one named.
        classes: how many there are; one that is neither true nor named anywhere has no F1.
    """
    from scipy.sparse import csr_array

    def summed(codes: Rows, values: Floats) -> Floats:
        ones = np.ones(len(codes))
        matrix = csr_array((ones, (np.arange(len(codes)), codes)), shape=(len(codes), classes))
        return np.asarray(values @ matrix)

    truth, named = np.divmod(cells, classes)
    same = truth == named
    both = summed(truth, counts) + summed(named, counts)
    right = summed(truth[same], counts[:, same])
    f1 = np.divide(2 * right, both, out=np.zeros_like(both), where=both > 0)
    mean: Floats = f1.sum(axis=1) / (both > 0).sum(axis=1)
    return mean


def _notes(parts: _Split, fit: Fit) -> list[str]:
    notes = [f"learnt from {len(parts.train):,} rows, tested on {len(parts.test):,}"]
    if parts.left_out:
        notes.append(f"{_count(parts.left_out)} with fewer than two rows left out")
    if fit.gradient > 1000 * _GRADIENT:
        notes.append(f"the solver stopped at a gradient of {fit.gradient:.1e} (probe.iterations)")
    return notes


def _count(classes: int) -> str:
    return "1 class" if classes == 1 else f"{classes:,} classes"


def _items(subject: Subject, parts: _Split, predicted: Rows) -> pa.Table:
    truth = parts.codes[parts.test]
    names = pa.array(parts.names, pa.string())
    return pa.table(
        {
            "item": pa.array(subject.table.ids_of(parts.test), pa.string()),
            "correct": (predicted == truth).astype(np.float64),
            "class": names.take(pa.array(truth)),
            "predicted": names.take(pa.array(predicted)),
        }
    )


SUITE = Suite(
    name="probe",
    version=1,
    params=Params,
    metrics=(ACCURACY, MACRO_F1, MAJORITY, LIFT, COVERAGE, CLASSES, LEFT_OUT),
    needs=frozenset(),
    wants=frozenset({Need.LABELS}),
    builtin=True,
    run=run,
    doc="Can a linear classifier read the class of a row from its vector?",
)
