"""Eigenspaces and PIP loss: by hand, and against the published formulas with every matrix written out."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from embreg.evals import geometry
from embreg.evals.shared import Shared
from embreg.evals.subject import Subject
from embreg.evals.subspaces import Grams, measure
from embreg.registry.tables import EmbeddingTable

NAMES = {"eigenspace_overlap", "eigenspace_instability", "pip_loss", "pip_loss_relative"}


def measured(x: np.ndarray, y: np.ndarray) -> dict[str, float | str]:
    """Through two tables, as the suite does."""
    old, new = (Subject(EmbeddingTable.from_arrays(None, np.asarray(z, dtype=np.float32))) for z in (x, y))
    found = geometry.measure(Shared.of(old, new)).scalars
    return {name: found[name] for name in NAMES}


def left(x: np.ndarray) -> np.ndarray:
    """The left singular vectors that belong to singular values above 0."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return u[:, s > 1e-5 * s[0]]


def instability(x: np.ndarray, y: np.ndarray) -> float:
    """Leszczynski et al. 2020: n x n projections, and Σ from both versions brought to one length."""
    x, y = (z / np.linalg.norm(z) for z in (x, y))
    p, q = (left(z) @ left(z).T for z in (x, y))
    sigma = np.linalg.matrix_power(x @ x.T, 3) + np.linalg.matrix_power(y @ y.T, 3)
    return float(np.trace((p + q - 2 * q @ p) @ sigma) / np.trace(sigma))


def overlap(x: np.ndarray, y: np.ndarray) -> float:
    u, v = left(x), left(y)
    return float(np.square(u.T @ v).sum() / max(u.shape[1], v.shape[1]))


def dense(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    x, y = (z.astype(np.float32).astype(np.float64) for z in (x, y))
    k, h = x @ x.T, y @ y.T
    loss = np.linalg.norm(k - h)
    return {
        "eigenspace_overlap": overlap(x, y),
        "eigenspace_instability": instability(x, y),
        "pip_loss": loss,
        "pip_loss_relative": loss / np.sqrt(np.square(k).sum() + np.square(h).sum()),
    }


ORACLES = {
    "eigenspace_overlap": "formula of May et al. 2019",
    "eigenspace_instability": "formula of Leszczynski et al. 2020",
    "pip_loss": "formula of Yin & Shen 2018",
    "pip_loss_relative": "formula of Yin & Shen 2018",
}


def agree(oracle, x: np.ndarray, y: np.ndarray, data: str = "random") -> None:
    """Both as ``dense`` has it; a PIP loss in units of the largest that there could be."""
    got, want = measured(x, y), dense(x, y)
    scale = want["pip_loss"] / want["pip_loss_relative"]
    for name, value in want.items():
        unit = scale if name == "pip_loss" else 1.0
        why = "in units of |XX'| and |YY'|" if name == "pip_loss" else ""
        oracle.agrees(
            ORACLES[name],
            f"drift.{name}",
            got[name] / unit,
            value / unit,
            rtol=1e-6,
            atol=1e-7,
            data=data,
            why=why,
        )


def cloud(seed: int, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d) + rng.normal(size=d)


def rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def test_by_hand():
    # Three rows on one axis each; the new version forgets the second row and learns the third.
    x = np.array([[2, 0], [0, 1], [0, 0.0]])
    y = np.array([[2, 0], [0, 0], [0, 1.0]])
    units = (1.0, 1.0)
    got = measure(Grams(n=3, old=x.T @ x, new=y.T @ y, cross=x.T @ y, units=units))
    # One direction of two is common. Σ = diag(2·64, 1, 1)/125: the lost ones carry 1 + 1 of 130.
    assert got["eigenspace_overlap"] == pytest.approx(1 / 2)
    assert got["eigenspace_instability"] == pytest.approx(2 / 130)
    # XX' - YY' = diag(0, 1, -1); |XX'|² = |YY'|² = 16 + 1.
    assert got["pip_loss"] == pytest.approx(np.sqrt(2))
    assert got["pip_loss_relative"] == pytest.approx(np.sqrt(2 / 34))
    # The same in other units of length, and with a column of zeros beside it.
    wide = np.pad(x.T @ x, (0, 1)) / 9, np.pad(y.T @ y, (0, 1)) / 4, np.pad(x.T @ y, (0, 1)) / 6
    again = measure(Grams(n=3, old=wide[0], new=wide[1], cross=wide[2], units=(3.0, 2.0)))
    assert again == pytest.approx(got)


@pytest.mark.oracle
@pytest.mark.parametrize("widths", [(6, 6), (6, 4), (4, 6), (1, 1), (1, 3)])
@pytest.mark.parametrize("noise", [0.1, 1.0, 30.0])
def test_against_the_published_formulas(oracle, widths, noise):
    x = cloud(0, 80, 6)[:, : widths[0]]
    y = np.resize((cloud(0, 80, 6) @ rotation(6, 1) + noise * cloud(2, 80, 6)), (80, 6))[:, : widths[1]]
    agree(oracle, x, y)


@pytest.mark.oracle
def test_glove_against_the_published_formulas(oracle, glove_rows):
    """Against a version without its first components, one of half the width and one of int8 numbers."""
    x = glove_rows(500)[1].astype(np.float64)
    top = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:2]
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    for y in (x - x.mean(axis=0) - x @ top.T @ top, x[:, :25], np.rint(x / step) * step):
        agree(oracle, x, y, "GloVe")


@pytest.mark.oracle
def test_rows_in_a_plane_count_by_their_rank(oracle):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 9))
    y = np.hstack([x[:, :5], rng.normal(size=(60, 1))])
    agree(oracle, x, y)
    assert measured(x, y)["eigenspace_overlap"] == pytest.approx(2 / 3, abs=1e-3)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), power=st.integers(-15, 15), shift=st.booleans())
def test_invariants(seed, power, shift):
    """Rotation and order of rows change nothing, scale only the PIP loss, and neither side comes first."""
    x, y = cloud(seed, 50, 5), cloud(seed, 50, 4) + 3 * shift
    want, order = measured(x, y), np.random.default_rng(seed).permutation(50)
    turned = measured((x @ rotation(5, seed))[order], (y @ rotation(4, seed + 1))[order])
    swapped = measured(y, x)
    scaled = measured(x, y * 10.0**power)
    both = measured(x * 10.0**power, y * 10.0**power)
    for name in NAMES:
        assert turned[name] == pytest.approx(want[name], rel=1e-4, abs=1e-5), name
        assert swapped[name] == pytest.approx(want[name], rel=1e-4, abs=1e-5), name
        if name.startswith("eigenspace"):
            assert scaled[name] == pytest.approx(want[name], rel=1e-4, abs=1e-5), name
    assert both["pip_loss_relative"] == pytest.approx(want["pip_loss_relative"], rel=1e-4)
    assert both["pip_loss"] == pytest.approx(want["pip_loss"] * 100.0**power, rel=1e-4)


def test_a_rotated_copy_and_unrelated_rows():
    x = cloud(0, 400, 5)
    same = measured(x, x @ rotation(5, 1))
    assert same["eigenspace_overlap"] == pytest.approx(1, abs=1e-6)
    assert same["eigenspace_instability"] == pytest.approx(0, abs=1e-6)
    assert same["pip_loss_relative"] == pytest.approx(0, abs=1e-6)
    rng = np.random.default_rng(3)
    other = measured(rng.normal(size=(400, 5)), rng.normal(size=(400, 5)))
    # A random space of 5 dimensions among 400 covers 5/400 of any direction.
    assert other["eigenspace_overlap"] == pytest.approx(5 / 400, abs=0.02)
    assert other["eigenspace_instability"] == pytest.approx(1 - 5 / 400, abs=0.03)
    assert other["pip_loss_relative"] > 0.95


def test_too_few_rows_span_everything():
    x, y = cloud(0, 5, 5), cloud(1, 5, 5)
    got = measured(x, y)
    for name in ("eigenspace_overlap", "eigenspace_instability"):
        assert got[name] == "5 shared rows are too few: 5 dimensions span them all"
    assert got["pip_loss"] == pytest.approx(np.linalg.norm(x @ x.T - y @ y.T), rel=1e-5)


@pytest.mark.parametrize("sizes", [(1e30, 1e30), (1e-42, 1e-42), (1e30, 1e-42), (1e-42, 1e30)])
def test_huge_and_tiny_rows(sizes):
    x, y = cloud(0, 40, 4) * sizes[0], cloud(1, 40, 4) * sizes[1]
    got = measured(x, y)
    small = [
        np.asarray(z, dtype=np.float32).astype(np.float64) / s for z, s in zip((x, y), sizes, strict=True)
    ]
    want = dense(small[0], small[1])
    for name in ("eigenspace_overlap", "eigenspace_instability"):
        assert got[name] == pytest.approx(want[name], abs=1e-3)
    assert 0 < got["pip_loss"] < np.inf
    assert 0 <= got["pip_loss_relative"] <= 1


def test_half_precision_and_directions_of_little_variance():
    """Small differences are what two large numbers leave, and small axes count as much as large ones."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(5000, 40)) * np.geomspace(1, 1e-3, 40) + rng.normal(size=40)).astype(np.float32)
    for y in (x.astype(np.float16), x + 1e-4 * rng.normal(size=x.shape) * np.geomspace(1, 1e-3, 40)):
        y = y.astype(np.float32)
        got, (a, b) = measured(x, y), (z.astype(float) for z in (x, y))
        assert got["eigenspace_overlap"] == pytest.approx(overlap(a, b), abs=1e-7)
        loss = np.sqrt(sum(np.square(z.T @ z).sum() for z in (a, b)) - 2 * np.square(a.T @ b).sum())
        assert got["pip_loss"] == pytest.approx(loss, rel=1e-4)
