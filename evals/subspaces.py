"""What two versions span and how alike their rows are, seen from the rows: functions of Gram matrices.

X and Y are the rows of one set of ids in two versions ``(n, d)`` and ``(n, D)``, as they are, not centred; U
and V the left singular vectors of X and Y, s and t their singular values. Nothing here changes when a version
is rotated, nor, but for the PIP loss, when it is scaled. No n x n matrix is formed: U'V comes out of X'X, Y'Y
and X'Y.

- **Eigenspace overlap**: |U'V|_F² / max(d, D), the ranks standing for the widths where rows lie in a plane
  (May, Zhang, Dao & Ré 2019).
- **Eigenspace instability**: tr((UU' + VV' - 2 VV'UU') Σ) / tr Σ with Σ = (XX')^α + (YY')^α, α = 3
  (Leszczynski et al. 2020). The paper takes Σ from two large embeddings as anchors; here the versions are
  their own anchors, each brought to |X|_F = 1 first, so that the longer one does not outvote the other.
- **PIP loss**: |XX' - YY'|_F (Yin & Shen 2018). It grows with the number of rows and the square of their
  length; the relative one is divided by sqrt(|XX'|_F² + |YY'|_F²), and so lies between 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Eigenvalues below this share of the largest are the rounding of float32 rows.
_NOISE = 1e-12
#: Power of the anchors in the eigenspace instability.
_ALPHA = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Grams:
    """Products of the rows of two versions, each in a unit of its own.

    Attributes:
        n: rows.
        old, new, cross: X'X, Y'Y and X'Y, float64; either may be padded with zeros.
        units: length of one unit of X and of Y.
    """

    n: int
    old: Floats
    new: Floats
    cross: Floats
    units: tuple[float, float]


def measure(grams: Grams) -> dict[str, float | str]:
    """Return the value of each metric of the module, or the reason why there is none."""
    loss, relative = pip_loss(grams)
    found: dict[str, float | str] = {"pip_loss": loss, "pip_loss_relative": relative}
    (s2, left), (t2, right) = _principal(grams.old, grams.n), _principal(grams.new, grams.n)
    if max(len(s2), len(t2)) >= grams.n:
        few = f"{grams.n:,} shared rows are too few: {grams.n:,} dimensions span them all"
        return {"eigenspace_overlap": few, "eigenspace_instability": few, **found}
    squares = np.square(left.T @ grams.cross @ right / np.sqrt(np.outer(s2, t2)))
    overlap = float(squares.sum()) / max(len(s2), len(t2))
    kept = np.minimum(squares.sum(axis=1), 1.0), np.minimum(squares.sum(axis=0), 1.0)
    return {
        "eigenspace_overlap": min(overlap, 1.0),
        "eigenspace_instability": _instability((s2, t2), kept),
        **found,
    }


def pip_loss(grams: Grams) -> tuple[float, float]:
    """Return |XX' - YY'|_F, in squared units of length, and its relative form."""
    unit = max(grams.units)
    old, new = ((length / unit) ** 2 for length in grams.units)
    both = (old * _square(grams.old), new * _square(grams.new))
    whole = old * both[0] + new * both[1]
    apart = max(whole - 2 * old * new * _square(grams.cross), 0.0)
    return unit**2 * math.sqrt(apart), math.sqrt(apart / whole)


def _square(matrix: Floats) -> float:
    return float(np.square(matrix).sum())


def _principal(gram: Floats, n: int) -> tuple[Floats, Floats]:
    """Return the eigenvalues above the noise ``(r,)``, descending, and their eigenvectors ``(d, r)``."""
    values, basis = np.linalg.eigh((gram + gram.T) / 2)
    rank = min(int((values > _NOISE * values[-1]).sum()), n)
    return values[: -rank - 1 : -1], basis[:, : -rank - 1 : -1]


def _instability(values: tuple[Floats, Floats], kept: tuple[Floats, Floats]) -> float:
    """Return the eigenspace instability.

    Args:
        values: squared singular values of X and of Y, descending.
        kept: squared length of each left singular vector of X in the span of Y, and the reverse.
    """
    # UU' leaves XX' as it is, so that tr((UU' + VV' - 2 VV'UU') (XX')^α) = Σ s^2α (1 - |V'u|²).
    weights = [(v / v.sum()) ** _ALPHA for v in values]
    lost = sum(float(w @ (1 - k)) for w, k in zip(weights, kept, strict=True))
    return lost / float(weights[0].sum() + weights[1].sum())
