"""Aliases: compare-and-set, history, promotion only with a passing verdict on that very pair."""

from __future__ import annotations

from datetime import timedelta

import pytest

from embreg import Registry
from embreg.registry.errors import AliasNotFound, Conflict, Refused, UsageError, VersionNotFound
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
