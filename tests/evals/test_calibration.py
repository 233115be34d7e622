"""The gate's tests call equals worse as often as they say: a helping of ``make calibration``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def calibration() -> ModuleType:
    path = Path(__file__).parents[1] / "calibration.py"
    spec = importlib.util.spec_from_file_location("embreg_calibration", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(calibration: ModuleType, glove: object):  # type: ignore[no-untyped-def]
    """``glove`` skips where the vectors are not installed."""
    pytest.importorskip("gensim")
    return calibration.World.of(1500)


def test_equals_are_called_worse_in_one_pair_of_twenty(calibration: ModuleType, world) -> None:  # type: ignore[no-untyped-def]
    """200 pairs: 2% to 8%, of every test in which enough items differ to speak of a level of 5%."""
    tallies = calibration.null(world, ["similarity", "retrieval"], 200)
    rates = {test: t.rate for test, t in tallies.items() if t.moving >= calibration.LEAST}
    assert len(rates) >= 5
    assert {test: rate for test, rate in rates.items() if not 0.02 <= rate <= 0.08} == {}


def test_questions_that_share_a_pair_are_not_counted_as_free(calibration: ModuleType, world) -> None:  # type: ignore[no-untyped-def]
    tallies = calibration.null(world, ["analogies"], 30)
    total = tallies["analogies.accuracy (group=total)"]
    assert total.items > 300
    assert total.rejected <= 4, "McNemar's test of the questions rejects in 5 to 6 of 30 pairs"


def test_a_planted_drop_is_seen_as_often_as_promised(calibration: ModuleType, world) -> None:  # type: ignore[no-untyped-def]
    """Promised is a power of .8 at the smallest drop that can be seen; a larger one is seen more often."""
    tally = calibration.power(world, "retrieval.ndcg@10", 40)
    drop, promised = sum(tally.changes) / 40, sum(tally.seen) / 40
    assert drop == pytest.approx(0.03, abs=0.015)
    assert tally.rate >= 0.55 if drop >= promised else tally.rate <= 0.95
