"""Tables, datasets and baselines that break things: every suite gives right values, or a reason for none.

Never NaN, never a traceback, never a warning (which pytest turns into an error, in worker threads too).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from embreg import EmbeddingTable, Registry, Space, evaluate
from embreg.evals import subject, turnover
from embreg.evals.runner import check_findings, discover
from embreg.evals.subject import DatasetTable, Subject
from embreg.evals.suite import Findings, Skipped, Suite
from embreg.registry.datasets import SCHEMAS, with_vectors
from embreg.registry.errors import InputError

#: ``index`` measures built indexes, which tables alone do not give.
SUITES = sorted(set(discover()) - {"index"})
METRICS = ("cosine", "dot", "l2")
#: Suites that look at the metric of a table, and the pairs of each suite and what it looks at.
_BY_METRIC = ("drift", "hubness", "neighbors", "quantization", "retrieval")
EACH = [(s, m) for s in SUITES for m in (METRICS if s in _BY_METRIC else ("cosine",))]
#: Intervals that need not hold the value: a resampled F1 is biased downwards.
_LOOSE = {("probe", "macro_f1")}
_TOLERANCE = 1e-6


def ids(rows: int, prefix: str = "w") -> list[str]:
    return [f"{prefix}{i}" for i in range(rows)]


def table(
    x: np.ndarray,
    metric: str = "cosine",
    *,
    names: list[str] | None = None,
    labels: list[str | None] | None = None,
    special: list[bool] | None = None,
) -> EmbeddingTable:
    """Return a table of float32 or float16 rows, under a metric."""
    extra = {"label": pa.array(labels, pa.string())} if labels is not None else {}
    if special is not None:
        extra["special"] = pa.array(special)
    space = Space(dim=x.shape[1], dtype=x.dtype.name, metric=metric)
    return EmbeddingTable.from_arrays(names or ids(len(x)), x, space=space, attributes=extra)


def dataset(kind: str | None, rows: list[tuple[Any, ...]], vectors: EmbeddingTable | None = None) -> Any:
    """Return a dataset of some kind, as the runner would hand it to a suite."""
    if kind is None or not rows:
        return None
    schema = SCHEMAS[kind]
    columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), schema, strict=True)]
    made = pa.table(columns, schema=schema)
    if vectors is not None:
        made = with_vectors(made, kind, vectors)
    return DatasetTable(name="bad", kind=kind, rows=made)


@dataclass(frozen=True)
class Case:
    """What a suite is given."""

    rows: EmbeddingTable
    baseline: EmbeddingTable | None = None
    dataset: DatasetTable | None = None


def run(suite: Suite, case: Case, seed: int = 0, **params: Any) -> Findings | str:
    """Run a suite and check all that it promises; return its findings, or why it measured nothing."""
    tables = [case.rows] + ([case.baseline] if case.baseline is not None else [])
    before = [t.vectors.copy() for t in tables]
    given_rows = case.dataset.rows if case.dataset is not None else None
    baseline = Subject(case.baseline) if case.baseline is not None else None
    given_case = Subject(case.rows, baseline=baseline, dataset=case.dataset)
    try:
        findings = suite.run(given_case, suite.params(**params), np.random.default_rng(seed))
    except Skipped as skipped:
        assert str(skipped).strip(), "a skip says why"
        return str(skipped)
    finally:
        for old, now in zip(before, tables, strict=True):
            assert np.array_equal(old, now.vectors, equal_nan=True), "the table was changed"
    assert given_rows is None or given_rows is case.dataset.rows
    check_findings(suite, findings)
    check_values(suite, findings)
    check_told(suite, findings)
    check_items(findings)
    return findings


def check_values(suite: Suite, findings: Findings) -> None:
    """Every value and interval is finite, in the metric's range, in order."""
    for m in findings.measures:
        metric = suite.metric(m.metric)
        assert metric is not None
        low = -math.inf if metric.low is None else metric.low - _TOLERANCE
        high = math.inf if metric.high is None else metric.high + _TOLERANCE
        assert math.isfinite(m.value) and low <= m.value <= high, m
        assert m.n >= 0, m
        assert (m.low is None) == (m.high is None), m
        if m.low is None or m.high is None:
            continue
        assert math.isfinite(m.low) and math.isfinite(m.high), m
        assert low <= m.low <= m.high <= high, m
        if (suite.name, metric.name) not in _LOOSE:
            slack = _TOLERANCE * max(abs(m.value), 1e-300 if m.value else 0)
            assert m.low - slack <= m.value <= m.high + slack, m


def check_told(suite: Suite, findings: Findings) -> None:
    """Every declared metric is a measure, or absent with a reason; none is both."""
    measured = {(m.metric, tuple(sorted(m.labels.items()))) for m in findings.measures}
    absent = {(a.metric, tuple(sorted(a.labels.items()))) for a in findings.absent}
    assert len(absent) == len(findings.absent), "a metric is absent twice"
    assert not measured & absent
    assert all(a.reason.strip() and "nan" not in a.reason for a in findings.absent)
    told = {name for name, _ in measured | absent}
    silent = [m.name for m in suite.metrics if not any(m.matches(name) for name in told)]
    assert silent == []
    assert all(note.strip() and "nan" not in note.split() for note in findings.notes)


def check_items(findings: Findings) -> None:
    """Numbers of items are finite or null, and their keys are unique."""
    if findings.items is None:
        return
    keys = findings.items.column("item").to_pylist()
    assert len(set(keys)) == len(keys)
    for name in findings.items.column_names:
        column = findings.items.column(name)
        if pa.types.is_floating(column.type):
            values = column.drop_null().to_numpy()
            assert np.isfinite(values).all(), f"items.{name}"


# --- explicit cases ---------------------------------------------------------------------------------------


def some(rows: int, dim: int = 4, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    with np.errstate(over="ignore"):
        return (np.random.default_rng(seed).standard_normal((rows, dim)) * scale).astype(np.float32)


def outlier(x: np.ndarray, value: float, row: int = 3) -> np.ndarray:
    x = x.copy()
    x[row] = value
    return x


TABLES: dict[str, Callable[[], np.ndarray]] = {
    "no row": lambda: np.zeros((0, 4), np.float32),
    "one row": lambda: some(1),
    "one zero row": lambda: np.zeros((1, 4), np.float32),
    "two rows": lambda: some(2),
    "two equal rows": lambda: np.ones((2, 4), np.float32),
    "two opposite rows": lambda: np.array([[1, 2], [-1, -2]], np.float32),
    "three rows": lambda: some(3),
    "four rows": lambda: some(4),
    "k rows": lambda: some(10),
    "k + 1 rows": lambda: some(11),
    "k + 2 rows": lambda: some(12),
    "one dimension": lambda: some(40, 1),
    "one dimension, positive": lambda: np.abs(some(40, 1)) + 1,
    "one dimension, equal": lambda: np.ones((40, 1), np.float32),
    "equal": lambda: np.tile(some(1), (40, 1)),
    "equal directions": lambda: np.outer(np.arange(1, 41), some(1)[0]).astype(np.float32),
    "opposite": lambda: np.concatenate([some(20), -some(20)]),
    "one and its opposite": lambda: np.tile(some(1), (40, 1)) * np.array([[1], [-1]] * 20, np.float32),
    "zero": lambda: np.zeros((40, 4), np.float32),
    "minus zero": lambda: np.full((40, 4), -0.0, np.float32),
    "one row not zero": lambda: outlier(np.zeros((40, 4), np.float32), 1.0),
    "half zero": lambda: some(40) * (np.arange(40) % 2)[:, None].astype(np.float32),
    "two points": lambda: np.repeat(np.eye(2, 4, dtype=np.float32), 20, axis=0),
    "orthogonal": lambda: np.eye(40, dtype=np.float32),
    "near a point": lambda: 1 + some(40, scale=1e-7),
    "norms of 1e18": lambda: some(40, scale=1e18),
    "norms of 1e30": lambda: some(40, scale=1e30),
    "equal rows of 1e30": lambda: np.full((40, 4), 1e30, np.float32),
    "the largest numbers": lambda: np.sign(some(40)) * np.float32(3.4e38),
    "all the largest number": lambda: np.full((40, 4), 3.4e38, np.float32),
    "norms of 1e-20": lambda: some(40, scale=1e-20),
    "norms of 1e-38": lambda: some(40, scale=1e-38),
    "denormals": lambda: some(40, scale=1e-44),
    "the least numbers": lambda: np.full((40, 4), 1e-45, np.float32),
    "of all sizes": lambda: some(40) * np.float32(10) ** np.linspace(-30, 30, 40)[:, None].astype(np.float32),
    "one row of 1e30": lambda: outlier(some(40), 1e30),
    "one row of 1e-40": lambda: outlier(some(40), 1e-40),
    "one row NaN": lambda: outlier(some(40), np.nan),
    "one number NaN": lambda: outlier(some(40), np.nan) + np.where(np.arange(4) > 0, some(40), 0),
    "one row infinite": lambda: outlier(some(40), -np.inf),
    "all NaN": lambda: np.full((40, 4), np.nan, np.float32),
    "all but two NaN": lambda: np.concatenate([some(2), np.full((38, 4), np.nan, np.float32)]),
}


def questions(n: int) -> dict[str | None, list[tuple[Any, ...]]]:
    """Return rows of each kind about the ids w0 … w(n-1)."""
    w = lambda i: f"w{i % max(n, 1)}"  # noqa: E731
    return {
        None: [],
        "analogies": [("s", "g", w(i), w(i + 1), w(i + 2), [w(i + 3)]) for i in range(20)],
        "pairs": [(w(i), w(3 * i + 1), float(i % 7)) for i in range(20)],
        "labels": [(f"w{i}", f"class {i % 3}") for i in range(max(n, 1))],
        "positives": [(w(i), w(i + 1)) for i in range(20)],
        "qrels": [(w(i), w(i + s), s - 1) for i in range(12) for s in (1, 2, 3)],
    }


def case_of(suite: Suite, x: np.ndarray, metric: str) -> Case:
    """Return a table with a baseline of other rows and a fitting dataset."""
    n = len(x)
    other = table(some(max(n, 1), x.shape[1], seed=5), metric)
    rows = questions(n)[suite.dataset_kind]
    return Case(rows=table(x, metric), baseline=other, dataset=dataset(suite.dataset_kind, rows))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("suite", "metric"), EACH)
def test_a_table(suite: str, name: str, metric: str) -> None:
    case = case_of(discover()[suite], TABLES[name](), metric)
    run(discover()[suite], case)
    if suite == "drift":
        run(discover()[suite], Case(rows=case.rows, baseline=case.rows))
        run(discover()[suite], Case(rows=case.baseline, baseline=case.rows))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("suite", SUITES)
def test_a_table_of_half_precision(suite: str, name: str) -> None:
    x = TABLES[name]()
    half = np.where(np.isfinite(x), np.clip(np.nan_to_num(x), -65504, 65504), x).astype(np.float16)
    run(discover()[suite], case_of(discover()[suite], half, METRICS[len(name) % 3]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "name",
    ["equal", "two points", "near a point", "norms of 1e30", "denormals", "all the largest number"],
)
def test_codecs_with_a_codebook(name: str, metric: str) -> None:
    """They take 256 rows at least, and FAISS ends the process where its float32 squares overflow."""
    x = np.tile(TABLES[name](), (7, 1)) * np.linspace(0.5, 1, 280, dtype=np.float32)[:, None]
    run(discover()["quantization"], Case(rows=table(x, metric)), codecs=("pq", "opq", "rabitq"))


W = ids(40)
DATASETS: dict[str, dict[str, list[tuple[Any, ...]]]] = {
    "analogies": {
        "no word is known": [("s", "g", "p", "q", "r", ["s"])] * 3,
        "one question": [("s", "g", "w0", "w1", "w2", ["w3"])],
        "the answer is the question": [("s", "g", "w0", "w1", "w2", ["w2"])] * 2,
        "all words are one": [("s", "g", "w0", "w0", "w0", ["w0"])],
        "the same question often": [("s", "g", "w0", "w1", "w2", ["w3"])] * 30,
        "a group called total": [("s", g, "w0", "w1", "w2", ["w3"]) for g in ("total", "g")],
        "an answer that is known, one that is not": [("s", "g", "w0", "w1", "w2", ["no", "w3"])],
    },
    "pairs": {
        "no word is known": [("p", "q", 1.0)] * 3,
        "one pair": [("w0", "w1", 1.0)],
        "two pairs": [("w0", "w1", 1.0), ("w1", "w2", 2.0)],
        "constant scores": [(a, b, 3.0) for a, b in pairwise(W)],
        "constant cosines": [("w0", "w1", float(i)) for i in range(9)],
        "a word with itself": [(w, w, float(i)) for i, w in enumerate(W)],
        "huge and tiny scores": [("w0", "w1", 1e308), ("w1", "w2", -1e308), ("w2", "w3", 5e-324)],
    },
    "labels": {
        "no id is known": [("p", "x"), ("q", "y")],
        "one label": [(w, "x") for w in W],
        "every label its own": [(w, w) for w in W],
        "one row has another": [(w, "x" if i else "y") for i, w in enumerate(W)],
        "one id": [("w0", "x")],
        "long names that begin alike": [(w, "x" * 300 + str(i % 2)) for i, w in enumerate(W)],
    },
    "positives": {
        "no id is known": [("p", "q")] * 3,
        "one pair": [("w0", "w1")],
        "the same pair often": [("w0", "w1")] * 9,
        "a row with itself": [(w, w) for w in W],
        "both ways": [("w0", "w1"), ("w1", "w0")],
        "all with one": [("w0", w) for w in W[1:]],
    },
    "qrels": {
        "no query is known": [("p", "w0", 1)],
        "no item is known": [("w0", "p", 1)],
        "nothing is relevant": [("w0", "w1", 0), ("w1", "w2", -1)],
        "only itself": [("w0", "w0", 1)],
        "one query without": [("w0", "w1", 1), ("w1", "w2", 0)],
        "a billion": [("w0", "w1", 999_999_999), ("w0", "w2", 1)],
        "everything": [(q, i, 1) for q in W[:5] for i in W],
    },
}
#: Tables that datasets and baselines are tried on.
OF_TABLES = ("four rows", "k + 2 rows", "one dimension", "equal", "half zero", "one row NaN", "orthogonal")


@pytest.mark.parametrize(
    ("suite", "name"),
    [(s, name) for s in SUITES for name in DATASETS.get(str(discover()[s].dataset_kind), ())],
)
def test_a_dataset(suite: str, name: str) -> None:
    found = discover()[suite]
    rows = DATASETS[str(found.dataset_kind)][name]
    params = {"methods": tuple(methods())} if suite == "analogies" else {}
    for x in OF_TABLES:
        run(found, Case(rows=table(TABLES[x]()), dataset=dataset(found.dataset_kind, rows)), **params)
    told = run(found, Case(rows=table(some(40)), dataset=dataset(found.dataset_kind, rows)), **params)
    if name.endswith("is known") and suite != "neighbors":
        assert isinstance(told, str), "nothing is known, so nothing is measured"


def methods() -> tuple[str, ...]:
    from embreg.evals.suites.analogies import METHODS

    return METHODS


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", OF_TABLES)
def test_a_baseline(name: str, metric: str) -> None:
    drift, now = discover()["drift"], table(TABLES[name](), metric)
    n, d = now.rows, now.dim
    other = table(some(n, d + 1, seed=1), metric)
    found = run(drift, Case(rows=now, baseline=other))
    assert not isinstance(found, str)
    assert "the widths differ" in str([a.reason for a in found.absent])
    nothing = table(some(n, d, seed=1), metric, names=ids(n, "v"))
    assert run(drift, Case(rows=now, baseline=nothing)) == "no shared ids"
    one = table(some(n, d, seed=1), metric, names=["w0", *ids(n - 1, "v")])
    run(drift, Case(rows=now, baseline=one))
    zeros = table(np.zeros((n, d), np.float32), metric)
    assert "row of zeros" in str(run(drift, Case(rows=now, baseline=zeros)))
    found = run(drift, Case(rows=now, baseline=now))
    assert not isinstance(found, str)
    assert found.verdict == "identical"


# --- values that are right --------------------------------------------------------------------------------

#: By how many powers of the unit of length a metric scales, under dot and L2 in the second list.
LENGTHS = {"norm_mean": 1, "norm_std": 1, "norm_min": 1, "norm_max": 1, "pip_loss": 2}
NOT_COSINE = {"margin@10": 2, "distortion": 1}
#: fp16 has a range of its own; without it the others draw the same random numbers.
FIXED: dict[str, dict[str, Any]] = {"quantization": {"codecs": ("bf16", "int8", "int4", "1-bit", "pq")}}


def values(found: Findings | str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    assert not isinstance(found, str), found
    return {(m.metric, tuple(sorted(m.labels.items()))): m.value for m in found.measures}


def scaled(suite: str, metric: str, scale: Any) -> Findings | str:
    x = some(300, 6) + 0.5
    y = x + 0.1 * some(300, 6, seed=1)
    kind = discover()[suite].dataset_kind
    labels = [f"class {i % 3}" for i in range(300)] if kind == "labels" else None
    made = [table((z * scale).astype(np.float32), metric, labels=labels) for z in (x, y)]
    given_data = dataset(kind, questions(300)[kind]) if kind != "labels" else None
    return run(
        discover()[suite], Case(rows=made[0], baseline=made[1], dataset=given_data), **FIXED.get(suite, {})
    )


@pytest.mark.parametrize(("suite", "metric"), EACH)
def test_length_says_nothing_else(suite: str, metric: str) -> None:
    """Rows of 1e-30 and 1e30 give the values of rows of 1, in their own unit of length."""
    plain = scaled(suite, metric, np.float64(1))
    for exponent in (-100, 100):
        found = scaled(suite, metric, np.float64(2.0**exponent))
        powers = LENGTHS | (NOT_COSINE if metric != "cosine" else {})
        want = {key: v * 2.0 ** (exponent * powers.get(key[0], 0)) for key, v in values(plain).items()}
        # Norms are taken in float32 where that holds their squares.
        assert values(found) == {
            key: pytest.approx(v, rel=2e-5, abs=2e-6 * abs(v) + 1e-300)
            if key[0] in powers
            else pytest.approx(v, rel=2e-5, abs=2e-6)
            for key, v in want.items()
        }
        assert [a.metric for a in found.absent] == [a.metric for a in plain.absent]
        assert found.verdict == plain.verdict


#: What rests on directions alone, under cosine.
DIRECTIONS = ("alignment", "analogies", "hubness", "neighbors", "quantization", "retrieval", "similarity")


@pytest.mark.parametrize("suite", DIRECTIONS)
def test_lengths_from_row_to_row_say_nothing_under_cosine(suite: str) -> None:
    each = 2.0 ** np.random.default_rng(0).integers(-100, 100, size=(300, 1))
    plain, found = scaled(suite, "cosine", np.float64(1)), scaled(suite, "cosine", each)
    assert values(found) == pytest.approx(values(plain), rel=2e-3, abs=2e-6)


@pytest.mark.parametrize("method", ["3cosadd", "3cosmul", "pair-direction", "3cosavg", "lrcos"])
def test_of_rows_of_one_direction_the_first_answers(method: str) -> None:
    """Whatever their lengths: the noise of a norm is no similarity."""
    lengths = np.random.default_rng(0).uniform(1, 1e4, size=(40, 1))
    rows = [("s", "g", w, w, w, ["w0"]) for w in W[1:]]
    case = Case(rows=table((lengths * some(1)).astype(np.float32)), dataset=dataset("analogies", rows))
    found = run(discover()["analogies"], case, methods=(method,))
    assert not isinstance(found, str)
    suffix = "" if method == "3cosadd" else f"[method={method}]"
    answers = found.items.column("predicted" + suffix).drop_null().to_pylist()
    # A row has no direction from one of its own direction.
    assert set(answers) == (set() if method == "pair-direction" else {"w0"})


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("way", ["collapsed now", "collapsed before"])
def test_of_rows_that_collapsed_neighbours_are_kept_by_chance(way: str, metric: str) -> None:
    """All rows tie with the k-th neighbour then, and would all count as kept."""
    one, spread = table(np.ones((60, 4), np.float32), metric), table(some(60), metric)
    pair = (one, spread) if way == "collapsed now" else (spread, one)
    found = run(discover()["drift"], Case(rows=pair[0], baseline=pair[1]))
    assert not isinstance(found, str)
    assert values(found)["neighbor_overlap@10", ()] == pytest.approx(10 / 59)
    assert found.verdict == "respaced"


def test_rows_without_similarities_have_no_cka() -> None:
    """Of orthogonal rows all similarities are equal: what they share with others is rounding."""
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0].astype(np.float32)
    for before in (np.eye(40, dtype=np.float32), turned):
        found = run(discover()["drift"], Case(rows=table(some(40, 40)), baseline=table(before)))
        assert not isinstance(found, str)
        assert "cka" in {a.metric for a in found.absent}


@pytest.mark.parametrize("rank", [1, 2])
def test_rows_on_a_line_have_one_dimension(rank: int) -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((400, rank)) @ np.eye(rank, 300) * 7).astype(np.float32)
    turned = (x @ np.linalg.qr(rng.standard_normal((300, 300)))[0]).astype(np.float32)
    found = values(run(discover()["anisotropy"], Case(rows=table(turned), baseline=None)))
    assert found["effective_rank", ()] == pytest.approx(
        values(run(discover()["anisotropy"], Case(rows=table(x[:, :rank]))))["effective_rank", ()], rel=1e-4
    )


# --- rows that are not finite -----------------------------------------------------------------------------


@pytest.mark.parametrize(("suite", "metric"), EACH)
def test_rows_that_are_not_finite_are_left_out(suite: str, metric: str) -> None:
    """The values are those of the table without them."""
    x = some(60)
    bad = x.copy()
    bad[7], bad[20, 1] = np.nan, -np.inf
    whole, left = ids(60), np.delete(np.arange(60), [7, 20])
    kind = discover()[suite].dataset_kind
    data = dataset(kind, questions(60)[kind])
    made = [
        run(discover()[suite], Case(rows=rows, baseline=table(some(60, seed=1), metric), dataset=data))
        for rows in (
            table(bad, metric, names=whole),
            table(x[left], metric, names=[whole[i] for i in left]),
        )
    ]
    moved = {"shared_share", "added", "removed", "norm_rank_correlation"}
    got, want = ({k: v for k, v in values(found).items() if k[0] not in moved} for found in made)
    assert got == pytest.approx(want, rel=1e-6, abs=1e-6)


def test_one_row_among_many_is_counted_and_left_out() -> None:
    x = some(200_000, 8)
    x[123_456, 3] = np.nan
    given_case = Subject(table(x))
    assert given_case.nonfinite.tolist() == [123_456]
    assert len(given_case.valid) == 199_999
    assert 123_456 not in given_case.valid
    assert 123_456 not in given_case.sample(199_998)
    moments = given_case.moments()
    assert (moments.n, moments.zero_rows) == (199_999, 0)
    assert np.isfinite(moments.gram).all()
    found = run(discover()["anisotropy"], Case(rows=table(x)))
    assert not isinstance(found, str)
    assert any("1 rows hold NaN or infinity" in note and "123456" in note for note in found.notes)


# --- through the registry ---------------------------------------------------------------------------------


def test_registration_refuses_the_row_or_leaves_it_out(registry: Registry) -> None:
    x = some(100_000, 4)
    x[77_777, 2] = np.nan
    bad = table(x)
    with pytest.raises(InputError, match=r"row 77777, dimension 2: NaN or infinity"):
        registry.register("e", bad)
    done = registry.register("e", bad, on_nonfinite="drop")
    assert done.version.rows == 99_999
    assert any("1 rows with NaN or infinity were left out: w77777" in told for told in done.warnings)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("one row", "cosine"),
        ("k rows", "l2"),
        ("one dimension", "cosine"),
        ("equal", "dot"),
        ("zero", "cosine"),
        ("norms of 1e30", "l2"),
        ("denormals", "dot"),
        ("of all sizes", "cosine"),
    ],
)
def test_a_run_is_done_or_skipped(name: str, metric: str, registry: Registry, tmp_path: Path) -> None:
    x = TABLES[name]()
    registry.register("e", table(some(len(x), x.shape[1], seed=9), metric, labels=["one"] * len(x)))
    registry.register("e", table(x, metric, labels=["one"] * len(x)))
    files = {
        "analogies": ": s\np q r s\nw0 w1 w2 w3\n",
        "pairs": "w0\tw1\t1\nw1\tw2\t1\np\tq\t1\n",
        "positives": "w0\tw1\nw0\tw1\np\tq\n",
        "qrels": "w0 0 w1 1\nw1 0 w2 0\n",
    }
    for kind, text in files.items():
        (tmp_path / kind).write_text(text)
        registry.add_dataset(kind, tmp_path / kind, kind)
    runs = evaluate(registry, "e", suites=SUITES, baseline="e@1")
    assert {r.suite for r in runs} == set(SUITES)
    for r in runs:
        assert r.status in ("done", "skipped"), (r.suite, r.status, r.reason)
        assert r.measures if r.status == "done" else r.reason


# --- any input --------------------------------------------------------------------------------------------

VALUES = (0.0, -0.0, 1.0, -1.0, 2.0, 1e-45, -1e-45, 1e-40, 1e-38, 1e-20, 1e18, -1e30, 1e30, 3e38, -3e38)
SCALES = (1.0, 1e-44, 1e-38, 1e-30, 1e-20, 1e18, 1e30, 1e37)
#: How a table is made of its seed; ``values`` draws every number from the list above.
MAKERS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "values": lambda rng, n, d: rng.choice(VALUES, size=(n, d)),
    "few values": lambda rng, n, d: rng.choice(rng.choice(VALUES, size=2), size=(n, d)),
    "few rows": lambda rng, n, d: rng.choice(VALUES, size=(3, d))[rng.integers(3, size=n)],
    "gaussian": lambda rng, n, d: rng.standard_normal((n, d)) * rng.choice(SCALES),
    "copies": lambda rng, n, d: rng.standard_normal((3, d))[rng.integers(3, size=n)] * rng.choice(SCALES),
    "opposite": lambda rng, n, d: rng.standard_normal(d) * rng.choice((-1, 1), size=(n, 1)),
    "of all sizes": lambda rng, n, d: rng.standard_normal((n, d)) * rng.choice(SCALES, size=(n, 1)),
    "columns of all sizes": lambda rng, n, d: rng.standard_normal((n, d)) * rng.choice(SCALES, size=d),
    "near a point": lambda rng, n, d: (1 + 1e-7 * rng.standard_normal((n, d))) * rng.choice(SCALES),
    "far from 0": lambda rng, n, d: (rng.standard_normal((n, d)) + 1e4) * rng.choice(SCALES),
    "whole numbers": lambda rng, n, d: rng.integers(-1, 2, size=(n, d)).astype(float),
    "sparse": lambda rng, n, d: np.where(rng.random((n, d)) < 0.2, rng.standard_normal((n, d)), 0.0),
}
DTYPES = ("float32", "float32", "float16")


@st.composite
def tables(draw: st.DrawFn, prefix: str = "w", dim: int = 0) -> EmbeddingTable:
    """A table that is hard in one way or in several."""
    n = draw(st.sampled_from((12, 1, 2, 3, 4, 10, 11, 13, 20, 40)))
    d = dim or draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    x = MAKERS[draw(st.sampled_from(sorted(MAKERS)))](rng, n, d)
    for value in draw(st.lists(st.sampled_from((0.0, np.nan, np.inf, 1e30, 1e-40)), max_size=2)):
        x[rng.integers(n)] = value
    dtype = draw(st.sampled_from(DTYPES))
    largest = float(np.finfo(dtype).max)
    bad = ~np.isfinite(x)
    x = np.where(bad, x, np.clip(np.where(bad, 0, x), -largest, largest)).astype(dtype)
    labels = draw(st.sampled_from((("a", "b"), None, ("a",), ("a", "b", None), (None,), "own")))
    own = [f"own {i}" for i in range(n)]
    return table(
        x,
        draw(st.sampled_from(METRICS)),
        names=ids(n, prefix),
        labels=own if labels == "own" else _drawn(labels, n, rng),
        special=(rng.random(n) < 0.2).tolist() if draw(st.sampled_from((False, False, True))) else None,
    )


def _drawn(among: tuple[str | None, ...] | None, n: int, rng: np.random.Generator) -> list[str | None] | None:
    return None if among is None else [among[i] for i in rng.integers(len(among), size=n)]


def words(n: int) -> st.SearchStrategy[str]:
    """Ids of a table of n rows, other spellings of them, and ids of none."""
    known = [f"w{i}" for i in dict.fromkeys((0, 1, 2, 3, n // 3, n // 2, n - 1)) if i < n]
    return st.sampled_from(known * 3 + ["W0", "W1", "unknown"])


def datasets(kind: str | None, n: int, dim: int) -> st.SearchStrategy[Any]:
    """A dataset of a kind, about a table of n rows."""
    w = words(n) if kind == "labels" else words(n) | st.integers(0, n - 1).map(lambda i: f"w{i}")
    relevance = st.sampled_from((1, 1, 2, 0, -1, 999_999_999))
    scores = st.sampled_from((0.0, 1.0, 1.0, -1.0, 1e308, -1e308, 1e-308, 5e-324, 3.5))
    classes = st.sampled_from(("x", "y", "z"))
    answers = st.lists(w, min_size=1, max_size=2)
    rows: dict[str, st.SearchStrategy[Any]] = {
        "analogies": st.lists(
            st.tuples(st.sampled_from("st"), st.sampled_from(("g", "total")), w, w, w, answers),
            min_size=1,
            max_size=16,
        ),
        "pairs": st.lists(st.tuples(w, w, scores), min_size=1, max_size=16),
        "labels": st.lists(st.tuples(w, classes), min_size=1, max_size=8, unique_by=lambda row: row[0])
        | st.just([(f"w{i}", "xyz"[i % 3]) for i in range(n)])
        | st.just([(f"w{i}", "x") for i in range(n)]),
        "positives": st.lists(st.tuples(w, w), min_size=1, max_size=16),
        "qrels": st.lists(st.tuples(w, w, relevance), min_size=1, max_size=16, unique_by=lambda row: row[:2]),
    }
    if kind is None:
        return st.none()
    made = st.builds(dataset, st.just(kind), rows[kind])
    if kind == "labels":
        return made | st.none()
    if kind not in ("positives", "qrels"):
        return made
    carried = tables(dim=dim) | tables(dim=dim) | tables()
    return made | st.builds(_carrying, st.just(kind), rows[kind], carried)


def _carrying(kind: str, rows: list[tuple[Any, ...]], vectors: EmbeddingTable) -> DatasetTable:
    try:
        return dataset(kind, rows, vectors)
    except InputError:  # none of the ids has a vector, or one is not finite: refused where it is read
        return dataset(kind, rows)


@st.composite
def baselines(draw: st.DrawFn, now: EmbeddingTable) -> EmbeddingTable:
    """What a table is compared with: itself, itself changed, or something else."""
    kind = draw(st.sampled_from(("same", "other", "no shared id", "one shared id", "reversed", "scaled")))
    if kind == "same":
        return now
    if kind in ("reversed", "scaled"):
        x = now.vectors[::-1] if kind == "reversed" else now.vectors * now.vectors.dtype.type(0.25)
        names = now.ids.to_pylist()
        return table(x, draw(st.sampled_from(METRICS)), names=names[::-1] if kind == "reversed" else names)
    if kind == "other":
        return draw(tables())
    other = draw(tables(prefix="v"))
    if kind == "no shared id":
        return other
    names = ["w0", *other.ids.to_pylist()[1:]]
    return table(other.vectors, other.space.metric, names=names)


PARAMS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "alignment": st.fixed_dictionaries(
        {
            "batch": st.sampled_from((2, 3, 256)),
            "most_pairs": st.sampled_from((2, 5, 10_000)),
            "temperature": st.sampled_from((0.07, 1e-6, 1e6)),
        }
    ),
    "analogies": st.fixed_dictionaries(
        {
            "methods": st.sampled_from((("3cosadd",), ("3cosmul", "pair-direction"), ("3cosavg", "lrcos"))),
            "restrict_vocab": st.sampled_from((0, 1, 3, 300_000)),
            "k": st.sampled_from((1, 5)),
            "case_fold": st.booleans(),
        }
    ),
    "anisotropy": st.fixed_dictionaries(
        {"pairs": st.sampled_from((1, 5, 100_000)), "remedy_rows": st.sampled_from((2, 5, 5000))}
    ),
    "drift": st.fixed_dictionaries(
        {"k": st.sampled_from((1, 2, 10)), "mmd_rows": st.sampled_from((2, 5)), "permutations": st.just(19)}
    ),
    "hubness": st.fixed_dictionaries({"k": st.sampled_from((1, 2, 10))}),
    "neighbors": st.fixed_dictionaries({"k": st.sampled_from((1, 2, 10)), "lid_k": st.sampled_from((2, 20))}),
    "probe": st.fixed_dictionaries(
        {
            "c": st.sampled_from((1.0, 1e-9, 1e9)),
            "test_share": st.sampled_from((0.01, 0.2, 0.99)),
            "iterations": st.just(50),
        }
    ),
    "quantization": st.fixed_dictionaries({"k": st.sampled_from((1, 2, 10)), "symmetric": st.booleans()}),
    "retrieval": st.fixed_dictionaries(
        {
            "k": st.sampled_from((1, 10)),
            "ignore_same_id": st.booleans(),
            "depth": st.sampled_from((100, 1000)),
        }
    ),
    "similarity": st.fixed_dictionaries(
        {"restrict_vocab": st.sampled_from((0, 1, 3)), "case_fold": st.booleans()}
    ),
}


@pytest.mark.parametrize("suite", SUITES)
@given(data=st.data())
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_any_input(suite: str, data: st.DataObject) -> None:
    drive(suite, data)


def drive(name: str, data: st.DataObject) -> None:
    suite = discover()[name]
    now = data.draw(tables())
    case = Case(
        rows=now,
        baseline=data.draw(baselines(now)) if name == "drift" else None,
        dataset=data.draw(datasets(suite.dataset_kind, now.rows, now.dim)),
    )
    params = data.draw(PARAMS.get(name, st.just({})))
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.sampled_from((False, False, True))):
            # As if the table were too large for a whole graph, and for all of its rows to be compared.
            for module, most in ((subject, "WHOLE_GRAPH_ROWS"), (turnover, "WHOLE_ROWS")):
                patch.setattr(module, most, 11)
            patch.setattr(subject, "SAMPLED_QUERIES", 5)
        run(suite, case, **params)
