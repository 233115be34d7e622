from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from embreg.evals.gate import CheckResult, Outcome, Verdict
from embreg.evals.report.html import gate_page
from embreg.evals.suite import Better, Metric, Suite
from embreg.registry.types import (
    Diff,
    IndexState,
    MeasureRecord,
    Relation,
    Repair,
    RunRecord,
    SpaceChange,
)

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
NASTY = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "'; --",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x1b[0m",
    "evil\u202etxt.exe",
    "line\nbreak\r\x00\x0b",
    "</style></title></code><!--",
    "http://example.org/x.js",
    "\ud800 lone surrogate",
    "x" * 10_000,
]
VOID = {"meta", "rect", "line", "br"}


@dataclass(frozen=True, kw_only=True)
class Params:
    k: int = 10


def metric(name: str, better: Better, low: float | None, high: float | None) -> Metric:
    return Metric(name, unit="share", better=better, doc=f"What {name} is.", source="own",
                  low=low, high=high)  # fmt: skip


SUITES = {
    "knn": Suite(
        name="knn", version=1, params=Params, needs=frozenset(), doc="d.",
        run=lambda *_: None,  # type: ignore[arg-type, return-value]
        metrics=(
            metric("purity@k", Better.HIGHER, 0, 1),
            metric("antihub", Better.LOWER, 0, 1),
            metric("lid", Better.NEITHER, 0, None),
        ),
    )
}  # fmt: skip


def measure(name: str, value: float, **more: Any) -> MeasureRecord:
    return MeasureRecord(**({"metric": name, "labels": {}, "value": value, "n": 1234} | more))


RUN = RunRecord(
    suite="knn", suite_version=1, version="e@2", version_digest="2" * 64, params={"k": 10},
    measures=(
        measure("purity@10", 0.5, low=0.45, high=0.55),
        measure("antihub", 0.25),
        measure("lid", 12.0),
    ),
)  # fmt: skip
BASE = replace(RUN, version="e@1", version_digest="1" * 64, measures=(
    measure("purity@10", 0.4), measure("antihub", 0.125), measure("lid", 11.0),
))  # fmt: skip
CHECK = CheckResult(metric="knn.purity@10", labels={"group": "total"}, value=0.5, baseline=0.4,
                    bound=">= 0.6", outcome=Outcome.FAILED, reason=".500 is below 0.6", p_value=0.2,
                    n=1234, unit="share")  # fmt: skip
VERDICT = Verdict(ref="e@2", baseline="e@1", checks=(CHECK,))
DIFF = Diff(old="e@1", new="e@2", relation=Relation.CHANGED, reordered=True, added=1, removed=2,
            changed=3000, unchanged=4,
            space_changes=(SpaceChange(field="model", old=None, new="m", breaking=True),))  # fmt: skip
INDEX = IndexState(
    name="idx", tracks="e@production", built_from="e@1", tracked="e@2", state="stale",
    relation=Relation.CHANGED, repair=Repair.REBUILD, reason="3,000 rows changed of 3,006",
    factory="IVF4,Flat", search="nprobe=4", metric="cosine", rows=3006, nbytes=1, recall=0.97, recall_k=10,
    recall_queries=100, method="build", duration_s=0.1, built_at=NOW,
)  # fmt: skip


def page(**changes: Any) -> str:
    given: dict[str, Any] = {
        "verdict": VERDICT, "runs": [RUN], "baseline_runs": [BASE], "suites": SUITES,
        "diff": DIFF, "indexes": [INDEX], "generated": NOW, "title": "e@2 against e@1",
    }  # fmt: skip
    given |= changes
    return gate_page(given.pop("verdict"), **given)


class Reader(HTMLParser):
    """Keeps elements, attributes and text, and notes every tag that does not close its own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []
        self.crossed: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


def nasty(text: str) -> dict[str, Any]:
    """The same page with ``text`` wherever a user's text can stand."""
    check = replace(CHECK, metric=text, labels={text: text}, bound=text, reason=text, severity=text)
    run = replace(
        RUN, suite=text, version=text, dataset=text, dataset_digest=text, verdict=text, notes=(text,),
        absent=({"metric": text, "labels": {text: text}, "reason": text},),
        measures=(measure(text, 0.5, labels={text: text}),),
    )  # fmt: skip
    change = SpaceChange(field=text, old=text, new={text: text}, breaking=False)
    return {
        "verdict": Verdict(ref=text, baseline=text, checks=(check,)),
        "runs": [run, replace(run, status="skipped", reason=text),
                 replace(run, status="error", reason=text), replace(run, baseline=text)],
        "diff": replace(DIFF, old=text, new=text, space_changes=(change,)),
        "indexes": [replace(INDEX, name=text, tracks=text, built_from=text, state=text, reason=text,
                            factory=text, search=text)],
        "title": text,
    }  # fmt: skip


class TestSafety:
    @pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
    def test_user_text_stays_text(self, text: str) -> None:
        plain, read = Reader(page(**nasty("plain"))), Reader(page(**nasty(text)))
        assert read.tags == plain.tags
        assert [a[:2] for a in read.attributes] == [a[:2] for a in plain.attributes]
        assert not read.open
        assert not read.crossed
        assert all(c.isprintable() or c == "\n" for c in "".join(read.text))

    def test_long_text_is_cut(self) -> None:
        assert len(page(**nasty("x" * 10_000))) < 40_000
        assert "…" in page(**nasty("x" * 10_000))

    def test_markup_is_shown_as_it_is(self) -> None:
        read = Reader(page(**nasty(NASTY[0])))
        assert read.words.count(NASTY[0]) > 20
        assert read.tags["script"] == 0

    def test_control_characters_are_seen(self) -> None:
        text = page(**nasty("a\x1b[1m\u202e"))
        assert "a\\x1b[1m\\u202e" in text
        assert "\u202e" not in text

    def test_encodes(self) -> None:
        page(**nasty("\ud800")).encode("utf-8")


class TestSelfContained:
    def test_asks_for_nothing(self) -> None:
        text = page()
        read = Reader(text)
        asking = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}
        assert not [a for a in read.attributes if a[1] in asking or a[1].startswith("on")]
        assert not re.search(r"url\(|@import|<link|<script|<iframe|<object", text)
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        assert ("meta", "content", policy) in read.attributes

    def test_is_one_html_document(self) -> None:
        text = page()
        read = Reader(text)
        assert text.startswith("<!DOCTYPE html>")
        assert ("html", "lang", "en") in read.attributes
        assert not read.open
        assert not read.crossed
        assert "prefers-color-scheme: dark" in text
        assert "@media print" in text

    def test_tables_are_labelled(self) -> None:
        read = Reader(page())
        assert read.tags["table"] == read.tags["caption"] == 5
        heads = [value for tag, name, value in read.attributes if (tag, name) == ("th", "scope")]
        assert len(heads) == read.tags["th"]
        assert set(heads) == {"col", "row"}


class TestContent:
    def test_in_order(self) -> None:
        words = Reader(page()).words
        told = (
            "✗ e@2 fails against e@1: 1 of 1 checks failed",
            ".500 is below 0.6",
            "What changed",
            "1 rows added, 2 rows removed, 3,000 rows changed of 3,006",
            "shared rows reordered",
            "not set",
            "rebuild",
            "Every check of the gate",
            "p = .200",
            "purity@10",
            "2026-01-02 03:04 UTC",
            "sha256:" + "2" * 64,
            "sha256:" + "1" * 64,
        )
        at = 0
        for text in told:
            assert text in words[at:], f"{text!r} is missing after {words[max(0, at - 40) : at]!r}"
            at = words.index(text, at)

    def test_direction_comes_from_the_metric(self) -> None:
        rows = re.findall(r"<tr><th scope=\"row\" title=.*?</tr>", page(), re.S)
        purity, antihub, lid = rows
        assert "+.100" in purity
        assert "▲ better" in purity
        assert "+.125" in antihub
        assert "▼ worse" in antihub
        assert "+1<" in lid
        assert "better" not in lid
        assert "worse" not in lid

    def test_bars_where_the_range_is_known(self) -> None:
        rows = re.findall(r"<tr><th scope=\"row\" title=.*?</tr>", page(), re.S)
        assert 'width="50.0"' in rows[0]
        assert 'x1="45.0" x2="55.0"' in rows[0]
        assert 'x1="40.0" x2="40.0"' in rows[0]
        assert "<svg" not in rows[2]

    def test_what_is_not_comparable_is_not_compared(self) -> None:
        text = page(baseline_runs=[replace(BASE, params={"k": 5})])
        assert "parameters differ: k 5 -&gt; 10" in text
        assert "better" not in Reader(text).words
        against = page(runs=[replace(RUN, baseline="e@1", baseline_digest="1" * 64)])
        assert "measured against e@1" in against
        assert "▲" not in against

    def test_passing(self) -> None:
        checks = (replace(CHECK, outcome=Outcome.PASSED),)
        words = Reader(page(verdict=replace(VERDICT, checks=checks))).words
        assert "✓ e@2 passes against e@1: 1 of 1 checks passed" in words

    def test_almost_empty(self) -> None:
        text = page(verdict=None, runs=[], baseline_runs=[], diff=None, indexes=[], suites={})
        words = Reader(text).words
        for told in ("no version to compare", "No index follows", "Nothing was measured"):
            assert told in words
        assert "banner" not in {a[2] for a in Reader(text).attributes}

    def test_a_suite_that_is_gone(self) -> None:
        assert "0.5" in page(suites={})

    def test_same_values_same_page(self) -> None:
        assert page() == page()
