"""The service behind the oracles, and whether every metric has one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def fresh(oracle):
    """A service that has seen nothing."""
    return type(oracle)()


def test_it_fails_beyond_the_tolerance_and_remembers_within(fresh):
    fresh.agrees("scipy", "hubness.skewness", [1.0, 2.0], [1.0, 2.05], atol=0.1)
    fresh.agrees("scipy", "hubness.skewness", 3.0, 3.0, rtol=1e-6, data="GloVe", why="of another sign")
    for theirs in ([1.0, 2.11], [1.0], [1.0, float("nan")]):
        with pytest.raises(AssertionError, match=r"hubness\.skewness"):
            fresh.agrees("scipy", "hubness.skewness", [1.0, 2.0], theirs, atol=0.1)
    with pytest.raises(AssertionError, match="nothing to compare"):
        fresh.agrees("scipy", "hubness.skewness", [], [])
    (seen,) = fresh.seen.values()
    assert (seen.numbers, seen.largest, seen.tolerance) == (3, pytest.approx(0.05), "1e-01 + 1e-06 x")


def test_answers_that_are_no_numbers(fresh):
    fresh.same("gensim", "analogies.accuracy", ["queen", "king"], ["queen", "king"])
    for theirs in (["queen", "prince"], ["queen"]):
        with pytest.raises(AssertionError, match=r"analogies\.accuracy"):
            fresh.same("gensim", "analogies.accuracy", ["queen", "king"], theirs)
    (seen,) = fresh.seen.values()
    assert (seen.numbers, seen.largest, seen.tolerance) == (2, 0, "0")


@pytest.mark.parametrize("oracle_and_metric", [("scypi", "hubness.skewness"), ("scipy", "hubness.skew")])
def test_misspelt_names_are_refused(fresh, oracle_and_metric):
    with pytest.raises(AssertionError, match=r"unknown oracle|no suite declares"):
        fresh.agrees(*oracle_and_metric, 1.0, 1.0)


def test_the_table(fresh, tmp_path: Path):
    fresh.agrees("formula of Gini 1912", "hubness.gini", 0.5, 0.5 + 3.2e-13, atol=1e-12, data="GloVe")
    fresh.agrees("formula of Gini 1912", "hubness.gini", 0.25, 0.25)
    fresh.agrees("scipy", "hubness.skewness", 1.0, 1.0, why="its own")
    fresh.agrees("scipy", "analogies.accuracy[method=lrcos]", 1.0, 1.0)
    fresh.write(tmp_path / "oracles.md")
    page = (tmp_path / "oracles.md").read_text()
    rows = [row for row in page.partition("\n## ")[0].split("\n") if row.startswith("| `")]
    assert "\n| `drift.added` | a count of ids" in page
    assert [row.split(" | ")[0] for row in rows] == [
        "| `analogies.accuracy[method=lrcos]`", "| `hubness.skewness`", "| `hubness.gini`"
    ]  # fmt: skip
    assert rows[1].endswith("| random | 1 | 0 | 0 | its own |")
    assert rows[2] == "| `hubness.gini` | formula of Gini 1912 | GloVe, random | 2 | 4e-13 | 1e-12 |  |"
    assert "hubness.gini" not in fresh.missing()
    assert "hubness.robin_hood" in fresh.missing()
    assert "drift.added" not in fresh.missing()
    assert fresh.stale() == []
    fresh.agrees("numpy", "drift.added", 1.0, 1.0)
    assert fresh.stale() == ["drift.added"]


def test_known_answers_are_compared_as_they_were_printed(known):
    fresh = type(known)()
    fresh.answer("a", ".5033", 0.50333)
    fresh.answer("b", "-0.26", -0.2561)
    fresh.answer("c", "46.22%", 46.2187)
    fresh.answer("d", "9033/19544", "9033/19544")
    fresh.answer("e", ".99", 0.985, near=0.006, why="per column")
    for published, ours, tolerance in (
        (".5033", 0.50336, {}),
        ("7", 8, {}),
        (".99", 0.98, {"near": 0.006, "why": "-"}),
    ):
        with pytest.raises(AssertionError, match="published"):
            fresh.answer("f", published, ours, **tolerance)
    with pytest.raises(AssertionError, match="owes a reason"):
        fresh.answer("g", ".9", 0.9, near=0.1)
    lines = fresh.table()
    assert lines[1].split() == ["a", ".5033", ".5033", "equal"]
    assert lines[5].endswith("within 0.006: per column")
    assert sum(line.endswith("DIFFERS") for line in lines) == 3


def test_the_page_names_every_metric(oracle):
    """``make oracles`` writes it."""
    from embreg.evals.runner import discover

    page = (Path(__file__).parents[1] / "docs" / "oracles.md").read_text(encoding="utf-8")
    metrics = [f"{suite.name}.{metric.name}" for suite in discover().values() for metric in suite.metrics]
    assert [name for name in metrics if f"| `{name}` |" not in page and f"| `{name}[" not in page] == []


@pytest.mark.oracle
def test_every_metric_has_an_oracle(oracle):
    """Or a reason not to have one; runs last, and only with ``--oracles``, where all oracle tests ran."""
    assert not oracle.skipped, "an oracle or its data is not installed"
    assert oracle.missing() == []
    assert oracle.stale() == []
