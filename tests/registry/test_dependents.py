"""What depends on a version and cannot be built here: named, flagged, acknowledged, forgotten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from embreg import EmbeddingTable, Registry
from embreg.cli import main
from embreg.evals.deriving import derive
from embreg.registry.errors import (
    AliasNotFound,
    Conflict,
    EmbeddingNotFound,
    InvalidRef,
    NotFound,
    UsageError,
    VersionNotFound,
)
from embreg.registry.types import Dependent, Relation, Repair

KEYS = {"name", "kind", "tracks", "tracked", "built_from", "state", "relation", "repair", "reason", "remedy"}


def rows(count: int, seed: int = 0) -> EmbeddingTable:
    x = np.random.default_rng(seed).standard_normal((200, 4)).astype(np.float32)
    return EmbeddingTable.from_arrays([f"id{i}" for i in range(count)], x[:count])


@pytest.fixture
def docs(registry: Registry) -> Registry:
    """docs@1 in production, docs@2 with ten rows more."""
    registry.register("docs", rows(100), alias="production")
    registry.register("docs", rows(110))
    return registry


def only(registry: Registry) -> Dependent:
    (found,) = registry.dependents()
    return found


class Shell:
    """Runs commands on one registry, in this process."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.root = registry.root
        self.folder = folder

    def run(self, *words: str, code: int = 0) -> str:
        env = {"EMBREG_DEBUG": "1", "EMBREG_REGISTRY": str(self.root)}
        done = CliRunner(env=env).invoke(main, words)
        assert done.exit_code == code, (words, done.exit_code, done.output, done.exception)
        return done.output

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code).partition("\nembreg: ")[0])


@pytest.fixture
def shell(docs: Registry, tmp_path: Path) -> Shell:
    for i, table in enumerate((rows(100), rows(110), rows(120), rows(120, seed=1))):
        np.save(tmp_path / f"{i}.npy", table.vectors)
        (tmp_path / f"{i}.ids").write_text("\n".join(table.ids.to_pylist()))
    return Shell(docs, tmp_path)


# -- tracking -----------------------------------------------------------------------------------------


def test_what_tracks_an_alias_is_flagged_when_it_moves_and_not_before(docs: Registry) -> None:
    added = docs.add_dependent("search", "docs@production", command="make reindex", note="ask Ada")
    assert (added.kind, added.name, added.tracks) == ("external", "search", "docs@production")
    assert (added.built_from, added.tracked, added.state) == ("docs@1", "docs@1", "fresh")
    assert (added.relation, added.repair, added.reason) == (Relation.IDENTICAL, Repair.NONE, "same rows")
    assert docs.register("docs", rows(120)).stale.others == (), "the latest moved, production did not"
    assert only(docs) == added
    move = docs.alias("docs", "production", "docs@2")
    assert move.stale.others == (only(docs),)
    stale = only(docs)
    assert stale.stale
    assert (stale.built_from, stale.tracked) == ("docs@1", "docs@2")
    assert (stale.relation, stale.repair) == (Relation.APPENDED, Repair.ADD)
    assert stale.reason == "10 rows added of 100"
    assert stale.remedy == "make reindex, ask Ada, then 'embreg dependent done search'"
    docs.alias("docs", "production", "docs@1")
    assert only(docs) == added, "moved back: it holds what production names again"


def test_what_tracks_the_latest_is_flagged_by_every_version(docs: Registry) -> None:
    for ref in ("docs", "docs@latest"):
        added = docs.add_dependent(f"of-{ref}".replace("@", "-"), ref, note="n")
        assert (added.tracks, added.built_from) == ("docs@latest", "docs@2")
    assert docs.alias("docs", "production", "docs@2").stale.others == ()
    stale = docs.register("docs", rows(110, seed=1)).stale.others
    assert [(d.name, d.relation, d.repair) for d in stale] == [
        ("of-docs", Relation.CHANGED, Repair.REBUILD),
        ("of-docs-latest", Relation.CHANGED, Repair.REBUILD),
    ]
    docs.delete("docs@3")
    assert {d.state for d in docs.dependents()} == {"fresh"}, "the latest is the one it holds again"


@pytest.mark.parametrize(
    ("count", "relation", "repair"),
    [
        (110, Relation.IDENTICAL, Repair.NONE),
        (115, Relation.APPENDED, Repair.ADD),
        (105, Relation.REMOVED, Repair.UPDATE),
        (20, Relation.REMOVED, Repair.REBUILD),
    ],
)
def test_every_repair_is_named(docs: Registry, count: int, relation: Relation, repair: Repair) -> None:
    docs.add_dependent("search", "docs", note="n")
    docs.register("docs", rows(count), tags={"a": "b"})
    assert (only(docs).relation, only(docs).repair) == (relation, repair)
    assert only(docs).stale == (repair is not Repair.NONE)


def test_what_was_built_from_an_older_version_is_stale_at_once(docs: Registry) -> None:
    added = docs.add_dependent("search", "docs", note="n", built_from="docs@production")
    assert (added.built_from, added.tracked, added.state) == ("docs@1", "docs@2", "stale")
    assert (added.repair, added.reason) == (Repair.ADD, "10 rows added of 100")
    done = docs.dependent_done("search")
    assert (done.built_from, done.state, done.repair) == ("docs@2", "fresh", Repair.NONE)
    assert docs.dependent_done("search") == done, "saying it twice changes nothing"


def test_an_alias_stays_while_something_tracks_it(docs: Registry) -> None:
    docs.add_dependent("search", "docs@production", note="n")
    docs.index("flat", "docs@1", factory="Flat", track="production")
    derive(docs, "docs@1", "center", name="centred", track="production")
    with pytest.raises(Conflict, match="tracked by index flat, derived centred, external search"):
        docs.remove_alias("docs", "production")
    docs.remove_dependent("search")
    docs.remove_index("flat")
    docs.forget_derivation("centred")
    assert docs.remove_alias("docs", "production").new is None


def test_every_kind_is_listed_and_judged_alike(docs: Registry) -> None:
    docs.add_dependent("b", "docs", note="n")
    docs.add_dependent("a", "docs", note="n")
    derive(docs, "docs", "center", name="centred")
    docs.index("flat", "docs", factory="Flat")
    listed = [(d.kind, d.name, d.state) for d in docs.dependents()]
    assert listed == [
        ("index", "flat", "fresh"),
        ("derived", "centred", "fresh"),
        ("external", "a", "fresh"),
        ("external", "b", "fresh"),
    ]
    stale = docs.register("docs", rows(110), model="another").stale
    assert [i.name for i in stale.indexes] == ["flat"]
    assert [d.name for d in stale.others] == ["centred", "b", "a"]
    for d in docs.dependents():
        assert (d.state, d.relation, d.repair) == ("stale", Relation.RESPACED, Repair.REBUILD)
        assert d.reason.startswith("space changed: model: None -> another")


def test_a_failed_registration_flags_nothing(docs: Registry) -> None:
    docs.add_dependent("search", "docs", note="n")
    before = docs.log()
    broken = np.full((3, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match="NaN"):
        docs.register("docs", EmbeddingTable.from_arrays(["a", "b", "c"], broken))
    assert only(docs).state == "fresh"
    assert docs.log() == before


# -- words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["docs@1", "docs@v2"])
def test_a_number_never_moves(docs: Registry, ref: str) -> None:
    with pytest.raises(UsageError, match="never moves"):
        docs.add_dependent("search", ref, note="n")
    digest = docs.resolve("docs").digest
    with pytest.raises(UsageError, match="never moves"):
        docs.add_dependent("search", f"docs@sha256:{digest}", note="n")
    assert docs.dependents() == ()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({}, UsageError),
        ({"command": " ", "note": "\n"}, UsageError),
        ({"command": "x" * 5000}, UsageError),
        ({"note": "x" * 5000}, UsageError),
        ({"tracks": "nope", "note": "n"}, EmbeddingNotFound),
        ({"tracks": "docs@nope", "note": "n"}, AliasNotFound),
        ({"built_from": "docs@9", "note": "n"}, VersionNotFound),
        ({"built_from": "other@1", "note": "n"}, UsageError),
        ({"tracks": "docs@", "note": "n"}, InvalidRef),
    ],
)
def test_what_makes_no_dependent(docs: Registry, words: dict[str, str], error: type[Exception]) -> None:
    docs.register("other", rows(10))
    before = docs.log()
    with pytest.raises(error):
        docs.add_dependent("search", **({"tracks": "docs"} | words))
    assert docs.dependents() == ()
    assert docs.log() == before


def test_a_name_is_given_once_and_found_again(docs: Registry) -> None:
    docs.add_dependent("search", "docs", note="n")
    with pytest.raises(Conflict, match="there is a dependent 'search'"):
        docs.add_dependent("search", "docs@production", note="other")
    for call in (docs.dependent_done, docs.remove_dependent):
        with pytest.raises(NotFound, match="did you mean 'search'"):
            call("serch")
    assert only(docs).tracks == "docs@latest"
    docs.remove_dependent("search")
    assert docs.dependents() == ()
    assert docs.add_dependent("search", "docs@production", note="other").tracks == "docs@production"


@pytest.mark.parametrize(
    "name", ["", "../x", "a b", "a\nb", "\x1b[31m", "\u202ea", "x" * 129, "<b>", "'; --", "a\0b", "-x"]
)
def test_hostile_names_are_refused_and_shown_harmlessly(docs: Registry, shell: Shell, name: str) -> None:
    with pytest.raises(InvalidRef) as caught:
        docs.add_dependent(name, "docs", note="n")
    for told in (str(caught.value), shell.run("dependent", "done", "--", name, code=3)):
        assert told.strip("\n").isprintable(), told
    assert docs.dependents() == ()


HOSTILE = "\x1b[2J\x1b[31mrm -rf /\r\n\u202e$(touch {0}) `touch {0}` <script>'; DROP TABLE externals;-- 🦊\0"


def test_a_command_is_shown_and_never_run(docs: Registry, shell: Shell) -> None:
    trap = shell.folder / "trap"
    command = "touch trap"
    shown = shell.run("dependent", "add", "search", "--tracks", "docs", "--command", command)
    shown += shell.run("register", "docs", str(shell.folder / "2.npy"))
    assert command in " ".join(shown.split())
    (listed,) = shell.json("dependent", "list")["dependents"]
    assert listed["remedy"].startswith(f"{command}, then ")
    shell.run("dependent", "done", "search")
    shell.run("dependent", "rm", "search")
    assert not trap.exists() and not Path("trap").exists()


def test_hostile_notes_and_commands_reach_no_terminal_as_they_are(docs: Registry, shell: Shell) -> None:
    trap = shell.folder / "trap"
    hostile = HOSTILE.format(trap)
    added = docs.add_dependent("search", "docs", command=hostile, note=hostile)
    assert added.remedy.isprintable()
    assert r"\x1b[2J\x1b[31mrm -rf /\r\n\u202e$(touch" in added.remedy
    shown = shell.run("register", "docs", str(shell.folder / "2.npy"))
    for words in (("dependent", "list"), ("lineage", "docs@2"), ("lineage", "docs@2", "--dot"), ("log",)):
        shown += shell.run(*words) + shell.run(*words, "--json")
    assert all(c.isprintable() or c == "\n" for c in shown), sorted(set(shown))
    assert not trap.exists()
    docs.remove_dependent("search")
    assert docs.dependents() == ()


# -- the command line ---------------------------------------------------------------------------------


def test_what_the_commands_answer(shell: Shell) -> None:
    added = shell.json("dependent", "add", "search", "--tracks", "docs@production", "--command", "make it")
    assert set(added) == KEYS
    assert (added["built_from"], added["state"], added["repair"]) == ("docs@1", "fresh", "none")
    assert shell.json("dependent", "list", "--exit-code") == {"dependents": [added]}
    moved = shell.json("alias", "set", "docs", "production", "docs@2")
    (stale,) = moved["stale_dependents"]
    assert set(stale) == KEYS
    assert (stale["state"], stale["repair"]) == ("stale", "add")
    assert shell.json("dependent", "list", "--exit-code", code=1) == {"dependents": [stale]}
    assert shell.json("dependent", "list") == {"dependents": [stale]}, "no failure unless it is asked for"
    text = shell.run("alias", "set", "docs", "production", "docs@2")
    assert "external search is stale: 10 rows added of 100 -> add (make it, then" in text
    done = shell.json("dependent", "done", "search")
    assert (done["built_from"], done["state"]) == ("docs@2", "fresh")
    assert shell.json("dependent", "list", "--exit-code")["dependents"] == [done]
    assert shell.json("dependent", "rm", "search") == {"removed": "search"}
    assert shell.json("dependent", "list", "--exit-code") == {"dependents": []}
    assert "nothing depends on anything" in shell.run("dependent", "list")


def test_the_exit_code_counts_every_kind(docs: Registry, shell: Shell) -> None:
    docs.index("flat", "docs", factory="Flat")
    derive(docs, "docs", "center", name="centred")
    docs.register("docs", rows(120))
    kinds = [
        (d["kind"], d["state"]) for d in shell.json("dependent", "list", "--exit-code", code=1)["dependents"]
    ]
    assert kinds == [("index", "stale"), ("derived", "stale")]
    docs.rebuild("flat")
    shell.run("dependent", "list", "--exit-code", code=1)
    shell.run("derive", "--stale")
    shell.run("dependent", "list", "--exit-code")


def test_the_exit_codes_of_refusals(shell: Shell) -> None:
    shell.run("dependent", "add", "search", "--tracks", "docs", "--note", "n")
    for code, words in (
        (2, "dependent add other --tracks docs"),
        (2, "dependent add other --tracks docs@1 --note n"),
        (2, "dependent add other --note n"),
        (2, "dependent add a@b --tracks docs --note n"),
        (3, "dependent add search --tracks docs --note n"),
        (3, "dependent add other --tracks nope --note n"),
        (3, "dependent done other"),
        (3, "dependent rm other"),
    ):
        shell.run(*words.split(), code=code)


def test_the_log_tells_every_step(docs: Registry, shell: Shell) -> None:
    first = docs.log()[-1].id
    shell.run("dependent", "add", "search", "--tracks", "docs@production", "--note", "n")
    shell.run("alias", "set", "docs", "production", "docs@2")
    shell.run("register", "docs", str(shell.folder / "3.npy"), "--ids", str(shell.folder / "3.ids"))
    shell.run("alias", "set", "docs", "production", "docs@3")  # stale before, stale now: no step of its own
    shell.run("alias", "set", "docs", "production", "docs@1")
    shell.run("alias", "set", "docs", "production", "docs@2")
    shell.run("dependent", "done", "search")
    shell.run("dependent", "rm", "search")
    events = [e for e in docs.log("docs", since=first) if e.subject == "search"]
    told = [(e.action, e.detail) for e in events]
    cause = {"repair": "add", "reason": "10 rows added of 100"}
    assert told == [
        ("external.added", {"tracks": "docs@production", "built_from": "docs@1"}),
        ("external.stale", cause),
        ("external.fresh", {"repair": "none", "reason": "same rows"}),
        ("external.stale", cause),
        ("external.done", {"version": 2}),
        ("external.removed", {}),
    ]
    assert all(e.command.startswith("embreg ") and e.actor for e in events)


# -- versions that go ---------------------------------------------------------------------------------


def age(registry: Registry) -> None:
    for path in (registry.root / "blobs").rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))


def test_what_holds_a_swept_version_is_judged_without_it(docs: Registry) -> None:
    docs.add_dependent("search", "docs", note="n", built_from="docs@1")
    docs.remove_alias("docs", "production")
    docs.delete("docs@1")
    assert (only(docs).built_from, only(docs).repair) == ("docs@1", Repair.ADD), "its rows are still there"
    age(docs)
    assert docs.gc(grace_s=0).removed
    done = docs.register("docs", rows(120))
    assert done.created, "what somebody else holds must not keep new versions out"
    (stale,) = done.stale.others
    assert stale == only(docs)
    assert (stale.state, stale.relation, stale.repair) == ("stale", None, Repair.REBUILD)
    assert stale.reason.startswith("cannot be compared with docs@1: blob ")
    assert docs.dependent_done("search").state == "fresh"
    assert docs.verify().clean


def test_what_tracks_nothing_any_more_says_so(docs: Registry) -> None:
    docs.add_dependent("search", "docs", note="n")
    docs.remove_alias("docs", "production")
    docs.delete("docs@2")
    assert (only(docs).tracked, only(docs).repair) == ("docs@1", Repair.UPDATE)
    docs.delete("docs@1")
    stale = only(docs)
    assert (stale.state, stale.tracked, stale.repair) == ("stale", None, Repair.NONE)
    assert stale.reason == "'docs@latest' names no version any more"
    with pytest.raises(NotFound, match="names no version any more"):
        docs.dependent_done("search")
    docs.register("docs", rows(110))
    assert (only(docs).state, only(docs).tracked) == ("fresh", "docs@3"), "the same rows are back"


def test_done_names_the_version_it_was_built_from_where_another_came_meanwhile(registry: Registry) -> None:
    from embreg import EmbeddingTable

    for rows in (3, 4, 5):
        registry.register("docs", EmbeddingTable.from_arrays(None, np.eye(rows, 8, dtype=np.float32)))
    registry.add_dependent("faq", "docs", note="ask Ada", built_from="docs@1")
    late = registry.dependent_done("faq", built_from="docs@2")
    assert (late.built_from, late.state, late.reason) == ("docs@2", "stale", "1 rows added of 4")
    assert registry.dependent_done("faq").state == "fresh"
