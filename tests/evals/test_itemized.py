"""The items behind runs: order, what broke, what became a hub, what moved; by hand and on real registries."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from scipy import stats

from embreg import EmbeddingTable, Registry, connect
from embreg.evals import knn
from embreg.evals.itemized import Itemized, paired, ranked
from embreg.evals.itemizing import items
from embreg.evals.runner import evaluate
from embreg.evals.suite import Better, Metric, Statistic, Suite
from embreg.registry.errors import CorruptBlob, NotFound, UnknownChoice, UsageError, VersionNotFound
from embreg.registry.types import RunRecord


@dataclass(frozen=True, kw_only=True)
class Params:
    k: int = 2


def metric(name: str, better: Better, **more: Any) -> Metric:
    return Metric(name, unit=more.pop("unit", "share"), better=better, doc="d.", source="own", **more)


def suite_of(name: str, *metrics: Metric) -> Suite:
    return Suite(name=name, version=1, params=Params, metrics=metrics, needs=frozenset(), doc="d.",
                 run=lambda *_: None)  # type: ignore[arg-type, return-value]  # fmt: skip


QUIZ = suite_of(
    "quiz",
    metric("mood", Better.NEITHER, item="mood"),
    metric("accuracy@k", Better.HIGHER, item="correct"),
    metric("loss", Better.LOWER, item="loss"),
)
PAIRS = suite_of(
    "pairs",
    metric("spearman", Better.HIGHER, unit="correlation",
           statistic=Statistic(columns=("score", "predicted"), of=lambda values, counts: values[:, 0])),
)  # fmt: skip


def run_of(suite: str = "quiz", ref: str = "e@1", **more: Any) -> RunRecord:
    return RunRecord(
        suite=suite, suite_version=1, version=ref, version_digest="1" * 64, params={"k": 2}, **more
    )


def names(found: Itemized, group: int = 0) -> list[str]:
    return found.groups[group].items["item"].to_pylist()


TABLE = pa.table(
    {
        "item": ["a", "b", "c", "d", "e"],
        "section": ["x", "x", "y", "y", "y"],
        "mood": [5.0, 4.0, 3.0, 2.0, 1.0],
        "correct": [1.0, 0.0, None, 0.0, 1.0],
        "loss": [0.3, 0.1, 0.9, 0.2, None],
    }
)


class TestRanked:
    def test_by_the_first_metric_with_a_direction_ties_by_the_others(self) -> None:
        # Wrong first; of the two wrong the larger loss; of the right e has none, so it comes last.
        found = ranked(run_of(), TABLE, QUIZ, worst=9, best=2)
        assert (found.column.name, found.column.metric, found.column.worst) == (
            "correct",
            "accuracy@k",
            "lower",
        )
        assert names(found) == ["d", "b", "a", "e"]
        assert names(found, 1) == ["a", "e"]
        assert (found.total, found.unscored) == (4, 1)
        assert found.groups[0].items.column_names[:2] == ["item", "correct"]

    def test_another_column_in_its_own_direction(self) -> None:
        by_loss = ranked(run_of(), TABLE, QUIZ, column="loss", worst=2)
        assert names(by_loss) == ["c", "a"]
        by_mood = ranked(run_of(), TABLE, QUIZ, column="mood", worst=1, best=1)
        assert [(group.name, names(by_mood, i)) for i, group in enumerate(by_mood.groups)] == [
            ("highest", ["a"]), ("lowest", ["e"]),
        ]  # fmt: skip

    def test_a_text_sorts_by_its_alphabet(self) -> None:
        found = ranked(run_of(), TABLE, None, column="section", worst=9)
        assert names(found) == ["a", "b", "c", "d", "e"]
        assert names(ranked(run_of(), TABLE, None, column="section", best=9)) == ["c", "d", "e", "a", "b"]

    def test_without_a_metric_the_last_number_and_the_largest_first(self) -> None:
        assert names(ranked(run_of(), TABLE, None, worst=2)) == ["c", "a"]

    def test_a_slice(self) -> None:
        found = ranked(run_of(), TABLE, QUIZ, labels={"section": "y"}, worst=9)
        assert (names(found), found.total, found.unscored) == (["d", "e"], 2, 1)

    def test_a_variant_has_a_column_of_its_own(self) -> None:
        table = TABLE.append_column("correct[method=m]", pa.array([0.0, 1, 1, 1, 1]))
        found = ranked(run_of(), table, QUIZ, labels={"method": "m"}, worst=1)
        assert (found.column.name, names(found)) == ("correct[method=m]", ["a"])
        assert found.column.worst == "lower"

    def test_a_correlation_ranks_pairs_by_how_far_apart_their_ranks_are(self) -> None:
        score, predicted = [1.0, 2.0, 3.0, 4.0, 5.0], [0.9, 0.2, None, 0.3, 0.4]
        table = pa.table({"item": list("abcde"), "score": score, "predicted": predicted})
        found = ranked(run_of("pairs"), table, PAIRS, worst=9)
        apart = stats.rankdata([0.9, 0.2, 0.3, 0.4]) - stats.rankdata([1, 2, 4, 5])
        assert found.column.name == "rank_gap"
        gaps = dict(zip(names(found), found.groups[0].items["rank_gap"].to_pylist(), strict=True))
        assert gaps == pytest.approx(dict(zip("abde", apart / 3, strict=True)))
        assert names(found) == ["a", "b", "d", "e"]
        assert found.unscored == 1

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ({"column": "corect"}, "did you mean 'correct'"),
            ({"column": "rank_gap"}, "unknown column"),
            ({"labels": {"secton": "x"}}, "did you mean 'section'"),
            ({"labels": {"section": "z"}}, "unknown section 'z'"),
            ({"labels": {"item": "a"}}, "unknown label"),
        ],
    )
    def test_unknown_words(self, more: Any, told: str) -> None:
        with pytest.raises(UnknownChoice, match=told):
            ranked(run_of(), TABLE, QUIZ, worst=1, **more)

    def test_nothing_to_rank_by(self) -> None:
        with pytest.raises(UsageError, match="no numbers"):
            ranked(run_of(), TABLE.select(["item", "section"]), None, worst=1)

    def test_an_empty_table(self) -> None:
        found = ranked(run_of(), TABLE.slice(0, 0), QUIZ, worst=3)
        assert (names(found), found.total, found.to_dict()["items"]) == ([], 0, [])

    def test_json_has_no_number_that_is_none(self) -> None:
        table = pa.table({"item": ["a", "b"], "correct": [0.5, np.nan], "loss": [np.inf, 1.0]})
        found = ranked(run_of(), table, QUIZ, worst=9)
        told = json.dumps(found.to_dict(), allow_nan=False)
        assert json.loads(told)["items"] == [{"outcome": "worst", "item": "a", "correct": 0.5, "loss": None}]


def answers(right: dict[str, float | None], **more: list[Any]) -> pa.Table:
    return pa.table({"item": list(right), "correct": pa.array(right.values(), pa.float64()), **more})


class TestPaired:
    def test_what_broke_and_what_was_mended(self) -> None:
        old = answers({"gone": 1, "a": 1, "b": 1, "c": 0, "d": 1, "u": None}, said=list("zabcdu"))
        new = answers({"a": 1, "d": 0, "c": 1, "b": 0, "u": 1, "came": 0}, said=list("aDcBun"))
        found = paired(run_of(ref="e@2"), new, run_of(), old, QUIZ, worst=9, best=9)
        assert [(g.name, g.count, names(found, i)) for i, g in enumerate(found.groups)] == [
            ("broken", 2, ["d", "b"]), ("mended", 1, ["c"]),
        ]  # fmt: skip
        assert found.counts == {"broken": 2, "mended": 1}
        assert (found.total, found.only_old, found.only_new) == (4, 1, 2)
        assert found.groups[0].items.to_pylist()[0] == {
            "item": "d", "old": 1.0, "new": 0.0, "change": -1.0, "said_old": "d", "said_new": "D",
        }  # fmt: skip

    def test_counts_of_what_is_not_shown(self) -> None:
        old, new = answers(dict.fromkeys("abcd", 1.0)), answers(dict.fromkeys("abcd", 0.0))
        found = paired(run_of(ref="e@2"), new, run_of(), old, QUIZ, worst=1)
        assert (names(found), found.counts) == (["a"], {"broken": 4, "mended": 0})

    def test_scores_by_the_largest_change_for_the_worse(self) -> None:
        old = pa.table({"item": list("abc"), "loss": [0.1, 0.5, 0.5], "section": list("xyz")})
        new = pa.table({"item": list("abc"), "loss": [0.2, 0.9, 0.1], "section": list("xyz")})
        found = paired(run_of(ref="e@2"), new, run_of(), old, QUIZ, worst=9, best=9)
        assert [(g.name, names(found, i)) for i, g in enumerate(found.groups)] == [
            ("worse", ["b", "a"]), ("better", ["c"]),
        ]  # fmt: skip
        assert "section" in found.groups[0].items.column_names
        assert "section_old" not in found.groups[0].items.column_names

    def test_rows_that_became_hubs(self) -> None:
        # k = 2: a hub is in at least four lists.
        old = pa.table({"item": list("abcd"), "k_occurrence": [3, 4, 9, 0]})
        new = pa.table({"item": list("abcd"), "k_occurrence": [4, 3, 20, 3]})
        found = paired(
            run_of("hubness", "e@2"), new, run_of("hubness"), old, suite_of("hubness"), worst=9, best=9
        )
        assert [(g.name, names(found, i)) for i, g in enumerate(found.groups)] == [
            ("new hubs", ["a"]), ("former hubs", ["b"]),
        ]  # fmt: skip

    def test_texts_cannot_be_compared(self) -> None:
        with pytest.raises(UsageError, match="holds no numbers"):
            paired(run_of(), TABLE, run_of(), TABLE, QUIZ, column="section", worst=1)

    def test_nothing_in_common(self) -> None:
        found = paired(run_of(), answers({"a": 1}), run_of(), answers({"b": 1}), QUIZ, worst=1)
        assert (found.total, found.only_old, found.only_new, names(found)) == (0, 1, 1, [])

    @settings(deadline=None, max_examples=60)
    @given(
        old=hs.dictionaries(
            hs.text("abcdef", min_size=1, max_size=2), hs.sampled_from([0.0, 1.0, None]), min_size=1
        ),
        new=hs.dictionaries(
            hs.text("abcdef", min_size=1, max_size=2), hs.sampled_from([0.0, 1.0, None]), min_size=1
        ),
    )
    def test_both_ways(self, old: dict[str, float | None], new: dict[str, float | None]) -> None:
        if not any(v is not None for v in new.values()) or not any(v is not None for v in old.values()):
            return
        there = paired(run_of(), answers(new), run_of(), answers(old), QUIZ, worst=99, best=99)
        back = paired(run_of(), answers(old), run_of(), answers(new), QUIZ, worst=99, best=99)
        lost = {i for i, v in old.items() if v == 1 and new.get(i) == 0}
        won = {i for i, v in old.items() if v == 0 and new.get(i) == 1}
        assert (set(names(there)), set(names(there, 1))) == (lost, won)
        assert (set(names(back)), set(names(back, 1))) == (won, lost)
        assert there.counts == {"broken": len(lost), "mended": len(won)}


SECTION = "family"
WORDS = 6000


@pytest.fixture(scope="module")
def words(glove: Any, gensim_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """words@1: GloVe; words@2: the words of the section family at random; words@3: one row is everybody's."""
    known, vectors = glove[0][:WORDS], np.array(glove[1][:WORDS])
    questions = gensim_data / "questions-words.txt"
    section = questions.read_text(encoding="utf-8").split(f": {SECTION}\n")[1].split("\n:")[0]
    family = {word.lower() for word in section.split()}
    rng = np.random.default_rng(0)
    damaged = vectors.copy()
    at = [i for i, word in enumerate(known) if word in family]
    damaged[at] = rng.standard_normal((len(at), vectors.shape[1])) * 5
    central = vectors.copy()
    central[WORDS - 1] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
    registry = connect(tmp_path_factory.mktemp("words"), create=True)
    for x in (vectors, damaged, central):
        registry.register("words", EmbeddingTable.from_arrays(known, x), kind="word")
    registry.add_dataset("google", questions, "analogies")
    registry.add_dataset("ws353", gensim_data / "wordsim353.tsv", "pairs")
    for n in (1, 2, 3):
        base = {"baseline": "words@1"} if n == 2 else {}
        chosen = ["analogies", "hubness", "similarity", *(["drift"] if base else [])]
        evaluate(registry, f"words@{n}", suites=chosen, **base)
    return registry


class TestOnWords:
    def test_a_planted_damage_of_a_section_is_what_broke(self, words: Registry) -> None:
        found = items(words, "words@1", "words@2", suite="analogies", flipped=True, worst=999)
        broken = found.groups[0].items
        sections = Counter(broken["section"].to_pylist())
        assert sections.most_common(1)[0][0] == SECTION
        assert sections[SECTION] >= 0.8 * len(broken)  # plurals of man and woman broke too
        asked = next(iter(m for m in words.runs("words@1", suite="analogies")[0].measures
                          if m.metric == "accuracy" and m.labels == {"section": SECTION}))  # fmt: skip
        assert sections[SECTION] >= 0.8 * asked.value * asked.n
        first = broken.to_pylist()[0]
        assert (first["old"], first["new"]) == (1.0, 0.0)
        assert first["predicted_old"] == first["expected"].lower() != first["predicted_new"]

    def test_a_planted_hub_is_a_new_hub(self, words: Registry) -> None:
        found = items(words, "words@1", "words@3", suite="hubness", flipped=True)
        row = found.groups[0].items.to_pylist()[0]
        lists = [
            knn.self_neighbors(words.table(f"words@{n}").vectors, 10, metric="cosine").rows for n in (1, 3)
        ]
        own = [int((rows == WORDS - 1).sum()) for rows in lists]
        assert row["item"] == words.table("words@1").ids_of([WORDS - 1])[0]
        assert (row["old"], row["new"]) == tuple(own)
        assert own[0] < 20 <= own[1]
        counts = [np.bincount(rows.ravel(), minlength=WORDS) for rows in lists]
        assert found.counts == {
            "new hubs": int(((counts[0] < 20) & (counts[1] >= 20)).sum()),
            "former hubs": int(((counts[0] >= 20) & (counts[1] < 20)).sum()),
        }

    def test_drift_shows_what_moved_most(self, words: Registry) -> None:
        found = items(words, "words@1", "words@2", suite="drift", flipped=True, worst=10)
        alone = items(words, "words@2", suite="drift", worst=10)
        assert found.to_dict() == alone.to_dict()
        assert found.column.name == "semantic_displacement"
        moved = found.groups[0].items["semantic_displacement"].to_pylist()
        assert moved == sorted(moved, reverse=True)
        table = words.stored_table(str(found.run.items))
        assert moved[0] == max(table["semantic_displacement"].to_pylist())

    def test_a_run_by_its_number(self, words: Registry) -> None:
        run = words.runs("words@2", suite="similarity")[0]
        found = items(words, run.id, worst=3)
        assert found.to_dict() == items(words, f"#{run.id}", worst=3).to_dict()
        assert found.to_dict() == items(words, "words@2", suite="similarity", worst=3).to_dict()
        assert found.run.version == "words@2"
        beside = items(words, "words@1", run.id)
        assert beside.old is not None
        assert (beside.old.version, beside.run.id) == ("words@1", run.id)

    @pytest.mark.parametrize(
        ("asked", "more", "error", "told"),
        [
            (["words@1"], {}, UsageError, r"3 runs with items .*embreg items \d+ \(analogies on google\)"),
            (
                ["words@1", "words@2"], {}, UsageError,
                "embreg items words@1 words@2 --suite analogies --dataset google",
            ),
            (["words@1", "words@1"], {"suite": "hubness"}, UsageError, "name two versions"),
            (["words@1"], {"suite": "hubness", "flipped": True}, UsageError, "compares two versions"),
            (["words@1"], {"suite": "drift"}, NotFound, "drift was not measured of words@1"),
            (["words@1"], {"suite": "hubnes"}, UnknownChoice, "did you mean 'hubness'"),
            (["words@1"], {"dataset": "gogle"}, NotFound, "did you mean 'google'"),
            (["words@1", "words@3"], {"suite": "drift"}, NotFound, "drift was not measured of words@3"),
            (["words@9"], {}, VersionNotFound, "words@9"),
            (["999"], {}, NotFound, "no run 999"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_meant(
        self, words: Registry, asked: Any, more: Any, error: Any, told: str
    ) -> None:
        with pytest.raises(error, match=told):
            items(words, *asked, **more)

    def test_runs_that_cannot_be_compared_say_why(self, words: Registry) -> None:
        params = {"similarity": {"restrict_vocab": 3000}}
        (run,) = evaluate(words, "words@3", suites=["similarity"], params=params)
        with pytest.raises(NotFound, match="parameters differ: restrict_vocab"):
            items(words, "words@1", run.id)
        # By their references, the newest runs that can be compared are meant.
        assert items(words, "words@1", "words@3", suite="similarity").run.id != run.id
        assert items(words, "words@3", suite="similarity").run.id == run.id


class TestGone:
    @pytest.fixture
    def small(self, registry: Registry, table: Any) -> Registry:
        for seed in (0, 1):
            registry.register("t", table(60, seed=seed))
            evaluate(registry, f"t@{seed + 1}", suites=["hubness"])
        return registry

    def test_the_only_run_needs_no_suite(self, small: Registry) -> None:
        assert items(small, "t@1").run.suite == "hubness"
        assert items(small, "t@1", "t@2").old is not None

    def test_items_that_are_gone(self, small: Registry) -> None:
        (run,) = small.runs("t@1")
        blob = small.root / "blobs" / "sha256" / str(run.items)[:2] / str(run.items)
        blob.unlink()
        with pytest.raises(CorruptBlob, match=rf"items of run {run.id} .*missing.*--suite hubness") as told:
            items(small, run.id)
        assert "embreg eval t@1 --suite hubness" in told.value.hint
        evaluate(small, "t@1", suites=["hubness"])
        assert items(small, "t@1").total == 60

    def test_a_deleted_version_takes_its_runs_along(self, small: Registry) -> None:
        (run,) = small.runs("t@1")
        small.delete("t@1")
        with pytest.raises(NotFound, match=f"no run {run.id} .*deleted"):
            items(small, run.id)
        with pytest.raises(VersionNotFound):
            items(small, "t@1", "t@2")

    def test_nothing_was_measured(self, registry: Registry, table: Any) -> None:
        registry.register("t", table(60))
        with pytest.raises(NotFound, match=r"nothing was measured of t@1 .*embreg eval t@1"):
            items(registry, "t")
