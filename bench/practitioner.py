"""The figures of six suites, as one writes them down with gensim, scikit-learn, faiss' codecs and numpy.

The peer of a full evaluation: it has no intervals, and records nothing. It is helped where that is the
obvious thing to do: neighbours are found once and serve the neighbours, the hubness, the quantization and the
drift, and means over all pairs are taken from sums. Names are those of embreg's suites, so that the figures
can be held beside each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import faiss
import numpy as np
from gensim.models import KeyedVectors
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from scipy.stats import skew, spearmanr
from sklearn.neighbors import NearestNeighbors

Floats = NDArray[np.floating]
K, LID_K = 10, 20
CODECS = {"fp16": "SQfp16", "bf16": "SQbf16", "int8": "SQ8", "int4": "SQ4", "pq": "PQ{parts}x8np"}


@dataclass(slots=True)
class Found:
    """The figures by name, and the seconds that each suite took."""

    figures: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, suite: str, work: Callable[[], dict[str, float]]) -> None:
        start = time.perf_counter()
        for name, value in work().items():
            self.figures[f"{suite} {name}"] = float(value)
        self.seconds[suite] = self.seconds.get(suite, 0.0) + time.perf_counter() - start


def evaluate(folder: Path, questions: Path) -> dict[str, dict[str, float]]:
    """Measure ``new.npy`` of a folder, and how far it is from ``old.npy``.

    Samples are the first rows of ``order.npy``, so that they are the same rows as embreg's.
    """
    found = Found()
    words = json.loads((folder / "words.json").read_text())
    new, old = np.load(folder / "new.npy"), np.load(folder / "old.npy")
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (new, old))
    n = len(new)
    order = np.load(folder / "order.npy")
    sample = np.arange(n) if n <= 50_000 else np.sort(order[:10_000])
    graph: dict[str, tuple[Floats, NDArray[np.int64]]] = {}

    def neighbors() -> dict[str, float]:
        graph["new"] = lists(u, sample, LID_K)
        return _neighbors(u, sample, *graph["new"])

    def drift() -> dict[str, float]:
        graph["old"] = lists(v, sample, K)
        asked = np.sort(order[:2000])
        return _drift(new, old, u, v, sample, asked, graph["new"][1][:, :K], graph["old"][1])

    found.time("analogies", lambda: _analogies(words, new, questions))
    found.time("neighbors", neighbors)
    found.time("hubness", lambda: {"skewness": _skewness(graph["new"][1][:, :K], n)})
    found.time("anisotropy", lambda: _anisotropy(new, u, order[:5000]))
    found.time("quantization", lambda: _quantization(u, np.sort(order[:1000]), sample, graph["new"]))
    found.time("drift", drift)
    return {"found": found.figures, "seconds": found.seconds}


def lists(units: Floats, rows: NDArray[np.int64], k: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the cosines and rows of the k nearest of some rows, themselves left out."""
    search = NearestNeighbors(n_neighbors=k + 1, metric="cosine", algorithm="brute").fit(units)
    distances, found = search.kneighbors(units[rows])
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True
    return 1 - distances[~own].reshape(-1, k), found[~own].reshape(-1, k)


def hubness_of(x: Floats, k: int) -> dict[str, float]:
    """Return the measures of scikit-hubness 0.21 by their formulas, on scikit-learn's neighbours."""
    search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(x)
    found = search.kneighbors(return_distance=False)
    counts, n = np.bincount(found.ravel(), minlength=len(x)), len(x)
    ascending = np.sort(counts)
    return {
        "skewness": float(skew(counts)),
        "robin_hood": float(np.abs(counts - counts.mean()).sum() / 2 / counts.sum()),
        "gini": float(2 * (np.arange(1, n + 1) * ascending).sum() / (n * ascending.sum()) - (n + 1) / n),
        "antihub_rate": float((counts == 0).mean()),
        "hub_occurrence": float(counts[counts >= 2 * k].sum() / counts.sum()),
        "max_occurrence": float(counts.max()),
    }


def _analogies(words: list[str], x: Floats, questions: Path) -> dict[str, float]:
    vectors = KeyedVectors(x.shape[1])
    vectors.add_vectors(words, x)
    accuracy, sections = vectors.evaluate_word_analogies(str(questions))
    found = {"accuracy group=total": accuracy}
    for section in sections[:-1]:
        asked = len(section["correct"]) + len(section["incorrect"])
        if asked:
            found[f"accuracy section={section['section']}"] = len(section["correct"]) / asked
    return found


def _neighbors(
    u: Floats, rows: NDArray[np.int64], cosines: Floats, found: NDArray[np.int64]
) -> dict[str, float]:
    first = cosines[:, 0]
    rng = np.random.default_rng(1)
    edges = rng.choice(len(rows) * K, min(2000, len(rows) * K), replace=False)
    origin, end = rows[edges // K], found[edges // K, edges % K]
    back = lists(u, end, K)[1]
    distances = np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 1e-12))
    ratios = np.log(distances[:, -1:] / distances[:, :-1]).sum(axis=1) / (LID_K - 1)
    values = {
        "top1_cosine": first.mean(),
        "duplicate_rate": (first > 1 - 1e-6).mean(),
        "reciprocity@10": (back == origin[:, None]).any(axis=1).mean(),
        "lid": 1 / ratios.mean(),
        "twonn": (len(rows) - 1) / np.log(distances[:, 1] / distances[:, 0]).sum(),
    }
    for q in (0.05, 0.5, 0.95):
        values[f"top1_cosine q={q}"] = np.quantile(first, q)
        values[f"margin@10 q={q}"] = np.quantile(first - cosines[:, K - 1], q)
    return values


def _skewness(found: NDArray[np.int64], n: int) -> float:
    """The skewness of N_k from some lists: of their counts where all rows ask, else by factorial moments."""
    counts, q = np.bincount(found.ravel(), minlength=n).astype(np.float64), len(found)
    if q == n:
        return float(skew(counts))
    f1 = counts.mean() * n / q
    f2 = (counts * (counts - 1)).mean() * n * (n - 1) / (q * (q - 1))
    f3 = (counts * (counts - 1) * (counts - 2)).mean() * n * (n - 1) * (n - 2) / (q * (q - 1) * (q - 2))
    m2, m3 = f2 + f1, f3 + 3 * f2 + f1
    return float((m3 - 3 * f1 * m2 + 2 * f1**3) / (m2 - f1 * f1) ** 1.5)


def _anisotropy(x: Floats, u: Floats, rows: NDArray[np.int64]) -> dict[str, float]:
    n, d = x.shape
    rng, norms = np.random.default_rng(2), np.linalg.norm(x, axis=1)
    values = np.linalg.eigvalsh(np.cov(x, rowvar=False))[::-1]
    singular = np.linalg.svd(x, compute_uv=False)
    shares = singular / singular.sum()
    total = u.sum(axis=0, dtype=np.float64)
    squares = np.square((u.T @ u).astype(np.float64)).sum()
    powers = u @ np.linalg.eigh(u.T @ u)[1]
    sums = np.concatenate([np.exp(powers).sum(axis=0), np.exp(-powers).sum(axis=0)])
    ratio = values.sum() ** 2 / np.square(values).sum()
    left, right = rng.integers(n, size=100_000), rng.integers(n, size=100_000)
    cosines = np.einsum("ij,ij->i", u[left], u[right])
    some = x[rows]
    found = {
        "mean_cosine": (total @ total - n) / (n * (n - 1)),
        "mean_square_cosine": (squares - n) / (n * (n - 1)),
        "participation_ratio": ratio,
        "isoscore": (ratio - 1) / (d - 1),
        "effective_rank": np.exp(-(shares * np.log(shares)).sum()),
        "stable_rank": np.square(singular).sum() / singular[0] ** 2,
        "alpha_req": -np.polyfit(np.log(np.arange(1, d + 1)), np.log(values), 1)[0],
        "self_cluster": (d * squares - n * (d + n - 1)) / ((d - 1) * (n - 1) * n),
        "partition_isotropy": sums.min() / sums.max(),
        "norm_mean": norms.mean(),
        "norm_std": norms.std(),
        "norm_min": norms.min(),
        "norm_max": norms.max(),
        "norm_rank_correlation": spearmanr(norms, np.arange(n)).statistic,
    }
    for k in (1, 3, 10):
        found[f"top_share k={k}"] = values[:k].sum() / values.sum()
    for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99):
        found[f"similarity_quantile q={q}"] = np.quantile(cosines, q)
    centred = some - x.mean(axis=0)
    basis = np.linalg.eigh(np.cov(x, rowvar=False))
    top = basis[1][:, -1:]
    for name, after in (
        ("center", centred),
        ("all-but-the-top", centred - centred @ top @ top.T),
        ("whiten", centred @ basis[1] / np.sqrt(basis[0])),
    ):
        units = after / np.linalg.norm(after, axis=1, keepdims=True)
        whole = units.sum(axis=0)
        found[f"effect_mean_cosine transform={name}"] = (whole @ whole - len(some)) / (
            len(some) * (len(some) - 1)
        )
    return found


def _nearest(queries: Floats, base: Floats, k: int) -> NDArray[np.int64]:
    """The rows of the k largest products with each query, best first: by numpy, 100 queries at a time."""
    found = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), 100):
        scores = queries[start : start + 100] @ base.T
        part = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1)
        found[start : start + 100] = np.take_along_axis(part, order, axis=1)
    return found


def _coded(u: Floats, training: Floats) -> dict[str, tuple[float, Floats]]:
    """What each codec leaves of the rows: bytes of a row, and the rows decoded."""
    d, coded = u.shape[1], {}
    for name, factory in CODECS.items():
        index = faiss.index_factory(d, factory.format(parts=d // 4 if d % 4 == 0 else d // 2))
        index.train(training)
        coded[name] = index.sa_code_size(), index.sa_decode(index.sa_encode(u))
    mean = training.mean(axis=0)
    spread = np.abs(training - mean).mean(axis=0)
    coded["1-bit"] = -(-d // 8), np.where(u >= mean, mean + spread, mean - spread).astype(np.float32)
    for name, part in (("truncate-1/2", 2), ("truncate-1/4", 4)):
        kept = np.zeros_like(u)
        kept[:, : d // part] = u[:, : d // part]
        coded[name] = d // part * 4, kept / np.linalg.norm(kept, axis=1, keepdims=True)
    return coded


def _quantization(
    u: Floats,
    rows: NDArray[np.int64],
    sample: NDArray[np.int64],
    graph: tuple[Floats, NDArray[np.int64]],
) -> dict[str, float]:
    rng = np.random.default_rng(3)
    cosines = graph[0][np.searchsorted(sample, rows)]
    training = np.ascontiguousarray(u[rng.choice(len(u), min(len(u), 100_000), replace=False)])
    found = {}
    for name, (size, decoded) in _coded(u, training).items():
        lengths = np.maximum(np.linalg.norm(decoded, axis=1), 1e-12)
        agree = np.einsum("ij,ij->i", u, decoded) / lengths
        found[f"distortion codec={name}"] = np.linalg.norm(u - decoded, axis=1).mean()
        found[f"cosine_mean codec={name}"] = agree.mean()
        found[f"cosine_min codec={name}"] = agree.min()
        found[f"bytes_per_vector codec={name}"] = size
        base = decoded / lengths[:, None]
        here = _others(_nearest(u[rows], base, 4 * K + 1), rows)
        both = _others(_nearest(base[rows], base, 4 * K + 1), rows)
        true = np.einsum("ij,ikj->ik", u[rows], u[here]) >= cosines[:, K - 1 : K] - 1e-6
        found[f"recall@10 codec={name}"] = true[:, :K].mean()
        for factor in (2, 4):
            hits = np.minimum(true[:, : factor * K].sum(axis=1), K) / K
            found[f"recall@10 codec={name} rescore={factor}"] = hits.mean()
        for search, first in (("asymmetric", here[:, 0]), ("symmetric", both[:, 0])):
            near = np.einsum("ij,ij->i", u[rows], u[first]) >= cosines[:, 0] - 1e-6
            found[f"recall@1 codec={name} search={search}"] = near.mean()
    index = faiss.index_factory(u.shape[1], f"RR{u.shape[1]},RaBitQ")
    index.train(training)
    index.add(u)
    here = _others(index.search(np.ascontiguousarray(u[rows]), 4 * K + 1)[1], rows)
    true = np.einsum("ij,ikj->ik", u[rows], u[here]) >= cosines[:, K - 1 : K] - 1e-6
    found["recall@10 codec=rabitq"] = true[:, :K].mean()
    return found


def _others(found: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(rows), -1)


def _drift(
    x: Floats,
    y: Floats,
    u: Floats,
    v: Floats,
    sample: NDArray[np.int64],
    asked: NDArray[np.int64],
    new: NDArray[np.int64],
    old: NDArray[np.int64],
) -> dict[str, float]:
    n = len(x)
    same = new[:, :, None] == old[:, None, :]
    depth = np.arange(1, K + 1)
    agreed = np.array([same[:, :r, :r].any(axis=2).sum(axis=1) for r in depth]).T
    rbo = agreed[:, -1] / K * 0.9**K + 0.1 * (0.9 ** (depth - 1) * agreed / depth).sum(axis=1)
    crossed = _others(_nearest(u[asked], v, K + 1), asked)
    cross = (new[np.searchsorted(sample, asked)][:, :, None] == crossed[:, None, :]).any(axis=2).mean()
    rotation = orthogonal_procrustes(u, v)[0]
    a, b = x.astype(np.float64), y.astype(np.float64)
    ac, bc = a - a.mean(axis=0), b - b.mean(axis=0)
    whole = np.square(ac).sum() + np.square(bc).sum()
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    total = u.sum(axis=0, dtype=np.float64), v.sum(axis=0, dtype=np.float64)
    cosines = [(float(t @ t) - n) / (n * (n - 1)) for t in total]
    left, s, _ = np.linalg.svd(a, full_matrices=False)
    right, t, _ = np.linalg.svd(b, full_matrices=False)
    between = np.square(left.T @ right)
    weights = [(z**2 / (z**2).sum()) ** 3 for z in (s, t)]
    lost = weights[0] @ (1 - between.sum(axis=1)) + weights[1] @ (1 - between.sum(axis=0))
    squares = [np.square(m).sum() for m in (a.T @ a, b.T @ b, a.T @ b)]
    pip = np.sqrt(squares[0] + squares[1] - 2 * squares[2])
    value, p = _mmd(a, b)
    return {
        "neighbor_overlap@10": same.any(axis=2).mean(),
        "rbo": rbo.mean(),
        "cross_recall@10": cross,
        "semantic_displacement": 1 - np.einsum("ij,ij->i", u @ rotation, v).mean(),
        "raw_cosine": np.einsum("ij,ij->i", u, v).mean(),
        "procrustes_residual": 1 - 2 * np.linalg.svd(bc.T @ ac, compute_uv=False).sum() / whole,
        "cka": _hsic(ac, bc) / np.sqrt(_hsic(ac, ac) * _hsic(bc, bc)),
        "eigenspace_overlap": between.sum() / len(s),
        "eigenspace_instability": lost / (weights[0].sum() + weights[1].sum()),
        "pip_loss": pip,
        "pip_loss_relative": pip / np.sqrt(squares[0] + squares[1]),
        "norm_shift": norms[0].mean() / norms[1].mean() - 1,
        "centroid_shift": np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)) / norms[1].mean(),
        "mean_cosine_change": cosines[0] - cosines[1],
        "mmd": value,
        "mmd_p of its own draws": p,
    }


def _hsic(x: Floats, y: Floats) -> float:
    """The unbiased HSIC of two linear kernels on centred rows, up to a factor: Song et al. 2012, eq. 5."""
    n, a, b = len(x), np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    diagonal = a @ b
    return (
        np.square(x.T @ y).sum() - diagonal + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * diagonal / (n - 2)
    )


def _mmd(x: Floats, y: Floats, rows: int = 1000, permutations: int = 999) -> tuple[float, float]:
    rng = np.random.default_rng(5)
    drawn = rng.permutation(len(x))
    rows = min(rows, len(x) // 2)
    both = np.concatenate([x[drawn[:rows]], y[drawn[rows : 2 * rows]]])
    squares = np.square(both).sum(axis=1)
    distances = squares[:, None] + squares - 2 * both @ both.T
    kernel = np.exp(-distances / np.median(distances[np.triu_indices(2 * rows, 1)]))
    np.fill_diagonal(kernel, 0)

    signs = np.repeat([1.0, -1.0], rows)
    deals = np.column_stack([signs, *(rng.permutation(signs) for _ in range(permutations))])
    # z'Kz is what lies within the two sets less what lies between them.
    total, apart = kernel.sum(), np.einsum("ij,ij->j", deals, kernel @ deals)
    found = (total + apart) / 2 / (rows * (rows - 1)) - (total - apart) / 2 / rows**2
    return found[0], (1 + (found[1:] >= found[0]).sum()) / (1 + permutations)
