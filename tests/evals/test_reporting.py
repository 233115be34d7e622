"""What a report gathers from a real registry: what is recorded, what is not, and what is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embreg import EmbeddingTable, Registry, connect, evaluate
from embreg.evals.config import load_config
from embreg.evals.gate import Outcome, Verdict
from embreg.evals.gating import gate as gated
from embreg.evals.moved import ADDED, CAME, LEFT, REMOVED, STAYED, moved
from embreg.evals.recorded import Lack
from embreg.evals.report import files
from embreg.evals.reporting import Report, report
from embreg.evals.runner import discover
from embreg.evals.subject import Subject
from embreg.registry.errors import NotFound, UsageError

ROWS, DIM = 150, 8
CONFIG = """
[[gates]]
metric = "hubness.skewness"
max_rise = {rise}

[[gates]]
metric = "drift.neighbor_overlap@10"
min = {least}
severity = "{severity}"
"""


def vectors(seed: int = 0, noise: float = 0.0, rows: int = ROWS, dim: int = DIM) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((rows, dim))
    x += noise * np.random.default_rng(seed + 1).standard_normal((rows, dim))
    return x.astype(np.float32)


def put(registry: Registry, x: np.ndarray, name: str = "words", **more: Any) -> None:
    registry.register(name, EmbeddingTable.from_arrays([f"w{i}" for i in range(len(x))], x), **more)


def config(folder: Path, *, rise: float = 9.0, least: float = 0.0, severity: str = "critical") -> Path:
    path = folder / "embreg.toml"
    path.write_text(CONFIG.format(rise=rise, least=least, severity=severity), encoding="utf-8")
    return path


def shown(given: Report) -> str:
    return files.rendered(given, discover()).text


@pytest.fixture
def two(registry: Registry) -> Registry:
    """words@1 and words@2, the same with noise; hubness of both, drift between them."""
    put(registry, vectors(), message="one")
    put(registry, vectors(noise=0.3), message="two")
    evaluate("words@1", registry=registry, suites=["hubness"])
    evaluate("words@2", registry=registry, suites=["hubness", "drift"], baseline="words@1")
    return registry


class TestBaseline:
    def test_production_comes_first(self, two: Registry) -> None:
        put(two, vectors(noise=0.1))
        two.alias("words", "production", "words@1")
        found = report(two, "words@3")
        assert found.baseline is not None
        assert (found.baseline.ref, found.why) == ("words@1", "words@production")

    def test_then_what_it_was_last_compared_with(self, two: Registry) -> None:
        put(two, vectors(noise=0.1))
        evaluate("words@3", registry=two, suites=["drift"], baseline="words@1")
        found = report(two, "words@3")
        assert found.baseline is not None
        assert (found.baseline.ref, found.why) == ("words@1", "what it was last compared with")

    def test_then_what_the_gate_last_judged_against(self, two: Registry, tmp_path: Path) -> None:
        put(two, vectors(noise=0.1))
        evaluate("words@3", registry=two, suites=["drift"], baseline="words@2")
        path = config(tmp_path)
        path.write_text(path.read_text().partition("\n\n")[0])  # no check of a suite that compares
        gated(two, "words@3", baseline="words@1", config=path)
        assert report(two, "words@3").baseline.ref == "words@1"  # type: ignore[union-attr]

    def test_then_the_version_before(self, two: Registry) -> None:
        put(two, vectors(noise=0.1))
        found = report(two, "words@3")
        assert found.baseline is not None
        assert (found.baseline.ref, found.why) == ("words@2", "the version before it")

    def test_an_alias_of_the_version_itself_is_none(self, two: Registry) -> None:
        two.alias("words", "production", "words@2")
        assert report(two, "words@2").baseline.ref == "words@1"  # type: ignore[union-attr]

    def test_the_first_version_has_none(self, two: Registry) -> None:
        found = report(two, "words@1")
        assert found.baseline is None
        assert "held against no other version: there is no other version before it" in shown(found)

    def test_as_asked(self, two: Registry) -> None:
        assert report(two, "words@1", baseline="words@2").why == "as asked"
        alone = report(two, "words@2", no_baseline=True)
        assert alone.baseline is None
        assert [run.suite for run in alone.runs] == ["hubness"]

    def test_both_and_what_is_not_there_are_refused(self, two: Registry) -> None:
        with pytest.raises(UsageError, match="not both"):
            report(two, "words@2", baseline="words@1", no_baseline=True)
        with pytest.raises(NotFound, match="words@9"):
            report(two, "words@2", baseline="words@9")

    def test_a_deleted_one_is_told(self, two: Registry) -> None:
        two.prune("words", keep=1, keep_aliased=True)
        found = report(two, "words@2")
        assert found.baseline is None
        assert "words@1, which it was last compared with, is deleted" in found.why
        assert [run.suite for run in found.runs] == ["drift", "hubness"]
        text = shown(found)
        assert "is deleted" in text
        assert "measured against words@1" in text


class TestRuns:
    def test_a_version_without_runs(self, registry: Registry) -> None:
        put(registry, vectors())
        found = report(registry, "words")
        assert found.runs == ()
        assert isinstance(found.verdict, Lack)
        assert found.verdict.command == "embreg gate words@1 --no-baseline"
        (lack,) = found.lacking
        assert "hubness" in lack.reason
        assert "drift" not in lack.reason
        assert lack.command == "embreg eval words@1"
        text = shown(found)
        assert "Nothing was measured of words@1." in text
        assert "data-chart" in text  # the rows are drawn all the same

    def test_one_row(self, registry: Registry) -> None:
        put(registry, vectors(rows=1))
        put(registry, vectors(rows=1, noise=0.5))
        evaluate("words@2", registry=registry, baseline="words@1")
        assert "</html>" in shown(report(registry, "words@2"))

    def test_the_newest_that_compares_is_taken(self, two: Registry) -> None:
        evaluate("words@2", registry=two, suites=["hubness"], params={"hubness": {"k": 5}})
        (run,) = [run for run in report(two, "words@2").runs if run.suite == "hubness"]
        assert run.params["k"] == 10
        (alone,) = report(two, "words@2", no_baseline=True).runs
        assert alone.params["k"] == 5

    def test_what_another_baseline_said_is_not_shown(self, two: Registry) -> None:
        put(two, vectors(noise=0.1))
        found = report(two, "words@2", baseline="words@3")
        assert [run.suite for run in found.runs] == ["hubness"]
        told = {lack.command: lack.reason for lack in found.lacking}
        asked = "embreg eval words@2 --baseline words@3 --suite drift"
        assert told[asked] == "drift was run against words@1, not against words@3"
        assert told["embreg eval words@3 --suite hubness"] == "hubness was not run on words@3"
        assert isinstance(found.movers, Lack)
        assert found.movers.command == "embreg drift words@3 words@2"

    def test_an_error_is_told_beside_what_was_measured(self, two: Registry) -> None:
        from dataclasses import replace

        done = next(run for run in two.runs("words@2") if run.suite == "hubness")
        two.record(replace(done, id=None, status="error", reason="the disk <b>", measures=(), cache_key="x"))
        text = shown(report(two, "words@2"))
        assert "✗ <strong>hubness</strong> failed: the disk &lt;b&gt;" in text
        assert "skewness" in text

    def test_another_width(self, two: Registry) -> None:
        put(two, vectors(dim=5))
        evaluate("words@3", registry=two, suites=["hubness", "drift"], baseline="words@2")
        found = report(two, "words@3", baseline="words@2")
        assert not isinstance(found.map, Lack)
        text = shown(found)
        assert "respaced" in text
        assert "raw_cosine" in text

    def test_no_index_is_told_and_a_stale_one(self, two: Registry) -> None:
        assert "No index follows words." in shown(report(two, "words@2"))
        two.index("fast", "words@1", factory="Flat")
        text = shown(report(two, "words@2"))
        assert "embreg index rebuild fast" in text

    def test_each_index_has_a_history_of_its_own(self, registry: Registry) -> None:
        put(registry, vectors())
        for name, factory in (("flat", "Flat"), ("small", "SQ4")):
            registry.index(name, "words@1", factory=factory)
        evaluate("words@1", registry=registry, suites=["index"])
        put(registry, vectors(noise=0.3))
        for name in ("flat", "small"):
            registry.rebuild(name)
        evaluate("words@2", registry=registry, suites=["index"])
        drawn = files.rendered(report(registry, "words@2"), discover()).charts
        histories = {chart.title: chart for chart in drawn if chart.kind.name == "history"}
        assert [title.partition("index=")[2].rstrip(")") for title in sorted(histories)] == ["flat", "small"]
        assert {len(chart.rows) for chart in histories.values()} == {2}


class TestVerdict:
    @pytest.mark.parametrize(
        ("least", "severity", "told"),
        [
            (0.0, "critical", "✓ May ship"),
            (0.99, "critical", "✗ Do not ship"),
            (0.99, "warning", "! May ship, with a warning"),
        ],
        ids=["passed", "failed", "warned"],
    )
    def test_the_recorded_one(
        self, two: Registry, tmp_path: Path, least: float, severity: str, told: str
    ) -> None:
        path = config(tmp_path, least=least, severity=severity)
        given = gated(two, "words@2", config=path, baseline="words@1").verdict
        found = report(two, "words@2", config=load_config(path))
        assert isinstance(found.verdict, Verdict)
        assert found.verdict.passed is given.passed
        assert [c.outcome for c in found.verdict.checks] == [c.outcome for c in given.checks]
        assert [c.unit for c in found.verdict.checks] == [c.unit for c in given.checks]
        assert told in shown(found)
        assert not found.outdated
        path.write_text(path.read_text() + "\n# another\n")
        assert report(two, "words@2", config=load_config(path)).outdated

    def test_the_fresh_one_counts(self, two: Registry, tmp_path: Path) -> None:
        path = config(tmp_path)
        result = gated(two, "words@2", config=path, baseline="words@1")
        failed = Verdict(ref="words@2", baseline="words@1", checks=tuple(
            c if i else type(c)(**{f: getattr(c, f) for f in c.__slots__} | {"outcome": Outcome.FAILED})
            for i, c in enumerate(result.verdict.checks)
        ))  # fmt: skip
        found = report(two, "words@2", baseline="words@1", verdict=failed, runs=result.runs)
        assert found.record is None
        assert "as this page was written" in shown(found)
        assert "✗ Do not ship" in shown(found)


class TestGone:
    @pytest.fixture
    def broken(self, two: Registry) -> Iterator[Callable[[str], None]]:
        def away(digest: str) -> None:
            for path in (two.root / "blobs").rglob(f"{digest}*"):
                path.chmod(0o600)
                path.unlink()

        yield away

    def test_items(self, two: Registry, broken: Callable[[str], None]) -> None:
        drift = next(run for run in two.runs("words@2") if run.suite == "drift")
        broken(drift.items or "")
        found = report(two, "words@2")
        assert isinstance(found.movers, Lack)
        command = "embreg eval words@2 --baseline words@1 --suite drift --force"
        assert command in [lack.command for lack in found.lacking]
        text = shown(found)
        assert command in text
        assert "neighbor_overlap@10" in text

    def test_rows_of_the_baseline(self, two: Registry, broken: Callable[[str], None]) -> None:
        root = two.root
        parts = [p for p in (root / "blobs").rglob("*") if p.is_file() and p.stat().st_size > 4000]
        digest = two.resolve("words@1").digest
        manifest = next(p for p in (root / "blobs").rglob(f"{digest}*")).read_text()
        own = [p for p in parts if p.name.split(".")[0] in manifest]
        assert own
        for path in own:
            broken(path.name)
        with connect(root) as registry:
            found = report(registry, "words@2")
            assert isinstance(found.diff, Lack)
            assert isinstance(found.movers, Lack)
            assert not isinstance(found.map, Lack)
            assert found.map.before is None
            text = shown(found)
        assert "neighbor_overlap@10" in text
        assert "</html>" in text


class TestMoved:
    def test_by_hand(self) -> None:
        import pyarrow as pa

        circle = np.deg2rad([0, 10, 20, 90, 100, 110])
        x = np.stack([np.cos(circle), np.sin(circle)], axis=1).astype(np.float32)
        y = x.copy()
        y[0] = x[4]  # a moved over to the others
        old = Subject(EmbeddingTable.from_arrays(list("abcdef"), x))
        new = Subject(EmbeddingTable.from_arrays(list("abcdeg"), y))
        items = pa.table({"item": ["b", "a", "z"], "semantic_displacement": [0.0, 1.5, 2.0]})
        (mover,) = moved(items, old, new, count=5, k=2)
        assert (mover.item, mover.displacement, mover.kept) == ("a", 1.5, 0)
        assert [(n.item, n.fate) for n in mover.old] == [("b", LEFT), ("c", LEFT)]
        assert [(n.item, n.fate) for n in mover.new] == [("e", CAME), ("d", CAME)]

    def test_who_stays_goes_and_comes(self) -> None:
        import pyarrow as pa

        line = np.array([[1, 0.0], [1, 0.1], [1, 0.2], [1, 3.0]], np.float32)
        old = Subject(EmbeddingTable.from_arrays(["a", "b", "gone", "d"], line))
        new = Subject(EmbeddingTable.from_arrays(["a", "b", "fresh", "d"], line))
        items = pa.table({"item": ["a"], "semantic_displacement": [1.0]})
        (mover,) = moved(items, old, new, count=1, k=2)
        assert [(n.item, n.fate) for n in mover.old] == [("b", STAYED), ("gone", REMOVED)]
        assert [(n.item, n.fate) for n in mover.new] == [("b", STAYED), ("fresh", ADDED)]
        assert mover.kept == 1

    def test_nobody_moved(self, registry: Registry) -> None:
        put(registry, vectors())
        backwards = [f"w{i}" for i in reversed(range(ROWS))]
        registry.register("words", EmbeddingTable.from_arrays(backwards, vectors()[::-1].copy()))
        evaluate("words@2", registry=registry, suites=["drift"], baseline="words@1")
        found = report(registry, "words@2", baseline="words@1")
        assert found.movers == ()
        assert "No row moved." in shown(found)

    def test_zero_rows_take_no_part(self) -> None:
        import pyarrow as pa

        x = vectors(rows=20)
        x[3] = 0
        one = Subject(EmbeddingTable.from_arrays(None, x))
        items = pa.table({"item": ["5", "3"], "semantic_displacement": [1.0, 0.9]})
        found = moved(items, one, one, count=2, k=30)
        assert "3" not in [n.item for n in found[0].new]
        assert len(found[0].new) == 18
        assert all(n.stayed for n in found[0].new)


def test_what_it_does_is_told(two: Registry) -> None:
    told: list[tuple[str, int, int | None]] = []
    report(two, "words@2", progress=lambda *step: told.append(step))
    assert [step for step, _, _ in told] == ["runs", "items", "rows that moved", "norms", "map", "page"]
    assert {total for _, _, total in told} == {6}


def test_nothing_is_measured_nor_recorded(two: Registry) -> None:
    before = [(run.id, run.suite) for run in two.runs("words")], two.count_events()
    report(two, "words@2")
    assert before == ([(run.id, run.suite) for run in two.runs("words")], two.count_events())
