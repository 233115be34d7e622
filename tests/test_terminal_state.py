"""``embreg`` alone: what there is, what is stale, what failed last, and what to do next."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from embreg import EmbeddingTable, Registry, connect
from embreg.cli import main
from embreg.registry.state import MOST_FAILED
from embreg.registry.types import RunRecord, VerdictRecord

ROWS = 30


def alone(folder: Path, *words: str, width: int = 120) -> str:
    env = {"EMBREG_REGISTRY": None, "EMBREG_DEBUG": "1", "COLUMNS": str(width)}
    with contextlib.chdir(folder):
        done = CliRunner(env=env).invoke(main, words)
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def told(folder: Path) -> Any:
    return json.loads(alone(folder, "--json"))


def steps(folder: Path) -> list[str]:
    return [step["command"] for step in told(folder)["next"]]


def table(seed: int = 0, rows: int = ROWS) -> EmbeddingTable:
    vectors = np.random.default_rng(seed).standard_normal((rows, 4)).astype(np.float32)
    return EmbeddingTable.from_arrays([f"i{n}" for n in range(rows)], vectors)


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    with connect(tmp_path / ".embreg", create=True) as opened:
        yield opened


def measured(registry: Registry, ref: str, status: str = "done", **more: Any) -> None:
    version = registry.resolve(ref)
    run = RunRecord(suite="hubness", suite_version=2, version=version.ref, version_digest=version.digest)
    registry.record(replace(run, status=status, **more))


def judged(registry: Registry, ref: str, baseline: str | None, *, passed: bool) -> None:
    check = {
        "metric": "hubness.skewness",
        "outcome": "passed" if passed else "failed",
        "reason": "3 is above 2",
    }
    version = registry.resolve(ref)
    base = registry.resolve(baseline) if baseline else None
    registry.record_verdict(
        VerdictRecord(
            version=version.ref, version_digest=version.digest, passed=passed, config_digest="",
            baseline=base.ref if base else None, baseline_digest=base.digest if base else None,
            checks=(check,),
        )
    )  # fmt: skip


def test_an_empty_folder_shows_how_to_begin_and_stays_empty(tmp_path: Path) -> None:
    assert alone(tmp_path).startswith("no registry at .embreg yet\n")
    document = told(tmp_path)
    assert document["registry"] is None
    assert steps(tmp_path) == ["embreg init", "embreg register NAME FILE", "embreg eval NAME"]
    assert all(command in alone(tmp_path) for command in steps(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_registry(registry: Registry, tmp_path: Path) -> None:
    assert "nothing is registered yet" in alone(tmp_path)
    assert told(tmp_path)["registry"] == str(registry.root)
    assert steps(tmp_path) == ["embreg register NAME FILE", "embreg eval NAME"]


def test_the_way_of_a_version(registry: Registry, tmp_path: Path) -> None:
    """Measured, promoted, followed by another, judged: each time the next command is the one that is due."""
    registry.register("words", table(1), alias="production")
    assert steps(tmp_path)[0] == "embreg eval words@1"
    measured(registry, "words@1")
    assert steps(tmp_path) == ["embreg --help"], "nothing is due"
    registry.register("words", table(2))
    measured(registry, "words@2")
    assert steps(tmp_path)[0] == "embreg gate words@2"
    judged(registry, "words@2", "words@1", passed=False)
    assert steps(tmp_path)[0] == "embreg report words@2 --baseline words@1 -o report.html"
    shown = alone(tmp_path)
    assert "✗ @2 failed" in shown
    assert "✗ gate of words@2 against words@1: hubness.skewness: 3 is above 2" in shown
    judged(registry, "words@2", "words@1", passed=True)
    assert steps(tmp_path)[0] == "embreg promote words@2 production"
    assert "failed last" not in alone(tmp_path), "the newest verdict counts"
    registry.promote("words@2", "production")
    assert steps(tmp_path) == ["embreg --help"]
    (one,) = told(tmp_path)["embeddings"]
    assert (one["name"], one["versions"], one["latest"], one["rows"], one["dim"]) == (
        "words",
        2,
        "words@2",
        ROWS,
        4,
    )
    assert (one["aliases"], one["measured"]) == ({"production": "words@2"}, True)
    assert (one["verdict"]["ref"], one["verdict"]["passed"], one["verdict"]["reasons"]) == (
        "words@2",
        True,
        [],
    )


def test_a_deleted_version_is_not_what_there_is(registry: Registry, tmp_path: Path) -> None:
    for seed in (1, 2):
        registry.register("words", table(seed))
        measured(registry, "words")
    judged(registry, "words@2", None, passed=False)
    registry.delete("words@2")
    (one,) = told(tmp_path)["embeddings"]
    assert (one["latest"], one["versions"], one["verdict"]) == ("words@1", 1, None)
    registry.delete("words@1")
    assert told(tmp_path)["embeddings"] == []
    assert "nothing is registered yet" in alone(tmp_path)


def test_what_is_stale_with_its_cause_and_remedy(registry: Registry, tmp_path: Path) -> None:
    registry.register("words", table(1))
    measured(registry, "words@1")
    registry.index("fast", "words@1", factory="Flat")
    registry.add_dependent("faq", "words", command="make reindex")
    assert told(tmp_path)["stale"] == []
    registry.register("words", table(2))
    stale = told(tmp_path)["stale"]
    assert [(d["kind"], d["name"], d["built_from"]) for d in stale] == [
        ("index", "fast", "words@1"), ("external", "faq", "words@1")]  # fmt: skip
    shown = alone(tmp_path)
    assert "2 stale" in shown
    assert f"words@2: {stale[0]['reason']}" in shown
    assert "embreg index rebuild fast" in shown
    assert "make reindex" in shown
    assert steps(tmp_path)[:2] == ["embreg index rebuild --stale", "embreg dependent list"]
    registry.rebuild("fast")
    assert [d["name"] for d in told(tmp_path)["stale"]] == ["faq"]


def test_a_run_that_failed_is_told_until_it_is_done(registry: Registry, tmp_path: Path) -> None:
    registry.register("words", table(1))
    measured(registry, "words@1", "error", reason="no \x1b[31mmemory", dataset="d")
    assert [(f["ref"], f["suite"], f["dataset"]) for f in told(tmp_path)["failed"]] == [
        ("words@1", "hubness", "d")
    ]
    assert r"✗ hubness on words@1 (#1): no \x1b[31mmemory" in alone(tmp_path)
    assert steps(tmp_path)[0] == "embreg eval words@1 --suite hubness"
    measured(registry, "words@1", dataset="other")
    assert len(told(tmp_path)["failed"]) == 1
    measured(registry, "words@1", dataset="d")
    assert told(tmp_path)["failed"] == []
    for n in range(MOST_FAILED + 5):
        measured(registry, "words@1", "error", dataset=f"d{n}")
    assert len(told(tmp_path)["failed"]) == MOST_FAILED


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_command_that_is_named_parses_and_fits(registry: Registry, tmp_path: Path, width: int) -> None:
    from .test_help import parsed

    registry.register("a/rather/long-name.of_an-embedding", table(1), alias="production")
    registry.register("a/rather/long-name.of_an-embedding", table(2))
    measured(registry, "a/rather/long-name.of_an-embedding", "error", reason="r" * 10_000)
    registry.index("fast", "a/rather/long-name.of_an-embedding@1", factory="Flat")
    shown = alone(tmp_path, width=width)
    assert max(map(len, shown.split("\n"))) <= width
    for command in steps(tmp_path):
        parsed(main, [word for word in command.split()[1:] if word != "--help"])


def test_it_asks_few_questions_however_much_there_is(registry: Registry, tmp_path: Path) -> None:
    """Many embeddings and versions: as many queries as of few, and a page that stays a page."""
    from sqlalchemy import Engine, event

    def queries() -> int:
        count = 0

        def counted(*_: object) -> None:
            nonlocal count
            count += 1

        event.listen(Engine, "before_cursor_execute", counted)
        registry.state()
        event.remove(Engine, "before_cursor_execute", counted)
        return count

    for n in range(3):
        registry.register(f"e{n}", table(n))
    few = queries()
    for n in range(3, 60):
        registry.register(f"e{n % 30}", table(n))
        measured(registry, f"e{n % 30}")
        judged(registry, f"e{n % 30}", None, passed=n % 2 == 0)
    assert queries() <= few + 2
    start = time.perf_counter()
    assert len(registry.state().embeddings) == 30
    assert time.perf_counter() - start < 2
    assert "10 more: embreg list" in alone(tmp_path)
    assert len(alone(tmp_path).split("\n")) < 80
