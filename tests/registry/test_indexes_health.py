"""Codebook health: what a trained index loses of rows, and when that calls for a rebuild."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg import EmbeddingTable
from embreg.registry import builds, health, indexes
from embreg.registry.blobs import BlobStore
from embreg.registry.builds import OldBuild
from embreg.registry.diff import Health, unhealthy
from embreg.registry.types import Repair

ROWS, MORE = 5000, 700


@pytest.fixture(scope="module")
def words(glove_rows) -> tuple[np.ndarray, np.ndarray]:
    """5,000 frequent words and 700 more like them."""
    _, vectors = glove_rows(ROWS + MORE)
    vectors = vectors[np.random.default_rng(0).permutation(len(vectors))]
    return vectors[:ROWS], vectors[ROWS:]


def table_of(vectors: np.ndarray) -> EmbeddingTable:
    return EmbeddingTable.from_arrays(None, vectors)


def grown(old: np.ndarray, new: np.ndarray) -> tuple[EmbeddingTable, np.ndarray]:
    """The table of old and new rows, and which are the new ones."""
    return table_of(np.concatenate([old, new])), np.arange(len(old), len(old) + len(new))


def rotation(dim: int = 50) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((dim, dim)))
    return q.astype(np.float32)


def test_the_clip_share_by_hand() -> None:
    """Trained on 0..9 in both dimensions; of 8 components 3 are outside: -1, 9.5 and 12."""
    grid = np.repeat(np.arange(10, dtype=np.float32)[:, None], 2, axis=1)
    built = indexes.build(table_of(grid), "SQ8", "l2")
    later = np.array([[-1, 0], [9.5, 9], [3, 12], [0, 9]], dtype=np.float32)
    table, rows = grown(grid, later)
    assert health.measure(built, table, rows).clip_share == 3 / 8
    assert health.measure(built, table_of(grid)).clip_share == 0


def test_distortion_coarse_and_imbalance_by_hand() -> None:
    """Two lists around (0, 0) and (10, 0), each row 1 from its centroid, 3 to 1 of them; nothing is coded."""
    left = np.array([[0, 1], [0, -1], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float32)
    right = np.array([[10, 1], [10, -1]], dtype=np.float32)
    table = table_of(np.concatenate([left, right]))
    built = indexes.build(table, "IVF2,Flat", "l2")
    found = health.measure(built, table)
    spread = ((table.vectors - table.vectors.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert found.coarse == pytest.approx(1 / spread)
    assert found.distortion == 0
    assert found.imbalance == pytest.approx(2 * (6**2 + 2**2) / 8**2)


def test_the_distortion_is_that_of_the_nearest_codewords(words) -> None:
    """An independent encoder: the nearest centroid of each piece, by brute force."""
    old, new = words
    built = indexes.build(table_of(old), "PQ5x4", "l2")
    table, rows = grown(old, new)
    centroids = faiss.vector_to_array(built.index.pq.centroids).reshape(5, 16, 10)
    gaps = new.reshape(-1, 5, 1, 10).astype(np.float64) - centroids[None]
    lost = (gaps**2).sum(axis=3).min(axis=2).sum(axis=1)
    spread = ((new - table.vectors.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=1)
    found = health.measure(built, table, rows)
    assert found.distortion == pytest.approx(lost.mean() / spread.mean(), rel=1e-4)
    assert (found.clip_share, found.coarse, found.imbalance) == (None, None, None)


def test_what_fewer_dimensions_drop_is_lost_too(words) -> None:
    """All of it, for the rest is kept as it is: the residual of the best fit by the PCA's own basis."""
    old, new = words
    built = indexes.build(table_of(old), "PCA20,Flat", "l2")
    table, rows = grown(old, new)
    basis = faiss.vector_to_array(faiss.downcast_VectorTransform(built.index.chain.at(0)).A).reshape(20, 50)
    gap = new - table.vectors.mean(axis=0, dtype=np.float64)
    fit, *_ = np.linalg.lstsq(basis.T.astype(np.float64), gap.T, rcond=None)
    lost = ((gap.T - basis.T @ fit) ** 2).sum() / (gap**2).sum()
    assert health.measure(built, table, rows).distortion == pytest.approx(lost, rel=1e-4)


def test_residuals_are_what_a_scalar_quantizer_behind_lists_sees(words) -> None:
    old, new = words
    built = indexes.build(table_of(old), "IVF16,SQ8", "l2")
    centroids = built.index.quantizer.reconstruct_n(0, 16)
    low, span = faiss.vector_to_array(built.index.sq.trained).reshape(2, 50)

    def residuals(x):
        return x - centroids[((x[:, None] - centroids[None]) ** 2).sum(axis=2).argmin(axis=1)]

    table, rows = grown(old, new * 2)
    outside = (residuals(new * 2) < low) | (residuals(new * 2) > low + span)
    found = health.measure(built, table, rows)
    assert found.clip_share == pytest.approx(outside.mean(), abs=1e-4)
    assert found.clip_share > 0.01


def test_of_a_refined_index_the_worse_code_counts(words) -> None:
    old, new = words
    table, rows = grown(old, new * 2)
    refined = health.measure(indexes.build(table_of(old), "PQ5x4,Refine(SQ8)", "l2"), table, rows)
    plain = health.measure(indexes.build(table_of(old), "PQ5x4", "l2"), table, rows)
    scalar = health.measure(indexes.build(table_of(old), "SQ8", "l2"), table, rows)
    assert (refined.distortion, refined.clip_share) == (plain.distortion, scalar.clip_share)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "SQfp16", "BFlat", "L2norm,Flat"])
def test_what_was_not_trained_has_no_health(factory: str, words) -> None:
    table = table_of(words[0][:300])
    assert health.measure(indexes.build(table, factory, "l2"), table) == Health()


def test_the_baseline_is_of_rows_that_training_left_out(words) -> None:
    """On the rows it was trained on, a codebook of 256 centroids looks a fifth better than it is."""
    old, new = words
    table = table_of(old)
    built = indexes.build(table, "PQ5", "l2")
    held_out = indexes.held_out(built, table)
    assert len(held_out) == ROWS // 10
    both, rows = grown(old, new)
    before, flattered = health.baseline(built, table), health.measure(built, table)
    after = health.measure(built, both, rows)
    assert after.distortion / before.distortion == pytest.approx(1, abs=0.05)
    assert after.distortion / flattered.distortion > 1.15
    assert unhealthy(before, after) is None


def test_a_table_too_small_to_hold_rows_out_has_no_errors_to_hold_others_against(words) -> None:
    small = table_of(words[0][:4999])
    found = health.baseline(indexes.build(small, "IVF16,SQ4", "l2"), small)
    assert (found.clip_share, found.distortion, found.coarse) == (0.0, None, None)
    assert found.imbalance >= 1
    enough = table_of(words[0])
    assert not len(indexes.held_out(indexes.build(enough, "IVF2501,Flat", "l2"), enough))


@settings(deadline=None, max_examples=20)
@given(st.integers(-8, 8), st.integers(0, 2**31))
def test_a_change_of_scale_changes_nothing(power: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((100, 4)).astype(np.float32)
    for factory in ("PQ2x2", "IVF4,SQ4", "PCA2,SQ8"):
        found = [
            health.measure(indexes.build(table_of(y), factory, "l2"), table_of(y))
            for y in (x, x * np.float32(2.0**power))
        ]
        assert found[0].to_dict() == pytest.approx(found[1].to_dict(), rel=1e-4)


shares, ratios = st.floats(0, 1), st.floats(0, 10)
healths = st.builds(
    Health,
    clip_share=st.none() | shares,
    distortion=st.none() | ratios,
    coarse=st.none() | ratios,
    imbalance=st.none() | st.floats(1, 100),
)


@given(healths)
def test_a_health_survives_json_and_is_no_worse_than_itself(found: Health) -> None:
    assert Health.from_dict(found.to_dict()) == found
    assert unhealthy(found, found) is None
    assert unhealthy(Health(), found) is None
    assert unhealthy(found, Health()) is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({"clip_share": 0.001}, {"clip_share": 0.005}, None),
        ({"clip_share": 0.001}, {"clip_share": 0.021}, "2.0% more of the components"),
        ({"distortion": 0.2}, {"distortion": 0.26}, None),
        ({"distortion": 0.2}, {"distortion": 0.38}, "distortion 1.9 times"),
        ({"distortion": 0.0001}, {"distortion": 0.009}, None),
        ({"distortion": 0.0001}, {"distortion": 0.011}, "distortion 110.0 times"),
        ({"distortion": 0.0}, {"distortion": 0.5}, None),
        ({"coarse": 0.5}, {"coarse": 0.6}, None),
        ({"coarse": 0.5}, {"coarse": 0.7}, "1.4 times as far from their list's centroid"),
        ({"imbalance": 1.5}, {"imbalance": 3.0}, None),
        ({"imbalance": 1.5}, {"imbalance": 3.3}, "2.2 times as uneven"),
        ({"distortion": 0.2}, {"imbalance": 100.0}, None),
    ],
)
def test_the_bounds(old: dict[str, float], new: dict[str, float], reason: str | None) -> None:
    found = unhealthy(Health(**old), Health(**new))
    assert (found is None) if reason is None else reason in found


def alike(x: np.ndarray) -> np.ndarray:
    return x


def noisy(x: np.ndarray) -> np.ndarray:
    return x + np.random.default_rng(2).standard_normal(x.shape).astype(np.float32) * 0.25 * x.std()


def rotated(x: np.ndarray) -> np.ndarray:
    return x @ rotation()


def shifted(x: np.ndarray) -> np.ndarray:
    return x + np.random.default_rng(3).standard_normal(50).astype(np.float32) * x.std()


def doubled(x: np.ndarray) -> np.ndarray:
    return x * 2


@pytest.mark.parametrize("factory", ["PQ5", "SQ8", "IVF64,Flat"])
@pytest.mark.parametrize("change", [alike, noisy])
def test_rows_like_those_it_was_trained_for_are_added(factory: str, change, words, tmp_path) -> None:
    old, new = words
    built, done = add(factory, "cosine", old, change(new), tmp_path)
    assert (done.method, done.note) == ("add", "")
    assert done.health == built.health
    assert done.traits.trained_rows == ROWS


@pytest.mark.parametrize(
    ("factory", "metric", "change", "reason"),
    [
        ("PQ5", "cosine", rotated, "distortion 1."),
        ("PQ10x4fs", "l2", shifted, "distortion 1."),
        ("RR,IVF16,PQ10x4", "cosine", shifted, "distortion 1."),
        ("SQ8", "l2", doubled, "of the components out of the range"),
        ("IVF64,Flat", "cosine", rotated, "times as far from their list's centroid"),
    ],
)
def test_rows_it_was_not_trained_for_ask_for_a_rebuild(
    factory: str, metric: str, change, reason: str, words, tmp_path
) -> None:
    old, new = words
    built, done = add(factory, metric, old, change(new), tmp_path)
    assert done.note.startswith("'add' was not enough: ")
    assert reason in done.note
    assert done.method == "build"
    assert done.health != built.health
    assert done.traits.trained_rows == ROWS + MORE


def add(factory: str, metric: str, old: np.ndarray, new: np.ndarray, folder):
    """Build an index of the old rows, then repair it by adding the new ones."""
    blobs = BlobStore(folder)
    blobs.create()
    given = {"factory": factory, "search": "", "metric": metric, "blobs": blobs}
    built = builds.build(table_of(old), "v", **given)
    before = OldBuild(
        faiss_digest=built.faiss_digest,
        ids_digest=built.ids_digest,
        trained_rows=built.traits.trained_rows,
        recall=built.recall,
        health=built.health,
    )
    table, _ = grown(old, new)
    return built, builds.repair(Repair.ADD, before, lambda: table_of(old), table, "w", **given)


def test_lists_that_become_uneven_are_trained_anew(words, tmp_path) -> None:
    """1,500 rows at the centroid of one list: none could be better off, but for what a search costs."""
    old, _ = words
    built = indexes.build(table_of(old), "IVF64,Flat", "l2")
    many = (
        built.index.quantizer.reconstruct(0)
        + np.random.default_rng(0).standard_normal((1500, 50)).astype(np.float32) / 50
    )
    _, done = add("IVF64,Flat", "l2", old, many, tmp_path)
    assert "times as uneven as when they were trained" in done.note


def test_few_new_rows_are_not_judged(words, tmp_path) -> None:
    old, new = words
    built, done = add("PQ10x4", "l2", old, shifted(new[:499]), tmp_path)
    assert not done.note.startswith("'add' was not enough")
    assert built.health
