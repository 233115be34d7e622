"""The neighbour graph of a large table: samples of any size against every row, in blocks that are kept."""

from __future__ import annotations

import numpy as np
import pytest

from embreg import EmbeddingTable, Registry, evaluate
from embreg.evals import knn
from embreg.evals import subject as subject_module
from embreg.evals.subject import Subject
from embreg.registry.errors import UsageError

ROWS, DIM = 3000, 16


@pytest.fixture
def large(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A table that counts as large, whose sampled graph of 2,000 queries is eight blocks."""
    monkeypatch.setattr(subject_module, "WHOLE_GRAPH_ROWS", 1000)
    monkeypatch.setattr(subject_module, "SAMPLED_QUERIES", 2000)
    monkeypatch.setattr(subject_module, "BLOCK_PRODUCTS", 256 * ROWS * DIM)
    x = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    registry.register("large", EmbeddingTable.from_arrays(None, x), metric="cosine")
    return registry


class Watch:
    """Remembers what it is told; breaks off when ``stop`` blocks are done."""

    def __init__(self, stop: int = -1) -> None:
        self.told: list[tuple[str, int, int | None]] = []
        self.stop = stop

    def __call__(self, step: str, done: int, total: int | None) -> None:
        self.told.append((step, done, total))
        if step == "neighbours" and done == self.stop:
            raise KeyboardInterrupt


def opened(registry: Registry, watch: Watch, queries: int | None = None) -> Subject:
    version = registry.resolve("large")
    store = registry.artifacts(version)
    return Subject(registry.table(version), store=store, queries=queries, progress=watch)


def kept(registry: Registry) -> list[str]:
    with registry._home.database.read() as session:
        from embreg.registry.orm_runs import ArtifactRow

        return sorted(row.name for row in session.query(ArtifactRow))


def test_blocks_say_what_one_call_says(large: Registry) -> None:
    watch = Watch()
    graph = opened(large, watch).neighbors(10)
    assert [told for told in watch.told if told[0] == "neighbours"] == [
        ("neighbours", i, 8) for i in range(9)
    ]
    vectors = large.table("large").vectors
    direct = knn.neighbors(vectors[graph.queries], vectors, 10, exclude=graph.queries[:, None])
    np.testing.assert_array_equal(graph.rows, direct.rows)
    np.testing.assert_allclose(graph.scores, direct.scores, atol=1e-6)
    assert (len(graph.queries), graph.n, graph.whole) == (2000, ROWS, False)
    assert kept(large) == ["neighbors"], "the blocks are forgotten when the graph is there"


def test_what_was_interrupted_goes_on_from_the_finished_blocks(large: Registry, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        opened(large, Watch(stop=5)).neighbors(10)
    assert len(kept(large)) == 5
    asked = []
    neighbors = knn.neighbors

    def counted(queries, *given, **more):  # type: ignore[no-untyped-def]
        asked.append(len(queries))
        return neighbors(queries, *given, **more)

    monkeypatch.setattr(knn, "neighbors", counted)
    graph = opened(large, Watch()).neighbors(10)
    assert sum(asked) == 2000 - 5 * 256
    large.artifacts(large.resolve("large")).drop("neighbors")
    again = opened(large, Watch()).neighbors(10)
    assert sum(asked) == 2000 - 5 * 256 + 2000
    np.testing.assert_array_equal(graph.rows, again.rows)
    np.testing.assert_array_equal(graph.scores, again.scores)


def test_the_number_of_queries_is_the_users(large: Registry) -> None:
    whole = opened(large, Watch(), queries=0).neighbors(5)
    some = opened(large, Watch(), queries=300).neighbors(5)
    assert (whole.whole, len(some.queries)) == (True, 300)
    np.testing.assert_array_equal(whole.rows[some.queries], some.rows)
    assert kept(large) == ["neighbors.300", "neighbors.3000"]


def test_a_graph_of_another_rule_is_not_taken_for_the_whole(large: Registry, monkeypatch) -> None:
    """What is kept was sampled; where the rule has become to ask every row, it is computed anew."""
    assert len(opened(large, Watch()).neighbors(5).queries) == 2000
    monkeypatch.setattr(subject_module, "WHOLE_GRAPH_ROWS", 5000)
    assert opened(large, Watch()).neighbors(5).whole


def test_runs_with_another_number_of_queries_are_other_runs(large: Registry) -> None:
    told = []
    (rule,) = evaluate(large, "large", suites=["hubness"], progress=lambda *step: told.append(step))
    (every,) = evaluate(large, "large", suites=["hubness"], queries=0)
    assert (rule.cached, every.cached) == (False, False)
    assert every.params == {**rule.params, "graph_queries": 0}
    assert {m.metric for m in every.measures} > {m.metric for m in rule.measures} == {"skewness"}
    assert ("large@1: neighbours", 8, 8) in told
    (skewness,) = rule.measures
    assert skewness.low < every.measures[0].value < skewness.high
    with pytest.raises(UsageError):
        evaluate(large, "large", suites=["hubness"], queries=-1)
