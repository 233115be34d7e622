"""The page of a report, made of values: what is on it, and that nothing on it comes alive."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embreg.evals.drawable import Map
from embreg.evals.gate import CheckResult, Outcome, Verdict
from embreg.evals.itemized import paired
from embreg.evals.moved import Mover, Neighbor
from embreg.evals.norms import NormsByRank
from embreg.evals.projection import Projection
from embreg.evals.recorded import Lack, flipped
from embreg.evals.report import files
from embreg.evals.reporting import Report
from embreg.evals.suite import Better, Metric, Suite
from embreg.registry.types import (
    Dependent,
    Diff,
    IndexState,
    MeasureRecord,
    Relation,
    Repair,
    RunRecord,
    Space,
    SpaceChange,
    VerdictRecord,
    Version,
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


def metric(name: str, better: Better, low: float | None, high: float | None, **more: Any) -> Metric:
    return Metric(name, unit="share", better=better, doc=f"What {name} is.", source="own",
                  low=low, high=high, **more)  # fmt: skip


SUITES = {
    "knn": Suite(
        name="knn", version=1, params=Params, needs=frozenset(), doc="Are neighbours alike?",
        run=lambda *_: None,  # type: ignore[arg-type, return-value]
        metrics=(
            metric("purity@k", Better.HIGHER, 0, 1, item="right"),
            metric("antihub", Better.LOWER, 0, 1),
            metric("lid", Better.NEITHER, 0, None),
        ),
    )
}  # fmt: skip


def measure(name: str, value: float, **more: Any) -> MeasureRecord:
    return MeasureRecord(**({"metric": name, "labels": {}, "value": value, "n": 1234} | more))


def version(number: int, **more: Any) -> Version:
    given: dict[str, Any] = {
        "name": "e", "number": number, "digest": str(number) * 64, "content_digest": "c" * 64, "rows": 3000,
        "space": Space(dim=8, kind="word", model="m"), "message": "a message", "source": "e.npy",
        "created_at": NOW, "created_by": "me", "nbytes": 1, "statistics": {},
    }  # fmt: skip
    return Version(**(given | more))


RUN = RunRecord(
    suite="knn", suite_version=1, version="e@2", version_digest="2" * 64, params={"k": 10}, id=7, dataset="d",
    dataset_digest="d" * 64, items="i2",
    measures=(
        measure("lid", 12.0),
        measure("antihub", 0.25),
        measure("purity@10", 0.5, low=0.45, high=0.55),
        *(measure("purity@10", 0.1, labels={"slice": f"s{i}", "of": "x"}) for i in range(9)),
    ),
)  # fmt: skip
BASE = replace(RUN, version="e@1", version_digest="1" * 64, id=3, items="i1", measures=(
    measure("purity@10", 0.4), measure("antihub", 0.125), measure("lid", 11.0),
))  # fmt: skip
ITEMS = {
    digest: pa.table({"item": ["q1", "q2", "q3"], "right": right, "predicted": said})
    for digest, right, said in (
        ("i1", [1.0, 0.0, 1.0], ["a", "b", "c"]),
        ("i2", [0.0, 1.0, 1.0], ["z", "y", "c"]),
    )
}
CHECK = CheckResult(metric="knn.purity@10", labels={"group": "total"}, value=0.5, baseline=0.4,
                    bound=">= 0.6", outcome=Outcome.FAILED, reason=".500 is below 0.6", p_value=0.2,
                    n=1234, unit="share")  # fmt: skip
VERDICT = Verdict(ref="e@2", baseline="e@1", checks=(CHECK,))
RECORD = VerdictRecord(version="e@2", version_digest="2" * 64, baseline="e@1", baseline_digest="1" * 64,
                       passed=False, config_digest="f" * 64, checks=(), created_at=NOW)  # fmt: skip
DIFF = Diff(old="e@1", new="e@2", relation=Relation.CHANGED, reordered=True, added=1, removed=2,
            changed=3000, unchanged=4,
            space_changes=(SpaceChange(field="model", old=None, new="m", breaking=True),))  # fmt: skip
INDEX = IndexState(
    name="idx", tracks="e@production", built_from="e@1", tracked="e@2", state="stale",
    relation=Relation.CHANGED, repair=Repair.REBUILD, reason="3,000 rows changed of 3,006",
    factory="IVF4,Flat", search="nprobe=4", metric="cosine", rows=3006, nbytes=1, recall=0.97, recall_k=10,
    recall_queries=100, method="build", duration_s=0.1, built_at=NOW,
)  # fmt: skip
OUTSIDE = Dependent(kind="external", name="service", tracks="e@production", built_from="e@1", tracked="e@2",
                    state="stale", relation=Relation.CHANGED, repair=Repair.REBUILD, reason="rows changed",
                    remedy="ask the team")  # fmt: skip
MOVER = Mover(
    item="cat", displacement=1.25,
    old=(Neighbor(item="dog", score=0.9, fate="stayed"), Neighbor(item="cow", score=0.8, fate="removed")),
    new=(Neighbor(item="dog", score=0.9, fate="stayed"), Neighbor(item="tax", score=0.7, fate="came")),
)  # fmt: skip


def drawn(names: tuple[str, ...] = ("a", "b", "c")) -> Map:
    xy = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    now = Projection(how="pca", ids=names, xy=xy, explained=(0.5, 0.2))
    classes = dict.fromkeys(names, names[0])
    far = dict(zip(names, (0.1, 0.2, 0.3), strict=True))
    return Map(now=now, before=replace(now, xy=xy + 0.1), labels=classes, movement=far, occurrence={})


def norms(ref: str) -> NormsByRank:
    return NormsByRank(ref=ref, starts=np.array([1]), ends=np.array([3]), counts=np.array([3]),
                       quantiles=np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]))  # fmt: skip


def report(**changes: Any) -> Report:
    given: dict[str, Any] = {
        "version": version(2), "baseline": version(1), "why": "e@production", "verdict": VERDICT,
        "record": RECORD, "doubts": (), "diff": DIFF, "indexes": (INDEX,), "dependents": (OUTSIDE,),
        "runs": (RUN,), "baseline_runs": (BASE,), "tables": ITEMS,
        "lacking": (Lack(reason="not measured: drift", command="embreg eval e@2 --baseline e@1"),),
        "movers": (MOVER,), "norms": (norms("e@2"), norms("e@1")), "map": drawn(), "made_at": NOW,
        "flipped": tuple(flipped((RUN,), (BASE,), ITEMS, SUITES, 5)),
    }  # fmt: skip
    return Report(**(given | changes))


def page(*, suites: dict[str, Suite] = SUITES, **changes: Any) -> str:
    return files.rendered(report(**changes), suites).text


class Reader(HTMLParser):
    """Keeps elements, attributes and text, and notes every tag that does not close its own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
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
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))

    def values(self, name: str) -> list[str]:
        return [value or "" for _, attribute, value in self.attributes if attribute == name]


def rows(text: str) -> list[str]:
    """The rows of the first table of metrics."""
    table = text[text.index('id="suite-knn-on-d"') :]
    return re.findall(r"<tr><th scope=\"row\">.*?</tr>", table[: table.index("</table>")], re.S)


def nasty(text: str) -> dict[str, Any]:
    """The same page with ``text`` wherever a user's text can stand."""
    check = replace(CHECK, metric=text, labels={text: text}, bound=text, reason=text, severity=text)
    run = replace(
        RUN, suite=text, version=text, dataset=text, dataset_digest=text, verdict=text, notes=(text,),
        absent=({"metric": text, "labels": {text: text}, "reason": text},), params={text: text},
        measures=(measure(text, 0.5, labels={text: text}),),
    )  # fmt: skip
    said = {"item": [text.encode(errors="replace").decode()]}  # Arrow holds no lone surrogate
    said["predicted"] = said["item"]
    old, new = pa.table(said | {"right": [1.0]}), pa.table(said | {"right": [0.0]})
    change = SpaceChange(field=text, old=text, new={text: text}, breaking=False)
    now = version(2, name=text, message=text, source=text, created_by=text, aliases=(text,),
                  space=Space(dim=8, model=text, pooling=text))  # fmt: skip
    near = tuple(Neighbor(item=text, score=0.5, fate=fate) for fate in ("stayed", "left", "removed"))
    return {
        "version": now, "baseline": replace(now, number=1), "why": text, "doubts": (text,),
        "verdict": Verdict(ref=text, baseline=text, checks=(check,)),
        "runs": (run, replace(run, status="skipped", reason=text),
                 replace(run, status="error", reason=text), replace(run, baseline=text)),
        "baseline_runs": (replace(run, version=f"{text}1"),),
        "diff": replace(DIFF, old=text, new=text, space_changes=(change,)),
        "indexes": (replace(INDEX, name=text, tracks=text, built_from=text, state=text, reason=text,
                            factory=text, search=text),),
        "dependents": (replace(OUTSIDE, name=text, tracks=text, built_from=text, state=text, reason=text,
                               remedy=text),),
        "lacking": (Lack(reason=text, command=text),),
        "movers": (Mover(item=text, displacement=1.0, old=near, new=near),),
        "map": drawn((text, f"{text}2", f"{text}3")),
        "norms": (norms(text), norms(f"{text}1")),
        "flipped": (paired(run, new, run, old, SUITES["knn"], worst=5, best=5),),
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

    @pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
    def test_scripts_are_those_of_the_page_and_data(self, text: str) -> None:
        read, plain = Reader(page(**nasty(text))), Reader(page(**nasty("plain")))
        assert read.scripts[-2:] == plain.scripts[-2:]
        assert not [s for s in read.scripts[:-2] if "<" in s]
        assert not [s for s in read.scripts[:-2] if any(not c.isprintable() for c in s)]

    def test_long_text_is_cut(self) -> None:
        long, short = page(**nasty("x" * 10_000)), page(**nasty("x" * 10))
        assert len(long) - len(short) < 80_000
        assert "x" * 700 not in long
        assert "…" in long

    def test_markup_is_shown_as_it_is(self) -> None:
        assert Reader(page(**nasty(NASTY[0]))).words.count(NASTY[0]) > 40

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
        asking = {"src", "srcset", "action", "data", "poster", "background", "xlink:href"}
        assert not [a for a in read.attributes if a[1] in asking or a[1].startswith("on")]
        assert all(value.startswith("#") for value in read.values("href"))
        own = re.sub(r"<script.*?</script>", "", text, flags=re.S)
        assert not re.search(r"https?://|url\(|@import|<link|<iframe|<object", own)

    def test_the_policy_names_its_scripts(self) -> None:
        import base64
        import hashlib

        text = page()
        (policy,) = [v for v in Reader(text).values("content") if "default-src" in v]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src ")
        scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
        hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
        assert len(hashes) == 2
        assert re.search(r"script-src ([^;]*)", policy)[1] == " ".join(f"'sha256-{h}'" for h in hashes)  # type: ignore[index]

    def test_a_page_without_pictures_has_no_script(self) -> None:
        text = page(map=Lack(reason="gone"), norms=Lack(reason="gone"))
        assert "<script" not in text
        assert "script-src" not in text
        assert len(text) < 60_000

    def test_is_one_html_document(self) -> None:
        text = page()
        read = Reader(text)
        assert text.startswith("<!DOCTYPE html>")
        assert ("html", "lang", "en") in read.attributes
        assert not read.open
        assert not read.crossed

    def test_links_lead_somewhere(self) -> None:
        read = Reader(page())
        ids = read.values("id")
        assert len(ids) == len(set(ids))
        assert {value.removeprefix("#") for value in read.values("href")} <= set(ids)
        assert set(read.values("aria-labelledby")) <= set(ids)

    def test_tables_are_labelled(self) -> None:
        read = Reader(page())
        heads = [value for tag, name, value in read.attributes if (tag, name) == ("th", "scope")]
        assert len(heads) == read.tags["th"]
        assert set(heads) == {"col", "row"}
        regions = [v for t, n, v in read.attributes if (t, n) == ("div", "aria-label")]
        assert all(regions)
        assert len(regions) >= read.tags["table"]

    def test_headings_skip_no_level(self) -> None:
        levels = [int(n) for n in re.findall(r"<h([1-6])", page())]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))

    def test_same_values_same_page(self) -> None:
        assert page() == page()


class TestContent:
    def test_in_order(self) -> None:
        words = Reader(page()).words
        told = (
            "e@2 against e@1",
            "“a message”",
            "✗ Do not ship",
            "e@2 fails against e@1: 1 of 1 checks failed.",
            ".500 is below 0.6",
            "Judged 2026-01-02 03:04 UTC",
            "At a glance",
            "What changed",
            "held against e@1 (e@production)",
            "1 rows added, 2 rows removed, 3,000 rows changed of 3,006",
            "shared rows reordered",
            "not set",
            "! stale",
            "embreg index rebuild idx",
            "needs a rebuild",
            "ask the team",
            "Every check of the gate",
            "p = .200",
            "purity@10",
            "All 12 measures",
            "Not measured: drift. embreg eval e@2 --baseline e@1 brings it.",
            "cow (removed)",
            "1 broken, 1 mended of 3 items",
            "sha256:" + "2" * 64,
            "embreg report e@2 --baseline e@1 -o report.html",
            "How to read this page",
            "2026-01-02 03:04 UTC",
        )
        at = 0
        for text in told:
            assert text in words[at:], f"{text!r} is missing after {words[max(0, at - 40) : at]!r}"
            at = words.index(text, at)

    def test_the_first_metric_of_the_suite_leads(self) -> None:
        text = page()
        glance = text[text.index('id="glance"') : text.index('id="changed"')]
        assert "purity@10" in glance
        assert "▲ +.100 better" in Reader(glance).words

    def test_direction_comes_from_the_metric(self) -> None:
        purity, antihub, lid = rows(page())
        assert "▲ +.100 better" in purity
        assert "▼ +.125 worse" in antihub
        assert "+1<" in lid
        assert "better" not in lid
        assert "worse" not in lid

    def test_bars_where_the_range_is_known(self) -> None:
        purity, _, lid = rows(page())
        assert 'width="50.0"' in purity
        assert 'x1="45.0" x2="55.0"' in purity
        assert 'x1="40.0" x2="40.0"' in purity
        assert "<svg" not in lid

    def test_what_is_not_comparable_is_not_compared(self) -> None:
        text = page(baseline_runs=[replace(BASE, params={"k": 5})], flipped=(), verdict=Lack(reason="none"))
        assert "parameters differ: k 5 -&gt; 10" in text
        assert "▲ +" not in Reader(text).words
        against = page(runs=(replace(RUN, baseline="e@1", baseline_digest="1" * 64),), flipped=())
        assert "measured against e@1" in against
        assert "▲ +" not in against

    def test_rounding_is_no_change(self) -> None:
        near = replace(BASE, measures=(measure("purity@10", 0.5 + 1e-12),))
        assert '<span class="quiet nowrap">0</span>' in rows(page(baseline_runs=[near]))[0]

    @pytest.mark.parametrize(
        ("outcomes", "word", "told"),
        [
            (["passed"], "passed", "✓ May ship"),
            (["passed", "warned"], "warned", "! May ship, with a warning"),
            (["failed", "passed", "skipped"], "failed", "✗ Do not ship"),
            (["skipped"], "failed", "✗ Do not ship"),
            ([], "failed", "✗ Do not ship"),
        ],
        ids=["passed", "warned", "failed", "all skipped", "no checks"],
    )
    def test_the_answer(self, outcomes: list[str], word: str, told: str) -> None:
        checks = tuple(replace(CHECK, outcome=Outcome(o), reason=f"because {o}") for o in outcomes)
        text = page(verdict=replace(VERDICT, checks=checks))
        assert f'<div class="banner {word}">' in text
        banner = Reader(text[text.index('<div class="banner') : text.index("Judged ")]).words
        assert told in banner
        for outcome in {"failed", "warned", "skipped"} & set(outcomes):
            assert f"because {outcome}" in banner
        assert "because passed" not in banner

    def test_not_gated(self) -> None:
        lack = Lack(reason="the gate was not run on e@2", command="embreg gate e@2")
        words = Reader(page(verdict=lack, record=None)).words
        assert "– Not judged The gate was not run on e@2. embreg gate e@2 holds it" in words
        assert "Every check" not in words

    def test_an_old_verdict_by_other_checks_says_so(self) -> None:
        from pathlib import Path

        from embreg.evals.config import Check, Config

        gates = (Check(metric="knn.purity@k", min=0.5),)
        other = Config(path=Path("embreg.toml"), digest="0" * 64, gates=gates)
        assert "has changed since" in page(config=other)
        assert "has changed since" not in page(config=replace(other, digest="f" * 64))
        assert "has changed since" not in page()

    def test_who_stayed_is_told_by_more_than_colour(self) -> None:
        text = page()
        assert '<li class="stayed"><span aria-hidden="true">✓ </span><b>dog</b>' in text
        assert "<li>tax</li>" in text

    def test_almost_empty(self) -> None:
        gone = Lack(reason="it is gone")
        text = page(
            baseline=None, why="there is no other version before it", verdict=Lack(reason="never judged"),
            record=None, runs=(), baseline_runs=(), diff=gone, indexes=(), dependents=(), lacking=(),
            movers=gone, norms=gone, map=gone, flipped=(), suites={},
        )  # fmt: skip
        words = Reader(text).words
        for told in ("held against no other version", "No index follows e", "Nothing was measured",
                     "It is gone."):  # fmt: skip
            assert told in words
        assert "Rows that moved most" not in words
        assert not Reader(text).open

    def test_a_suite_that_is_gone(self) -> None:
        assert "0.5" in page(suites={})

    def test_an_error_and_a_skip_are_told_apart(self) -> None:
        failed = replace(RUN, status="error", reason="it broke", measures=(), suite="other")
        skipped = replace(RUN, status="skipped", reason="needs a dataset", measures=(), suite="third")
        words = Reader(page(runs=(RUN, failed, skipped))).words
        assert "✗ other on d failed: it broke" in words
        assert "– third on d skipped: needs a dataset" in words
