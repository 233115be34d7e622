"""The floor of drift: noise from halves and seeds, and versions that ought to be equal."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from embreg import EmbeddingTable, Registry
from embreg.cli import main
from embreg.evals.floor import Floor, measure_floor
from embreg.evals.flooring import drift_floor
from embreg.evals.runner import suite_named
from embreg.evals.subject import Subject
from embreg.evals.suite import Skipped
from embreg.registry.errors import InputError, UsageError
from embreg.registry.types import Space

SUITE = suite_named("drift")


def subject(x: np.ndarray) -> Subject:
    return Subject(
        EmbeddingTable.from_arrays(None, x.astype(np.float32), space=Space(dim=x.shape[1], metric="cosine"))
    )


def floors(old: np.ndarray, new: np.ndarray, **how: int) -> dict[str, Floor]:
    found = measure_floor(SUITE, subject(new).with_(baseline=subject(old)), SUITE.params(), **how)
    return {f.metric: f for f in found if f.labels.get("of") != "candidate"}


@pytest.fixture(scope="module")
def copies() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 12)) * np.linspace(1, 3, 12)
    return x, x + 0.5 * rng.normal(size=x.shape)


def test_the_noise_is_what_fresh_samples_scatter_by(copies) -> None:
    """Rows drawn anew from the same law, many times: the scatter of the numbers is the noise of one draw."""
    names = ("raw_cosine", "semantic_displacement", "procrustes_residual", "cka", "norm_shift")
    seen: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(30):
        rng = np.random.default_rng(100 + seed)
        x = rng.normal(size=(600, 12)) * np.linspace(1, 3, 12)
        new = subject(x + 0.5 * rng.normal(size=x.shape)).with_(baseline=subject(x))
        run = SUITE.run(new, SUITE.params(), np.random.default_rng(0))
        for m in run.measures:
            if m.metric in seen:
                seen[m.metric].append(m.value)
    found = floors(*copies, splits=20, seeds=1)
    for name in names:
        assert found[name].halves == pytest.approx(np.std(seen[name], ddof=1), rel=0.6), name
        assert found[name].seeds == 0
        assert found[name].noise == pytest.approx(1.96 * found[name].halves, rel=1e-3)
        assert found[name].splits == 20


def test_the_noise_of_an_average_is_as_wide_as_its_interval(copies) -> None:
    old, new = copies
    run = SUITE.run(subject(new).with_(baseline=subject(old)), SUITE.params(), np.random.default_rng(0))
    (overlap,) = [m for m in run.measures if m.metric.startswith("neighbor_overlap")]
    assert overlap.low is not None and overlap.high is not None
    noise = floors(old, new, splits=20)[overlap.metric].noise
    assert noise == pytest.approx((overlap.high - overlap.low) / 2, rel=0.6)


def test_chance_shows_between_seeds(copies) -> None:
    found = floors(*copies, splits=2, seeds=4)
    assert found["mmd_p"].seeds > 0
    assert found["cka"].seeds == 0


def test_a_version_has_no_distance_from_itself(copies) -> None:
    found = floors(copies[0], copies[0], splits=3)
    assert all(f.noise == 0 for f in found.values())


def test_the_same_seed_gives_the_same_floor(copies) -> None:
    assert floors(*copies, splits=3, seed=5) == floors(*copies, splits=3, seed=5)


def test_what_cannot_be_halved(copies) -> None:
    old, new = copies
    with pytest.raises(Skipped, match="39 shared rows are too few"):
        floors(old[:39], new[:39])
    with pytest.raises(Skipped, match="baseline"):
        measure_floor(SUITE, subject(old), SUITE.params())
    with pytest.raises(UsageError, match="at least 2 and 1"):
        floors(old, new, splits=1)


@pytest.fixture
def versions(registry: Registry, copies) -> Registry:
    old, new = copies
    near = old + 0.05 * np.random.default_rng(9).normal(size=old.shape)
    for x in (old[:200], new[:200], near[:200], new[:30]):
        registry.register("v", EmbeddingTable.from_arrays(None, x.astype(np.float32)), metric="cosine")
    return registry


def test_equals_say_how_far_chance_goes(versions: Registry) -> None:
    report = drift_floor(versions, "v@1", "v@2", like=["v@3"], splits=2)
    by_name = {f.metric: f for f in report.floors}
    alike = {m.metric: m.value for m in report.alike[0].measures}
    for name in ("neighbor_overlap@10", "semantic_displacement", "norm_shift"):
        assert report.furthest(by_name[name]) == alike[name]
    assert report.run.version == "v@2" and report.alike[0].version == "v@3"
    with pytest.raises(UsageError, match="v@1 is one of the two"):
        drift_floor(versions, "v@1", "v@2", like=["v@1"])
    with pytest.raises(InputError, match="no floor: 30 shared rows"):
        drift_floor(versions, "v@1", "v@4")


def test_the_command(versions: Registry) -> None:
    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["--registry", str(versions.root), *words])
        return done.exit_code, done.output

    code, text = call("drift", "v@1", "v@2", "--floor", "--like", "v@3")
    assert code == 0
    assert "± noise" in text and "alike: the worst of v@3" in text
    code, text = call("drift", "v@1", "v@2", "--floor", "--json")
    assert code == 0 and '"noise"' in text
    assert call("drift", "v", "--history", "--floor")[0] == 2
    code, text = call("drift", "v@1", "v@4", "--floor")
    assert (code, "leave --floor out" in text) == (3, True)
