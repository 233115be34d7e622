"""A registry with a long past is looked at in a few statements, and everything in it is told."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import event

from embreg import Registry, connect
from embreg.cli import main
from embreg.registry import tables
from embreg.registry.tables import EmbeddingTable

crowded = pytest.importorskip("embreg.bench.crowded")
VERSIONS, EVENTS = 1200, 3000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("past")
    crowded.crowd(folder, embeddings=4, versions=VERSIONS, events=EVENTS)
    return folder


@pytest.fixture
def past(root: Path) -> Iterator[Registry]:
    with connect(root) as registry:
        yield registry


LOOKS: dict[str, Callable[[Registry], object]] = {
    "versions": lambda r: r.versions(),
    "versions of one": lambda r: r.versions("embedding-001"),
    "log": lambda r: r.log(),
    "log of one": lambda r: r.log("embedding-001", limit=50),
    "aliases": lambda r: r.aliases("embedding-001"),
    "resolve": lambda r: r.resolve("embedding-001@production"),
    "verify one": lambda r: r.verify("embedding-001@2"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_the_number_of_statements_does_not_grow_with_the_past(past: Registry, name: str) -> None:
    told: list[str] = []
    engine = past._home.database._engine

    @event.listens_for(engine, "before_cursor_execute")
    def count(_connection, _cursor, statement: str, *_: object) -> None:
        told.append(statement)

    LOOKS[name](past)
    event.remove(engine, "before_cursor_execute", count)
    assert 1 <= len(told) <= 12, "\n".join(told)


def test_everything_is_listed_in_order_with_its_aliases(past: Registry) -> None:
    versions = past.versions()
    assert len(versions) == VERSIONS
    assert [(v.name, v.number) for v in versions] == sorted((v.name, v.number) for v in versions)
    for v in (versions[0], versions[-1]):
        assert v == past.resolve(v.ref)
    assert versions[-1].aliases == ("candidate", "production")
    assert past.versions("embedding-001") == tuple(v for v in versions if v.name == "embedding-001")
    assert versions[0].statistics["zero_rows"] == 0
    assert versions[0].created_at.tzinfo is not None


def test_the_log_is_whole_in_order_and_of_one_embedding(past: Registry) -> None:
    log = past.log()
    assert len(log) == EVENTS
    assert [e.id for e in log] == sorted(e.id for e in log)
    assert log[-20:] == past.log(limit=20)
    assert log[0].at.tzinfo is not None
    assert log[0].detail == {"rows": 1_000_000, "message": "nightly"}
    own = past.log("embedding-001")
    assert {e.subject.partition("@")[0] for e in own} == {"embedding-001"}
    assert len(own) == EVENTS // 4


def run(root: Path, *words: str, width: int | None = None) -> str:
    env = {"EMBREG_REGISTRY": str(root), "COLUMNS": str(width) if width else None}
    with contextlib.chdir(root):
        done = CliRunner(env=env).invoke(main, words)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_a_long_table_is_whole_lines_under_its_headings(root: Path) -> None:
    lines = run(root, "list").rstrip("\n").split("\n")
    assert len(lines) == 2 + VERSIONS
    assert lines[0].split() == [
        "ref",
        "aliases",
        "rows",
        "dim",
        "dtype",
        "metric",
        "size",
        "registered",
        "message",
    ]
    assert lines[2].split()[0] == "embedding-000@1"
    assert lines[2].endswith("nightly run 0")
    ends = {line.index(" 384 ") for line in lines[2:]}
    assert len(ends) == 1, "columns are aligned"
    assert run(root, "list", width=1000) == run(root, "list"), "a pipe folds nothing"
    log = run(root, "log", "--all").rstrip("\n").split("\n")
    assert len(log) == 2 + EVENTS
    assert "version.registered" in log[2]
    assert "rows=1000000, message=nightly" in log[2]


def test_a_short_table_says_the_same(root: Path) -> None:
    short = [line.split() for line in run(root, "list", "embedding-001").rstrip("\n").split("\n")]
    long = [line.split() for line in run(root, "list").rstrip("\n").split("\n")]
    own = [cells for cells in long if cells[0].startswith("embedding-001")]
    assert [cells for cells in short if cells[0].startswith("embedding-001")] == own


def test_the_document_holds_everything(root: Path) -> None:
    document = json.loads(run(root, "list", "--json"))
    assert sum(len(e["versions"]) for e in document["embeddings"]) == VERSIONS
    events = json.loads(run(root, "log", "--all", "--json"))["events"]
    assert len(events) == EVENTS
    assert events[0].keys() == {"id", "at", "actor", "action", "subject", "detail", "command"}


def test_what_a_message_holds_stays_on_its_line(tmp_path: Path) -> None:
    crowded.crowd(tmp_path, embeddings=1, versions=600, events=600)
    with connect(tmp_path) as registry:
        table = EmbeddingTable.from_arrays(None, [[1.0, 2.0]])
        registry.register("words", table, message="\x1b[2Jtwo\nlines\u202e 漢字 " + "x" * 2000)
    for words in (("list",), ("log",)):
        out = run(tmp_path, *words)
        assert all(line.isprintable() for line in out.split("\n"))
        assert r"\x1b[2Jtwo\nlines\u202e 漢字 xxx" in out
        assert max(map(len, out.split("\n"))) < 900


def test_a_diff_reads_ids_and_fingerprints_and_no_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part is mapped where no row changed, and of the files a fraction is read; else the first of them."""
    rows, dim = 20_000, 128
    x = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
    with connect(tmp_path, create=True) as registry:
        for storage in ("arrow", "parquet"):
            registry.register(storage, EmbeddingTable.from_arrays(None, x), storage=storage)
        x[0] += 1
        registry.register("arrow", EmbeddingTable.from_arrays(None, x))

    mapped: list[Path] = []
    opened = tables._map

    def told(path: Path) -> object:
        mapped.append(path)
        return opened(path)

    monkeypatch.setattr(tables, "_map", told)
    with connect(tmp_path) as registry:
        assert registry.diff("arrow@1", "parquet").unchanged == rows
        assert not mapped, "the system may read any of a file that is mapped"
        before = asked()
        assert registry.diff("arrow@1", "arrow@2").changed == 1
        assert len(mapped) == 2, "the part of the row that changed, before and after"
        assert asked() - before < x.nbytes / 10


def asked() -> int:
    """Return the bytes that this process has read through system calls: those of mapped files are not."""
    lines = Path("/proc/self/io").read_text().split("\n")
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])
