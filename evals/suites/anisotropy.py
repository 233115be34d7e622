"""Anisotropy: how far is the cloud from filling its space?

Everything but the histogram, the norms, the partition isotropy (a second pass) and what a remedy would do to
the mean cosine (``evals.isotropy``) comes from the moments of the table: one pass, no sampling. Rows of zeros
take no part. X are the rows, U the unit rows, C the sample covariance of X. Sources: Ethayarajh 2019
(mean cosine); Rudman et al. 2022 (IsoScore); Garrido et al. 2023 (RankMe); Mu & Viswanath 2018 (partition
isotropy, all-but-the-top).

The per-item table is the picture: kind ``eigenvalue`` (position j, value λ_j of C, descending) and kind
``similarity`` (position: middle of a bin of cosines, value: share of random pairs in it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import UsageError
from ...registry.vectors import split, unit_rows
from .. import isotropy, spectrum
from ..moments import Moments
from ..statistics import normal_interval
from ..suite import Absent, Better, Findings, Measure, Metric, Skipped, Suite

if TYPE_CHECKING:
    import pyarrow as pa

    from ..subject import Subject

Floats = NDArray[np.float64]

_HIGHER: dict[str, Any] = {"better": Better.HIGHER, "low": 0.0}
_COUNTED: dict[str, Any] = {"better": Better.HIGHER, "low": 1.0}
_PLAIN: dict[str, Any] = {"better": Better.NEITHER, "low": 0.0}
MEAN_COSINE = Metric(
    "mean_cosine",
    unit="cosine",
    better=Better.LOWER,
    low=-1.0,
    high=1.0,
    doc="Mean cosine of all pairs of rows: 0 when directions are even, 1 when the cloud has collapsed.",
    formula="(|Σ u_i|² - n) / (n (n - 1))",
    source="Ethayarajh 2019, section 3",
)
MEAN_SQUARE_COSINE = Metric(
    "mean_square_cosine",
    unit="cosine²",
    better=Better.LOWER,
    low=0.0,
    high=1.0,
    doc="Mean squared cosine of all pairs of rows: 1/d when directions are even.",
    formula="(|U'U|_F² - n) / (n (n - 1))",
    source="own",
)
PARTICIPATION_RATIO = Metric(
    "participation_ratio",
    unit="dimensions",
    **_COUNTED,
    doc="How many dimensions share the variance.",
    formula="PR = (Σ λ_j)² / Σ λ_j²",
    source="Gao et al. 2017, section 2",
)
ISOSCORE = Metric(
    "isoscore",
    unit="share",
    **_HIGHER,
    high=1.0,
    doc="Share of the dimensions that the variance uses evenly: 0 a line, 1 a ball.",
    formula="(PR - 1) / (d - 1)",
    source="Rudman et al. 2022, section 3",
)
PARTICIPATION_RATIO_UNBIASED = Metric(
    "participation_ratio_unbiased",
    unit="dimensions",
    **_COUNTED,
    doc="The participation ratio without the bias of few rows.",
    formula="m ((m + 1) (tr C)² - 2 tr C²) / (m² (tr C² - (tr C)² / m)), m = n - 1",
    source="Srivastava 2005, section 2",
)
ISOSCORE_UNBIASED = Metric(
    "isoscore_unbiased",
    unit="share",
    **_HIGHER,
    doc="IsoScore without the bias of few rows; it may exceed 1 by its own error.",
    formula="(PR_unbiased - 1) / (d - 1)",
    source="Srivastava 2005, section 2; Rudman et al. 2022, section 3",
)
EFFECTIVE_RANK = Metric(
    "effective_rank",
    unit="dimensions",
    **_COUNTED,
    doc="How many directions the rows fill, by the entropy of the singular values of X (RankMe).",
    formula="exp(-Σ p_j log p_j), p_j = σ_j / Σ σ_j, σ_j the singular values of X",
    source="Garrido et al. 2023, section 3",
)
TOP_SHARE = Metric(
    "top_share",
    unit="share",
    better=Better.LOWER,
    low=0.0,
    high=1.0,
    doc="Share of the variance in the k largest eigenvalues of C.",
    formula="Σ_{j <= k} λ_j / Σ_j λ_j",
    source="Mu & Viswanath 2018, section 2.1",
)
STABLE_RANK = Metric(
    "stable_rank",
    unit="dimensions",
    **_COUNTED,
    doc="How many dimensions as strong as the strongest one would make up the rows.",
    formula="|X|_F² / |X|_2²",
    source="Rudelson & Vershynin 2007, section 1",
)
ALPHA_REQ = Metric(
    "alpha_req",
    unit="exponent",
    better=Better.NEITHER,
    low=0.0,
    doc="How fast the eigenvalues of C decay, as a power of their rank; near 1 is said to generalise best.",
    formula="-slope of the least squares line through (log j, log λ_j), λ_j > 0",
    source="Agrawal et al. 2022, section 3",
)
SELF_CLUSTER = Metric(
    "self_cluster",
    unit="share",
    better=Better.LOWER,
    low=-1.0,
    high=1.0,
    doc="How much more unit rows cluster than random ones: 0 random, 1 collapsed.",
    formula="(d |U'U|_F² - n (d + n - 1)) / ((d - 1) (n - 1) n)",
    source="Tsitsulin, Munkhoeva & Perozzi 2023 (SelfCluster)",
)
PARTITION_ISOTROPY = Metric(
    "partition_isotropy",
    unit="ratio",
    **_HIGHER,
    high=1.0,
    doc="How even the partition function is over the principal directions: 1 where all are alike.",
    formula="min_c Z(c) / max_c Z(c), Z(c) = Σ_i exp(c'u_i), c = ± each eigenvector of U'U",
    source="Mu & Viswanath 2018, section 2.2",
)
EFFECT_MEAN_COSINE = Metric(
    "effect_mean_cosine",
    unit="cosine",
    better=Better.LOWER,
    low=-1.0,
    high=1.0,
    doc="The mean cosine that a transform would leave, from a sample of rows.",
    formula="mean over i ≠ j of cos(T(x_i), T(x_j)), T the transform",
    source="Mu & Viswanath 2018; Su et al. 2021; Ethayarajh 2019, section 3",
)
EFFECT_ISOSCORE = Metric(
    "effect_isoscore",
    unit="share",
    **_HIGHER,
    high=1.0,
    doc="The IsoScore that a transform would leave, exact from the moments.",
    formula="IsoScore of M'CM, M the matrix of the transform",
    source="Mu & Viswanath 2018; Su et al. 2021; Rudman et al. 2022, section 3",
)
SIMILARITY_QUANTILE = Metric(
    "similarity_quantile",
    unit="cosine",
    better=Better.NEITHER,
    low=-1.0,
    high=1.0,
    doc="Quantile q of the cosines of random distinct pairs.",
    formula="Q_q of cos(x_i, x_j), i ≠ j at random",
    source="Ethayarajh 2019, section 3",
)
NORM_MEAN = Metric(
    "norm_mean",
    unit="norm",
    **_PLAIN,
    doc="Mean norm of the rows that are not zero.",
    formula="mean of |x_i|",
    source="own",
)
NORM_STD = Metric(
    "norm_std",
    unit="norm",
    **_PLAIN,
    doc="Standard deviation of the norms of the rows that are not zero.",
    formula="sqrt(mean of (|x_i| - norm_mean)²)",
    source="own",
)
NORM_MIN = Metric(
    "norm_min",
    unit="norm",
    **_PLAIN,
    doc="Smallest norm of a row that is not zero.",
    formula="min |x_i|",
    source="own",
)
NORM_MAX = Metric(
    "norm_max",
    unit="norm",
    **_PLAIN,
    doc="Largest norm of a row.",
    formula="max |x_i|",
    source="own",
)
ZERO_ROWS = Metric(
    "zero_rows",
    unit="rows",
    better=Better.LOWER,
    low=0.0,
    doc="Rows that are all zeros.",
    formula="|{i: x_i = 0}|",
    source="own",
)
NORM_RANK_CORRELATION = Metric(
    "norm_rank_correlation",
    unit="correlation",
    better=Better.NEITHER,
    low=-1.0,
    high=1.0,
    doc="Spearman correlation of a row's norm with its place in the table (frequency, in most word tables).",
    formula="Pearson correlation of the rank of |x_i| with i",
    source="Schakel & Wilson 2015, section 4",
)
_SPECTRAL = (PARTICIPATION_RATIO, ISOSCORE, PARTICIPATION_RATIO_UNBIASED, ISOSCORE_UNBIASED, TOP_SHARE)
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
#: Norms spread by less than this, relative to the largest, differ by rounding only.
_EVEN = 1e-6
#: So many rows that are not finite are named.
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Parameters.

    Attributes:
        top: how many of the largest eigenvalues ``top_share`` adds up, one measure each.
        pairs: random pairs behind the histogram and its quantiles; all pairs where there are fewer.
        bins: bins of the histogram, from -1 to 1.
        remedy_rows: rows that remedies are tried on, chosen by the hash of their ids; all where there are
            fewer.
    """

    top: tuple[int, ...] = (1, 3, 10)
    pairs: int = 100_000
    bins: int = 50
    remedy_rows: int = 5000

    def __post_init__(self) -> None:
        least = {"top": min(self.top, default=1), "pairs": self.pairs, "bins": self.bins}
        for name, value in least.items():
            if value < 1:
                raise UsageError(f"anisotropy.{name} must be at least 1, not {value}")
        if self.remedy_rows < 2:
            raise UsageError(f"anisotropy.remedy_rows must be at least 2, not {self.remedy_rows}")


def run(subject: Subject, params: Params, rng: np.random.Generator) -> Findings:
    """Measure the anisotropy of a table.

    Raises:
        Skipped: the table has no row that is not zero.
    """
    moments = subject.moments()
    if not moments.n_unit:
        raise Skipped(f"none of the {moments.n:,} rows has a direction")
    n = moments.n_unit
    values = spectrum.eigenvalues(moments.covariance(), n - 1) if n > 1 else np.zeros(0)
    cosines = similarities(subject, params.pairs, rng)
    found = [
        *_directions(moments),
        *_spectral(moments, values, params.top),
        *_quantiles(cosines),
        *_norms(subject, moments),
        Measure(PARTITION_ISOTROPY.name, isotropy.partition_isotropy(subject, moments), n),
        *_effects(subject, moments, values, params.remedy_rows),
    ]
    return Findings(
        measures=[f for f in found if isinstance(f, Measure)],
        absent=[f for f in found if isinstance(f, Absent)],
        items=_items(values, cosines, params.bins),
        notes=_notes(subject),
    )


def _directions(moments: Moments) -> Iterator[Measure | Absent]:
    n, d = moments.n_unit, moments.dim
    squares = float(np.square(moments.unit_gram).sum())
    lengths = spectrum.eigenvalues(moments.gram, n)
    yield Measure(EFFECTIVE_RANK.name, spectrum.effective_rank(lengths), n)
    yield Measure(STABLE_RANK.name, float(lengths.sum() / lengths[0]), n)
    if moments.mean_cosine is None:
        for metric in (MEAN_COSINE, MEAN_SQUARE_COSINE, SELF_CLUSTER):
            yield Absent(metric.name, "a single row has no pairs")
        return
    low, high = normal_interval(moments.mean_cosine, _cosine_error(moments), -1.0, 1.0)
    yield Measure(MEAN_COSINE.name, min(max(moments.mean_cosine, -1.0), 1.0), n, low=low, high=high)
    yield Measure(MEAN_SQUARE_COSINE.name, min(max((squares - n) / (n * (n - 1)), 0.0), 1.0), n)
    if d == 1:
        yield Absent(SELF_CLUSTER.name, "one dimension has two directions only")
    else:
        value = (d * squares - n * (d + n - 1)) / ((d - 1) * (n - 1) * n)
        yield Measure(SELF_CLUSTER.name, min(max(value, -1.0), 1.0), n)


def _cosine_error(moments: Moments) -> float:
    """Return the standard error of the mean cosine, for rows drawn from a larger population.

    A mean over pairs has twice the error of the mean, over rows, of each row's own mean cosine with the
    others. That one is (u's - 1)/(n - 1) with s the sum of all unit rows, so its variance follows from U'U.

    Source: Hoeffding 1948, theorem 7.1.
    """
    n, total = moments.n_unit, moments.unit_sum
    mean = float(total @ total) / n
    variance = max(float(total @ moments.unit_gram @ total) / n - mean * mean, 0.0) / (n - 1) ** 2
    return 2 * math.sqrt(variance / (n - 1))


def _spectral(moments: Moments, values: Floats, top: tuple[int, ...]) -> Iterator[Measure | Absent]:
    n, d = moments.n_unit, moments.dim
    if not _varies(moments, values):
        reason = "a single row has no covariance" if n == 1 else "all rows are equal"
        yield from (Absent(metric.name, reason) for metric in (*_SPECTRAL, ALPHA_REQ))
        return
    ratio = spectrum.participation_ratio(values)
    unbiased = spectrum.unbiased_participation_ratio(values.sum(), np.square(values).sum(), n)
    yield Measure(PARTICIPATION_RATIO.name, ratio, n)
    if unbiased is None:
        few = f"{n:,} rows are too few for {d:,} dimensions"
        yield from (Absent(m.name, few) for m in (PARTICIPATION_RATIO_UNBIASED, ISOSCORE_UNBIASED))
    else:
        yield Measure(PARTICIPATION_RATIO_UNBIASED.name, unbiased, n)
    if d == 1:
        missing = (ISOSCORE,) if unbiased is None else (ISOSCORE, ISOSCORE_UNBIASED)
        yield from (Absent(m.name, "one dimension is always evenly used") for m in missing)
    else:
        yield Measure(ISOSCORE.name, spectrum.isoscore(ratio, d), n)
        if unbiased is not None:
            yield Measure(ISOSCORE_UNBIASED.name, spectrum.isoscore(unbiased, d), n)
    for k in top:
        yield Measure(TOP_SHARE.name, float(values[:k].sum() / values.sum()), n, {"k": str(k)})
    alpha = spectrum.decay(values)
    if alpha is None:
        yield Absent(ALPHA_REQ.name, "the rows lie on a line")
    else:
        yield Measure(ALPHA_REQ.name, alpha, n)


def _effects(subject: Subject, moments: Moments, values: Floats, rows: int) -> Iterator[Measure | Absent]:
    n, sample = moments.n_unit, subject.table.take(subject.sample(rows))
    for name in isotropy.REMEDIES:
        labels = {"transform": name}
        if not _varies(moments, values):
            reason = "a single row has no covariance" if n == 1 else "all rows are equal"
            effect = isotropy.Effect(mean_cosine=reason, isoscore=reason)
        else:
            effect = isotropy.effect(name, moments, sample)
        cosine, score = effect.mean_cosine, effect.isoscore
        if isinstance(cosine, str):
            yield Absent(EFFECT_MEAN_COSINE.name, cosine, labels)
        else:
            yield Measure(
                EFFECT_MEAN_COSINE.name, cosine.value, cosine.n, labels, low=cosine.low, high=cosine.high
            )
        if isinstance(score, str):
            yield Absent(EFFECT_ISOSCORE.name, score, labels)
        else:
            yield Measure(EFFECT_ISOSCORE.name, score, n, labels)


def _varies(moments: Moments, values: Floats) -> bool:
    """Whether the rows differ by more than the rounding of their own moments."""
    return bool(values.size) and float(values.sum()) > 1e-14 * float(np.trace(moments.gram)) / moments.n_unit


def similarities(subject: Subject, pairs: int, rng: np.random.Generator) -> Floats:
    """Return the cosines of ``pairs`` random pairs of distinct rows, or of all pairs if there are fewer."""
    n = len(subject.valid)
    if n * (n - 1) // 2 <= pairs:
        left, right = np.triu_indices(n, 1)
    else:
        left = rng.integers(n, size=pairs)
        right = (left + rng.integers(1, n, size=pairs)) % n
    cosines = np.empty(len(left))
    for part in split(len(left), 8192):
        x, y = (unit_rows(subject.table.take(subject.valid[rows[part]])) for rows in (left, right))
        cosines[part] = np.einsum("ij,ij->i", x.astype(np.float64), y.astype(np.float64))
    return np.clip(cosines, -1.0, 1.0, out=cosines)


def _quantiles(cosines: Floats) -> Iterator[Measure | Absent]:
    if not len(cosines):
        yield Absent(SIMILARITY_QUANTILE.name, "a single row has no pairs")
        return
    for q, value in zip(_QUANTILES, np.quantile(cosines, _QUANTILES), strict=True):
        yield Measure(SIMILARITY_QUANTILE.name, float(value), len(cosines), {"q": str(q)})


def _norms(subject: Subject, moments: Moments) -> Iterator[Measure | Absent]:
    n = moments.n_unit
    low, high = normal_interval(moments.norm_mean, moments.norm_std / math.sqrt(n), 0.0)
    yield Measure(NORM_MEAN.name, moments.norm_mean, n, low=low, high=high)
    yield Measure(NORM_STD.name, moments.norm_std, n)
    yield Measure(NORM_MIN.name, moments.norm_min, n)
    yield Measure(NORM_MAX.name, moments.norm_max, n)
    yield Measure(ZERO_ROWS.name, float(moments.zero_rows), moments.n)
    if moments.norm_max - moments.norm_min <= _EVEN * moments.norm_max:
        yield Absent(NORM_RANK_CORRELATION.name, "all norms are equal")
        return
    from scipy.stats import rankdata

    ranks = rankdata(subject.norms[subject.valid])
    yield Measure(NORM_RANK_CORRELATION.name, float(np.corrcoef(ranks, np.arange(n))[0, 1]), n)


def _notes(subject: Subject) -> list[str]:
    bad = subject.nonfinite
    if not len(bad):
        return []
    named = ", ".join(map(str, bad[:_NAMED].tolist()))
    return [f"{len(bad):,} rows hold NaN or infinity, and are left out: {named}{' …' * (len(bad) > _NAMED)}"]


def _items(values: Floats, cosines: Floats, bins: int) -> pa.Table:
    import pyarrow as pa

    counts, edges = np.histogram(cosines, bins=bins, range=(-1, 1))
    shares = counts / max(len(cosines), 1)
    names = [f"eigenvalue {j}" for j in range(1, len(values) + 1)]
    names += [f"similarity [{a:.5g},{b:.5g})" for a, b in pairwise(edges)]
    kinds = ["eigenvalue"] * len(values) + ["similarity"] * bins
    positions = np.concatenate([np.arange(1.0, len(values) + 1), (edges[:-1] + edges[1:]) / 2])
    return pa.table(
        {"item": names, "kind": kinds, "position": positions, "value": np.concatenate([values, shares])}
    )


SUITE = Suite(
    name="anisotropy",
    version=1,
    params=Params,
    metrics=(
        MEAN_COSINE,
        MEAN_SQUARE_COSINE,
        *_SPECTRAL,
        EFFECTIVE_RANK,
        STABLE_RANK,
        ALPHA_REQ,
        SELF_CLUSTER,
        PARTITION_ISOTROPY,
        EFFECT_MEAN_COSINE,
        EFFECT_ISOSCORE,
        SIMILARITY_QUANTILE,
        NORM_MEAN,
        NORM_STD,
        NORM_MIN,
        NORM_MAX,
        ZERO_ROWS,
        NORM_RANK_CORRELATION,
    ),
    needs=frozenset(),
    run=run,
    doc="How far is the cloud from filling its space?",
)
