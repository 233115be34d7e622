"""Sweeps between the steps of writers: whatever a writer has stored and not yet published, nothing is lost.

A store that calls back between its steps stops the writer there; a second registry then sweeps, its clock two
hours ahead, so that no grace spares anything. Every interleaving of one sweep with one writer is forced.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from embreg import EmbeddingTable, Registry, connect, evaluate
from embreg.evals.deriving import derive
from embreg.registry import retention, tables
from embreg.registry.blobs import BlobStore
from embreg.registry.errors import Conflict

LATER_S = 7200.0


class StepwiseStore(BlobStore):
    """A store that calls ``at(step)`` around everything it does to a file."""

    def __init__(self, root: Path, at: Callable[[str], None]) -> None:
        super().__init__(root)
        self._at = at

    def _reuse(self, digest: str) -> bool:
        self._at("before it is looked for")
        reused = super()._reuse(digest)
        self._at("after it was looked for, and perhaps found")
        return reused

    def _publish(self, staged: Path, digest: str) -> None:
        self._at("all staged")
        super()._publish(staged, digest)
        self._at("in its place")


@dataclass
class Steps:
    """Counts steps, and does ``work`` at one of them."""

    stop: int | None
    work: Callable[[], object]
    seen: int = 0

    def __call__(self, _: str) -> None:
        if self.seen == self.stop:
            self.work()
        self.seen += 1


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred rows are two parts."""
    monkeypatch.setattr(tables, "PART_BYTES", 2048)


def rows(seed: int, count: int = 100) -> EmbeddingTable:
    x = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    return EmbeddingTable.from_arrays([f"id{i}" for i in range(count)], x)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """The maker of a registry: an alias, a fresh and a stale index, a deleted version that can be swept."""
    first = tmp_path_factory.mktemp("prepared") / "r"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "PART_BYTES", 2048)
        prepare(first)
    return lambda root: shutil.copytree(first, root) and None


def prepare(root: Path) -> None:
    with connect(root, create=True) as registry:
        registry.register("docs", rows(1), alias="live")
        registry.register("gone", rows(2))
        registry.delete("gone@1")
        registry.index("fresh", "docs", factory="Flat", track="live")
        registry.index("stale", "docs", factory="Flat")
        registry.register("docs", grown(rows(1), 20))
        (root / "pairs.tsv").write_text("id1\tid2\t3\nid3\tid4\t1\n")


def grown(table: EmbeddingTable, more: int) -> EmbeddingTable:
    x = np.concatenate([table.vectors, rows(9, more).vectors])
    return EmbeddingTable.from_arrays([f"id{i}" for i in range(len(x))], x)


def register(registry: Registry) -> None:
    registry.register("docs", rows(3), alias="live")


def register_what_was_deleted(registry: Registry) -> None:
    registry.register("gone", rows(2))


def append(registry: Registry) -> None:
    registry.register("docs", grown(rows(1), 40))


def build(registry: Registry) -> None:
    registry.index("new", "docs", factory="HNSW8")


def rebuild(registry: Registry) -> None:
    registry.rebuild("stale")


def dataset(registry: Registry) -> None:
    registry.add_dataset("pairs", registry.root / "pairs.tsv", "pairs")


def measure(registry: Registry) -> None:
    for run in evaluate(registry, "docs@2", suites=["hubness"]):
        if run.status == "error" and "a sweep took" in run.reason:
            raise Conflict(run.reason)
        assert run.status == "done", run.reason


def transform(registry: Registry) -> None:
    derive(registry, "docs@1", "center")


#: What writes blobs: add a line for a command that does.
WRITERS = (register, register_what_was_deleted, append, build, rebuild, dataset, measure, transform)


def steps_of(root: Path, writer: Callable[[Registry], None], at: Steps) -> bool:
    """Run a writer on a store that stops; return whether it went through."""
    with connect(root) as registry:
        registry._home = replace(registry._home, blobs=StepwiseStore(root, at))
        try:
            writer(registry)
        except Conflict as exc:
            assert "a sweep took" in exc.message
            return False
        return True


def sweep(root: Path, ahead_s: float) -> None:
    with connect(root) as other:
        store = BlobStore(root, clock=lambda: time.time() + ahead_s)
        retention.sweep(replace(other._home, blobs=store), grace_s=retention.GRACE_S, dry_run=False)


def everything_reads(root: Path) -> None:
    with connect(root) as registry:
        assert registry.verify().problems == ()
        for version in registry.versions():
            table = registry.table(version)
            assert table.vectors.shape == (version.rows, 8)
            assert len(table.ids) == version.rows
        for state in registry.indexes():
            assert len(registry.search(state.name, "id1", 5)) == 5


@pytest.mark.parametrize("writer", WRITERS, ids=lambda w: w.__name__)
def test_a_sweep_at_any_step_of_a_writer_loses_nothing(
    writer: Callable[[Registry], None], prepared: Callable[[Path], None], tmp_path: Path
) -> None:
    prepared(tmp_path / "count")
    steps = Steps(stop=None, work=lambda: None)
    assert steps_of(tmp_path / "count", writer, steps)
    assert steps.seen >= 4
    refused = 0
    for step in range(steps.seen):
        root = tmp_path / str(step)
        prepared(root)
        at = Steps(stop=step, work=lambda root=root: sweep(root, LATER_S))
        through = steps_of(root, writer, at)
        assert at.seen > step, "the sweep was forced"
        everything_reads(root)
        if not through:
            refused += 1
            with connect(root) as registry:
                writer(registry)
            everything_reads(root)
    if writer is not measure:  # what it computes and loses, it computes again
        assert refused, "no sweep took what the writer was about to refer to"


@pytest.mark.parametrize("writer", WRITERS, ids=lambda w: w.__name__)
def test_within_the_grace_no_writer_notices_a_sweep(
    writer: Callable[[Registry], None], prepared: Callable[[Path], None], tmp_path: Path
) -> None:
    root = tmp_path / "r"
    prepared(root)
    steps = Steps(stop=None, work=lambda: None)

    def at(step: str) -> None:
        sweep(root, retention.GRACE_S - 60)
        steps(step)

    with connect(root) as registry:
        registry._home = replace(registry._home, blobs=StepwiseStore(root, at))
        writer(registry)
    assert steps.seen >= 4
    everything_reads(root)


def test_sweeps_side_by_side_agree(prepared: Callable[[Path], None], tmp_path: Path) -> None:
    """A sweep that finds the work done by another one between its looking and its removing."""
    root = tmp_path / "r"
    prepared(root)

    class Late(BlobStore):
        def remove(self, digest: str) -> None:
            BlobStore.remove(self, digest)
            BlobStore.remove(self, digest)

    with connect(root) as registry:
        late = Late(root, clock=lambda: time.time() + LATER_S)
        swept = retention.sweep(replace(registry._home, blobs=late), grace_s=retention.GRACE_S, dry_run=False)
    assert swept.removed
    everything_reads(root)
