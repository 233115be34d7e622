"""What a covariance's eigenvalues say about how a cloud of points fills its space: pure functions.

Everything here is a function of eigenvalues (or of traces), so it does not depend on rotation, and but for
``top_share`` of degenerate clouds not on scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Eigenvalues below this share of the largest count as zero: of float32 rows they are mostly rounding.
_NOISE = 1e-7


def eigenvalues(matrix: Floats, rank: int) -> Floats:
    """Return the eigenvalues of a positive semidefinite ``(d, d)``, float64 ``(d,)``, descending.

    Those beyond ``rank``, the largest that the number of rows allows, and rounding noise are set to zero.
    """
    values: Floats = np.linalg.eigvalsh(matrix)[::-1].astype(np.float64)
    values[rank:] = 0.0
    values[values <= _NOISE * max(float(values[0]), 0.0)] = 0.0
    return values


def participation_ratio(values: Floats) -> float:
    """Return (sum λ)² / sum λ²: between 1 and d dimensions; ``values`` are not all zero.

    Source: Gao et al. 2017, section 2.
    """
    shares = values / values.sum()
    return max(float(1 / np.square(shares).sum()), 1.0)  # rounding may step below


def unbiased_participation_ratio(t1: float, t2: float, n: int) -> float | None:
    """Return the participation ratio from unbiased estimates of (tr Σ)² and tr Σ² of normal rows.

    Args:
        t1: trace of the sample covariance S.
        t2: trace of S².
        n: rows.

    Returns:
        None where tr Σ² is not estimated positive (too few rows for the width).

    Source: Srivastava 2005, section 2 (the estimates); own (their ratio).
    """
    m = n - 1
    if m < 2:
        return None
    below = m * m * (t2 - t1 * t1 / m)
    if below <= 1e-12 * m * m * t2:
        return None
    return max(float(m * ((m + 1) * t1 * t1 - 2 * t2) / below), 1.0)  # likewise


def isoscore(ratio: float, dim: int) -> float:
    """Return IsoScore from the participation ratio of ``dim`` >= 2 dimensions: 0 a line, 1 a ball.

    The published algorithm normalises the spectrum to length sqrt(d), takes its distance δ from (1, …, 1),
    and maps it in two steps; they reduce to (PR - 1) / (d - 1).

    Source: Rudman, Gillman, Rayne & Eickhoff 2022, section 3.
    """
    return (ratio - 1) / (dim - 1)


def effective_rank(values: Floats) -> float:
    """Return exp of the entropy of the singular values' shares; ``values`` are their squares.

    Source: Garrido et al. 2023 (RankMe), section 3; Roy & Vetterli 2007.
    """
    shares = np.sqrt(values[values > 0])
    shares = shares / shares.sum()
    return max(float(np.exp(-(shares * np.log(shares)).sum())), 1.0)


def decay(values: Floats) -> float | None:
    """Return -slope of log λ_j on log j by least squares over the positive λ; None below two of them.

    Source: Agrawal et al. 2022 (α-ReQ), section 3.
    """
    positive = values[values > 0]
    if len(positive) < 2:
        return None
    x, y = np.log(np.arange(1, len(positive) + 1)), np.log(positive)
    x -= x.mean()
    return float(-(x @ y) / (x @ x))
