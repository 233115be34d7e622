"""Items left out together: cells by hand, against the double sum, and a test of thousands of tied items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from embreg.evals import jackknife
from embreg.evals.correlations import counted_spearman
from embreg.evals.evidence import Pairs
from embreg.evals.jackknife import jackknife_changes, left_out_together
from embreg.evals.statistics import tied_error
from embreg.evals.suite import Statistic


def mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return counts @ values[:, 0] / counts.sum(axis=1)


def shared(ties: np.ndarray) -> np.ndarray:
    """Which items share a tie, bool ``(n, n)``."""
    return (ties[:, None, :, None] == ties[None, :, None, :]).any(axis=(2, 3))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells from 60 items on."""
    monkeypatch.setattr(jackknife, "_COUNTS", 3600)
    monkeypatch.setattr(jackknife, "_LEAST_CELLS", 55)


def test_cells_by_hand() -> None:
    """Changes 1, 2 | 3 | 6, 4, 2: the cells add 3, 3 and 12, of 2, 1 and 3 items; the mean is 3.

    Apart from it they are -3, 0 and 3 of six items, as -1.5, 0 and 1.5 are of three.
    """
    new = np.array([[1.0], [2], [3], [6], [4], [2]])
    found = jackknife_changes(new * 0, new, mean, np.array([0, 0, 1, 2, 2, 2]))
    assert found == pytest.approx([1.5, 3, 4.5])
    assert jackknife_changes(new * 0, new, mean, np.zeros(6, dtype=int)) is None


@settings(deadline=None, max_examples=40)
@given(seed=hs.integers(0, 1000), columns=hs.integers(1, 2), n=hs.integers(4, 60))
def test_cells_of_items_with_the_same_ties_have_the_error_of_the_items(
    seed: int, columns: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    ties, x = rng.integers(0, 6, size=(n, columns)), rng.standard_normal((n, 1))
    cells, own = jackknife._alike(ties)
    added = jackknife_changes(x * 0, x, mean, cells)
    if len(own) < 2:
        assert added is None
        return
    assert added.mean() == pytest.approx(x.mean())
    apart, told = x[:, 0] - x.mean(), added - added.mean()
    share = float(apart @ shared(ties) @ apart) / n**2
    assert float(told @ shared(own) @ told) / len(own) ** 2 == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("n", [5_792, 5_793, 30_000])
def test_many_items_make_few_cells_that_keep_their_ties(n: int, columns: int) -> None:
    ties = np.random.default_rng(0).integers(0, n // 2, size=(n, columns))
    cells, own = left_out_together(ties)
    assert np.array_equal(np.unique(cells), np.arange(len(own)))
    if n == 5_792:
        assert own is ties
        return
    assert n * len(own) <= 1 << 25
    assert len(own) > 500
    first, second = (np.random.default_rng(1).integers(0, n, 200_000) for _ in range(2))
    first, second = first, np.roll(first, 1)
    tied = (ties[first][:, :, None] == ties[second][:, None, :]).any(axis=(1, 2))
    coarse = (own[cells[first]][:, :, None] == own[cells[second]][:, None, :]).any(axis=(1, 2))
    assert tied.any()
    assert coarse[tied].all()
    assert coarse.mean() < 0.1


def test_few_ties_of_many_items_are_not_dealt() -> None:
    ties = np.random.default_rng(0).integers(0, 20, size=(30_000, 2))
    cells, own = left_out_together(ties)
    assert len(own) <= 400
    assert np.array_equal(np.sort(own[cells], axis=1), np.sort(ties, axis=1))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("tied", [False, True])
def test_equals_are_called_worse_in_one_pair_of_twenty(tied: bool) -> None:
    """400 pairs of words of 80, whose effects the pairs share, in cells of ten classes of words."""
    rng = np.random.default_rng(0)
    rejected, errors, changes = 0, [], []
    for _ in range(400):
        ties = rng.integers(0, 80, size=(400, 2))
        effects = rng.standard_normal((2, 80))[:, ties].sum(axis=2) if tied else 0
        truth = rng.standard_normal(400)
        told = truth + effects + rng.standard_normal((2, 400))
        old, new = (np.column_stack([truth, side]) for side in told)
        statistic = Statistic(columns=("a", "b"), of=counted_spearman)
        pairs = Pairs(old=old, new=new, statistic=statistic, ties=ties if tied else None)
        rejected += pairs.p("lower", rng, 99) <= 0.05
        errors.append(pairs.error)
        changes.append(pairs.change)
    assert pairs.degrees == (4 if tied else 54)
    assert 0.02 <= rejected / 400 <= 0.08
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(changes), rel=0.3)


def test_thousands_of_items_take_no_longer_than_some_thousand() -> None:
    given = []

    def counted(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        given.append(counts.size)
        return mean(values, counts)

    x = np.random.default_rng(0).standard_normal((400_000, 1))
    pairs = Pairs(old=x * 0, new=x, statistic=Statistic(columns=("a",), of=counted))
    assert pairs.error == pytest.approx(tied_error(x[:, 0], np.arange(400_000)[:, None]), rel=0.1)
    assert pairs.testable
    assert pairs.p("lower", np.random.default_rng(0), 99) > 0.001
    assert sum(given) < 2 * 530 * 400_000
