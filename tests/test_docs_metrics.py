"""docs/metrics.md is what the code says, and every suite says all of it: metrics, formulas, parameters."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from embreg import EmbeddingTable
from embreg.evals.config import best
from embreg.evals.discovery import OWN, defect, discovered
from embreg.evals.reference import parameters, requirements, sources
from embreg.evals.report.manual import manual
from embreg.evals.runner import make_params, suite_named
from embreg.evals.subject import Subject
from embreg.evals.suite import Better, Metric, Need, Suite

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
OURS = discovered().only(OWN)
METRICS = [(suite, metric) for suite in OURS.suites.values() for metric in suite.metrics]


def titled(value: object) -> str | None:
    return value.name if isinstance(value, Suite | Metric) else None


def test_the_page_is_what_the_code_says() -> None:
    told, kept = manual(OURS.suites, OURS.origins), PAGE.read_text(encoding="utf-8")
    changed = list(
        difflib.unified_diff(kept.split("\n"), told.split("\n"), "docs/metrics.md", "the code", n=0)
    )
    assert kept == told, "docs/metrics.md is out of date: 'make docs' writes it anew\n" + "\n".join(
        changed[:20]
    )


def test_the_page_names_every_metric_and_parameter_once() -> None:
    page = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^### (.*)$", page, re.MULTILINE)
    assert sorted(headings) == sorted(f"{suite.name}.{metric.name}" for suite, metric in METRICS)
    for suite in OURS.suites.values():
        section = page.partition(f"\n## {suite.name}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| \w+ \| `", section, re.MULTILINE)
        assert rows == [f.name for f in fields(suite.params)]


def test_tables_of_the_page_are_whole() -> None:
    """A pipe inside a cell would tear its row."""
    width = 0
    for line in PAGE.read_text(encoding="utf-8").split("\n"):
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert cells == (width or cells), line
        width = cells


@pytest.mark.parametrize(("suite", "metric"), METRICS, ids=titled)
def test_a_metric_says_what_it_is(suite: Suite, metric: Metric) -> None:
    for text in (metric.doc, metric.source, metric.unit, metric.formula):
        assert text == " ".join(text.split()) != "", "one line, and not empty"
    assert metric.doc.endswith(".")
    assert not re.search(r"[.!?] [A-Z]", metric.doc), "one sentence"
    assert not metric.source.endswith(".")
    assert "=" not in metric.source, "a source is no formula"


@pytest.mark.parametrize(("suite", "metric"), METRICS, ids=titled)
def test_a_metric_has_a_range_and_a_direction_that_agree(suite: Suite, metric: Metric) -> None:
    ends = [end for end in (metric.low, metric.high) if end is not None]
    assert all(map(math.isfinite, ends))
    assert ends == sorted(set(ends))
    if metric.unit in ("share", "probability", "cosine", "correlation"):
        assert metric.low is not None
    if metric.unit in ("dimensions", "bytes", "ms", "rows", "queries", "classes", "norm", "lists"):
        assert metric.low is not None
        assert metric.low >= 0
    if metric.better is Better.NEITHER:
        assert best(metric) is None
    if metric.ideal is not None:
        assert Need.BASELINE in suite.needs, "only there is a version held against itself"
        assert metric.low is None or metric.low <= metric.ideal
        assert metric.high is None or metric.ideal <= metric.high
    assert not (metric.item and metric.statistic)
    if metric.independent or metric.ties:
        assert metric.item or metric.statistic


@pytest.mark.parametrize("suite", OURS.suites.values(), ids=titled)
def test_a_suite_says_all_that_is_asked_of_a_stranger(suite: Suite) -> None:
    assert defect(suite, suite.name) is None
    assert re.search(r"\b(19|20)\d\d\b", sources(suite)), "after whom, in the docstring of the module"
    for parameter in parameters(suite):
        assert parameter.doc, f"{parameter.name} is not described in the docstring of Params"
        assert parameter.doc.endswith(".")
    assert [r.need for r in requirements(suite)] == sorted(suite.needs) + sorted(suite.wants)
    for requirement in requirements(suite):
        assert requirement.command.startswith("embreg ")
        assert requirement.what


@pytest.mark.parametrize("suite", OURS.suites.values(), ids=titled)
def test_a_default_is_written_as_it_would_be_given(suite: Suite) -> None:
    written = {parameter.name: parameter.default for parameter in parameters(suite)}
    assert make_params(suite, written) == suite.params()


def test_a_version_against_itself_has_the_best_value_of_each_metric() -> None:
    """What a gate takes as the reference of a suite that compares with the baseline."""
    rows = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
    ids = [f"w{i}" for i in range(60)]
    table, other = (EmbeddingTable.from_arrays(ids, x) for x in (rows, np.ldexp(rows, 3)))
    drift = suite_named("drift")
    findings = drift.run(Subject(table, baseline=Subject(table)), drift.params(), np.random.default_rng(0))
    judged = [(m, best(metric)) for m in findings.measures if (metric := drift.metric(m.metric))]
    assert {m.metric for m, ideal in judged if ideal is not None} >= {"mmd", "cka", "neighbor_overlap@10"}
    for measure, ideal in judged:
        assert ideal is None or measure.value == pytest.approx(ideal, abs=1e-9), measure
    moved = drift.run(Subject(other, baseline=Subject(table)), drift.params(), np.random.default_rng(0))
    worse = {m.metric: m.value for m in moved.measures}
    assert worse["mmd"] > 0.01
