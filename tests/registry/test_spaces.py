"""Spaces: what makes two versions incomparable is said field by field, and probes catch a swapped encoder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg import EmbeddingTable, Registry, connect
from embreg.cli import main
from embreg.registry import probes
from embreg.registry.blobs import BlobStore
from embreg.registry.errors import Conflict, CorruptBlob, InputError, Refused, UsageError
from embreg.registry.manifest import Manifest, canonical_json
from embreg.registry.types import Relation, Repair, Space

ROWS, DIM = 30, 8


class Shell:
    """Runs commands on one registry, in this process."""

    def __init__(self, registry: Registry) -> None:
        self.root = registry.root

    def run(self, *words: str, code: int = 0) -> str:
        env = {"EMBREG_DEBUG": "1", "EMBREG_REGISTRY": str(self.root)}
        done = CliRunner(env=env).invoke(main, words)
        assert done.exit_code == code, (words, done.exit_code, done.output, done.exception)
        return done.output

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code).partition("\nembreg: ")[0])


@pytest.fixture
def shell(registry: Registry) -> Shell:
    return Shell(registry)


def vectors(seed: int = 0, rows: int = ROWS, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def rows_of(seed: int = 0, dim: int = DIM, first: int = 0) -> EmbeddingTable:
    return EmbeddingTable.from_arrays([f"id{first + i}" for i in range(ROWS)], vectors(seed, dim=dim))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# -- the fields of a space ----------------------------------------------------------------------------


def declared(field: str, old: str, new: str) -> tuple[str, Any, Any, list[str], list[str]]:
    return field, old, new, [f"--{field}", old], [f"--{field}", new]


DECLARED = [
    declared("model", "m1", "m2"),
    declared("kind", "word", "sentence"),
    declared("metric", "cosine", "dot"),
    declared("pooling", "mean", "cls"),
    declared("position", "none", "rotary"),
]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The same rows as they are, of unit length, wider, and in half precision; two tokenizers."""
    np.save(tmp_path / "rows.npy", vectors())
    np.save(tmp_path / "unit.npy", unit(vectors()))
    np.save(tmp_path / "wide.npy", vectors(dim=DIM + 1))
    np.save(tmp_path / "halves.npy", vectors().astype(np.float16))
    for name in ("t1", "t2"):
        (tmp_path / name).write_text(name)
    return tmp_path


def check_respaced(shell: Shell, told: dict[str, Any], changes: list[tuple[str, Any, Any]]) -> None:
    """What register answered, the index, ``diff`` and their texts all name every field, old and new."""

    def short(value: Any) -> Any:
        digest = isinstance(value, str) and len(value) == 64
        return f"{value[:12]}…" if digest else value

    cause = "; ".join(f"{field}: {short(old)} -> {short(new)}" for field, old, new in changes)
    (stale,) = told["stale_indexes"]
    (status,) = shell.json("index", "status", "--exit-code", code=1)["indexes"]
    assert stale == status
    assert (stale["state"], stale["relation"], stale["repair"]) == ("stale", "respaced", "rebuild")
    assert stale["reason"] == f"space changed: {cause}; queries must come from the new encoder"
    diff = shell.json("diff", "docs@1", "docs@2")
    assert (diff["relation"], diff["repair"]) == ("respaced", "rebuild")
    assert diff["space_changes"] == [
        {"field": field, "old": old, "new": new, "breaking": True} for field, old, new in changes
    ]
    text = shell.run("diff", "docs@1", "docs@2")
    for field, _, _ in changes:
        assert re.search(rf"^space[. ]\s*{field}\b", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("field", "old", "new", "before", "after"), DECLARED, ids=[change[0] for change in DECLARED]
)
def test_a_declared_field_that_changes_is_another_space(
    shell: Shell, sources: Path, field: str, old: str, new: str, before: list[str], after: list[str]
) -> None:
    source = str(sources / "rows.npy")
    shell.run("register", "docs", source, *before)
    shell.run("index", "build", "flat", "docs", "--factory", "Flat")
    told = shell.json("register", "docs", source, *after)
    check_respaced(shell, told, [(field, old, new)])


def test_another_tokenizer_is_another_space(shell: Shell, sources: Path) -> None:
    source = str(sources / "rows.npy")
    shell.run("register", "docs", source, "--tokenizer", str(sources / "t1"))
    shell.run("index", "build", "flat", "docs", "--factory", "Flat")
    told = shell.json("register", "docs", source, "--tokenizer", str(sources / "t2"))
    old, new = (hashlib.sha256(name.encode()).hexdigest() for name in ("t1", "t2"))
    check_respaced(shell, told, [("tokenizer", old, new)])


@pytest.mark.parametrize(
    ("source", "change"),
    [("unit.npy", ("normalised", False, True)), ("wide.npy", ("dim", DIM, DIM + 1))],
    ids=["normalisation", "width"],
)
def test_what_is_measured_counts_as_what_is_said(
    shell: Shell, sources: Path, source: str, change: tuple[str, Any, Any]
) -> None:
    shell.run("register", "docs", str(sources / "rows.npy"))
    shell.run("index", "build", "flat", "docs", "--factory", "Flat")
    told = shell.json("register", "docs", str(sources / source))
    check_respaced(shell, told, [change])


def test_every_field_that_changed_is_said(shell: Shell, sources: Path) -> None:
    shell.run("register", "docs", str(sources / "rows.npy"), "--model", "m1", "--kind", "word")
    shell.run("index", "build", "flat", "docs", "--factory", "Flat")
    told = shell.json("register", "docs", str(sources / "unit.npy"), "--model", "m2", "--kind", "hidden")
    changes = [("kind", "word", "hidden"), ("normalised", False, True), ("model", "m1", "m2")]
    check_respaced(shell, told, changes)
    text = shell.run("register", "docs", str(sources / "unit.npy"), "--model", "m3")
    assert "model: m1 -> m3" in text, "an index is judged against what it was built from"
    assert "kind: word -> hidden" in text


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ({"tags": {"a": "1"}}, {"tags": {"a": "2"}}, ("tags", {"a": "1"}, {"a": "2"})),
        ({"tied": True}, {"tied": False}, ("tied", True, False)),
    ],
    ids=["tags", "tied"],
)
def test_some_fields_are_told_and_no_more(registry: Registry, before, after, change) -> None:
    registry.register("docs", rows_of(), **before)
    registry.index("flat", "docs", factory="Flat")
    done = registry.register("docs", rows_of(), **after)
    assert done.created
    assert done.stale_indexes == ()
    diff = registry.diff("docs@1", "docs@2")
    assert diff.relation is Relation.IDENTICAL
    assert [(c.field, c.old, c.new, c.breaking) for c in diff.space_changes] == [(*change, False)]


def test_another_precision_changes_rows_and_no_space(shell: Shell, sources: Path) -> None:
    shell.run("register", "docs", str(sources / "rows.npy"))
    shell.run("register", "docs", str(sources / "halves.npy"))
    diff = shell.json("diff", "docs@1", "docs@2")
    assert (diff["relation"], diff["changed"]) == ("changed", ROWS)
    assert diff["space_changes"] == [
        {"field": "dtype", "old": "float32", "new": "float16", "breaking": False}
    ]
    assert re.search(r"^space[. ]\s*dtype\b.*float32 -> float16", shell.run("diff", "docs@1", "docs@2"), re.M)


def test_what_a_model_is_called_reaches_no_terminal_as_it_is(shell: Shell, sources: Path) -> None:
    source = str(sources / "rows.npy")
    shell.run("register", "docs", source, "--model", "good")
    shell.run("index", "build", "flat", "docs", "--factory", "Flat")
    shown = shell.run("register", "docs", source, "--model", "\x1b[31mbad\n\u202eeman")
    shown += shell.run("diff", "docs@1", "docs@2") + shell.run("index", "status") + shell.run("show", "docs")
    shown += shell.run("lineage", "docs@1") + shell.run("lineage", "docs@1", "--dot")
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"\x1b[31mbad\n" in shown


# -- probes -------------------------------------------------------------------------------------------

PROBES = vectors(7, rows=20)
INPUTS = [f"input {i}" for i in range(20)]


def probe(x: np.ndarray = PROBES, inputs: list[str] = INPUTS) -> EmbeddingTable:
    return EmbeddingTable.from_arrays(inputs, x)


def stranger(rows: int = 20) -> np.ndarray:
    """What another encoder of the same width makes of the same inputs."""
    return vectors(8, rows=rows)


@pytest.fixture
def probed(registry: Registry) -> Registry:
    """docs@1, with probes."""
    registry.register("docs", rows_of(0), probes=probe(), model="encoder")
    return registry


def noisy(share: float) -> np.ndarray:
    """The probes, each moved by a share of its length."""
    step = unit(vectors(9, rows=20)) * np.linalg.norm(PROBES, axis=1, keepdims=True)
    return (PROBES + share * step).astype(np.float32)


@pytest.mark.parametrize(
    "again",
    [
        PROBES,
        PROBES.astype(np.float16),
        PROBES.astype(np.float16).astype(np.float32),
        np.round(PROBES * 40) / 40,  # about what int8 leaves of them
        noisy(0.05),
    ],
    ids=["the same", "float16", "rounded", "int8", "noise"],
)
def test_the_same_encoder_passes_whatever_its_precision(probed: Registry, again: np.ndarray) -> None:
    done = probed.register("docs", rows_of(1), probes=probe(again))
    assert done.created
    assert done.warnings == ()
    diff = probed.diff("docs@1", "docs@2")
    assert (diff.relation, diff.space_changes) == (Relation.CHANGED, ())


def test_probes_are_matched_by_input_not_by_place(probed: Registry) -> None:
    order = np.random.default_rng(0).permutation(20)
    mixed = probe(PROBES[order], [INPUTS[i] for i in order])
    done = probed.register("docs", rows_of(1), probes=mixed)
    assert done.version.probes == probed.resolve("docs@1").probes, "stored by id: the same bytes"
    with pytest.raises(Refused):
        probed.register("docs", rows_of(2), probes=probe(PROBES[order]))


def test_the_median_forgives_a_few_bad_probes(probed: Registry) -> None:
    few = PROBES.copy()
    few[:9] = stranger()[:9]
    assert probed.register("docs", rows_of(1), probes=probe(few)).created
    probed.delete("docs@2")
    most = PROBES.copy()
    most[:11] = stranger()[:11]
    with pytest.raises(Refused, match="20 inputs moved"):
        probed.register("docs", rows_of(1), probes=probe(most))


def test_another_encoder_of_the_same_width_is_refused(probed: Registry) -> None:
    before = (probed.versions(), probed.log())
    with pytest.raises(Refused, match=r"another space than docs@1: 20 inputs moved by 1\.") as caught:
        probed.register("docs", rows_of(1), probes=probe(stranger()), alias="live", model="encoder")
    assert caught.value.exit_code == 1
    assert "--allow-space-change" in caught.value.hint
    assert (probed.versions(), probed.log()) == before, "nothing was registered, moved or written down"


def test_what_the_command_says_of_another_encoder(shell: Shell, sources: Path) -> None:
    np.save(sources / "p1.npy", PROBES)
    np.save(sources / "p2.npy", stranger())
    source = str(sources / "rows.npy")
    shell.run("register", "docs", source, "--probes", str(sources / "p1.npy"))
    shell.run("index", "build", "flat", "docs", "--factory", "Flat")
    swapped = ("register", "docs", str(sources / "unit.npy"), "--probes", str(sources / "p2.npy"))
    error = shell.json(*swapped, code=1)["error"]
    assert error["type"] == "Refused"
    assert "--allow-space-change" in error["hint"]
    assert shell.json("index", "status", "--exit-code")["indexes"][0]["state"] == "fresh"
    told = shell.json(*swapped, "--allow-space-change")
    assert told["ref"] == "docs@2"
    fields = [(c["field"], c["breaking"]) for c in shell.json("diff", "docs@1", "docs@2")["space_changes"]]
    assert fields == [("normalised", True), ("probes", True)]
    assert "probes: 20 inputs -> 20 inputs moved by 1." in told["stale_indexes"][0]["reason"]


def test_an_allowed_swap_is_respaced_and_flags_what_was_built(probed: Registry) -> None:
    probed.index("flat", "docs", factory="Flat")
    probed.add_dependent("search", "docs", note="load it again")
    done = probed.register("docs", rows_of(1), probes=probe(stranger()), allow_space_change=True)
    (index,), (other,) = done.stale.indexes, done.stale.others
    for judged in (index, other):
        assert (judged.relation, judged.repair) == (Relation.RESPACED, Repair.REBUILD)
        assert "probes: 20 inputs -> 20 inputs moved by 1." in judged.reason
    (change,) = probed.diff("docs@1", "docs@2").space_changes
    assert (change.field, change.old, change.breaking) == ("probes", "20 inputs", True)
    with pytest.raises(Refused, match="docs@2"):  # from here on the new encoder is the measure
        probed.register("docs", rows_of(2), probes=probe())
    assert probed.register("docs", rows_of(2), probes=probe(stranger())).created
    assert probed.diff("docs@1", "docs@3").relation is Relation.RESPACED
    assert probed.diff("docs@2", "docs@3").space_changes == ()


def test_the_same_rows_with_a_swapped_encoder_are_another_version(probed: Registry) -> None:
    done = probed.register("docs", rows_of(0), probes=probe(stranger()), allow_space_change=True)
    assert done.created
    assert probed.diff("docs@1", "docs@2").relation is Relation.RESPACED
    assert not probed.register("docs", rows_of(0), probes=probe(stranger())).created


def test_without_probes_those_before_stand_and_that_is_said(probed: Registry) -> None:
    done = probed.register("docs", rows_of(1))
    assert done.warnings == ("no probes given: the space is taken for that of docs@1",)
    assert done.version.probes == probed.resolve("docs@1").probes
    with pytest.raises(Refused, match="docs@2"):
        probed.register("docs", rows_of(2), probes=probe(stranger()))
    assert not probed.register("docs", rows_of(1)).created, "the same version, probes and all"


def test_the_first_probes_are_compared_with_nothing(registry: Registry) -> None:
    assert registry.register("docs", rows_of(0)).warnings == ()
    done = registry.register("docs", rows_of(1), probes=probe())
    assert (done.created, done.warnings) == (True, ())
    assert registry.diff("docs@1", "docs@2").space_changes == ()


def test_probes_of_other_inputs_compare_nothing_and_that_is_said(probed: Registry) -> None:
    others = probe(stranger(), [f"other {i}" for i in range(20)])
    done = probed.register("docs", rows_of(1), probes=others)
    assert done.warnings == ("no probe in common with docs@1: the space was not compared",)
    assert probed.diff("docs@1", "docs@2").space_changes == ()
    one = probe(PROBES[:1], ["input 0"])
    probed.register("docs", rows_of(2), probes=one)
    two = probe(np.concatenate([PROBES[:1], stranger()]), ["input 0", *(f"new {i}" for i in range(20))])
    assert probed.register("docs", rows_of(3), probes=two).warnings == (), "one input in common is enough"


def test_probes_have_the_width_of_the_rows(probed: Registry) -> None:
    with pytest.raises(UsageError, match=f"the probes have width {DIM + 1}, the rows {DIM}"):
        probed.register("docs", rows_of(1), probes=probe(vectors(7, 20, DIM + 1)))
    wider = probed.register("docs", rows_of(1, DIM + 1), probes=probe(vectors(7, 20, DIM + 1)))
    assert wider.created, "another width is told as such; nobody takes it for the same encoder"
    assert [c.field for c in probed.diff("docs@1", "docs@2").space_changes] == ["dim"]


@pytest.mark.parametrize(
    ("x", "inputs", "told"),
    [
        (np.full((2, DIM), np.nan), ["a", "b"], "NaN or infinity"),
        (np.full((2, DIM), np.inf), ["a", "b"], "NaN or infinity"),
        (np.ones((2, DIM)), ["a", "a"], "given twice"),
        (np.ones((probes.MOST + 1, DIM)), [str(i) for i in range(probes.MOST + 1)], "more than 10,000"),
        (np.ones((0, DIM)), [], "no probes"),
    ],
    ids=["nan", "infinity", "twice", "too many", "none"],
)
def test_probes_that_are_none_are_refused(registry: Registry, x: np.ndarray, inputs, told: str) -> None:
    with pytest.raises(InputError, match=told):
        registry.register("docs", rows_of(), probes=probe(x.astype(np.float32), inputs))
    assert registry.versions() == ()


def test_probes_that_are_zero_tell_nothing(registry: Registry) -> None:
    """They neither vouch for another encoder nor stand against the same one."""
    padded = np.concatenate([PROBES[:3], np.zeros((4, DIM), np.float32)])
    inputs = INPUTS[:7]
    registry.register("docs", rows_of(0), probes=probe(padded, inputs))
    assert registry.register("docs", rows_of(1), probes=probe(padded, inputs)).warnings == ()
    swapped = np.concatenate([stranger()[:3], np.zeros((4, DIM), np.float32)])
    with pytest.raises(Refused, match="3 inputs moved"):
        registry.register("docs", rows_of(2), probes=probe(swapped, inputs))
    zeros = probe(np.zeros((7, DIM), np.float32), inputs)
    with pytest.raises(Refused, match=r"3 inputs moved by 1\.00"):
        registry.register("docs", rows_of(2), probes=zeros)
    registry.register("zero", rows_of(0), probes=zeros)
    done = registry.register("zero", rows_of(1), probes=zeros)
    assert done.warnings == ("no probe in common with zero@1: the space was not compared",)


def test_the_distance_of_two_probes_by_hand() -> None:
    old = probe(np.array([[3, 4], [1, 0], [1, 0]], np.float32), ["a", "b", "c"])
    new = probe(np.array([[3, 4], [0, 1], [2, 0], [9, 9]], np.float32), ["a", "b", "c", "d"])
    found = probes.agreement(old, new)
    assert found.shared == 3  # distances 0, sqrt(2) and 1/2, as shares of the longer one
    assert found.distance == pytest.approx(0.5)
    assert not found.same
    assert probes.agreement(new, old).distance == pytest.approx(0.5)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
    move=st.floats(0, 1),
)
def test_agreement_is_symmetric_knows_no_scale_and_has_bounds(seed: int, scale: float, move: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((5, 4))
    b = a + move * rng.standard_normal((5, 4))
    inputs = list("abcde")

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        return probes.agreement(
            probe(x.astype(np.float32), inputs), probe(y.astype(np.float32), inputs)
        ).distance

    longest = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    expected = np.median(np.linalg.norm(b - a, axis=1) / longest)
    assert distance(a * scale, b * scale) == pytest.approx(expected, abs=1e-5)
    assert distance(a, b) == distance(b, a)
    assert 0 <= distance(a, b) <= 2
    assert distance(a, -a) == pytest.approx(2)
    assert distance(a, a) == 0


def test_probes_survive_storing(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    blobs.create()
    inputs = ["b", "a\0", "a", "", "é" * 20_000, "\x1b[31m"]
    for dtype in (np.float32, np.float16):
        given_probes = probe(PROBES[:6].astype(dtype), inputs)
        digest = probes.store(given_probes, blobs)
        assert probes.store(probe(PROBES[5::-1].astype(dtype), inputs[::-1]), blobs) == digest
        read = probes.load(digest, blobs)
        assert read.space.dtype == np.dtype(dtype).name
        assert sorted(inputs) == read.ids.to_pylist()
        at = read.lookup(inputs)
        assert np.array_equal(read.take(at), PROBES[:6].astype(dtype))


@pytest.mark.parametrize("change", [{"model": "another"}, {"dim": DIM + 1}], ids=["model", "width"])
def test_another_encoder_does_not_inherit_the_probes_of_the_one_before(probed: Registry, change) -> None:
    words = {name: value for name, value in change.items() if name != "dim"}
    dim = change.get("dim", DIM)
    done = probed.register("docs", rows_of(1, dim), **words)
    assert (done.version.probes, done.warnings) == (None, ())
    assert probed.register("docs", rows_of(2, dim), probes=probe(vectors(8, 20, dim))).created


def test_if_changed_keeps_new_probes(registry: Registry) -> None:
    registry.register("docs", rows_of(0))
    assert registry.register("docs", rows_of(0), probes=probe(), if_changed=True).created
    assert not registry.register("docs", rows_of(0), probes=probe(noisy(0.01)), if_changed=True).created
    swapped = registry.register(
        "docs", rows_of(0), probes=probe(stranger()), if_changed=True, allow_space_change=True
    )
    assert swapped.created
    assert registry.diff("docs@1", "docs@3").relation is Relation.IDENTICAL, "nothing to compare there"
    assert registry.diff("docs@2", "docs@3").relation is Relation.RESPACED


# -- probes as blobs ----------------------------------------------------------------------------------


def blob(registry: Registry, digest: str | None) -> Path:
    assert digest is not None
    return registry.root / "blobs" / "sha256" / digest[:2] / digest


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [damage, Path.unlink], ids=["damaged", "missing"])
def test_damaged_probes_fail_clearly_and_are_found(probed: Registry, harm: Callable[[Path], None]) -> None:
    probed.register("docs", rows_of(1), probes=probe(stranger()), allow_space_change=True)
    digest = probed.resolve("docs@1").probes
    harm(blob(probed, digest))
    with pytest.raises(CorruptBlob, match=rf"blob {digest[:12]} is (damaged|missing)"):
        probed.diff("docs@1", "docs@2")
    for ref in (None, "docs@1"):
        (problem,) = probed.verify(ref).problems
        assert (problem.subject, problem.blob) == ("docs@1", digest)
    assert probed.verify("docs@2").clean
    assert np.array_equal(probed.table("docs@1").vectors, vectors(0)), "the rows are whole"


def test_new_rows_are_not_kept_out_by_damaged_probes(probed: Registry) -> None:
    probed.index("flat", "docs", factory="Flat")
    damage(blob(probed, probed.resolve("docs").probes))
    with pytest.raises(CorruptBlob):
        probed.register("docs", rows_of(1), probes=probe())
    done = probed.register("docs", rows_of(1))
    assert done.created
    assert "cannot be compared with docs@1: blob" in done.stale_indexes[0].reason


@pytest.mark.parametrize("harm", [damage, Path.unlink], ids=["damaged", "missing"])
def test_new_probes_are_a_way_out_of_damaged_ones(probed: Registry, harm: Callable[[Path], None]) -> None:
    harm(blob(probed, probed.resolve("docs").probes))
    done = probed.register("docs", rows_of(1), probes=probe(noisy(0.01)), allow_space_change=True)
    assert done.created
    assert probed.register("docs", rows_of(2), probes=probe()).created


def test_new_rows_are_not_kept_out_by_missing_probes(probed: Registry) -> None:
    blob(probed, probed.resolve("docs").probes).unlink()
    assert probed.register("docs", rows_of(1)).created


def age(registry: Registry) -> None:
    for path in (registry.root / "blobs").rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))


def test_a_sweep_takes_probes_with_their_last_version(probed: Registry) -> None:
    digest = probed.resolve("docs@1").probes
    probed.register("docs", rows_of(1))  # inherits them
    probed.register("docs", rows_of(2), probes=probe(stranger()), allow_space_change=True)
    for ref, kept in (("docs@1", True), ("docs@2", False)):
        age(probed)
        probed.gc(grace_s=0)
        assert blob(probed, digest).is_file()
        assert probed.verify().clean
        probed.delete(ref)
        age(probed)
        probed.gc(grace_s=0)
        assert blob(probed, digest).is_file() == kept
    assert probed.verify().clean
    assert probed.verify().orphans == 0


# -- at the same time ---------------------------------------------------------------------------------


def meanwhile(registry: Registry, publish: Callable[[Registry], object]) -> Callable[..., None]:
    """Return a progress callback that lets somebody else publish once, while the rows are read."""
    calls = iter([publish])

    def progress(*_: object) -> None:
        if (call := next(calls, None)) is not None:
            with connect(registry.root) as other:
                call(other)

    return progress


def test_a_swap_that_loses_a_race_is_refused_in_the_transaction(registry: Registry) -> None:
    """Nothing was there when the probes were looked at; at the end somebody else's encoder is."""

    def rival(other: Registry) -> None:
        other.register("docs", rows_of(1), probes=probe(stranger()))

    with pytest.raises(Refused, match="another space than docs@1"):
        registry.register("docs", rows_of(0), probes=probe(), progress=meanwhile(registry, rival))
    assert [v.number for v in registry.versions("docs")] == [1]
    assert np.array_equal(registry.table("docs").vectors, vectors(1))


def test_a_race_of_one_encoder_is_two_versions(probed: Registry) -> None:
    def rival(other: Registry) -> None:
        other.register("docs", rows_of(1), probes=probe())

    done = probed.register("docs", rows_of(2), probes=probe(noisy(0.01)), progress=meanwhile(probed, rival))
    assert done.version.ref == "docs@3"
    assert probed.diff("docs@2", "docs@3").space_changes == ()


def test_an_allowed_swap_wins_over_whoever_came_first(probed: Registry) -> None:
    def rival(other: Registry) -> None:
        other.register("docs", rows_of(1), probes=probe())

    done = probed.register(
        "docs",
        rows_of(2),
        probes=probe(stranger()),
        allow_space_change=True,
        progress=meanwhile(probed, rival),
    )
    assert done.version.ref == "docs@3"
    assert [c.field for c in probed.diff("docs@2", "docs@3").space_changes] == ["probes"]


def test_the_first_probes_of_somebody_else_are_not_lost_in_a_race(registry: Registry) -> None:
    registry.register("docs", rows_of(0))

    def rival(other: Registry) -> None:
        other.register("docs", rows_of(1), probes=probe())

    with pytest.raises(Conflict, match="run it again"):
        registry.register("docs", rows_of(2), progress=meanwhile(registry, rival))
    assert registry.register("docs", rows_of(2)).version.probes == registry.resolve("docs@2").probes


# -- what was there before ----------------------------------------------------------------------------

#: Of a tiny table as it was registered before there were probes, transforms and derived versions.
GOLDEN = "7ecce9a2ed2fb2b67e161ff29bd8b063ff7d04d6665e6a6a58aee2c1f5747def"
GOLDEN_CONTENT = "5b3ebae9860eaf7e7cc3fac0b12d90d93ac817547599fe8a9171eb0590f7a929"
GOLDEN_PART = ["458ef5de53ca7da151e22960558457302a024c13ccc08aa0b1633e6de2ac3ac7", 3, 1050]


def test_a_manifest_without_probes_is_the_one_of_old(registry: Registry) -> None:
    """Digests are names that people wrote down: what came later must not change them."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    given_table = EmbeddingTable.from_arrays(["a", "b", "ü"], x)
    version = registry.register("words", given_table, model="m1", kind="word", tags={"a": "b"}).version
    assert version.content_digest == GOLDEN_CONTENT
    manifest = json.loads(blob(registry, version.digest).read_bytes())
    # The part's own digest is that of an Arrow file, whose bytes another release of Arrow may lay out anew.
    told = canonical_json(manifest | {"parts": [GOLDEN_PART]})
    assert hashlib.sha256(told).hexdigest() == GOLDEN
    read = Manifest.from_bytes(told)
    assert (read.probes, read.space.transform, read.rows) == (None, None, 3)
    assert read.to_bytes() == told


def test_a_manifest_with_probes_names_them(probed: Registry) -> None:
    version = probed.resolve("docs")
    manifest = json.loads(blob(probed, version.digest).read_bytes())
    assert manifest["probes"] == version.probes
    assert "transform" not in manifest["space"]
    shown = probed.table("docs").probes
    assert shown is not None
    assert np.array_equal(shown.take(shown.lookup(INPUTS)), PROBES)


def test_a_table_in_memory_says_what_its_space_is(registry: Registry) -> None:
    x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    space = Space(dim=4, metric="dot", kind="item", model="m-1", tags={"team": "search"})
    version = registry.register("items", EmbeddingTable.from_arrays(None, x, space=space)).version
    assert (version.space.metric, version.space.kind, version.space.model) == ("dot", "item", "m-1")
    assert version.space.tags == {"team": "search"}
    plain = registry.register("items", EmbeddingTable.from_arrays(None, x + 1)).version
    assert plain.space.metric == "dot", "what a table does not say stays what it was"
    table = EmbeddingTable.from_arrays(None, x + 2, space=space)
    said = registry.register("items", table, metric="l2").version
    assert said.space.metric == "l2", "what the call says comes first"
