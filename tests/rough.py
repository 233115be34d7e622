"""Tables on which careless numerical code breaks."""

from __future__ import annotations

import numpy as np


def rough(kind: str, n: int, d: int, seed: int) -> np.ndarray:
    """Return a table of a kind, float32 ``(n, d)``; none has a row of NaN, which a table cannot hold."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if kind in ("huge", "tiny"):
        x *= 1e30 if kind == "huge" else 1e-42
    if kind == "mixed":
        x *= 10.0 ** rng.integers(-40, 30, size=(n, 1))
    if kind == "equal":
        x[:] = x[0]
    if kind == "zeros":
        x[rng.random(n) < 0.5] = 0
    if kind == "copies":
        x = x[rng.integers(max(1, n // 4), size=n)]
    if kind == "lattice":
        x = np.rint(x)
    if kind == "line":
        x[:] = x[0] * rng.uniform(1, 2, size=(n, 1))
    return x.astype(np.float32)
