"""Checks that are proposed for an embedding, and how far their bounds lie from what was measured.

A tolerance is wide enough that noise fails no version, and for every version that went into production. What
is noise follows from how the gate judges a metric:

- item by item: the smallest loss that the paired test of the last two such versions sees. A tolerance below
  it would ask for what no test can tell. Where there are no pairs, four standard errors of the value.
- by size: four standard errors, as the spread between random halves of the rows has them (``floor``).

Why four: two versions differ by the root of 2 times the error of one. A loss is told from that noise at a
significance of .05 with a power of .8 from (1.64 + 0.84) times as much on: 3.5 errors (Cohen 1988, section
12.2). Halves are taken and not the spread over past versions, which are few: of three of them the interval
of a standard deviation spans a factor of ten. What they lost is a lower limit all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .suite import Better

if TYPE_CHECKING:
    from .suite import Metric

#: A tolerance is so many standard errors wide.
ERRORS = 4
#: Bounds are written with so many digits of the tolerance.
_DIGITS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A check that is proposed.

    Attributes:
        metric: ``SUITE.METRIC``.
        labels: of the check.
        bound: the key: ``min``, ``max``, ``max_drop`` or ``max_rise``.
        value: of the bound.
        severity: ``critical`` or ``warning``.
        why: where the number comes from, in a sentence.
    """

    metric: str
    labels: Mapping[str, str]
    bound: str
    value: float
    severity: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Omitted:
    """A suite that no check is proposed of: why, and what to do about it."""

    suite: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What is proposed for an embedding.

    Attributes:
        ref: the version that the checks are made from, and pass.
        aliases: of that version.
        latest: the newest version of the embedding.
        chain: what went into production one after the other, oldest first; empty where nothing is known.
        checks: in the order of the suites.
        omitted: likewise.
    """

    ref: str
    aliases: tuple[str, ...]
    latest: str
    chain: tuple[str, ...]
    checks: tuple[Proposed, ...]
    omitted: tuple[Omitted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """How far a metric may be off, and why."""

    size: float
    why: str

    def at_least(self, loss: float, why: str) -> Slack:
        """Return the same, or a loss that went into production where that is larger."""
        return Slack(size=loss, why=why) if loss > self.size else self


def of_errors(error: float, what: str) -> Slack:
    """Return a slack of so many standard errors as make noise improbable; see the module."""
    return Slack(size=ERRORS * error, why=f"{what} {error:.2g}; {ERRORS} times that")


def loss(metric: Metric, old: float, new: float) -> float:
    """Return by how much a metric got worse; negative where it got better."""
    return new - old if metric.better is Better.LOWER else old - new


def tolerance(metric: Metric, slack: Slack) -> tuple[str, float]:
    """Return the key of a tolerance and its size, rounded up."""
    key = "max_rise" if metric.better is Better.LOWER else "max_drop"
    return key, outward(slack.size, slack.size, up=True)


def hard_bound(metric: Metric, value: float, slack: Slack) -> tuple[str, float]:
    """Return the key of a hard bound that lies a slack off a value, rounded away from it."""
    if metric.better is Better.LOWER:
        return "max", _clipped(metric, outward(value + slack.size, slack.size, up=True))
    return "min", _clipped(metric, outward(value - slack.size, slack.size, up=False))


def outward(value: float, scale: float, *, up: bool) -> float:
    """Return a number with no more digits than the first two of ``scale``, never inside of ``value``.

    Where the scale is 0, nothing is rounded.
    """
    if scale <= 0 or not math.isfinite(value):
        return value
    places = _DIGITS - 1 - math.floor(math.log10(scale))
    # What is a multiple already stays one: 0.3 * 100 is a little less than 30.
    shifted = value * 10.0**places
    near = round(shifted)
    whole = near if math.isclose(shifted, near, rel_tol=1e-12) else (math.ceil if up else math.floor)(shifted)
    return float(f"{whole}e{-places}")


def _clipped(metric: Metric, value: float) -> float:
    low = value if metric.low is None else max(value, metric.low)
    return low if metric.high is None else min(low, metric.high)
