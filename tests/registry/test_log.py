"""The log is complete: whatever changes a registry says who, when, what and from which command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from embreg import EmbeddingTable, Registry, connect, evaluate
from embreg.cli import main
from embreg.evals.deriving import derive
from embreg.registry.errors import EmbeddingNotFound, EmbregError
from embreg.registry.types import VerdictRecord, utc_now

GATE = '[[gates]]\nmetric = "hubness.skewness"\nmax = 99\n'


class Shell:
    """Runs commands in this process, in one folder that holds a registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, code: int = 0) -> str:
        env = {"EMBREG_REGISTRY": None, "GITHUB_STEP_SUMMARY": None, "EMBREG_DEBUG": "1"}
        with contextlib.chdir(self.folder):
            done = CliRunner(env=env).invoke(main, words)
        assert done.exit_code == code, (words, done.exit_code, done.output, done.exception)
        return done.stdout

    def log(self, *words: str) -> list[dict[str, Any]]:
        events = json.loads(self.run("log", *words, "--json"))["events"]
        assert isinstance(events, list)
        return events

    def database(self) -> list[str]:
        """Everything that the database holds, as SQL."""
        with closing(sqlite3.connect(self.folder / ".embreg" / "embreg.db")) as connection:
            return list(connection.iterdump())


def rows(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """words@1 … words@3, and one of everything that commands work on."""
    folder = tmp_path_factory.mktemp("log") / "work"
    folder.mkdir()
    sources = (rows(0), np.concatenate([rows(0), rows(1, 6)]), rows(2))
    for name, x in zip("abc", sources, strict=True):
        np.save(folder / f"{name}.npy", x)
    (folder / "pairs.tsv").write_text("1\t2\t9\n3\t4\t8\n5\t6\t7\n7\t8\t6\n")
    (folder / "embreg.toml").write_text(GATE)
    with connect(folder / ".embreg", create=True) as registry:
        for x, alias in zip(sources, ("production", "staging", None), strict=True):
            registry.register("words", EmbeddingTable.from_arrays(None, x), alias=alias)
        registry.index("flat", "words@1", factory="Flat", track="production")
        registry.add_dependent("search", "words@production", note="load it again")
        registry.add_dataset("pairs", folder / "pairs.tsv", "pairs")
        derive(registry, "words@1", "center", name="centred")
        evaluate(registry, "words@3", suites=["neighbors"])
        verdict(registry, "words@2", "words@1")
    return folder


def verdict(registry: Registry, ref: str, baseline: str) -> None:
    version, base = registry.resolve(ref), registry.resolve(baseline)
    registry.record_verdict(
        VerdictRecord(
            version=ref,
            version_digest=version.digest,
            baseline=baseline,
            baseline_digest=base.digest,
            passed=True,
            config_digest="0" * 64,
            checks=(),
        )
    )


@pytest.fixture
def shell(kept: Path, tmp_path: Path) -> Shell:
    shutil.copytree(kept, tmp_path / "work")
    return Shell(tmp_path / "work")


# -- every command ------------------------------------------------------------------------------------


def something_to_sweep(shell: Shell) -> None:
    with connect(shell.folder / ".embreg") as registry:
        registry.delete("words@3")
        for path in (registry.root / "blobs").rglob("*"):
            os.utime(path, (0, 0))


def no_registry(shell: Shell) -> None:
    shutil.rmtree(shell.folder / ".embreg")


def an_old_schema(shell: Shell) -> None:
    no_registry(shell)
    (shell.folder / ".embreg").mkdir()
    dump = (Path(__file__).parent / "schemas" / "0001.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(shell.folder / ".embreg" / "embreg.db")) as connection:
        connection.executescript(dump)


def nothing(_: Shell) -> None:
    """What is there will do."""


#: What changes a registry: a line of it, the actions it must write down, and what it needs before.
WRITES: dict[str, tuple[str, str, Callable[[Shell], None]]] = {
    "init": ("init", "schema.upgraded", no_registry),
    "register": ("register words b.npy --model m --alias new", "version.registered alias.moved", nothing),
    "alias set": ("alias set words production words@2", "alias.moved index.stale external.stale", nothing),
    "alias rm": ("alias rm words staging", "alias.removed", nothing),
    "alias protect": ("alias protect words production", "alias.protected", nothing),
    "promote": ("promote words@2 production", "alias.moved index.stale external.stale", nothing),
    "index build": ("index build other words --factory Flat", "index.built", nothing),
    "index rebuild": ("index rebuild flat --full", "index.built", nothing),
    "index rm": ("index rm flat", "index.removed", nothing),
    "derive": ("derive words@2 --transform pca --as less", "version.registered version.derived", nothing),
    "dependent add": ("dependent add cache --tracks words --note n", "external.added", nothing),
    "dependent done": ("dependent done search", "external.done", nothing),
    "dependent rm": ("dependent rm search", "external.removed", nothing),
    "dataset add": ("dataset add more pairs.tsv --kind pairs", "dataset.added", nothing),
    "dataset rm": ("dataset rm pairs", "dataset.removed", nothing),
    "compare": ("compare words@1 words@2 --suite hubness", "run.recorded", nothing),
    "eval": ("eval words@1 --suite hubness", "run.recorded", nothing),
    "drift": ("drift words@1 words@2", "run.recorded", nothing),
    "gate": ("gate words@2", "run.recorded gate.passed", nothing),
    "delete": ("delete words@3", "version.deleted", nothing),
    "prune": ("prune words --keep 1", "version.deleted", lambda s: s.run("alias", "rm", "words", "staging")),
    "gc": ("gc --grace 0", "gc", something_to_sweep),
    "db upgrade": ("db upgrade", "schema.upgraded", an_old_schema),
}
#: What only looks; files that it writes are outside of the registry.
READS = {
    "completion": "completion bash",
    "report": "report words@2 --baseline words@1 -o report.html",
    "list": "list words",
    "show": "show words@production",
    "log": "log --since 3",
    "diff": "diff words@1 words@2",
    "export": "export words@1 out.parquet",
    "alias list": "alias list words",
    "alias history": "alias history words production",
    "neighbors": "neighbors words 3",
    "analogy": "analogy words 1 2 3",
    "index list": "index list",
    "index status": "index status flat",
    "index search": "index search flat 3",
    "apply": "apply centred a.npy -o out.npy",
    "lineage": "lineage words@1",
    "items": "items words@3 --worst 3",
    "suites show": "suites show hubness",
    "site": "site public",
    "dependent list": "dependent list",
    "dataset list": "dataset list",
    "dataset show": "dataset show pairs",
    "metrics": "metrics words",
    "du": "du",
    "verify": "verify",
    "db current": "db current",
}
#: Commands before which there is no log to read.
FRESH = ("init", "db upgrade")
#: Lines of commands that change something, which here change nothing.
IDLE = [
    "init",
    "db upgrade",
    "register words c.npy",
    "index rebuild --stale",
    "dataset add pairs pairs.tsv --kind pairs",
    "dataset add more pairs.tsv --kind pairs --dry-run",
    "gc --dry-run",
    "gc",
    "prune words --keep 1 --dry-run",
    "prune words --keep 9",
    "alias protect words production --off",
]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name))


def test_of_every_command_it_is_known_whether_it_changes_something() -> None:
    assert not set(WRITES) & set(READS)
    known = {*WRITES, *READS, "ui"}  # which serves until it is stopped: tests/test_cli_ui.py
    assert set(commands(main)) == known, "put it into WRITES or into READS above"


@pytest.mark.parametrize("path", WRITES)
def test_what_changes_a_registry_is_in_the_log(shell: Shell, path: str) -> None:
    line, actions, prepare = WRITES[path]
    prepare(shell)
    before = [] if path in FRESH else shell.log()
    start = datetime.now(UTC)
    shell.run(*line.split())
    end = datetime.now(UTC)
    assert line.startswith(path)
    events = [e for e in shell.log()[len(before) :] if path not in FRESH or e["command"].endswith(line)]
    assert set(actions.split()) <= {e["action"] for e in events}
    for event in events:
        assert event["command"] == f"embreg {line}"
        assert event["actor"].partition("@")[2], "who, at which host"
        assert event["subject"]
        if event["action"] in actions.split():
            assert start <= datetime.fromisoformat(event["at"]) <= end
    assert shell.log()[: len(before)] == before, "the past stays as it was"


@pytest.mark.parametrize("line", [*READS.values(), *IDLE])
def test_what_only_looks_leaves_no_trace(shell: Shell, line: str) -> None:
    assert line in IDLE or line in READS.values()
    before = shell.database()
    shell.run(*line.split())
    assert shell.database() == before


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("alias set words production words@2 --if-was words@3", 3),
        ("promote words@3 production", 1),
        ("register words nope.npy", 3),
        ("delete words@1", 3),
        ("alias rm words production", 3),
        ("dependent add search --tracks words --note n", 3),
        ("derive words --transform center --as words", 3),
    ],
)
def test_what_failed_is_not_in_the_log(shell: Shell, line: str, code: int) -> None:
    before = shell.database()
    shell.run(*line.split(), code=code)
    assert shell.database() == before


def test_the_verdict_of_a_gate_is_in_the_log_whatever_it_says(shell: Shell) -> None:
    (shell.folder / "embreg.toml").write_text(GATE.replace("99", "-99"))
    shell.run("gate", "words@2", code=1)
    assert shell.log()[-1]["action"] == "gate.failed"


def test_hostile_words_of_a_command_line_stay_on_their_line(shell: Shell) -> None:
    words = ("register", "words", "a.npy", "-m", "\x1b[2J\n\u202e<b>'; DROP TABLE events;--" + "x" * 2000)
    shell.run(*words)
    shown = shell.run("log", "-n", "1") + shell.run("log", "-n", "1", "--json")
    assert all(c.isprintable() or c == "\n" for c in shown)
    (event,) = shell.log("-n", "1")
    assert event["command"].startswith(r"embreg register words a.npy -m \x1b[2J\n\u202e<b>'; DROP")
    assert event["command"].isprintable()
    assert len(event["command"]) < 1100


# -- following ----------------------------------------------------------------------------------------


def test_since_an_event(shell: Shell) -> None:
    everything = shell.log()
    ids = [e["id"] for e in everything]
    assert ids == sorted(set(ids))
    for n, id_ in enumerate(ids):
        assert shell.log("--since", str(id_)) == everything[n + 1 :]
    assert shell.log("--since", "0") == everything
    assert shell.log("--since", str(ids[-1] + 10**12)) == []
    assert shell.log("--since", str(ids[2]), "-n", "2") == everything[-2:]
    theirs = [e for e in everything if e["subject"].startswith("centred")]
    assert theirs
    assert shell.log("centred", "--since", str(theirs[0]["id"])) == theirs[1:]


def test_since_a_moment(shell: Shell) -> None:
    everything = shell.log()
    with connect(shell.folder / ".embreg") as registry:
        events = registry.log()
        for n, event in enumerate(events):
            same = [e for e in events if e.at == event.at]
            assert registry.log(since=event.at)[0] == same[0], "from that very moment on"
            assert len(registry.log(since=event.at)) >= len(events) - n
            east = event.at.astimezone(timezone(timedelta(hours=9)))
            assert registry.log(since=east) == registry.log(since=event.at), "a moment is one everywhere"
            assert registry.log(since=event.at.replace(tzinfo=None)) == registry.log(since=event.at)
        assert registry.log(since=events[-1].at + timedelta(microseconds=1)) == ()
        assert registry.log("centred", since=events[0].at) == registry.log("centred")
    day = events[0].at
    assert shell.log("--since", f"{day:%Y-%m-%d}") == everything
    assert shell.log("--since", f"{day - timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}") == everything
    assert shell.log("--since", f"{day + timedelta(days=2):%Y-%m-%d %H:%M}") == []


@pytest.mark.parametrize("when", ["-1", "yesterday", "2026-13-01", "9" * 19, "1.5", "", "²"])
def test_what_is_no_moment_and_no_event(shell: Shell, when: str) -> None:
    shell.run("log", "--since", when, code=2)


def test_an_embedding_that_is_not_there_has_no_log(shell: Shell) -> None:
    with connect(shell.folder / ".embreg") as registry, pytest.raises(EmbeddingNotFound):
        registry.log("nope", since=1)


def test_a_program_that_follows_the_log_misses_nothing_and_sees_nothing_twice(shell: Shell) -> None:
    """Two writers write while it asks for what came after the last id it has seen, over and over."""
    stop, failed = threading.Event(), list[BaseException]()

    def write(alias: str) -> None:
        try:
            with connect(shell.folder / ".embreg") as registry:
                for n in range(25):
                    registry.alias("words", alias, f"words@{n % 3 + 1}")
        except EmbregError as exc:
            failed.append(exc)

    def read(found: list[dict[str, Any]]) -> int:
        new = shell.log("--since", str(found[-1]["id"] if found else 0))
        found += new
        return len(new)

    seen = list[dict[str, Any]]()
    read(seen)
    past = len(seen)
    writers = [threading.Thread(target=write, args=(alias,)) for alias in ("left", "right")]
    for writer in writers:
        writer.start()
    portions = []
    while not stop.is_set():
        if not any(writer.is_alive() for writer in writers):
            stop.set()  # and once more: what was written before that is there now
        portions.append(read(seen))
    for writer in writers:
        writer.join()
    assert failed == []
    assert seen == shell.log()
    assert [e["id"] for e in seen] == list(range(1, len(seen) + 1))
    assert len(seen) - past == 50
    assert sum(p > 0 for p in portions) > 1, "it was all there at once: nothing was followed"
    for alias in ("left", "right"):
        told = [e["detail"]["new"] for e in seen if e["subject"] == f"words@{alias}"]
        assert told == [n % 3 + 1 for n in range(25)], "in the order of what happened"


def test_the_clock_may_go_back(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids tell the order, whatever the clock of a machine says; asking by id loses nothing."""
    from embreg.registry import catalog

    table = EmbeddingTable.from_arrays(None, rows(0))
    registry.register("words", table)
    last = registry.log()[-1].id
    monkeypatch.setattr(catalog, "utc_now", lambda: utc_now() - timedelta(days=1))
    registry.alias("words", "production", "words")
    (event,) = registry.log(since=last)
    assert event.action == "alias.moved"
    assert event.at < utc_now() - timedelta(hours=23)
    assert [e.id for e in registry.log()][-2:] == [last, event.id]


def test_a_long_log_shows_its_end_and_says_how_much_came_before(tmp_path: Path) -> None:
    from embreg.bench.crowded import crowd

    crowd(tmp_path, embeddings=2, versions=4, events=1200)
    with connect(tmp_path) as registry:
        count = registry.count_events()

    def run(*words: str) -> str:
        done = CliRunner().invoke(main, ["--registry", str(tmp_path), *words])
        assert done.exit_code == 0, done.output
        return done.output

    told = json.loads(run("log", "--json"))
    assert (len(told["events"]), told["earlier"]) == (1000, count - 1000)
    assert f"{count - 1000:,} earlier events: --all" in run("log")
    whole = json.loads(run("log", "--all", "--json"))
    assert (len(whole["events"]), whole["earlier"]) == (count, 0)
