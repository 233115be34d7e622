"""Aliases: compare-and-set, history, promotion only with a passing verdict on that very pair."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from click.testing import CliRunner

from embreg import Registry
from embreg.cli import main
from embreg.registry.aliases import Wish
from embreg.registry.errors import (
    AliasNotFound,
    Conflict,
    EmbeddingNotFound,
    InvalidRef,
    Refused,
    UsageError,
    VersionNotFound,
)
from embreg.registry.types import VerdictRecord, utc_now


def test_an_alias_moves_and_the_log_says_so(registry: Registry, table) -> None:
    registry.register("docs", table(seed=0))
    registry.register("docs", table(seed=1))
    made = registry.alias("docs", "production", "docs@1")
    moved = registry.alias("docs", "production", "docs@2")
    assert (made.old, made.new, moved.old, moved.new) == (None, "docs@1", "docs@1", "docs@2")
    assert registry.aliases("docs") == {"production": "docs@2"}
    moves = [(e.detail["old"], e.detail["new"]) for e in registry.log("docs") if e.action == "alias.moved"]
    assert moves == [(None, 1), (1, 2)]


def test_compare_and_set(registry: Registry, table) -> None:
    registry.register("docs", table(seed=0), alias="production")
    registry.register("docs", table(seed=1))
    with pytest.raises(Conflict, match="names version 1, not version 2"):
        registry.alias("docs", "production", "docs@2", if_was="docs@2")
    assert registry.aliases("docs") == {"production": "docs@1"}
    registry.alias("docs", "production", "docs@2", if_was="docs@1")
    with pytest.raises(Conflict, match="names nothing"):
        registry.alias("docs", "staging", "docs@2", if_was="docs@1")


def test_an_alias_stays_within_its_embedding(registry: Registry, table) -> None:
    registry.register("a", table())
    registry.register("b", table())
    with pytest.raises(UsageError, match="no version of 'a'"):
        registry.alias("a", "production", "b@1")


def test_a_removed_alias_is_gone(registry: Registry, table) -> None:
    registry.register("docs", table(), alias="production")
    assert registry.remove_alias("docs", "production").new is None
    with pytest.raises(AliasNotFound):
        registry.resolve("docs@production")
    with pytest.raises(AliasNotFound, match="did you mean 'staging'"):
        registry.alias("docs", "staging", "docs")
        registry.resolve("docs@stagin")


def verdict(registry: Registry, ref: str, baseline: str | None, *, passed: bool) -> VerdictRecord:
    version = registry.resolve(ref)
    base = registry.resolve(baseline) if baseline else None
    return VerdictRecord(
        version=version.ref,
        version_digest=version.digest,
        baseline=base.ref if base else None,
        baseline_digest=base.digest if base else None,
        passed=passed,
        config_digest="0" * 64,
        checks=({"metric": "a.b", "outcome": "passed" if passed else "failed", "reason": "because"},),
    )


def test_promotion_asks_for_a_verdict_on_that_very_pair(registry: Registry, table) -> None:
    for seed in range(3):
        registry.register("docs", table(seed=seed))
    registry.alias("docs", "production", "docs@1")
    with pytest.raises(Refused, match=r"never gated against docs@1.*embreg gate docs@3 --baseline docs@1"):
        registry.promote("docs@3", "production")
    registry.record_verdict(verdict(registry, "docs@3", "docs@2", passed=True))
    registry.record_verdict(verdict(registry, "docs@3", None, passed=True))
    with pytest.raises(Refused, match="never gated"):
        registry.promote("docs@3", "production")
    registry.record_verdict(verdict(registry, "docs@3", "docs@1", passed=False))
    with pytest.raises(Refused, match=r"a\.b: because"):
        registry.promote("docs@3", "production")
    registry.record_verdict(verdict(registry, "docs@3", "docs@1", passed=True))
    assert registry.promote("docs@3", "production").old == "docs@1"
    (event,) = [e for e in registry.log("docs") if e.action == "alias.moved"][1:]
    assert "gate passed against docs@1" in event.detail["reason"]


def test_the_newest_verdict_counts(registry: Registry, table) -> None:
    registry.register("docs", table())
    registry.record_verdict(verdict(registry, "docs@1", None, passed=True))
    registry.record_verdict(verdict(registry, "docs@1", None, passed=False))
    with pytest.raises(Refused):
        registry.promote("docs@1", "production")


def test_refusals_exit_with_one() -> None:
    assert Refused.exit_code == 1


def test_which_version_was_production_then(registry: Registry, table) -> None:
    moments = []
    for seed in range(2):
        registry.register("docs", table(seed=seed))
        registry.alias("docs", "production", "docs")
        moments.append(utc_now())
    registry.remove_alias("docs", "production")
    registry.delete("docs@2")
    assert [registry.resolve_at("docs@production", m).number for m in moments] == [1, 2]
    assert [registry.resolve_at("docs", m).number for m in moments] == [1, 2]
    for ref, when in (("docs@production", utc_now()), ("docs", moments[0] - timedelta(days=1))):
        with pytest.raises(VersionNotFound, match="named nothing"):
            registry.resolve_at(ref, when)
    with pytest.raises(UsageError, match="never moves"):
        registry.resolve_at("docs@1", moments[0])
    moves = [(m.alias, m.old, m.new) for m in registry.alias_history("docs")]
    assert moves == [
        ("production", None, "docs@1"),
        ("production", "docs@1", "docs@2"),
        ("production", "docs@2", None),
    ]


def test_the_latest_then_is_what_was_there_then(registry: Registry, table) -> None:
    """A version that had been deleted by that time was not the latest any more."""
    moments = [utc_now()]
    for seed in range(3):
        registry.register("docs", table(seed=seed))
        moments.append(utc_now())
    for ref in ("docs@3", "docs@1", "docs@2"):
        registry.delete(ref)
        moments.append(utc_now())
    assert [registry.resolve_at("docs", m).number for m in moments[1:-1]] == [1, 2, 3, 2, 2]
    for moment in (moments[0], moments[-1]):
        with pytest.raises(VersionNotFound, match="named nothing"):
            registry.resolve_at("docs", moment)


# -- several at once ----------------------------------------------------------------------------------


@pytest.fixture
def pair(registry: Registry, table) -> Registry:
    """users and items, two versions each, the first of each in production."""
    for name in ("users", "items"):
        registry.register(name, table(seed=0), alias="production")
        registry.register(name, table(seed=1))
    return registry


def both(registry: Registry) -> tuple[dict[str, str], dict[str, str]]:
    return dict(registry.aliases("users")), dict(registry.aliases("items"))


def test_several_aliases_of_several_embeddings_move_at_once(pair: Registry) -> None:
    pair.add_dependent("pages", "items@production", note="load them again")
    moves = pair.alias_all(
        [
            Wish(name="users", alias="production", ref="users@2", if_was="users@1"),
            Wish(name="items", alias="production", ref="items@2", if_was="items@production"),
            Wish(name="items", alias="previous", ref="items@1"),
        ]
    )
    assert [(m.embedding, m.alias, m.old, m.new) for m in moves] == [
        ("users", "production", "users@1", "users@2"),
        ("items", "production", "items@1", "items@2"),
        ("items", "previous", None, "items@1"),
    ]
    assert [[d.name for d in m.stale.others] for m in moves] == [[], ["pages"], []]
    assert both(pair) == ({"production": "users@2"}, {"previous": "items@1", "production": "items@2"})
    history = [(m.alias, m.old, m.new) for m in pair.alias_history("items")]
    assert history[1:] == [("production", "items@1", "items@2"), ("previous", None, "items@1")]
    told = [(e.action, e.subject) for e in pair.log()[-4:]]
    assert told == [
        ("alias.moved", "users@production"),
        ("alias.moved", "items@production"),
        ("external.stale", "pages"),
        ("alias.moved", "items@previous"),
    ]


def test_aliases_may_be_exchanged(registry: Registry, table) -> None:
    for seed in range(2):
        registry.register("docs", table(seed=seed), alias=("blue", "green")[seed])
    registry.alias_all(
        [
            Wish(name="docs", alias="blue", ref="docs@2", if_was="docs@1"),
            Wish(name="docs", alias="green", ref="docs@1", if_was="docs@2"),
        ]
    )
    assert registry.aliases("docs") == {"blue": "docs@2", "green": "docs@1"}


GOOD = Wish(name="users", alias="production", ref="users@2")


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (Wish(name="items", alias="production", ref="items@2", if_was="items@2"), Conflict),
        (Wish(name="items", alias="new", ref="items@2", if_was="items@1"), Conflict),
        (Wish(name="items", alias="production", ref="items@9"), VersionNotFound),
        (Wish(name="items", alias="production", ref="users@2"), UsageError),
        (Wish(name="nope", alias="production", ref="items@2"), EmbeddingNotFound),
        (Wish(name="items", alias="latest", ref="items@2"), InvalidRef),
        (Wish(name="items", alias="locked", ref="items@2"), Refused),
        (Wish(name="users", alias="production", ref="users@1"), UsageError),
        (GOOD, UsageError),
    ],
)
def test_all_of_them_move_or_none(pair: Registry, wish: Wish, error: type[Exception]) -> None:
    pair.add_dependent("search", "users@production", note="n")
    pair.alias("items", "locked", "items@1")
    pair.protect("items", "locked")
    before = (both(pair), pair.log(), pair.alias_history("users"), pair.dependents())
    for wishes in ([GOOD, wish], [wish, GOOD]):
        with pytest.raises(error):
            pair.alias_all(wishes)
        assert (both(pair), pair.log(), pair.alias_history("users"), pair.dependents()) == before


def run(registry: Registry, *words: str, code: int = 0) -> str:
    env = {"EMBREG_REGISTRY": str(registry.root), "EMBREG_DEBUG": "1"}
    done = CliRunner(env=env).invoke(main, words)
    assert done.exit_code == code, (words, done.exit_code, done.output, done.exception)
    return done.output


def test_several_at_once_from_the_command_line(pair: Registry) -> None:
    line = ("alias", "set", "users", "production", "users@2", "--also", "items@production=items@2")
    told = json.loads(run(pair, *line, "--also", "previous=users@1", "--json"))
    assert (told["embedding"], told["alias"], told["from"], told["to"]) == (
        "users", "production", "users@1", "users@2")  # fmt: skip
    also = [(m["embedding"], m["alias"], m["from"], m["to"]) for m in told["also"]]
    assert also == [("items", "production", "items@1", "items@2"), ("users", "previous", None, "users@1")]
    before = both(pair)
    run(pair, *line, "--also", "previous=users@7", code=3)
    run(pair, *line, "--also", "users@production=users@1", code=2)
    run(pair, *line, "--also", "previous", code=2)
    run(pair, *line, "--if-was", "users@1", code=3)
    assert both(pair) == before
    text = run(pair, *line)
    assert "users@production: users@2 -> users@2" in text
    assert "items@production: items@2 -> items@2" in text


def test_the_command_line_names_no_alias_twice(pair: Registry) -> None:
    line = ("alias", "set", "users", "production", "users@2", "--also", "previous=users@1")
    run(pair, *line, "--also", "previous=users@2", code=2)


# -- protected ----------------------------------------------------------------------------------------


@pytest.fixture
def guarded(registry: Registry, table) -> Registry:
    """docs@1 in production, which is protected; docs@2."""
    registry.register("docs", table(seed=0), alias="production")
    registry.register("docs", table(seed=1))
    registry.protect("docs", "production")
    return registry


def test_a_protected_alias_moves_by_promotion_only(guarded: Registry, table) -> None:
    before = (guarded.versions(), guarded.log(), guarded.alias_history("docs"))
    wish = Wish(name="docs", alias="production", ref="docs@2")
    for attempt in (
        lambda: guarded.alias("docs", "production", "docs@2"),
        lambda: guarded.alias("docs", "production", "docs@2", if_was="docs@1"),
        lambda: guarded.alias_all([wish]),
        lambda: guarded.register("docs", table(seed=2), alias="production"),
        lambda: guarded.remove_alias("docs", "production"),
    ):
        with pytest.raises(Refused, match="protected: it moves by promotion only") as caught:
            attempt()
        assert caught.value.exit_code == 1
        assert "embreg promote REF production" in caught.value.hint
        assert (guarded.versions(), guarded.log(), guarded.alias_history("docs")) == before
    with pytest.raises(Refused, match="never gated"):
        guarded.promote("docs@2", "production")
    guarded.record_verdict(verdict(guarded, "docs@2", "docs@1", passed=True))
    assert guarded.promote("docs@2", "production").new == "docs@2"
    assert guarded.protected_aliases("docs") == ("production",), "and stays protected"
    assert [(m.old, m.new) for m in guarded.alias_history("docs")][1:] == [("docs@1", "docs@2")]
    assert "gate passed" in guarded.alias_history("docs")[-1].reason


def test_protection_is_of_one_alias_and_can_be_lifted(guarded: Registry, table) -> None:
    guarded.register("other", table(seed=0), alias="production")
    guarded.register("other", table(seed=1), alias="production")
    guarded.alias("docs", "staging", "docs@2")
    assert guarded.protected_aliases("other") == ()
    guarded.protect("docs", "production", protected=False)
    assert guarded.alias("docs", "production", "docs@2").old == "docs@1"
    assert guarded.remove_alias("docs", "production").old == "docs@2"
    guarded.alias("docs", "production", "docs@1")
    assert guarded.protected_aliases("docs") == (), "a new alias of an old name is a new one"
    with pytest.raises(AliasNotFound, match="did you mean 'production'"):
        guarded.protect("docs", "prodution")


def test_protecting_is_in_the_log_once(guarded: Registry) -> None:
    for protected in (True, True, False, False, True):
        guarded.protect("docs", "production", protected=protected)
    told = [(e.action, e.subject) for e in guarded.log("docs") if "protected" in e.action]
    assert told == [
        ("alias.protected", "docs@production"),
        ("alias.unprotected", "docs@production"),
        ("alias.protected", "docs@production"),
    ]
    assert len(guarded.alias_history("docs")) == 1, "nothing moved"


def test_protection_from_the_command_line(guarded: Registry) -> None:
    (told,) = json.loads(run(guarded, "alias", "list", "docs", "--json"))["aliases"]
    assert told == {"alias": "production", "ref": "docs@1", "protected": True}
    assert "promotion only" in run(guarded, "alias", "list", "docs")
    for line in ("alias set docs production docs@2", "alias rm docs production", "promote docs@2 production"):
        refused = run(guarded, *line.split(), "--json", code=1).partition("\nembreg: ")[0]
        assert json.loads(refused)["error"]["type"] == "Refused"
    told = json.loads(run(guarded, "alias", "protect", "docs", "production", "--off", "--json"))
    assert told == {"alias": "docs@production", "protected": False}
    run(guarded, "alias", "set", "docs", "production", "docs@2")
    run(guarded, "alias", "protect", "docs", "production")
    run(guarded, "alias", "set", "docs", "production", "docs@1", code=1)


# -- at the same time ---------------------------------------------------------------------------------

RIVAL = """
import sys
from embreg import connect
from embreg.registry.errors import Conflict
with connect(sys.argv[1]) as registry:
    for line in sys.stdin:
        now, then = line.split()
        try:
            registry.alias("docs", "production", then, if_was=now)
            print("won", flush=True)
        except Conflict:
            print("lost", flush=True)
"""


def test_of_two_processes_that_compare_and_set_exactly_one_wins(registry: Registry, table) -> None:
    """Each round both are told at once to move the same alias from the same version to one of their own."""
    for seed in range(3):
        registry.register("docs", table(seed=seed))
    registry.alias("docs", "production", "docs@1")
    rivals = [
        subprocess.Popen([sys.executable, "-c", RIVAL, str(registry.root)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    now, chain = "docs@1", []
    try:
        for _ in range(10):
            others = [f"docs@{n}" for n in (1, 2, 3) if f"docs@{n}" != now]
            for rival, then in zip(rivals, others, strict=True):
                print(now, then, file=rival.stdin, flush=True)
            said = [rival.stdout.readline().strip() for rival in rivals if rival.stdout]
            assert sorted(said) == ["lost", "won"]
            now = others[said.index("won")]
            chain.append(now)
            assert registry.aliases("docs") == {"production": now}
    finally:
        for rival in rivals:
            rival.communicate()
    assert [m.new for m in registry.alias_history("docs")] == ["docs@1", *chain]
    assert [rival.returncode for rival in rivals] == [0, 0]
