"""Rows as points of a plane."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from embreg import EmbeddingTable, Space
from embreg.evals.moments import Moments
from embreg.evals.projection import HOW, beside, principal, project, rows_to_draw, turned
from embreg.evals.subject import Subject
from embreg.registry.errors import UnknownChoice, UsageError

RNG = np.random.default_rng(0)
#: A cloud that is long along one direction and less so along another.
CLOUD = (RNG.standard_normal((300, 6)) * [5, 3, 1, 0.5, 0.5, 0.5]).astype(np.float32)
ROTATION = ortho_group.rvs(6, random_state=1)


def subject(rows: Any, metric: str = "l2", prefix: str = "w", first: int = 0) -> Subject:
    x = np.asarray(rows, dtype=np.float32)
    ids = [f"{prefix}{i}" for i in range(first, first + len(x))]
    return Subject(EmbeddingTable.from_arrays(ids, x, space=Space(dim=x.shape[1], metric=metric)))


def test_axes_of_a_cross() -> None:
    """Points on two axes, the second twice as long: it comes first, and its largest component is positive."""
    given_rows = subject([[1, 0], [-1, 0], [0, -2], [0, 2]])
    found = project(given_rows, np.arange(4))
    assert found.ids == ["w0", "w1", "w2", "w3"]
    assert found.xy == pytest.approx(np.array([[0, 1], [0, -1], [-2, 0], [2, 0]]), abs=1e-6)
    assert found.explained == pytest.approx((0.8, 0.2))


def test_axes_are_those_of_the_whole_table_whichever_rows_are_drawn() -> None:
    given_rows = subject(CLOUD)
    whole, few = project(given_rows, np.arange(300)), project(given_rows, np.array([5, 7]))
    assert few.xy == pytest.approx(whole.xy[[5, 7]])
    centred = CLOUD - CLOUD.mean(axis=0, dtype=np.float64)
    _, strengths, axes = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(whole.xy) == pytest.approx(np.abs(centred @ axes[:2].T), abs=1e-4)
    assert whole.explained == pytest.approx(tuple(strengths[:2] ** 2 / (strengths**2).sum()))


def test_under_cosine_lengths_do_not_matter() -> None:
    lengths = RNG.uniform(0.1, 10, (300, 1))
    a, b = subject(CLOUD, "cosine"), subject(CLOUD * lengths, "cosine")
    rows = np.arange(300)
    assert project(a, rows).xy == pytest.approx(project(b, rows).xy, abs=1e-5)
    assert project(subject(CLOUD), rows).xy != pytest.approx(
        project(subject(CLOUD * lengths), rows).xy, abs=1e-5
    )


def test_a_baseline_in_turned_axes_falls_on_the_same_places() -> None:
    now, before = subject(CLOUD), subject(CLOUD @ ROTATION + 3)
    rows = np.arange(300)
    old = beside(now, rows, before)
    assert old is not None
    assert old.xy == pytest.approx(project(now, rows).xy, abs=1e-3)


def test_rows_that_moved_lie_elsewhere_and_the_others_do_not() -> None:
    swapped = CLOUD.copy()
    swapped[[0, 1]] = CLOUD[[1, 0]]
    now, before = subject(swapped), subject(CLOUD @ ROTATION)
    rows = np.arange(300)
    xy, old = project(now, rows).xy, beside(now, rows, before)
    assert old is not None
    moved = np.linalg.norm(xy - old.xy, axis=1)
    assert moved[2:].max() < 0.2
    assert moved[:2].min() > 5 * moved[2:].max()


def test_a_wider_baseline_is_turned_into_the_width_of_the_version() -> None:
    wide = np.hstack([CLOUD, np.zeros((300, 3), dtype=np.float32)]) @ ortho_group.rvs(9, random_state=2)
    now, rows = subject(CLOUD), np.arange(300)
    old = beside(now, rows, subject(wide))
    assert old is not None
    assert old.xy == pytest.approx(project(now, rows).xy, abs=1e-3)
    back = beside(subject(wide), rows, now)
    assert back is not None
    assert back.xy == pytest.approx(project(subject(wide), rows).xy, abs=1e-3)


def test_a_baseline_has_the_rows_that_both_hold() -> None:
    now, before = subject(CLOUD[:20]), subject(CLOUD[10:30], first=10)
    old = beside(now, np.arange(20), before)
    assert old is not None
    assert old.ids == [f"w{i}" for i in range(10, 20)]
    assert old.explained is None
    assert beside(now, np.arange(10), before) is None
    assert beside(now, np.arange(20), subject(CLOUD, prefix="x")) is None


def test_few_rows_are_not_turned_onto_anything() -> None:
    """Twenty random rows of a hundred directions could be, if every direction were turned."""
    x, y = np.random.default_rng(3).standard_normal((2, 20, 100))
    apart = np.linalg.norm(turned(x, y) - y) / np.linalg.norm(y - y.mean(axis=0))
    assert apart > 0.8


@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 8), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_what_is_turned_keeps_the_mean_and_is_never_stretched(n: int, p: int, q: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, p)), rng.standard_normal((n, q))
    moved = turned(x, y)
    assert moved.shape == y.shape
    assert moved.mean(axis=0) == pytest.approx(y.mean(axis=0), abs=1e-9)
    before, after = (np.linalg.norm(z - z.mean(axis=0), axis=1) for z in (x, moved))
    assert (after <= before + 1e-9).all()


def test_wide_rows_are_seen_along_their_strongest_directions() -> None:
    """More dimensions than are turned: axes by steps, and a rotation of them all is still undone."""
    rng, width = np.random.default_rng(5), 400
    rows = (rng.standard_normal((600, width)) * np.geomspace(5, 0.01, width)).astype(np.float32)
    now, before = subject(rows), subject(rows @ ortho_group.rvs(width, random_state=3))
    found, old = project(now, np.arange(600)), beside(now, np.arange(600), before)
    assert old is not None
    assert old.xy == pytest.approx(found.xy, abs=0.01)
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    _, strengths, axes = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(found.xy) == pytest.approx(np.abs(centred @ axes[:2].T), abs=1e-3)
    assert found.explained == pytest.approx(tuple(strengths[:2] ** 2 / (strengths**2).sum()), rel=1e-4)


def test_scaling_finds_the_scale() -> None:
    x = RNG.standard_normal((50, 2))
    assert turned(x, -7 * x + 1, scaled=True) == pytest.approx(-7 * x + 1)
    assert turned(np.zeros((5, 2)), x[:5], scaled=True) == pytest.approx(np.tile(x[:5].mean(axis=0), (5, 1)))


@pytest.mark.parametrize(
    "rows", [[[3.0]], [[1.0], [2.0]], [[1.0, 2.0]], [[1.0, 1.0]] * 3, [[1e-30, 2e30]] * 2]
)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_tables_without_two_directions(rows: list[list[float]], metric: str, how: str) -> None:
    if how == "tsne":
        pytest.importorskip("sklearn")
    given_rows = subject(rows, metric)
    found = project(given_rows, np.arange(len(rows)), how)
    assert found.xy.shape == (len(rows), 2)
    assert np.isfinite(found.xy).all()
    old = beside(given_rows, np.arange(len(rows)), given_rows, how)
    assert old is not None
    assert np.isfinite(old.xy).all()


def test_nothing_to_draw() -> None:
    given_rows = subject(np.zeros((3, 2)))
    rows = rows_to_draw(given_rows)
    assert len(rows) == 0
    assert project(given_rows, rows).xy.shape == (0, 2)
    assert beside(given_rows, rows, given_rows) is None


def test_an_axis_points_to_where_its_largest_component_is_positive() -> None:
    moments = Moments.of(CLOUD)
    _, axes, _ = principal(moments, unit=False)
    assert (axes[np.abs(axes).argmax(axis=0), [0, 1]] > 0).all()
    flipped = principal(Moments.of(-CLOUD), unit=False)[1]
    assert flipped == pytest.approx(axes, abs=1e-6)


def test_rows_are_drawn_by_the_hash_of_their_ids_and_named_ones_beside() -> None:
    given_rows, shuffled = subject(CLOUD), RNG.permutation(300)
    other = Subject(EmbeddingTable.from_arrays([f"w{i}" for i in shuffled], CLOUD[shuffled]))
    few = rows_to_draw(given_rows, count=20)
    assert len(few) == 20
    assert {f"w{i}" for i in few} == set(other.table.ids_of(rows_to_draw(other, count=20)))
    named = next(i for i in range(300) if i not in few)
    more = rows_to_draw(given_rows, [f"w{named}", f"w{few[0]}", "not there"], count=20)
    assert more.tolist() == sorted([*few.tolist(), named])
    assert rows_to_draw(given_rows).tolist() == list(range(300))
    zero = CLOUD.copy()
    zero[5] = 0
    assert 5 not in rows_to_draw(subject(zero), ["w5"])


@pytest.mark.parametrize("how", ["tsne", "umap"])
def test_the_other_layouts_keep_groups_apart_and_the_baseline_in_place(how: str) -> None:
    pytest.importorskip({"tsne": "sklearn", "umap": "umap"}[how])
    rng = np.random.default_rng(0)
    groups = np.repeat([[10.0, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0]], 40, axis=0)
    now, rows = subject(groups + rng.standard_normal((120, 4))), np.arange(120)
    before = subject((groups + rng.standard_normal((120, 4))) @ ortho_group.rvs(4, random_state=0))
    found, again, old = project(now, rows, how), project(now, rows, how), beside(now, rows, before, how)
    assert found.explained is None
    assert found.xy.tolist() == again.xy.tolist()
    assert old is not None
    for xy in (found.xy, old.xy):
        middles = xy.reshape(3, 40, 2).mean(axis=1)
        spread = np.linalg.norm(xy.reshape(3, 40, 2) - middles[:, None], axis=2).max()
        assert min(np.linalg.norm(middles[i] - middles[i - 1]) for i in range(3)) > spread
    places = [xy.reshape(3, 40, 2).mean(axis=1) for xy in (found.xy, old.xy)]
    assert (
        np.linalg.norm(places[0] - places[1], axis=1).max() < np.linalg.norm(places[0][0] - places[0][1]) / 2
    )


def test_the_caller_asks_for_what_there_is() -> None:
    for call in (project, lambda *a: beside(a[0], a[1], a[0], a[2])):
        with pytest.raises(UnknownChoice, match="projection 'lda'"):
            call(subject(CLOUD), np.arange(5), "lda")
    assert HOW == ("pca", "tsne", "umap")


@pytest.mark.parametrize(("how", "package", "name"), [("tsne", "sklearn", "t-SNE"), ("umap", "umap", "UMAP")])
def test_a_package_that_is_missing_is_named_with_the_command(
    how: str, package: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(module: str, *args: Any, **kwargs: Any) -> Any:
        if module.partition(".")[0] == package:
            raise ImportError(module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=rf"{name} is not installed \(pip install 'embreg\[maps\]'"):
        project(subject(CLOUD), np.arange(10), how)
