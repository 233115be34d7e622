"""Plain vectors in Python: the numbers of registered ones, nothing written, no array changed."""

from __future__ import annotations

import copy
import dataclasses
import doctest
import html
import io
import os
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import embreg
from embreg import EmbeddingTable, EmbregError, Registry
from embreg.evals import notebook
from embreg.evals.report import documents
from embreg.evals.results import Run, Runs
from embreg.evals.runner import discover
from embreg.evals.runner import evaluate as evaluate_registered
from embreg.evals.subject import DatasetTable
from embreg.registry.datasets import parse, with_vectors
from embreg.registry.errors import InputError, NotFound, UnknownChoice, UsageError
from embreg.registry.types import RunRecord

ROWS, DIM = 240, 12
#: ``index`` measures built indexes, which only a registry has.
SUITES = sorted(set(discover()) - {"index"})
KINDS = ("analogies", "pairs", "labels", "qrels", "positives")


def vectors(seed: int = 0, rows: int = ROWS, dim: int = DIM) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((5, dim)) * 2
    return (centres[np.arange(rows) % 5] + rng.standard_normal((rows, dim))).astype(np.float32)


def words(rows: int = ROWS) -> list[str]:
    return [f"w{i}" for i in range(rows)]


def classes(rows: int = ROWS) -> list[str]:
    return [f"group{i % 5}" for i in range(rows)]


QUADS = [(f"w{i}", f"w{i + 1}", f"w{i + 2}", f"w{i + 3}") for i in range(0, 80, 2)]
QUESTIONS = [("first", "semantic", *quad) for quad in QUADS]
PAIRS = [(f"w{i}", f"w{i * 3 % ROWS}", i % 7) for i in range(60)]
QRELS = [(f"w{i}", f"w{(i + step) % ROWS}", step % 3) for i in range(40) for step in (5, 10, 12)]
POSITIVES = [(f"w{i}", f"w{i + 5}") for i in range(ROWS - 5)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file of each kind."""
    folder = tmp_path / "files"
    folder.mkdir()
    texts = {
        "analogies": ": first\n" + "".join(" ".join(q) + "\n" for q in QUADS),
        "pairs": "".join(f"{a}\t{b}\t{score}\n" for a, b, score in PAIRS),
        "labels": "".join(f"{i}\t{label}\n" for i, label in zip(words(), classes(), strict=True)),
        "qrels": "".join(f"{q} 0 {item} {relevance}\n" for q, item, relevance in QRELS),
        "positives": "".join(f"{a}\t{b}\n" for a, b in POSITIVES),
    }
    for kind, text in texts.items():
        (folder / f"{kind}.txt").write_text(text)
    return {kind: folder / f"{kind}.txt" for kind in KINDS}


@pytest.fixture
def filled(registry: Registry, files: dict[str, Path]) -> Registry:
    registry.register("words", EmbeddingTable.from_arrays(words(), vectors(1)))
    registry.register("words", EmbeddingTable.from_arrays(words(), vectors()))
    for kind, path in files.items():
        registry.add_dataset(kind, path, kind)
    return registry


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no registry in force."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("EMBREG_REGISTRY", raising=False)
    return folder


def numbers(run: RunRecord) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Return what a run measured, but for what a clock has a part in."""
    suite = discover()[run.suite]
    told = {}
    for m in run.measures:
        metric = suite.metric(m.metric)
        assert metric is not None
        value = None if metric.timed else (m.value, m.low, m.high)
        told[m.metric, str(sorted(m.labels.items()))] = (value, m.n)
    return told


def test_one_suite_may_be_named_as_a_text(filled: Registry) -> None:
    assert [run.suite for run in embreg.evaluate(vectors(), suites="hubness")] == ["hubness"]
    assert [run.suite for run in embreg.evaluate("words@1", suites="hubness", registry=filled)] == ["hubness"]
    compared = embreg.compare("words@1", "words@2", suites="hubness", registry=filled)
    assert {run.suite for runs in compared.runs.values() for run in runs} == {"hubness"}


def assert_same(plain: Run, registered: Run) -> None:
    assert (plain.status, plain.reason) == (registered.status, registered.reason)
    assert numbers(plain) == numbers(registered)
    assert plain.absent == registered.absent
    assert plain.verdict == registered.verdict
    assert (plain.params, plain.seed, plain.confidence) == (
        registered.params, registered.seed, registered.confidence
    )  # fmt: skip
    assert (plain.items is None) == (registered.items is None)
    if plain.items is not None and not any(m.timed for m in discover()[plain.suite].metrics):
        assert plain.per_item().equals(registered.per_item())


# -- the same numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("suite", SUITES)
def test_plain_vectors_have_the_numbers_of_registered_ones(
    suite: str, seed: int, filled: Registry, files: dict[str, Path]
) -> None:
    chosen: dict[str, Any] = {"suites": [suite], "seed": seed, "confidence": 0.9}
    registered = embreg.evaluate(filled, "words@2", baseline="words@1", **chosen)
    plain = embreg.evaluate(vectors(), ids=words(), baseline=vectors(1), datasets=files, **chosen)
    assert [run.suite for run in plain] == [run.suite for run in registered] != []
    for ours, theirs in zip(plain, registered, strict=True):
        assert ours.measures
        assert_same(ours, theirs)
        assert (ours.dataset, ours.id) == (theirs.dataset, None)
        assert ours.version == "array"
        assert ours.baseline == ("baseline" if theirs.baseline else None)


def test_every_suite_is_run_or_says_what_it_lacks_and_how_to_give_it() -> None:
    runs = embreg.evaluate(vectors(rows=60), queries=0)
    assert [run.suite for run in runs] == sorted(discover())
    reasons = {run.suite: run.reason for run in runs if run.status != "done"}
    assert set(reasons) == {"alignment", "analogies", "drift", "index", "probe", "retrieval", "similarity"}
    assert reasons["drift"] == "needs a baseline (baseline=…)"
    assert reasons["similarity"] == "needs a dataset of kind pairs (datasets={'pairs': rows})"
    assert "registry" in reasons["index"]
    assert runs["hubness"].params["graph_queries"] == 0


def test_parameters_and_confidence_reach_the_suites() -> None:
    wide, narrow = (
        embreg.evaluate(vectors(), suites=["hubness"], params={"hubness": {"k": k}}, confidence=c)[0]
        for k, c in ((5, 0.99), (10, 0.5))
    )
    assert (wide.params["k"], narrow.params["k"]) == (5, 10)
    (a,), (b,) = ([m for m in run.measures if m.metric == "antihub_rate"] for run in (wide, narrow))
    assert a.low is not None
    assert a.high is not None
    assert b.low is not None
    assert b.high is not None
    assert a.high - a.low > b.high - b.low


def test_drift_of_vectors_is_that_of_versions(filled: Registry) -> None:
    ours, theirs = (
        embreg.drift(vectors(1), vectors(), ids=words()),
        embreg.drift(filled, "words@1", "words@2"),
    )
    assert_same(ours, theirs)
    assert (ours.baseline, ours.version, ours.verdict) == ("old", "new", theirs.verdict)


def test_drift_by_ids_that_stand_in_another_order() -> None:
    old, ids = vectors(), words()
    turned = embreg.drift(old, old[::-1], ids=ids, new_ids=ids[::-1])
    assert turned.verdict == "identical"
    assert embreg.drift(old, old[:200], ids=ids, new_ids=ids[:200]).value("added") == 0
    assert embreg.drift(old, old[::-1]).verdict != "identical"


def test_a_comparison_of_vectors_is_that_of_versions(filled: Registry, files: dict[str, Path]) -> None:
    chosen: dict[str, Any] = {"suites": ["hubness", "similarity", "neighbors", "drift"], "seed": 3}
    theirs = embreg.compare(filled, "words@1", "words@2", **chosen)
    ours = embreg.compare({"one": vectors(1), "two": vectors()}, ids=words(), datasets=files, **chosen)
    assert (ours.refs, theirs.refs) == (("one", "two"), ("words@1", "words@2"))
    assert ours.tests == theirs.tests > 0
    assert (
        ours.to_arrow()
        .drop(["ref", "run", "reason"])
        .equals(theirs.to_arrow().drop(["ref", "run", "reason"]))
    )
    assert [v.verdict for v in ours.verdicts] == [v.verdict for v in theirs.verdicts]


def test_vectors_of_other_widths_and_counts_are_compared_where_ids_tell_who_is_who() -> None:
    ids = {"full": words(), "some": words(200)}
    compared = embreg.compare({"full": vectors(), "some": vectors()[:200, :6]}, ids=ids, suites=["hubness"])
    assert {cell.n for row in compared.rows for cell in row.cells} == {ROWS, 200}
    third = embreg.compare(vectors(), vectors(1), vectors(2), suites=["hubness"], glance=True)
    assert third.refs == ("array 1", "array 2", "array 3")


# -- what can be given --------------------------------------------------------------------------------------


def _mapped(x: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


def _read_only(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.flags.writeable = False
    return y


LAYOUTS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "read-only": lambda x, _: _read_only(x),
    "mapped": _mapped,
    "Fortran order": lambda x, _: np.asfortranarray(x),
    "negative strides": lambda x, _: x[::-1].copy()[::-1],
    "every second column": lambda x, _: np.repeat(x, 2, axis=1)[:, ::2],
    "float64": lambda x, _: x.astype(np.float64),
    "big-endian": lambda x, _: x.astype(">f4"),
    "long double": lambda x, _: x.astype(np.longdouble),
    "lists": lambda x, _: x.tolist(),
    "tuples of arrays": lambda x, _: tuple(x),
    "a masked array without masks": lambda x, _: np.ma.MaskedArray(x),
    "a table": lambda x, _: EmbeddingTable.from_arrays(None, x),
    "Arrow, fixed lists": lambda x, _: pa.table(
        {"vector": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])}
    ),
    "Arrow, lists of doubles": lambda x, _: pa.table({"emb": pa.array(x.astype(float).tolist())}),
    "Arrow, a column a dimension": lambda x, _: pa.table({f"d{i}": x[:, i] for i in range(x.shape[1])}),
    "Arrow, in chunks": lambda x, _: pa.concat_tables(
        [pa.table({"emb": pa.array(part.tolist(), pa.list_(pa.float32()))}) for part in (x[:7], x[7:])]
    ),
    "Arrow by its protocol": lambda x, _: Stream(pa.table({"emb": pa.array(x.tolist())})),
    "an array by its protocol": lambda x, _: Arraylike(x),
}


class Stream:
    """A data frame of some library."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class Arraylike:
    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.x if dtype is None else self.x.astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_the_same_numbers_gives_the_same_and_stays_what_it_was(
    layout: str, tmp_path: Path
) -> None:
    given = LAYOUTS[layout](vectors(), tmp_path)
    before = np.array(given) if isinstance(given, np.ndarray | list | tuple) else None
    (expected,) = embreg.evaluate(vectors(), suites=["neighbors"])
    (run,) = embreg.evaluate(given, suites=["neighbors"])
    assert numbers(run) == numbers(expected)
    if before is not None:
        assert np.array_equal(np.array(given), before)


def test_rows_of_floats_are_not_copied_and_others_once() -> None:
    x = vectors()
    for kept in (x, x.astype(np.float16), _read_only(x)):
        table = embreg.evals.plain.to_table(kept, name="x").table
        assert np.shares_memory(table.vectors, kept)
        assert not table.vectors.flags.writeable
        assert table.space.dtype == kept.dtype.name
    assert not np.shares_memory(embreg.evals.plain.to_table(x.T.copy().T, name="x").table.vectors, x)


def test_float16_is_measured_as_what_it_is(registry: Registry) -> None:
    half = vectors().astype(np.float16)
    registry.register("half", EmbeddingTable.from_arrays(None, half))
    ours = embreg.evaluate(half, suites=["quantization"])
    assert_same(ours[0], embreg.evaluate(registry, "half", suites=["quantization"])[0])
    assert ours.notes == ()


def test_casts_are_told() -> None:
    assert embreg.evaluate(vectors().astype(float), suites=["hubness"]).notes == (
        "array: float64 values were rounded to float32",
    )
    assert embreg.evaluate(vectors().tolist(), suites=["hubness"]).notes == ()


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(vectors())
    (expected,) = embreg.evaluate(vectors(), suites=["hubness"])
    leaf = x.clone().requires_grad_(True)
    for tensor in (x, leaf, leaf * 1, torch.nn.Parameter(x), torch.nn.Embedding.from_pretrained(x).weight,
                   x.t().contiguous().t(), list(x), x.double()):  # fmt: skip
        (run,) = embreg.evaluate(tensor, suites=["hubness"])
        assert numbers(run) == numbers(expected)
    assert np.shares_memory(embreg.evals.plain.to_table(x, name="x").table.vectors, x.numpy())
    assert leaf.grad is None
    rounded = x.to(torch.bfloat16)
    runs = [embreg.evaluate(t, suites=["hubness"])[0] for t in (rounded, rounded.float())]
    assert numbers(runs[0]) == numbers(runs[1])
    assert embreg.evaluate(x.half(), suites=["hubness"])[0].measures
    with pytest.raises(InputError, match="integers"):
        embreg.evaluate(x.to(torch.int8), suites=["hubness"])
    with pytest.raises(InputError, match="dense tensor"):
        embreg.evaluate(x.to_sparse(), suites=["hubness"])


def test_tensors_of_an_accelerator_are_fetched() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no accelerator here")
    (run,) = embreg.evaluate(torch.from_numpy(vectors()).cuda(), suites=["hubness"])
    assert numbers(run) == numbers(embreg.evaluate(vectors(), suites=["hubness"])[0])


def test_torch_is_not_loaded_for_arrays() -> None:
    script = (
        "import sys, embreg\n"
        "assert 'numpy' not in sys.modules, 'importing embreg costs something'\n"
        "import numpy as np\n"
        "print(embreg.evaluate(np.eye(30), suites=['hubness'])[0].status)\n"
        "print([m for m in ('torch', 'sqlalchemy', 'faiss', 'pandas', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["done", "[]"], done.stderr


def test_a_table_brings_ids_labels_and_metric() -> None:
    frame = pa.table({"word": words(), "emb": pa.array(vectors().tolist()), "label": classes()})
    by_table = embreg.evaluate(frame, suites=["probe", "hubness"])
    by_hand = embreg.evaluate(vectors(), ids=words(), labels=classes(), suites=["probe", "hubness"])
    assert numbers(by_table["probe"]) == numbers(by_hand["probe"])
    assert by_table["hubness"].per_item().equals(by_hand["hubness"].per_item())
    renamed = embreg.evaluate(frame, ids=range(ROWS), suites=["hubness"])["hubness"]
    assert renamed.per_item().column("item").to_pylist()[:2] == ["0", "1"]
    with pytest.raises(InputError, match="the id 'group0' is in rows 0 and 5"):
        embreg.evaluate(frame, ids="label")
    space = embreg.Space(dim=DIM, metric="dot")
    table = EmbeddingTable.from_arrays(words(), vectors(), space=space)
    assert numbers(embreg.evaluate(table, suites=["hubness"])[0]) == numbers(
        embreg.evaluate(vectors(), ids=words(), metric="dot", suites=["hubness"])[0]
    )


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_the_metric_is_the_one_asked_for(metric: str, registry: Registry) -> None:
    registry.register("words", EmbeddingTable.from_arrays(words(), vectors()), metric=metric)
    (ours,) = embreg.evaluate(vectors(), ids=words(), metric=metric, suites=["hubness"])
    assert_same(ours, embreg.evaluate(registry, "words", suites=["hubness"])[0])
    assert numbers(ours) != numbers(embreg.evaluate(vectors(), suites=["hubness"])[0])


def test_ids_of_any_kind() -> None:
    for given in (words(), tuple(words()), np.array(words()), pa.array(words()), pa.chunked_array([words()])):
        (run,) = embreg.evaluate(vectors(), ids=given, suites=["hubness"])
        assert run.per_item().column("item").to_pylist() == words()
    (run,) = embreg.evaluate(vectors(), ids=np.arange(ROWS) + 5, suites=["hubness"])
    assert run.per_item().column("item")[0].as_py() == "5"


LABELS: dict[str, Any] = {
    "in order": classes(),
    "an array": np.array(classes()),
    "by id": dict(zip(words(), classes(), strict=True)),
    "an Arrow column": pa.chunked_array([classes()]),
    "pairs": list(zip(words(), classes(), strict=True)),
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_of_any_form(form: str, files: dict[str, Path]) -> None:
    chosen: dict[str, Any] = {"ids": words(), "suites": ["probe"]}
    (expected,) = embreg.evaluate(vectors(), datasets={"labels": files["labels"]}, **chosen)
    (run,) = embreg.evaluate(vectors(), labels=LABELS[form], **chosen)
    assert numbers(run) == numbers(expected)
    assert (run.dataset, run.dataset_digest) == ("labels", expected.dataset_digest)
    (run,) = embreg.evaluate(vectors(), datasets={"mine": ("labels", LABELS[form])}, **chosen)
    assert (run.dataset, numbers(run)) == ("mine", numbers(expected))


def test_rows_without_a_label_have_none() -> None:
    some: list[Any] = list(range(ROWS))
    some = [i % 5 if i % 2 else None for i in some]
    (run,) = embreg.evaluate(vectors(), labels=some, suites=["probe"])
    (coverage,) = [m for m in run.measures if m.metric == "coverage"]
    assert (coverage.value, coverage.n) == (1, ROWS // 2)
    missing = np.array([np.nan if s is None else s for s in some])
    (as_floats,) = embreg.evaluate(vectors(), labels=missing, suites=["probe"])
    assert as_floats.value("macro_f1") == run.value("macro_f1")


ROWS_OF: dict[str, Any] = {"analogies": QUESTIONS, "pairs": PAIRS, "qrels": QRELS, "positives": POSITIVES}
MEASURED_BY = {
    "analogies": "analogies",
    "pairs": "similarity",
    "qrels": "retrieval",
    "positives": "alignment",
}


@pytest.mark.parametrize("kind", MEASURED_BY)
def test_datasets_of_any_form(kind: str, files: dict[str, Path]) -> None:
    rows = parse(files[kind], kind)
    forms: list[Any] = [
        {kind: ROWS_OF[kind]},
        {kind: rows},
        {kind: str(files[kind])},
        {"mine": (kind, ROWS_OF[kind])},
        {"mine": DatasetTable(name="theirs", kind=kind, rows=rows)},
        [DatasetTable(name="mine", kind=kind, rows=rows)],
    ]
    found = [
        embreg.evaluate(vectors(), ids=words(), datasets=form, suites=[MEASURED_BY[kind]]) for form in forms
    ]
    assert found[0][0].measures
    assert all(numbers(runs[0]) == numbers(found[0][0]) for runs in found)
    assert [runs[0].dataset for runs in found] == [kind, kind, kind, "mine", "mine", "mine"]


def test_analogies_need_no_section() -> None:
    found = [
        embreg.evaluate(vectors(), ids=words(), datasets={"analogies": rows}, suites=["analogies"])[0]
        for rows in (QUADS, QUESTIONS)
    ]
    assert found[0].value("accuracy", group="total") == found[1].value("accuracy", group="total")
    assert found[0].value("accuracy", section="questions") == found[0].value("accuracy", group="total")


def test_numbered_rows_are_meant_by_their_numbers() -> None:
    (run,) = embreg.evaluate(
        vectors(), datasets={"pairs": [(0, 5, 3), (1, 2, 1), (7, 9, 2)]}, suites=["similarity"]
    )
    assert run.value("coverage") == 1


def test_datasets_with_vectors_of_their_own(filled: Registry, files: dict[str, Path]) -> None:
    asked = EmbeddingTable.from_arrays([f"q{i}" for i in range(20)], vectors(5, rows=20))
    rows = pa.table({"query": [f"q{i}" for i in range(20)], "item": words(20), "relevance": [1] * 20})
    carried = with_vectors(rows, "qrels", asked)
    (run,) = embreg.evaluate(vectors(), ids=words(), datasets={"qrels": carried}, suites=["retrieval"])
    assert run.measures
    without = embreg.evaluate(vectors(), ids=words(), datasets={"qrels": rows}, suites=["retrieval"])
    assert without[0].status == "skipped"


def test_built_in_datasets_need_no_registry(nowhere: Path, glove_rows: Any) -> None:
    ids, x = glove_rows(20_000)
    runs = embreg.evaluate(x, ids=ids, datasets=["builtin/english/pairs"], suites=["similarity"])
    assert runs["similarity"].value("spearman") > 0.3
    assert embreg.evaluate(x, ids=ids, suites=["similarity"])[0].measures == runs[0].measures != ()
    assert embreg.evaluate(vectors(), suites=["similarity"])[0].status == "skipped"


def test_rows_that_are_not_finite_take_no_part_and_are_told() -> None:
    x = vectors()
    x[3, 2], x[40] = np.nan, np.inf
    x[41] = 0
    before = x.copy()
    runs = embreg.evaluate(x, suites=["hubness"])
    assert np.array_equal(x, before, equal_nan=True)
    assert runs.notes == ("array: 2 rows hold NaN or infinity, and take no part",)
    assert "array: 2 rows hold NaN or infinity" in repr(runs)
    assert "2 rows hold NaN or infinity" in runs._repr_html_()
    left = np.delete(x, [3, 40, 41], axis=0)
    assert numbers(runs[0]) == numbers(embreg.evaluate(left, suites=["hubness"])[0])
    beyond = x.astype(float)
    beyond[7, 0] = 1e300
    assert embreg.evaluate(beyond, suites=["hubness"]).notes[1].startswith("array: 3 rows hold NaN")
    run = embreg.drift(x, vectors())
    assert run.notes[0] == "old: 2 rows hold NaN or infinity, and take no part"


# -- what cannot be given -----------------------------------------------------------------------------------

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "integers": (
        lambda: embreg.evaluate(np.arange(12).reshape(4, 3)),
        r"array: holds integers \(int64\), not floats",
    ),
    "packed bits": (
        lambda: embreg.evaluate(np.ones((4, 3), np.uint8)),
        r"unsigned integers \(uint8\).*astype",
    ),
    "booleans": (lambda: embreg.evaluate(np.ones((4, 3), bool)), r"holds booleans"),
    "complex": (lambda: embreg.evaluate(np.ones((4, 3), complex)), r"holds complex numbers"),
    "objects": (lambda: embreg.evaluate(X.astype(object)), r"holds Python objects \(ndarray\), not floats"),
    "text": (lambda: embreg.evaluate([["a", "b"]]), r"holds text"),
    "None": (lambda: embreg.evaluate(None), r"holds Python objects \(NoneType\)"),
    "a mapping": (lambda: embreg.evaluate({"a": [1.0]}), r"holds Python objects \(dict\)"),
    "None inside": (lambda: embreg.evaluate([[1.0, None]]), r"holds Python objects \(list\)"),
    "one dimension": (lambda: embreg.evaluate(X[0]), r"array: the array has 1 dimensions, not 2: \(3,\)"),
    "three dimensions": (lambda: embreg.evaluate(X[None]), r"has 3 dimensions"),
    "a number": (lambda: embreg.evaluate(3.5), r"has 0 dimensions"),
    "no rows": (lambda: embreg.evaluate(X[:0]), r"array: holds no rows"),
    "an empty list": (lambda: embreg.evaluate([]), r"array: holds no rows"),
    "no columns": (lambda: embreg.evaluate(X[:, :0]), r"dimension 0"),
    "ragged": (lambda: embreg.evaluate([[1.0, 2.0], [3.0]]), r"array: row 1: expected 2 numbers, found 1"),
    "masked": (lambda: embreg.evaluate(np.ma.masked_less(X, 0)), r"some numbers are masked"),
    "records": (lambda: embreg.evaluate(np.zeros(3, [("a", "f4")])), r"holds records"),
    "no such metric": (lambda: embreg.evaluate(X, metric="manhattan"), r"unknown metric 'manhattan'"),
    "no such suite": (
        lambda: embreg.evaluate(X, suites=["hubnes"]),
        r"unknown suite.*did you mean 'hubness'",
    ),
    "no such parameter": (
        lambda: embreg.evaluate(X, params={"hubness": {"q": 1}}),
        r"unknown parameter of hubness",
    ),
    "seed": (lambda: embreg.evaluate(X, seed=-1), r"a seed lies between"),
    "confidence": (lambda: embreg.evaluate(X, confidence=95), r"a confidence lies between"),
    "queries": (lambda: embreg.evaluate(X, queries=-1), r"-1 queries"),
    "fewer ids": (lambda: embreg.evaluate(X, ids=["a"]), r"array: 1 ids for 6 rows"),
    "an id twice": (lambda: embreg.evaluate(X, ids=list("abcdea")), r"the id 'a' is in rows 0 and 5"),
    "ids of floats": (lambda: embreg.evaluate(X, ids=[0.5] * 6), r"the id of row 0 is of type float"),
    "half a letter": (lambda: embreg.evaluate(X, ids=[*"abcde", "\ud800"]), r"no Unicode text"),
    "a column of an array": (lambda: embreg.evaluate(X, ids="word"), r"an array has no column 'word'"),
    "ids of a table": (
        lambda: embreg.evaluate(EmbeddingTable.from_arrays(None, X), ids=list("abcdef")),
        r"has its ids and its metric",
    ),
    "no column of floats": (lambda: embreg.evaluate(pa.table({"a": ["x"]})), r"no column of floats"),
    "two columns of vectors": (
        lambda: embreg.evaluate(pa.table({"a": [[1.0]], "b": [[1.0]]})),
        r"several columns.*select the columns",
    ),
    "an id of a table twice": (
        lambda: embreg.evaluate(pa.table({"id": ["a", "a"], "v": [[1.0], [2.0]]})),
        r"the id 'a' is in rows 0 and 1",
    ),
    "fewer labels": (lambda: embreg.evaluate(X, labels=[1, 2]), r"labels: 2 labels for 6 rows"),
    "no labels": (lambda: embreg.evaluate(X, labels=[None] * 6), r"labels: no rows"),
    "an id with two labels": (
        lambda: embreg.evaluate(X, labels=[("0", "a"), ("0", "b")]),
        r"id '0' has two labels",
    ),
    "no such kind": (
        lambda: embreg.evaluate(X, datasets={"x": ("pears", [])}),
        r"unknown kind of dataset 'pears'",
    ),
    "no kind": (lambda: embreg.evaluate(X, datasets={"x": [("a", "b", 1)]}), r"dataset 'x' has no kind"),
    "a dataset of nothing": (lambda: embreg.evaluate(X, datasets=[3]), r"a dataset of type int"),
    "rows of nothing": (
        lambda: embreg.evaluate(X, datasets={"pairs": 3}),
        r"a value of type int has no rows",
    ),
    "no rows of pairs": (lambda: embreg.evaluate(X, datasets={"pairs": []}), r"pairs: no rows"),
    "a short row": (
        lambda: embreg.evaluate(X, datasets={"pairs": [(1, 2, 3), (1, 2)]}),
        r"pairs: row 1: found 2 values.*\(a, b, score\)",
    ),
    "a score": (
        lambda: embreg.evaluate(X, datasets={"pairs": [(1, 2, "much")]}),
        r"row 0: 'much' is no number",
    ),
    "a score of NaN": (
        lambda: embreg.evaluate(X, datasets={"pairs": [(1, 2, np.nan)]}),
        r"row 0: nan is no score",
    ),
    "half a relevance": (lambda: embreg.evaluate(X, datasets={"qrels": [(1, 2, 0.5)]}), r"0.5 is not whole"),
    "an id of a pair": (lambda: embreg.evaluate(X, datasets={"positives": [(1, 2.5)]}), r"2.5 is no id"),
    "no answer": (
        lambda: embreg.evaluate(X, datasets={"analogies": [("s", "g", 1, 2, 3, [])]}),
        r"row 0: no answer",
    ),
    "a column missing": (
        lambda: embreg.evaluate(X, datasets={"pairs": pa.table({"a": ["x"]})}),
        r"pairs: no column 'b'",
    ),
    "two of a name": (
        lambda: embreg.evaluate(X, labels=[1] * 6, datasets={"labels": [1] * 6}),
        r"two datasets are called 'labels'",
    ),
    "no file": (lambda: embreg.evaluate(X, datasets={"pairs": "nowhere.tsv"}), r"nowhere.tsv: no such file"),
    "no registry": (lambda: embreg.evaluate("words@1"), r"(?s)no registry"),
    "no registry for a dataset": (lambda: embreg.evaluate(X, datasets=["wordsim"]), r"(?s)no registry"),
    "not built in": (lambda: embreg.evaluate(X, datasets=["builtin/welsh"]), r"no dataset 'builtin/welsh'"),
    "two things": (lambda: embreg.evaluate(X, X), r"two things to measure"),
    "ids of no baseline": (
        lambda: embreg.evaluate(X, baseline_ids=[1]),
        r"ids of a baseline, and no baseline",
    ),
    "a shorter baseline": (
        lambda: embreg.evaluate(X, baseline=X[:4]),
        r"baseline: 4 rows without ids, and array has 6",
    ),
    "a baseline of other ids": (
        lambda: embreg.evaluate(X, ids=list("abcdef"), baseline=X[:4]),
        r"baseline: 4 rows without ids, and array has 6",
    ),
    "drift of one": (lambda: embreg.drift(X, None), r"drift is between two"),
    "drift of three": (lambda: embreg.drift(X, X, X), r"drift is between two"),
    "comparison of one": (lambda: embreg.compare(X), r"a comparison takes at least two"),
    "comparison of nothing": (lambda: embreg.compare(), r"a comparison takes at least two"),
    "comparison of no counterpart": (lambda: embreg.compare(X, X[:3]), r"array 2: 3 rows without ids"),
    "ids of nobody": (
        lambda: embreg.compare({"a": X, "b": X}, ids={"c": [1]}),
        r"ids of 'c', which is not compared",
    ),
    "alpha": (lambda: embreg.compare(X, X, suites=["hubness"], alpha=5), r"alpha lies between"),
    "unmeasured": (lambda: embreg.compare(X, X, measure=False), r"nothing is recorded of vectors"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_in_one_line(case: str, nowhere: Path) -> None:
    call, wanted = BAD[case]
    with pytest.raises(EmbregError, match=wanted) as caught:
        call()
    assert isinstance(caught.value, InputError | UsageError | NotFound)
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) < 400
    assert list(nowhere.iterdir()) == []


# -- results ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs() -> Runs:
    return embreg.evaluate(
        vectors(), ids=words(), labels=classes(), suites=["neighbors", "hubness", "analogies"],
        datasets={"one": ("labels", classes()), "pairs": PAIRS},
    )  # fmt: skip


def test_runs_are_a_tuple_that_is_asked_by_name(runs: Runs) -> None:
    assert isinstance(runs, tuple)
    first, second, *_ = runs
    assert [run.suite for run in runs] == ["neighbors", "neighbors", "hubness", "analogies"]
    assert all(isinstance(run, Run) and isinstance(run, RunRecord) for run in runs)
    assert runs[0] is first
    assert runs[-1] is runs["analogies"]
    assert runs["neighbors", "one"] is first
    assert runs["neighbors", "labels"] is second
    assert isinstance(runs[1:], Runs)
    assert list(runs[1:]) == list(runs)[1:]
    assert "hubness" in runs
    assert "drift" not in runs
    assert first in runs
    assert runs == tuple(runs)
    assert len(runs) == 4
    with pytest.raises(UsageError, match=r"neighbors was run 2 times: dataset=one; dataset=labels"):
        runs["neighbors"]
    with pytest.raises(NotFound, match=r"no run of drift among these.*neighbors, hubness, analogies"):
        runs["drift"]
    with pytest.raises(UnknownChoice, match="did you mean 'hubness'"):
        runs["hubnes"]
    with pytest.raises(
        NotFound, match=r"neighbors was not run on dataset=two .but on dataset=one; dataset=labels"
    ):
        runs["neighbors", "two"]
    with pytest.raises(IndexError):
        runs[9]


def test_a_value_is_found_by_metric_and_labels(runs: Runs) -> None:
    by_metric = {m.metric: m.value for m in runs["hubness"].measures if not m.labels}
    assert runs.value("hubness.skewness") == by_metric["skewness"] == runs["hubness"].value("skewness")
    margins = {m.labels["q"]: m.value for m in runs[0].measures if m.metric == "margin@10"}
    assert runs.value("neighbors.margin@10", dataset="one", q="0.5") == margins["0.5"]
    assert runs.value("neighbors.margin@k", dataset="one", q=0.5) == margins["0.5"]
    for metric, labels, wanted in [
        ("hubness.skew", {}, "unknown metric"),
        ("skewness", {}, "names no suite"),
        ("drift.rbo", {}, "no run of drift among these"),
        ("analogies.accuracy", {}, "was skipped: needs a dataset of kind analogies"),
        ("neighbors.purity@10", {}, "neighbors was run 2 times: dataset=one"),
        ("neighbors.margin@10", {"dataset": "one"}, "ambiguous: labels q=0.05"),
        ("neighbors.margin@10", {"dataset": "one", "q": 0.7}, "no such labels"),
    ]:
        with pytest.raises(EmbregError, match=wanted):
            runs.value(metric, **labels)


def test_a_run_equals_its_record_and_opens_its_items(runs: Runs) -> None:
    run = runs["hubness"]
    record = RunRecord(**{name: getattr(run, name) for name in RunRecord.__dataclass_fields__})
    assert run == record
    assert record == run
    assert run != runs[0]
    assert run != "hubness"
    assert copy.deepcopy(run) == run
    assert dataclasses.asdict(run).keys() == RunRecord.__dataclass_fields__.keys()
    other = dataclasses.replace(run, version="other")
    assert other != run
    with pytest.raises(NotFound, match="are kept nowhere"):
        other.per_item()
    assert copy.copy(runs) == runs
    assert copy.deepcopy(runs).notes == runs.notes
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.suite = "mine"  # type: ignore[misc]
    items = run.per_item()
    assert items.column_names == ["item", "k_occurrence"]
    assert len(items) == ROWS
    with pytest.raises(NotFound, match="analogies was skipped: needs a dataset"):
        runs["analogies"].per_item()


def test_results_as_arrow(runs: Runs) -> None:
    table = runs.to_arrow()
    assert table.column_names == [
        "suite", "suite_version", "version", "baseline", "dataset", "status", "metric", "labels", "value",
        "n", "low", "high", "unit", "better", "reason",
    ]  # fmt: skip
    rows = table.to_pylist()
    assert len(rows) == sum(len(run.measures) for run in runs) + 1
    (row,) = [
        r for r in rows if r["metric"] == "margin@10" and r["labels"] == "q=0.5" and r["dataset"] == "one"
    ]
    assert row["value"] == runs.value("neighbors.margin@10", dataset="one", q=0.5)
    assert (row["status"], row["n"], row["unit"], row["better"]) == ("done", ROWS, "score", "neither")
    (skipped,) = [r for r in rows if r["suite"] == "analogies"]
    assert (skipped["status"], skipped["metric"], skipped["value"]) == ("skipped", None, None)
    assert skipped["reason"] == runs["analogies"].reason
    assert runs["hubness"].to_arrow().num_rows == len(runs["hubness"].measures)
    assert Runs().to_arrow().schema == table.schema


def test_results_as_documents_are_those_of_the_command_line(runs: Runs, filled: Registry) -> None:
    assert runs.to_dict() == documents.runs(list(runs))
    assert runs["hubness"].to_dict() == runs.to_dict()["runs"][2]
    recorded = embreg.evaluate(filled, "words@2", suites=["hubness"])
    assert recorded.to_dict() == documents.runs(filled.runs("words@2"))


def test_a_repr_is_aligned_text(runs: Runs) -> None:
    told = repr(runs)
    lines = told.split("\n")
    assert told.isascii() or "\x1b" not in told
    assert max(map(len, lines)) <= 110
    assert len(lines) < 60
    assert any(line.startswith("hubness") for line in lines)
    assert "– analogies skipped: needs a dataset of kind analogies (datasets={'analogies': rows})" in lines
    assert any("more measures: to_arrow()" in line for line in lines)
    assert repr(runs["hubness"]).startswith("hubness ")
    assert repr(Runs()) == "nothing was measured"
    drifted = embreg.drift(vectors(), vectors(1))
    assert f": {drifted.verdict}" in repr(drifted).split("\n")[0]
    compared = embreg.compare(vectors(), vectors(1), suites=["hubness"])
    assert repr(compared).startswith("array 2 against array 1")
    assert "--all-labels" not in repr(compared)
    assert repr(compared.changed()).startswith("array 2 against array 1")


HOSTILE = [
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "' onmouseover='x",
    "a\nb\rc\u202e",
    "{{ 7 * 7 }} {% raw %}",
    "x" * 10_000,
    '"></td><img src=http://example.com/x>',
]


class Page(HTMLParser):
    """What a browser makes of a piece of HTML: its tags, its attributes, its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @classmethod
    def of(cls, text: str) -> Page:
        page = cls()
        page.feed(text)
        page.close()
        assert page.open == []
        return page


ALLOWED = {"div", "style", "table", "caption", "span", "thead", "tbody", "tr", "th", "td", "p"}


def test_hostile_names_stay_text() -> None:
    ids = [*HOSTILE, *words()][:ROWS]
    labels = [HOSTILE[i % len(HOSTILE)] for i in range(ROWS)]
    runs = embreg.evaluate(
        vectors(), ids=ids, labels=labels, name=HOSTILE[0], baseline=vectors(1), seed=1,
        suites=["hubness", "neighbors", "probe", "drift", "analogies"],
        datasets={HOSTILE[6]: ("pairs", PAIRS), HOSTILE[4]: ("labels", labels)},
    )  # fmt: skip
    compared = embreg.compare(
        {name: vectors() for name in HOSTILE[:3]}, labels=labels, suites=["hubness", "probe"]
    )
    for shown in (runs, runs["hubness"], runs["drift"], compared):
        text = repr(shown)
        assert text.replace("\n", "").isprintable()
        assert len(text) < 20_000
        page = Page.of(shown._repr_html_())
        assert set(page.tags) <= ALLOWED
        assert page.attributes <= {"class", "scope", "title"}
        assert "x" * 1000 not in page.text
        assert len(shown._repr_html_()) < 60_000
    whole = runs._repr_html_()
    assert html.escape(HOSTILE[0]) in whole
    assert "http" not in Page.of(whole).attributes
    assert "49" not in Page.of(runs["hubness"]._repr_html_()).text.split()


def test_html_is_a_piece_that_asks_nobody(runs: Runs) -> None:
    page = Page.of(runs._repr_html_())
    assert set(page.tags) <= ALLOWED
    assert "url(" not in page.text
    assert "@import" not in page.text
    for words_of in ("hubness", "neighbors on one", "skewness", "[", "analogies skipped: needs a dataset"):
        assert words_of in page.text
    assert page.tags.count("table") == 3
    style = runs._repr_html_().partition("<style>")[2].partition("</style>")[0]
    selectors = [s.strip() for line in style.strip().split("\n") for s in line.partition("{")[0].split(",")]
    assert all(s.startswith(".embreg-results ") for s in selectors), "the page around keeps its style"
    assert "nothing was measured" in Runs()._repr_html_()


def test_html_of_a_comparison() -> None:
    compared = embreg.compare(
        {"one": vectors(), "two": vectors(1)[:, :3]},
        ids=words(),
        labels=classes(),
        suites=["probe", "analogies"],
    )
    page = Page.of(compared._repr_html_())
    assert "after Holm over" in page.text
    assert "analogies was skipped" in page.text
    marks = {cell.judged for row in compared.rows for cell in row.cells}
    assert "worse" in marks
    assert "▼ worse" in page.text


# -- what is registered -------------------------------------------------------------------------------------


def test_the_former_form_is_as_it_was(filled: Registry) -> None:
    (run,) = embreg.evaluate(filled, "words@2", suites=["hubness"])
    (theirs,) = evaluate_registered(filled, "words@2", suites=["hubness"])
    assert (theirs.cached, theirs.id) == (True, run.id)
    assert run.per_item().equals(filled.stored_table(run.items))
    drifted = embreg.drift(filled, "words@1", "words@2")
    assert (drifted.baseline, drifted.version) == ("words@1", "words@2")
    assert drifted.per_item().num_rows == ROWS
    assert embreg.evaluate(filled, "words@2", suites=["hubness"], force=True)[0].cached is False


def test_a_reference_finds_its_registry_as_the_commands_do(
    filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EMBREG_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path)
    expected = embreg.evaluate(filled, "words@2", suites=["hubness"])[0]
    with pytest.raises(NotFound, match="no registry"):
        embreg.evaluate("words@2", suites=["hubness"])
    for registry in (filled, filled.root, str(filled.root)):
        (run,) = embreg.evaluate("words@2", suites=["hubness"], registry=registry)
        assert run.id == expected.id
    assert run.per_item().num_rows == ROWS, "its items open though the registry is closed again"
    (tmp_path / "embreg.toml").write_text('[registry]\nurl = "registry"\n')
    assert embreg.evaluate("words@2", suites=["hubness"])[0].id == expected.id
    assert embreg.drift("words@1", "words@2").id is not None
    monkeypatch.setenv("EMBREG_REGISTRY", str(tmp_path / "elsewhere"))
    with pytest.raises(NotFound, match="elsewhere"):
        embreg.evaluate("words@2", suites=["hubness"])
    monkeypatch.setenv("EMBREG_REGISTRY", str(filled.root))
    compared = embreg.compare("words@1", "words@2", suites=["hubness"])
    assert compared.refs == ("words@1", "words@2")
    assert compared.runs["words@2"][0].per_item().num_rows == ROWS
    assert (
        embreg.compare(filled, "words@1", "words@2", suites=["hubness"], measure=False).rows == compared.rows
    )


def test_vectors_beside_a_version_are_measured_and_not_recorded(filled: Registry) -> None:
    changed = vectors()
    changed[:20] += 1
    before = filled.runs("words")
    run = embreg.drift(filled, "words@2", changed)
    assert len(filled.runs("words")) == len(before)
    assert (run.id, run.baseline, run.version) == (None, "words@2", "new")
    filled.register("words", EmbeddingTable.from_arrays(words(), changed))
    assert_same(run, embreg.drift(filled, "words@2", "words@3"))
    kept = len(filled.runs("words"))
    mixed = embreg.evaluate(
        changed, ids=words(), baseline="words@2", registry=filled, suites=["drift", "similarity"]
    )
    assert mixed["drift"].measures == run.measures
    assert mixed["similarity"].dataset == "pairs", "the datasets of the registry are at hand"
    assert embreg.evaluate(filled, "words@2", labels=classes(), suites=["probe"])["probe"].id is None
    compared = embreg.compare("words@1", changed, registry=filled, suites=["hubness"])
    assert compared.refs == ("words@1", "array 2")
    assert len(filled.runs("words")) == kept


def test_what_has_no_meaning_for_a_version_is_refused(filled: Registry) -> None:
    for call, wanted in [
        (lambda: embreg.evaluate(filled), "nothing to measure in it"),
        (lambda: embreg.evaluate("words@2", registry=filled, ids=words()), "a version has its own"),
        (lambda: embreg.evaluate("words@2", registry=filled, metric="dot"), "a version has its own"),
        (lambda: embreg.drift("words@1", vectors(), ids=words(), registry=filled), "has its own ids"),
        (lambda: embreg.compare(filled, "words@1", "words"), None),
        (lambda: embreg.compare(filled, "words@2", "words"), "are both words@2"),
    ]:
        if wanted is None:
            assert call().refs == ("words@1", "words@2")
            continue
        with pytest.raises(UsageError, match=wanted):
            call()
    with embreg.connect(filled.root) as other, pytest.raises(UsageError, match="two registries"):
        embreg.drift(filled, "words@1", "words@2", registry=other)


# -- nothing is left behind ---------------------------------------------------------------------------------


def test_nothing_is_written_and_no_registry_is_made(nowhere: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    embreg.evaluate(
        vectors(), baseline=vectors(1), labels=classes(), progress=lambda *step: told.append(step)
    )
    embreg.drift(vectors(), vectors(1))
    embreg.compare(vectors(), vectors(1), suites=["hubness"])
    assert list(nowhere.rglob("*")) == []
    assert [step for step, _, _ in told if ":" not in step] == [*sorted(discover()), sorted(discover())[-1]]
    assert "EMBREG_REGISTRY" not in os.environ


def test_the_examples_of_the_docstrings_run(nowhere: Path) -> None:
    for function in (notebook.evaluate, notebook.drift, notebook.compare):
        out = io.StringIO()
        (example,) = doctest.DocTestFinder().find(function, function.__name__, globs={})
        assert example.examples
        doctest.DocTestRunner(verbose=False).run(example, out=out.write)
        assert out.getvalue() == ""
