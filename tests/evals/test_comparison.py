"""Versions side by side: hand-computed tests, what may be compared, identical copies, real registries."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from scipy import stats

from embreg import EmbeddingTable, Registry
from embreg.evals.comparing import compare
from embreg.evals.comparison import Comparison, Mark, Row
from embreg.evals.evidence import Missing, Pairs
from embreg.evals.glance import at_a_glance
from embreg.evals.runner import discover, evaluate
from embreg.evals.side_by_side import side_by_side, two_sided
from embreg.evals.suite import Better, Metric, Need, Suite
from embreg.registry.errors import (
    DatasetNotFound,
    UnknownChoice,
    UsageError,
    VersionNotFound,
)
from embreg.registry.types import MeasureRecord, RunRecord


@dataclass(frozen=True, kw_only=True)
class Params:
    k: int = 10


def metric(name: str, better: Better, **more: Any) -> Metric:
    return Metric(name, unit="share", better=better, doc="d.", source="own", **more)


def suite_of(name: str, *metrics: Metric, needs: frozenset[Need] = frozenset()) -> Suite:
    return Suite(name=name, version=1, params=Params, metrics=metrics, needs=needs, doc="d.",
                 run=lambda *_: None)  # type: ignore[arg-type, return-value]  # fmt: skip


ACCURACY = metric("accuracy", Better.HIGHER, item="correct")
SUITES = {
    "quiz": suite_of("quiz", ACCURACY, metric("loss", Better.LOWER, item="loss"),
                     metric("mood", Better.NEITHER, item="mood"), metric("bytes", Better.LOWER)),
    "drift": suite_of("drift", metric("overlap", Better.HIGHER), needs=frozenset({Need.BASELINE})),
}  # fmt: skip


def run_of(
    ref: str,
    values: Mapping[str, Sequence[float]] | None = None,
    *,
    plain: Mapping[str, float] | None = None,
    **more: Any,
) -> RunRecord:
    """A run whose metrics are the means of their items; the items are named by the run."""
    columns = {"accuracy": "correct"}
    measures = [
        MeasureRecord(metric=name, labels={}, value=float(np.mean(own)), n=len(own))
        for name, own in (values or {}).items()
    ]
    measures += [MeasureRecord(metric=n, labels={}, value=v, n=1) for n, v in (plain or {}).items()]
    given = {"suite": "quiz", "suite_version": 1, "params": {"k": 10}, "version_digest": ref * 10}
    run = RunRecord(**{**given, "version": ref, "measures": tuple(measures), **more})
    if values:
        kept = {columns.get(name, name): list(map(float, own)) for name, own in values.items()}
        n = len(next(iter(kept.values())))
        STORED[digest := f"{ref}-{next(COUNTER)}"] = pa.table({"item": [f"q{i}" for i in range(n)], **kept})
        run = replace(run, items=digest)
    return run


STORED: dict[str, pa.Table] = {}
COUNTER = itertools.count()


def beside(*runs: RunRecord | Sequence[RunRecord], **more: Any) -> Comparison:
    own = [[run] if isinstance(run, RunRecord) else list(run) for run in runs]
    by_ref = {f"e@{i}": theirs for i, theirs in enumerate(own, 1)}
    return side_by_side(by_ref, SUITES, STORED.get, np.random.default_rng(0), **more)


def only(found: Comparison, name: str = "accuracy") -> Row:
    (row,) = [row for row in found.rows if row.metric == name]
    return row


def right(losses: int, wins: int, same: int = 0) -> tuple[list[int], list[int]]:
    """Answers before and after, of which so many were lost and won."""
    return [1] * losses + [0] * wins + [1] * same, [0] * losses + [1] * wins + [1] * same


class TestMarks:
    def test_mcnemar_by_hand(self) -> None:
        # Nine of ten items changed sides, eight for the worse: 2 P(B(9, 1/2) >= 8) = 2 (9 + 1) / 512.
        old, new = right(8, 1, same=1)
        found = beside(run_of("e@1", {"accuracy": old}), run_of("e@2", {"accuracy": new}))
        first, second = only(found).cells
        assert found.tests == 1
        assert second.p_value == pytest.approx(20 / 512, abs=1e-15)
        assert (second.mark, second.judged, second.items) == (Mark.WORSE, "worse", 10)
        assert second.change == pytest.approx(-0.7)
        assert (first.mark, first.change, first.p_value, first.judged) == (None, None, None, "")
        assert stats.binomtest(8, 9).pvalue == pytest.approx(20 / 512)

    def test_the_same_difference_is_none_at_a_smaller_alpha(self) -> None:
        old, new = right(8, 1, same=1)
        found = beside(run_of("e@1", {"accuracy": old}), run_of("e@2", {"accuracy": new}), alpha=0.03)
        assert (only(found).cells[1].mark, only(found).cells[1].judged) == (Mark.NONE, "worse")

    def test_holm_by_hand_over_two_versions(self) -> None:
        old, strong = right(9, 0, same=1)
        weak = [0] * 8 + [1, 1]
        # 2/512 for nine losses, 2/256 for eight; Holm: the smaller twice, and the other no less than that.
        found = beside(*(run_of(f"e@{i}", {"accuracy": x}) for i, x in enumerate((old, strong, weak), 1)))
        assert found.tests == 2
        _, nine, eight = only(found).cells
        assert nine.p_value == pytest.approx(2 * 2 / 512)
        assert eight.p_value == pytest.approx(max(2 * 2 / 512, 2 / 256))

    def test_holm_is_over_the_rows_of_the_comparison(self) -> None:
        old, new = right(8, 1, same=1)
        same = [0.5] * 10
        runs = (
            run_of("e@1", {"accuracy": old, "loss": same}),
            run_of("e@2", {"accuracy": new, "loss": same}),
        )
        found = beside(*runs)
        assert found.tests == 2
        assert only(found).cells[1].p_value == pytest.approx(2 * 20 / 512)
        assert only(found).cells[1].mark is Mark.NONE
        assert (only(found, "loss").cells[1].p_value, only(found, "loss").cells[1].mark) == (1.0, Mark.NONE)

    def test_better_follows_the_direction_of_the_metric(self) -> None:
        rng = np.random.default_rng(1)
        old = {name: rng.random(50) for name in ("loss", "mood")}
        risen = {name: values + 0.2 + 0.01 * rng.random(50) for name, values in old.items()}
        found = beside(run_of("e@1", old), run_of("e@2", risen))
        loss, mood = only(found, "loss").cells[1], only(found, "mood").cells[1]
        assert (loss.mark, loss.judged) == (Mark.WORSE, "worse")
        assert (mood.mark, mood.judged) == (Mark.DIFFERENT, "")
        back = beside(run_of("e@1", risen), run_of("e@2", old))
        assert only(back, "loss").cells[1].mark is Mark.BETTER

    def test_sign_flips_agree_with_every_flip_enumerated(self) -> None:
        old = np.zeros(11)
        new = np.array([0.31, 0.2, -0.1, 0.5, 0.17, -0.03, 0.44, 0.08, 0.29, -0.21, 0.6])
        signs = np.array(list(itertools.product((-1, 1), repeat=11)))
        exact = float((np.abs(signs @ np.abs(new)) >= abs(new.sum()) - 1e-12).mean())
        pairs = Pairs(old=old[:, None], new=new[:, None])
        found = two_sided(pairs, np.random.default_rng(0), 99_999)
        assert isinstance(found, float)
        assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / 99_999))

    def test_too_few_items_are_not_tested_and_spare_the_others(self) -> None:
        old, new = right(9, 0, same=1)
        few = {"accuracy": [1, 1, 1]}
        found = beside(
            run_of("e@1", {"accuracy": old}), run_of("e@2", {"accuracy": new}),
        )  # fmt: skip
        alone = only(found).cells[1].p_value
        found = beside(run_of("e@1", few), run_of("e@2", {"accuracy": [0, 0, 0]}))
        cell = only(found).cells[1]
        assert (cell.mark, cell.p_value, found.tests) == (Mark.UNTESTED, None, 0)
        assert "3 items are too few" in cell.reason
        assert alone == pytest.approx(2 / 512)

    def test_a_metric_without_items_is_not_tested(self) -> None:
        found = beside(run_of("e@1", plain={"bytes": 10.0}), run_of("e@2", plain={"bytes": 9.0}))
        cell = only(found, "bytes").cells[1]
        assert (cell.mark, cell.judged, cell.change) == (Mark.UNTESTED, "better", -1.0)
        assert "no values per item" in cell.reason

    def test_items_that_are_hardly_the_same_are_not_tested(self) -> None:
        before, after = run_of("e@1", {"accuracy": [1] * 9}), run_of("e@2", {"accuracy": [0] * 20})
        cell = only(beside(before, after)).cells[1]
        assert (cell.mark, cell.reason) == (Mark.UNTESTED, "only 9 of 20 items are in both versions")

    def test_a_mark_that_contradicts_the_values_says_so(self) -> None:
        before = run_of("e@1", {"accuracy": [1] * 8 + [0] * 2 + [0] * 9})
        after = run_of("e@2", {"accuracy": [0] * 8 + [0] * 2})
        STORED[str(after.items)] = pa.table(
            {"item": [f"q{i}" for i in range(10)] + [f"new{i}" for i in range(9)],
             "correct": [0.0] * 10 + [1.0] * 9}
        )  # fmt: skip
        after = replace(after, measures=(replace(after.measures[0], value=9 / 19, n=19),))
        cell = only(beside(before, after)).cells[1]
        assert (cell.judged, cell.mark) == ("better", Mark.WORSE)
        assert cell.reason == "worse on the 10 items that both versions scored"


GOOD = {"accuracy": [1, 0, 1, 1, 0, 1, 1, 1]}


class TestWhatMayBeCompared:
    @pytest.mark.parametrize(
        ("other", "told"),
        [
            (run_of("e@2", GOOD, suite_version=2), "quiz is version 2, the baseline's was 1"),
            (run_of("e@2", GOOD, params={"k": 5}), "parameters differ: k 10 -> 5"),
            (run_of("e@2", status="skipped", reason="no labels"), "was skipped: no labels"),
            (run_of("e@2", status="error", reason="no \x1b[31mmemory"), r"failed: no \x1b[31mmemory"),
            ([], "quiz was not run on e@2"),
            (run_of("e@2", plain={"bytes": 1.0}), "e@2 has no accuracy"),
            (
                run_of("e@2", absent=({"metric": "accuracy", "labels": {}, "reason": "all guessed"},)),
                "all guessed",
            ),
        ],
    )
    def test_a_value_that_cannot_stand_beside_the_first_says_why(self, other: Any, told: str) -> None:
        cell = only(beside(run_of("e@1", GOOD), other)).cells[1]
        assert (cell.value, cell.change, cell.mark, cell.p_value) == (None, None, None, None)
        assert told in cell.reason

    def test_another_dataset_content_is_not_comparable(self) -> None:
        one = run_of("e@1", GOOD, dataset="d", dataset_digest="1" * 64)
        cell = only(beside(one, replace(one, version="e@2", dataset_digest="2" * 64))).cells[1]
        assert cell.value is None
        assert "dataset 'd' has changed" in cell.reason

    def test_what_the_first_version_lacks_is_shown_and_not_tested(self) -> None:
        cells = only(beside([], run_of("e@2", GOOD), run_of("e@3", GOOD))).cells
        assert [cell.value is None for cell in cells] == [True, False, False]
        assert [cell.mark for cell in cells] == [None, Mark.UNTESTED, Mark.UNTESTED]
        assert cells[1].reason == "e@1 has no value"

    def test_of_several_runs_those_that_match_are_taken(self) -> None:
        ours = [run_of("e@1", GOOD, params={"k": k}) for k in (10, 5)]
        found = beside(ours, run_of("e@2", GOOD))
        assert [cell.value for cell in only(found).cells] == [0.75, 0.75]
        newest = beside(ours, [run_of("e@2", GOOD), run_of("e@2", {"accuracy": [0] * 8}, params={"k": 5})])
        assert only(newest).cells[1].value == 0.0

    def test_drift_is_shown_against_the_first_version_alone(self) -> None:
        def drift(ref: str, base: str, value: float) -> RunRecord:
            return run_of(ref, plain={"overlap": value}, suite="drift", baseline=base, verdict="refined")

        found = beside(
            [drift("e@1", "e@0", 0.1)], [drift("e@2", "e@0", 0.2), drift("e@2", "e@1", 0.9)],
            [drift("e@3", "e@2", 0.3)],
        )  # fmt: skip
        (row,) = found.rows
        assert [cell.value for cell in row.cells] == [None, 0.9, None]
        assert [cell.mark for cell in row.cells] == [None, None, None]
        assert found.tests == 0
        assert [(v.ref, v.verdict) for v in found.verdicts] == [("e@2", "refined")]

    def test_a_suite_that_nobody_has_a_value_of_is_left_out_with_the_reason(self) -> None:
        skipped = [run_of(f"e@{i}", status="skipped", reason="no labels") for i in (1, 2)]
        found = beside(*skipped)
        assert found.rows == ()
        assert [(one.suite, one.reason) for one in found.left_out] == [("quiz", "was skipped: no labels")]

    def test_a_suite_that_is_gone_is_shown_without_direction(self) -> None:
        runs = [run_of(f"e@{i}", GOOD, suite="theirs") for i in (1, 2)]
        cell = only(beside(*runs)).cells[1]
        assert (cell.judged, cell.mark) == ("", Mark.UNTESTED)
        assert "no suite 'theirs'" in cell.reason

    def test_items_that_are_gone_leave_the_values(self) -> None:
        one, other = run_of("e@1", GOOD), run_of("e@2", GOOD)
        del STORED[str(other.items)]
        cell = only(beside(one, other)).cells[1]
        assert (cell.value, cell.mark, cell.reason) == (0.75, Mark.UNTESTED, "no items are kept of e@2")

    @pytest.mark.parametrize("more", [{"alpha": 0.0}, {"alpha": 1.0}])
    def test_an_alpha_out_of_range(self, more: dict[str, float]) -> None:
        with pytest.raises(UsageError, match="alpha lies between"):
            beside(run_of("e@1"), run_of("e@2"), **more)

    def test_one_version_is_no_comparison(self) -> None:
        with pytest.raises(UsageError, match="at least two"):
            beside(run_of("e@1"))


class TestProperties:
    @settings(deadline=None, max_examples=25)
    @given(values=hs.lists(hs.floats(-5, 5, width=32), min_size=1, max_size=40), right=hs.booleans())
    def test_an_identical_copy_is_never_marked(self, values: list[float], right: bool) -> None:
        own = [float(v > 0) for v in values] if right else values
        found = beside(
            run_of("e@1", {"accuracy": own, "loss": own}), run_of("e@2", {"accuracy": own, "loss": own})
        )
        for row in found.rows:
            assert not row.moved
            assert row.cells[1].mark in (Mark.NONE, Mark.UNTESTED)
            assert row.cells[1].change == 0
            assert row.cells[1].p_value in (None, 1.0)
        assert found.changed().rows == ()

    @settings(deadline=None, max_examples=40)
    @given(answers=hs.lists(hs.tuples(hs.booleans(), hs.booleans()), min_size=8, max_size=60))
    def test_exchanging_the_versions_exchanges_the_marks(self, answers: list[tuple[bool, bool]]) -> None:
        one, other = ([int(pair[i]) for pair in answers] for i in (0, 1))
        there = only(beside(run_of("e@1", {"accuracy": one}), run_of("e@2", {"accuracy": other}))).cells[1]
        back = only(beside(run_of("e@1", {"accuracy": other}), run_of("e@2", {"accuracy": one}))).cells[1]
        opposite = {Mark.BETTER: Mark.WORSE, Mark.WORSE: Mark.BETTER}
        assert there.p_value == back.p_value
        assert there.mark is not None
        assert back.mark is opposite.get(there.mark, there.mark)
        losses, wins = (sum(p == k for p in answers) for k in ((True, False), (False, True)))
        if there.p_value is not None and losses + wins:
            assert there.p_value == pytest.approx(stats.binomtest(losses, losses + wins).pvalue)

    def test_the_two_sided_test_keeps_its_level(self) -> None:
        rng = np.random.default_rng(7)
        rejected = 0
        for _ in range(400):
            base = rng.standard_normal((60, 1))
            pairs = Pairs(old=base + rng.normal(size=base.shape), new=base + rng.normal(size=base.shape))
            p = two_sided(pairs, rng, 999)
            assert not isinstance(p, Missing)
            rejected += p <= 0.05
        # Binomial(400, .05): 20, give or take four standard deviations of 4.4.
        assert 3 <= rejected <= 38


class TestAtAGlance:
    def test_one_number_for_the_whole_of_a_metric(self) -> None:
        total, section = {"group": "total"}, {"section": "family"}
        named = [("accuracy", total), ("accuracy", section), ("purity@k", {}), ("purity@k", {"class": "a"})]
        assert at_a_glance(named) == [0, 2]

    def test_variants_are_few_or_lead_their_suite(self) -> None:
        codecs = [{"codec": str(i)} for i in range(6)]
        named = [("recall@k", c) for c in codecs] + [("recall@k", c | {"rescore": "2"}) for c in codecs]
        named += [("bytes", c) for c in codecs] + [("top_share", {"k": k}) for k in ("1", "3")]
        assert at_a_glance(named) == [0, 1, 2, 3, 4, 5, 18, 19]

    def test_slices_take_no_part_in_the_correction(self) -> None:
        old, new = right(8, 1, same=1)
        runs = []
        for ref, answers in (("e@1", old), ("e@2", new)):
            run = run_of(ref, {"accuracy": answers})
            STORED[str(run.items)] = STORED[str(run.items)].append_column("section", pa.array(["a"] * 10))
            sliced = replace(run.measures[0], labels={"section": "a"})
            runs.append(replace(run, measures=(run.measures[0], sliced)))
        whole, glance = beside(*runs), beside(*runs, glance=True)
        assert (whole.tests, len(whole.rows), whole.more) == (2, 2, 0)
        assert (glance.tests, len(glance.rows), glance.more) == (1, 1, 1)
        assert only(glance).cells[1].p_value == pytest.approx(20 / 512)
        assert [row.cells[1].p_value for row in whole.rows] == [pytest.approx(40 / 512)] * 2


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, list[str]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.data[:600].astype(np.float32), [str(v) for v in bunch.target[:600]]


SOME = ["hubness", "neighbors", "probe", "drift"]


@pytest.fixture(scope="module")
def filled(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """digits@1; other@1, the same rows under another name; digits@2, noisy; digits@3, which is deleted."""
    from embreg import connect

    vectors, labels = digits
    ids = [f"d{i}" for i in range(len(vectors))]
    noise = np.random.default_rng(0).normal(scale=6.0, size=vectors.shape).astype(np.float32)

    def table(x: np.ndarray) -> EmbeddingTable:
        return EmbeddingTable.from_arrays(ids, x, attributes={"label": labels})

    registry = connect(tmp_path_factory.mktemp("digits"), create=True)
    registry.register("digits", table(vectors))
    registry.register("digits", table(vectors + noise))
    registry.register("other", table(vectors))
    registry.register("digits", table(vectors * 2 + noise))
    registry.delete("digits@3")
    return registry


class TestOnDigits:
    def test_an_identical_copy_has_no_significant_mark(self, filled: Registry) -> None:
        found = compare(filled, ["digits@1", "other@1"], suites=SOME)
        assert found.tests > 10
        marks = {cell.mark for row in found.rows for cell in row.cells}
        assert marks == {None, Mark.NONE, Mark.UNTESTED}
        assert [row for row in found.changed().rows if row.suite != "drift"] == []
        assert [v.verdict for v in found.verdicts] == ["identical"]

    def test_planted_noise_is_found(self, filled: Registry) -> None:
        found = compare(filled, ["digits@1", "digits@2"], suites=SOME, glance=True)
        rows = {(row.suite, row.metric): row.cells[1] for row in found.rows}
        for name in (("neighbors", "purity@10"), ("probe", "accuracy")):
            assert rows[name].mark is Mark.WORSE
        assert rows["drift", "neighbor_overlap@10"].value < 1
        assert {row.suite for row in found.changed().rows} == set(SOME)
        runs = evaluate(filled, "digits@2", suites=["neighbors"])
        purity = next(m for m in runs[0].measures if m.metric == "purity@10" and not m.labels)
        cell = rows["neighbors", "purity@10"]
        assert (cell.value, cell.n, cell.low, cell.high) == (purity.value, purity.n, purity.low, purity.high)
        assert cell.run == runs[0].id

    def test_only_what_is_recorded(self, registry: Registry, digits: Any) -> None:
        for scale in (1, 2):
            registry.register("few", EmbeddingTable.from_arrays(None, digits[0][:50] * scale))
        evaluate(registry, "few@1", suites=["hubness"])
        found = compare(registry, ["few@1", "few@2"], suites=["hubness", "anisotropy"], measure=False)
        assert registry.runs("few@2") == ()
        assert {row.suite for row in found.rows} == {"hubness"}
        assert {row.cells[1].reason for row in found.rows} == {"hubness was not run on few@2"}
        evaluate(registry, "few@2", suites=["hubness"])
        found = compare(registry, ["few@1", "few@2"], measure=False)
        assert [row.moved for row in found.rows] == [False] * len(found.rows)

    def test_documents_and_arrow(self, filled: Registry) -> None:
        found = compare(filled, ["digits@1", "digits@2", "other@1"], suites=["hubness"])
        document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert document["refs"] == ["digits@1", "digits@2", "other@1"]
        keys = {"suite", "metric", "labels", "dataset", "better", "values", "unit"}
        assert set(document["rows"][0]) == keys
        assert {"ref", "value", "n", "low", "high", "reason", "change", "p_value", "mark"} <= set(
            document["rows"][0]["values"][0]
        )
        table = found.to_arrow()
        assert len(table) == 3 * len(found.rows)
        assert table.filter(pa.compute.equal(table["ref"], "digits@1"))["change"].null_count == len(
            found.rows
        )

    @pytest.mark.parametrize(
        ("refs", "more", "error", "told"),
        [
            (["digits@1"], {}, UsageError, "at least two"),
            ([], {}, UsageError, "at least two"),
            (["digits@1", "digits@v1"], {}, UsageError, "are both digits@1"),
            (["digits", "digits@2"], {}, UsageError, "are both digits@2"),
            (["digits@1", "digits@3"], {}, VersionNotFound, "digits@3"),
            (["digits@1", "digits@2"], {"suites": ["hubnes"]}, UnknownChoice, "did you mean 'hubness'"),
            (["digits@1", "digits@2"], {"suites": ["hubnes"], "measure": False}, UnknownChoice, "hubness"),
            (["digits@1", "digits@2"], {"datasets": ["none"]}, DatasetNotFound, "none"),
            (["digits@1", "digits@2"], {"datasets": ["none"], "measure": False}, DatasetNotFound, "none"),
            (
                ["digits@1", "digits@2"],
                {"params": {"hubness": {"k": 3}}, "measure": False},
                UsageError,
                "no meaning",
            ),
        ],
    )
    def test_bad_words(self, filled: Registry, refs: list[str], more: Any, error: Any, told: str) -> None:
        with pytest.raises(error, match=told):
            compare(filled, refs, **more)

    def test_every_suite_of_the_package_is_compared_or_left_out(self, filled: Registry) -> None:
        found = compare(filled, ["digits@1", "digits@2"], glance=True, datasets=None)
        named = {row.suite for row in found.rows} | {one.suite for one in found.left_out}
        assert named == set(discover())
