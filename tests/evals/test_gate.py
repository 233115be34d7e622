from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from scipy import stats

from embreg.evals.config import Check, Tolerance
from embreg.evals.gate import CheckResult, Outcome, Verdict, judge
from embreg.evals.suite import Better, Metric, Need, Suite
from embreg.registry.errors import UnknownChoice
from embreg.registry.types import MeasureRecord, RunRecord


@dataclass(frozen=True, kw_only=True)
class Params:
    k: int = 10


def suite(name: str, *metrics: Metric, needs: frozenset[Need] = frozenset()) -> Suite:
    return Suite(name=name, version=1, params=Params, metrics=metrics, needs=needs, doc="d.",
                 run=lambda *_: None)  # type: ignore[arg-type, return-value]  # fmt: skip


def metric(name: str, better: Better, item: str | None = None) -> Metric:
    return Metric(name, unit="share", better=better, doc="d.", source="own", low=0, high=1, item=item)


SUITES = {
    "words": suite(
        "words",
        metric("accuracy", Better.HIGHER, item="right"),
        metric("coverage", Better.HIGHER),
        needs=frozenset({Need.ANALOGIES}),
    ),
    "knn": suite(
        "knn",
        metric("purity@k", Better.HIGHER, item="pure"),
        metric("antihub", Better.LOWER, item="anti"),
    ),
    "drift": suite("drift", metric("overlap@k", Better.HIGHER, item="overlap"),
                   needs=frozenset({Need.BASELINE})),
}  # fmt: skip

OLD, NEW = "a" * 64, "b" * 64


def measure(name: str, value: float, n: int = 100, **labels: str) -> MeasureRecord:
    return MeasureRecord(metric=name, labels=labels, value=value, n=n)


def run(name: str, *measures: MeasureRecord, **more: Any) -> RunRecord:
    plain: dict[str, Any] = {
        "suite_version": 1, "version": "e@2", "version_digest": "0" * 64, "params": {"k": 10},
    }  # fmt: skip
    return RunRecord(suite=name, measures=measures, **(plain | more))


def items(values: Sequence[float | None], column: str = "pure", **columns: Sequence[str]) -> pa.Table:
    names = [f"i{row}" for row in range(len(values))]
    return pa.table({"item": names, column: list(values), **columns})


def judged(
    check: Check,
    candidate: Sequence[RunRecord],
    baseline: Sequence[RunRecord] = (),
    tables: dict[str, pa.Table] | None = None,
) -> CheckResult:
    (result,) = judge([check], SUITES, candidate, baseline, (tables or {}).get, np.random.default_rng(0))
    return result


def paired(
    old: Sequence[float], new: Sequence[float], check: Check, name: str = "purity@10", column: str = "pure"
) -> CheckResult:
    """Judge ``check`` where a metric is the mean of ``old`` before and of ``new`` now."""
    return judged(
        check,
        [run("knn", measure(name, float(np.mean(new))), items=NEW)],
        [run("knn", measure(name, float(np.mean(old))), items=OLD, version="e@1")],
        {OLD: items(old, column), NEW: items(new, column)},
    )


class TestBounds:
    @pytest.mark.parametrize(
        ("check", "outcome", "reason"),
        [
            (Check(metric="knn.purity@10", min=0.5), "passed", "within bounds"),
            (Check(metric="knn.purity@10", min=0.6), "passed", "within bounds"),
            (Check(metric="knn.purity@10", min=0.61), "failed", ".600 is below 0.61"),
            (Check(metric="knn.purity@10", max=0.5), "failed", ".600 is above 0.5"),
            (Check(metric="knn.purity@k", max=0.5), "failed", ".600 is above 0.5"),
            (Check(metric="knn.purity@10", max=0.5, severity="warning"), "warned", ".600 is above 0.5"),
        ],
    )
    def test_hard(self, check: Check, outcome: str, reason: str) -> None:
        result = judged(check, [run("knn", measure("purity@10", 0.6))])
        assert (result.outcome, result.reason) == (outcome, reason)
        assert (result.value, result.n, result.p_value) == (0.6, 100, None)

    def test_bound_is_told(self) -> None:
        check = Check(metric="knn.purity@10", min=0.5, max=0.9, max_drop=Tolerance(abs=0.01, rel=0.05))
        result = judged(check, [])
        assert result.bound == ">= 0.5 and <= 0.9 and drop <= 0.01 and 5%"


class TestItemsThatOnlyOneVersionScored:
    """What left the test took the loss with it: the test cannot excuse it."""

    CHECK = Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.01))

    def test_a_loss_among_them_fails(self) -> None:
        old = [1.0] * 40 + [0.0] * 38
        new = [None] * 36 + [1.0] * 4 + [0.0] * 38
        scored = [v for v in new if v is not None]
        result = judged(
            self.CHECK,
            [run("knn", measure("purity@10", float(np.mean(scored)), len(scored)), items=NEW)],
            [run("knn", measure("purity@10", float(np.mean(old)), len(old)), items=OLD, version="e@1")],
            {OLD: items(old), NEW: items(new)},
        )
        assert result.p_value == 1
        assert result.outcome == "failed"
        assert "only one version scored" in result.reason

    def test_noise_among_the_shared_is_still_excused(self) -> None:
        rng = np.random.default_rng(1)
        old = rng.integers(0, 2, 60).astype(float)
        new = old.copy()
        new[np.flatnonzero(old)[:2]] = 0
        assert paired(old, new, self.CHECK).outcome == "passed"


class TestFailsClosed:
    CHECK = Check(metric="knn.purity@10", min=0.5)

    @pytest.mark.parametrize(
        ("runs", "reason"),
        [
            ([], "knn was not run"),
            ([run("knn", status="skipped", reason="needs labels")], "knn was skipped: needs labels"),
            ([run("knn", status="error", reason="no memory")], "knn failed: no memory"),
            ([run("knn", status="running")], "knn is running"),
            ([run("knn")], "the run gave no such metric"),
            ([run("knn", measure("purity@20", 0.9))], "the run has purity@20"),
            ([run("knn", measure("purity@10", math.nan))], "the value is nan"),
            (
                [run("knn", absent=({"metric": "purity@10", "labels": {}, "reason": "one class"},))],
                "one class",
            ),
            (
                [run("knn", absent=({"metric": "purity@k", "labels": {}, "reason": "one class"},))],
                "one class",
            ),
        ],
    )
    def test_without_a_value(self, runs: list[RunRecord], reason: str) -> None:
        result = judged(self.CHECK, runs)
        assert (result.outcome, result.value) == (Outcome.FAILED, None)
        assert result.reason == f"no value: {reason}"
        assert judged(replace(self.CHECK, on_missing="skip"), runs).outcome is Outcome.SKIPPED
        assert judged(replace(self.CHECK, severity="warning"), runs).outcome is Outcome.WARNED

    @pytest.mark.parametrize(
        ("baseline", "reason"),
        [
            ([], "there is no baseline"),
            ([{"suite": "knn"}], "words was not run on the baseline"),
            ([{"suite_version": 2}], "not comparable: words is version 1, the baseline's was 2"),
            ([{"dataset_digest": "e"}], "not comparable: dataset 'google' has changed"),
            (
                [{"dataset": "bats", "dataset_digest": "e"}],
                "words was not run on this dataset for the baseline",
            ),
            ([{"params": {"k": 5}}], "not comparable: parameters differ: k 5 -> 10"),
            ([{"params": {}}], "not comparable: parameters differ: k None -> 10"),
            ([{"status": "skipped", "reason": "why"}], "words was skipped: why on the baseline"),
            ([{"measures": ()}], "the baseline has no accuracy (section=x)"),
            ([{"measures": (measure("accuracy", 1.0, section="y"),)}], "the baseline has no accuracy"),
            (
                [{"measures": (), "absent": ({"metric": "accuracy", "reason": "none in vocabulary"},)}],
                "the baseline has no accuracy (section=x): none in vocabulary",
            ),
        ],
    )
    def test_not_comparable(self, baseline: list[dict[str, Any]], reason: str) -> None:
        here = run("words", measure("accuracy", 0.5, section="x"), dataset="google", dataset_digest="d")
        there = [replace(here, version="e@1", **changes) for changes in baseline]
        check = Check(metric="words.accuracy", max_drop=Tolerance(abs=1.0))
        result = judged(check, [here], there)
        assert result.outcome is Outcome.FAILED
        assert result.reason.startswith(f"not compared: {reason}")
        assert judged(replace(check, on_missing="skip"), [here], there).outcome is Outcome.SKIPPED
        bounded = replace(check, on_missing="skip", min=0.1)
        assert judged(bounded, [here], there).outcome is Outcome.PASSED
        assert judged(replace(bounded, min=0.9), [here], there).outcome is Outcome.FAILED

    def test_tuples_and_lists_are_the_same_parameters(self) -> None:
        here = run("knn", measure("purity@10", 0.5), params={"at": (1, 2)})
        check = Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.1))
        assert judged(check, [here], [replace(here, params={"at": [1, 2]})]).outcome is Outcome.PASSED

    def test_unknown_names_are_an_error(self) -> None:
        for name in ("kn.purity@10", "knn.purty@10"):
            with pytest.raises(UnknownChoice, match="did you mean"):
                judged(Check(metric=name, min=0), [])

    def test_nothing_checked_is_no_pass(self) -> None:
        assert not Verdict(ref="e@2", baseline=None, checks=()).passed


class TestPicking:
    RUN = run(
        "words",
        measure("accuracy", 0.1, section="capital", method="3cosadd"),
        measure("accuracy", 0.2, section="currency", method="3cosadd"),
        measure("accuracy", 0.3, group="total", method="3cosadd"),
        measure("accuracy", 0.4, section="capital", method="3cosmul"),
        measure("coverage", 0.9),
        measure("coverage", 0.8, section="capital"),
        dataset="google",
        dataset_digest="d",
    )

    @pytest.mark.parametrize(
        ("asked", "value"),
        [
            ({"section": "currency"}, 0.2),
            ({"section": "capital", "method": "3cosadd"}, 0.1),
            ({"method": "3cosmul"}, 0.4),
            ({"method": "3cosadd"}, 0.3),
            ({}, 0.3),
            ({"dataset": "google"}, 0.3),
            ({"dataset": "google", "section": "currency"}, 0.2),
        ],
    )
    def test_picks(self, asked: dict[str, str], value: float) -> None:
        result = judged(Check(metric="words.accuracy", labels=asked, min=0), [self.RUN])
        assert result.value == value
        assert asked.items() <= result.labels.items()
        assert result.labels["dataset"] == "google"

    def test_exact_labels_come_first(self) -> None:
        result = judged(Check(metric="words.coverage", min=0), [self.RUN])
        assert (result.value, result.labels) == (0.9, {"dataset": "google"})

    @pytest.mark.parametrize(
        ("asked", "reason"),
        [
            ({"section": "capital"}, "ambiguous: labels section=capital, method=3cosadd; section=capital"),
            ({"section": "no"}, "no such labels; there are section=capital, method=3cosadd; "),
            ({"dataset": "gogle"}, "words was not run on dataset 'gogle': did you mean 'google'?"),
        ],
    )
    def test_cannot_pick(self, asked: dict[str, str], reason: str) -> None:
        result = judged(Check(metric="words.accuracy", labels=asked, min=0), [self.RUN])
        assert result.outcome is Outcome.FAILED
        assert result.reason.startswith(f"no value: {reason}")

    def test_holds_for_every_dataset(self) -> None:
        other = replace(self.RUN, dataset="bats", measures=(measure("coverage", 0.2),))
        check = Check(metric="words.coverage", min=0.5)
        results = judge([check], SUITES, [self.RUN, other], [], {}.get, np.random.default_rng(0))
        assert [(r.labels["dataset"], r.outcome) for r in results] == [
            ("google", "passed"),
            ("bats", "failed"),
        ]


class TestAgainstTheBaseline:
    def test_small_drop_within_tolerance(self) -> None:
        old, new = [1.0] * 100, [1.0] * 98 + [0.0] * 2
        result = paired(old, new, Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.05)))
        assert (result.outcome, result.baseline) == (Outcome.PASSED, 1.0)
        assert result.reason == "-.020 from 1; can see a drop of .050"

    def test_large_and_significant(self) -> None:
        old, new = [1.0] * 100, [1.0] * 90 + [0.0] * 10
        result = paired(old, new, Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.05), alpha=0.01))
        assert result.outcome is Outcome.FAILED
        assert result.p_value == pytest.approx(2**-10)
        assert result.reason == "-.100 from 1, beyond 0.05; p < .001 over 100 items"

    def test_large_but_chance(self) -> None:
        """26 lost and 18 won: a drop of .08 that a fair coin explains."""
        old = [1.0] * 26 + [0.0] * 18 + [1.0] * 56
        new = [0.0] * 26 + [1.0] * 18 + [1.0] * 56
        check = Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.05))
        result = paired(old, new, check)
        assert result.outcome is Outcome.PASSED
        assert result.p_value == pytest.approx(stats.binomtest(26, 44, alternative="greater").pvalue)
        assert "not significant at 0.05" in result.reason
        assert paired(old, new, replace(check, alpha=1.0)).outcome is Outcome.FAILED

    def test_what_it_could_have_seen(self) -> None:
        """The normal form: (z of .95 + z of .8) standard errors, shared among the tests of the gate."""
        rng = np.random.default_rng(0)
        old = rng.uniform(size=400)
        new = np.clip(old + rng.normal(0, 0.05, 400), 0, 1)
        check = Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.5))
        error = (new - old).std(ddof=1) / 20
        seen = paired(list(old), list(new), check).detectable
        assert seen == pytest.approx(error * (stats.norm.ppf(0.95) + stats.norm.ppf(0.8)))
        assert paired([0.5] * 9, [0.5] * 9, check).detectable is None
        assert paired([1.0] * 100, [1.0] * 100, check).detectable == 0.05, "five losses of a fair coin"

    def test_direction_comes_from_the_metric(self) -> None:
        low, high = [0.0] * 100, [1.0] * 30 + [0.0] * 70
        check = Check(metric="knn.antihub", max_rise=Tolerance(rel=0.1))
        worse = paired(low, high, check, "antihub", "anti")
        better = paired(high, low, check, "antihub", "anti")
        assert (worse.outcome, better.outcome) == (Outcome.FAILED, Outcome.PASSED)
        assert (better.p_value, better.reason) == (1.0, "-.300 from .300; can see a rise of .115")

    def test_gain_is_never_a_fault(self) -> None:
        old, new = [0.0] * 50, [1.0] * 50
        result = paired(old, new, Check(metric="knn.purity@10", max_drop=Tolerance(abs=0)))
        assert (result.outcome, result.reason) == (Outcome.PASSED, "+1 from 0; can see a drop of .100")

    def test_scores_are_permuted(self) -> None:
        random = np.random.default_rng(1)
        old = random.uniform(0, 1, 300)
        new = old - 0.03 + 0.1 * random.standard_normal(300)
        check = Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.01))
        result = paired(list(old), list(new), check)
        assert result.outcome is Outcome.FAILED
        assert result.p_value is not None
        assert result.p_value < 0.01

    @given(hs.integers(0, 2**31))
    @settings(deadline=None, max_examples=20)
    def test_same_seed_same_answer(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        old, new = random.uniform(size=(2, 40))
        check = Check(metric="knn.purity@10", max_drop=Tolerance(abs=0))
        assert paired(list(old), list(new), check) == paired(list(old), list(new), check)

    def test_compares_with_itself_where_the_suite_compares(self) -> None:
        check = Check(metric="drift.overlap@10", max_drop=Tolerance(abs=0.1))
        for value, outcome in ((1.0, "passed"), (0.95, "passed"), (0.85, "failed")):
            result = judged(check, [run("drift", measure("overlap@10", value), baseline="e@1")])
            assert (result.outcome, result.baseline, result.p_value) == (outcome, 1.0, None)
        assert result.reason.endswith("no paired test: the reference is a version against itself")


class TestPairing:
    """Which items are compared, and when the size of a drop decides alone."""

    CHECK = Check(metric="words.accuracy", labels={"section": "x"}, max_drop=Tolerance(abs=0.05))

    def judged(
        self, old: pa.Table | None, new: pa.Table | None, values: tuple[float, float], **labels: str
    ) -> CheckResult:
        before, after = values
        given = labels or {"section": "x"}
        return judged(
            replace(self.CHECK, labels=given),
            [run("words", measure("accuracy", after, **given), items=NEW)],
            [run("words", measure("accuracy", before, **given), items=OLD)],
            {k: v for k, v in ((OLD, old), (NEW, new)) if v is not None},
        )

    def test_only_rows_of_the_label(self) -> None:
        """All is lost in section x and won in section y: together nothing would show."""
        sections = ["x"] * 20 + ["y"] * 20
        groups = ["semantic"] * 40
        old = items([1] * 20 + [0] * 20, "right", section=sections, group=groups)
        new = items([0] * 20 + [1] * 20, "right", section=sections, group=groups)
        one = self.judged(old, new, (1.0, 0.0))
        assert (one.outcome, one.p_value) == (Outcome.FAILED, pytest.approx(2**-20))
        total = self.judged(old, new, (0.5, 0.5), group="total")
        assert total.outcome is Outcome.PASSED
        assert total.p_value == pytest.approx(stats.binomtest(20, 40, alternative="greater").pvalue)

    def test_joined_by_item_whatever_the_order(self) -> None:
        old = pa.table({"item": [f"q{i}" for i in range(40)], "right": [True] * 30 + [False] * 10})
        new = pa.table({"item": [f"q{39 - i}" for i in range(40)], "right": [False] * 10 + [True] * 30})
        assert self.judged(old, new, (0.75, 0.75), group="total").p_value == 1.0
        shuffled = old.take(np.random.default_rng(0).permutation(40))
        assert self.judged(old, shuffled, (0.75, 0.75), group="total").p_value == 1.0

    def test_unscored_items_are_left_out(self) -> None:
        old = items([1] * 30 + [None] * 4, "right")
        new = items([1] * 10 + [0] * 18 + [None] * 2 + [1] * 4, "right")
        result = self.judged(old, new, (1.0, 14 / 32), group="total")
        assert result.p_value == pytest.approx(2**-18)
        assert "over 28 items" in result.reason

    @pytest.mark.parametrize(
        ("old", "new", "values", "told"),
        [
            (None, items([0] * 40, "right"), (1.0, 0.0), "no items are kept of e@2"),
            (items([1] * 40, "wrong"), items([0] * 40, "right"), (1.0, 0.0), "have no column 'right'"),
            (items([1] * 40, "right"), items([0] * 40, "right"), (0.9, 0.0), "do not average"),
            (items([1] * 4, "right"), items([0] * 4, "right"), (1.0, 0.0), "4 items can show no loss"),
            (items([1] * 9, "right"), items([0] * 40, "right"), (1.0, 0.0), "only 9 of 40 items"),
            (items([None] * 9, "right"), items([0] * 40, "right"), (1.0, 0.0), "do not average"),
        ],
    )
    def test_without_a_test_the_drop_decides(
        self, old: pa.Table | None, new: pa.Table, values: tuple[float, float], told: str
    ) -> None:
        result = self.judged(old, new, values, group="total")
        assert (result.outcome, result.p_value) == (Outcome.FAILED, None)
        assert "no paired test" in result.reason
        assert told in result.reason

    @pytest.mark.parametrize("alpha", [1e-310, 5e-324])
    def test_an_alpha_next_to_nothing(self, alpha: float) -> None:
        """Few items can show no loss then, and the size decides; 2,000 may."""
        check = Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.05), alpha=alpha)
        few, many = (paired([1.0] * n, [0.0] * n, check) for n in (100, 2000))
        assert (few.outcome, many.outcome) == (Outcome.FAILED, Outcome.FAILED)
        assert "can show no loss" in few.reason
        assert many.p_value == 0

    def test_a_metric_without_items(self) -> None:
        check = Check(metric="words.coverage", max_drop=Tolerance(abs=0.01))
        result = judged(check, [run("words", measure("coverage", 0.5), items=NEW)],
                        [run("words", measure("coverage", 0.9), items=OLD)])  # fmt: skip
        assert result.outcome is Outcome.FAILED
        assert "the metric has no values per item" in result.reason


class TestHolm:
    def gate(self, checks: int, lost: int, n: int = 40) -> tuple[CheckResult, ...]:
        old, new = [1.0] * n, [0.0] * lost + [1.0] * (n - lost)
        mine, theirs = (
            run("knn", measure("purity@10", float(np.mean(v))), items=d) for v, d in ((new, NEW), (old, OLD))
        )
        check = Check(metric="knn.purity@10", max_drop=Tolerance(abs=0.01))
        tables = {OLD: items(old), NEW: items(new)}
        return judge([check] * checks, SUITES, [mine], [theirs], tables.get, np.random.default_rng(0))

    def test_across_the_tests_of_one_gate(self) -> None:
        """Five lost: p = 1/32, which one test of a gate may reject and two may not."""
        (alone,) = self.gate(1, lost=5)
        assert (alone.outcome, alone.p_value) == (Outcome.FAILED, 1 / 32)
        both = self.gate(2, lost=5)
        assert [(r.outcome, r.p_value) for r in both] == [(Outcome.PASSED, 1 / 16)] * 2

    def test_a_test_too_weak_for_the_gate_is_not_made(self) -> None:
        """Six items reach 1/64 at best; of four tests none could ever fail."""
        (alone,) = self.gate(1, lost=6, n=6)
        assert (alone.outcome, alone.p_value) == (Outcome.FAILED, 1 / 64)
        for result in self.gate(4, lost=6, n=6):
            assert (result.outcome, result.p_value) == (Outcome.FAILED, None)
            assert "6 items can show no loss at 0.05" in result.reason


class TestVerdict:
    def result(self, outcome: str) -> CheckResult:
        return CheckResult(metric="a.b", labels={}, value=None, baseline=None, bound=">= 1",
                           outcome=Outcome(outcome), reason="r")  # fmt: skip

    @pytest.mark.parametrize(
        ("outcomes", "passed"),
        [
            (["passed"], True),
            (["passed", "warned", "skipped"], True),
            (["passed", "failed", "warned"], False),
        ],
    )
    def test_only_failures_fail(self, outcomes: list[str], passed: bool) -> None:
        verdict = Verdict(ref="e@2", baseline="e@1", checks=tuple(map(self.result, outcomes)))
        assert verdict.passed is passed
        assert sum(verdict.counts.values()) == len(outcomes)

    def test_json(self) -> None:
        verdict = Verdict(ref="e@2", baseline=None, checks=(self.result("failed"),))
        read = json.loads(json.dumps(verdict.to_dict()))
        assert read["passed"] is False
        assert read["counts"] == {"passed": 0, "failed": 1, "warned": 0, "skipped": 0}
        contract = {"metric", "labels", "value", "baseline", "bound", "outcome", "reason"}
        assert contract <= set(read["checks"][0])


def test_a_gate_that_skipped_everything_does_not_pass() -> None:
    check = Check(metric="knn.purity@10", min=0.5, on_missing="skip")
    result = judged(check, [])
    assert result.outcome == "skipped"
    assert not Verdict(ref="e@2", baseline=None, checks=(result,)).passed
