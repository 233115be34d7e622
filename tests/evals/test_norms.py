"""Norms by place in the table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg import EmbeddingTable
from embreg.evals.norms import QUANTILES, edges, norms_by_rank
from embreg.evals.subject import Subject


def subject(norms: list[float], special: list[bool] | None = None) -> Subject:
    rows = np.zeros((len(norms), 2), dtype=np.float32)
    rows[:, 1] = norms
    attributes = None if special is None else {"special": special}
    return Subject(EmbeddingTable.from_arrays(None, rows, attributes=attributes), ref="words@1")


def test_bins_double() -> None:
    assert edges(0).tolist() == []
    assert edges(1).tolist() == [1]
    assert edges(16).tolist() == [16]
    assert edges(22).tolist() == [22]
    assert edges(23).tolist() == [16, 23]
    assert edges(100).tolist() == [16, 32, 64, 100]
    assert edges(400_000).tolist()[-3:] == [131_072, 262_144, 400_000]


@given(st.integers(1, 10_000_000))
def test_bins_end_with_the_table_and_grow(rows: int) -> None:
    found = edges(rows)
    assert found[-1] == rows
    assert (np.diff(found) > 0).all()
    assert (found[1:-1] == 2 * found[:-2]).all()
    assert len(found) < 2 or 1.4 <= found[-1] / found[-2] <= 2.9


def test_quantiles_are_those_of_the_rows_of_each_bin() -> None:
    found = norms_by_rank(subject([*range(1, 18), *[5.0] * 15]))
    assert found.ref == "words@1"
    assert found.starts.tolist() == [1, 17]
    assert found.ends.tolist() == [16, 32]
    assert found.counts.tolist() == [16, 16]
    assert found.quantiles[0] == pytest.approx(np.quantile(np.arange(1.0, 17), QUANTILES))
    assert found.quantiles[1] == pytest.approx(np.quantile([17.0] + [5.0] * 15, QUANTILES))


def test_rows_that_take_no_part_keep_their_place() -> None:
    norms = [0.0] * 16 + [2.0] * 8 + [np.nan] * 4 + [9.0] * 4
    found = norms_by_rank(subject(norms, special=[False] * 28 + [True] * 4))
    assert found.starts.tolist() == [17], "a bin of rows that take no part is left out"
    assert found.counts.tolist() == [8]
    assert found.quantiles.tolist() == [[2.0] * 5]


@pytest.mark.parametrize("norms", [[], [0.0], [np.inf]])
def test_no_row_takes_part(norms: list[float]) -> None:
    found = norms_by_rank(subject(norms))
    assert found.quantiles.shape == (0, 5)
    assert len(found.counts) == len(found.starts) == len(found.ends) == 0


@given(st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=200))
@settings(max_examples=50)
def test_every_row_that_takes_part_is_counted_once(norms: list[float]) -> None:
    given_rows = subject(norms)
    found = norms_by_rank(given_rows)
    assert found.counts.sum() == len(given_rows.valid)
    assert (np.diff(found.quantiles, axis=1) >= 0).all()
    assert np.isfinite(found.quantiles).all()
