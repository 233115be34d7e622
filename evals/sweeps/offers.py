"""The candidates of a block of queries: what tiles of scores offer, and what of it still matters.

Every offer has an upper and a lower bound of its true score. The *floor* of a query is the k-th largest of
its lower bounds: what lies below it by its upper bound cannot be among the nearest k. Tiles are looked at
through the maxima of groups, and only groups that reach above the floor are opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from .halves import GROUP

if TYPE_CHECKING:
    from torch import Tensor

#: Groups opened for a query in one tile, beyond k, before the tile itself raises its floor.
_EAGER = 8
#: Offers for each query, beyond k, until they are sorted and cut.
_OFFERS = 16


@dataclass(frozen=True, slots=True)
class View:
    """A tile as the queries of one side see it: group j holds every so-many-th position from j on.

    Attributes:
        scores: ``(m, GROUP, groups)``.
        maxima: ``(m, groups)``.
    """

    scores: Tensor
    maxima: Tensor

    @classmethod
    def of_rows(cls, tile: Tensor) -> View:
        """Return what the rows see of a tile ``(m, n)``, n in whole groups."""
        scores = tile.view(len(tile), GROUP, tile.shape[1] // GROUP)
        return cls(scores, scores.amax(1))

    @classmethod
    def of_columns(cls, tile: Tensor) -> View:
        """Return what the columns see of a tile ``(m, n)``, m in whole groups."""
        scores = tile.view(GROUP, len(tile) // GROUP, tile.shape[1])
        return cls(scores.permute(2, 0, 1), scores.amax(0).T)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return self.maxima.shape[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far scores of some queries can be off.

    Attributes:
        reach: float32 ``(m,)``, by how much an upper bound is above a score.
        relative: the same, as a share of the score.
        errors: float32 ``(m, 3)`` or None: what is in each score already, see ``Halves``.
    """

    reach: Tensor
    relative: float
    errors: Tensor | None

    def around(self, queries: Tensor, scores: Tensor, theirs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper bound of true scores.

        Args:
            queries: whose scores they are; broadcasts with the scores.
            scores: any shape.
            theirs: ``(…, 3)`` errors of the rows on the other side.
        """
        reach = scores.abs() * self.relative + self.reach[queries]
        upper, lower = scores + reach, scores - reach
        if self.errors is not None and theirs is not None:
            own = self.errors[queries]
            inside = (
                own[..., 0] * theirs[..., 1] + own[..., 1] * theirs[..., 0] + own[..., 2] + theirs[..., 2]
            )
            lower = lower - 2 * inside
        return lower, upper

    def least(self, floor: Tensor) -> Tensor:
        """Return scores ``(m,)`` so that a score up to there has its upper bound up to the floor."""
        short = floor - self.reach
        score = (short / (1 - self.relative)).where(short < 0, short / (1 + self.relative))
        return floor.where(floor.isinf(), score - (floor.abs() + self.reach) * 2.0**-21)


@dataclass(frozen=True, slots=True)
class Offers:
    """Candidates: int32 ``(c,)`` query of the block and base row, float32 bounds of their score."""

    queries: Tensor
    rows: Tensor
    lower: Tensor
    upper: Tensor

    def __len__(self) -> int:
        return len(self.queries)

    def only(self, which: Tensor) -> Offers:
        """Return some of them: a mask, or positions."""
        return Offers(self.queries[which], self.rows[which], self.lower[which], self.upper[which])

    @classmethod
    def together(cls, parts: list[Offers]) -> Offers:
        """Return the offers of all parts."""
        import torch

        columns = zip(*((p.queries, p.rows, p.lower, p.upper) for p in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))


class Pool:
    """What some queries have been offered so far, and their floors.

    Attributes:
        floor: float32 ``(m,)``. A query that was offered too much has an infinite one: it takes no more, and
            is for another sweep to answer.
    """

    def __init__(self, bounds: Bounds, k: int, most: int) -> None:
        import torch

        self.bounds, self.k, self.most, self.lock = bounds, k, most, Lock()
        m = len(bounds.reach)
        self.floor = torch.full_like(bounds.reach, -torch.inf)
        self._left_out = self.floor.clone()
        self._least = self.floor
        nothing = self.floor[:0]
        self._parts = [Offers(nothing.int(), nothing.int(), nothing, nothing)]
        self._held, self._room = 0, m * (k + _OFFERS)

    def offer(self, view: View, first: int, theirs: Tensor | None) -> None:
        """Offer the scores of a tile.

        Args:
            view: the tile, seen from these queries.
            first: the base row at its first position.
            theirs: errors of the base rows at its positions.
        """
        opened, groups = self._opened(view, theirs)
        if not len(opened):
            return
        scores = view.scores[opened, :, groups].float()
        which, step = (scores > self._least[opened, None]).nonzero(as_tuple=True)
        queries, at = opened[which], step * view.groups + groups[which]
        lower, upper = self.bounds.around(
            queries, scores[which, step], None if theirs is None else theirs[at]
        )
        self._take(Offers(queries.int(), (at + first).int(), lower, upper))

    def _opened(self, view: View, theirs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the queries and groups worth opening; raise floors first that open too many."""
        opened, groups = (view.maxima > self._least[:, None]).nonzero(as_tuple=True)
        if len(opened) <= self.k + _EAGER:
            return opened, groups
        crowded = (opened.bincount(minlength=len(self.floor)) > self.k + _EAGER).nonzero().flatten()
        if not len(crowded):
            return opened, groups
        self._warm(crowded, view, theirs)
        opened, groups = (view.maxima > self._least[:, None]).nonzero(as_tuple=True)
        lost = opened.bincount(minlength=len(self.floor)) > self.most
        if lost.any():
            self._give_up(lost)
            kept = ~lost[opened]
            opened, groups = opened[kept], groups[kept]
        return opened, groups

    def _warm(self, queries: Tensor, view: View, theirs: Tensor | None) -> None:
        """Raise floors to the k-th best of this tile, which lies in the k groups of largest maximum."""
        import torch

        best = view.maxima[queries].topk(min(self.k, view.groups), dim=1).indices
        scores = view.scores[queries[:, None], :, best].float()
        steps = torch.arange(GROUP, device=best.device) * view.groups
        at = best[:, :, None] + steps
        lower, _ = self.bounds.around(queries[:, None, None], scores, None if theirs is None else theirs[at])
        lower = lower.flatten(1)
        if lower.shape[1] >= self.k:
            floor = torch.full_like(self.floor, -torch.inf)
            floor[queries] = lower.topk(self.k, dim=1).values[:, -1]
            with self.lock:
                self._raise(floor)

    def _raise(self, floor: Tensor) -> None:
        self.floor = self.floor.maximum(floor)
        self._least = self.bounds.least(self.floor)

    def _give_up(self, lost: Tensor) -> None:
        import torch

        with self.lock:
            self._raise(torch.where(lost, torch.inf, -torch.inf))

    def _take(self, offers: Offers) -> None:
        lost = offers.queries.bincount(minlength=len(self.floor)) > GROUP * (self.k + _EAGER)
        if lost.any():
            self._give_up(lost)
            offers = offers.only(~lost[offers.queries])
        with self.lock:
            self._parts.append(offers)
            self._held += len(offers)
            if self._held > self._room:
                self._cut()

    def _cut(self) -> None:
        """Raise floors to the k-th lower bound, and drop what is below or beyond the best ``most``."""
        import torch

        offers, rank = ranked(Offers.together(self._parts))
        queries = offers.queries.long()
        floor, at = torch.full_like(self.floor, -torch.inf), rank == self.k - 1
        floor[queries[at]] = offers.lower[at]
        self._raise(floor)
        above = offers.upper > self.floor[queries]
        beyond = above & (rank >= self.most)
        self._left_out.scatter_reduce_(0, queries[beyond], offers.upper[beyond], "amax")
        offers = offers.only(above & ~beyond)
        self._parts, self._held = [offers], len(offers)

    def close(self) -> tuple[Offers, Tensor]:
        """Return all that may be among the nearest, and what no other row of the base is above."""
        self._cut()
        return self._parts[0], self.floor.maximum(self._left_out)


def ranked(offers: Offers) -> tuple[Offers, Tensor]:
    """Return offers by query, the highest lower bound first, and the rank of each within its query."""
    import torch

    # One whole number for both: the bits of a float32, made to order as whole numbers do, below the query.
    bits = offers.lower.view(torch.int32)
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    order = ((offers.queries.long() << 32) - rising.long()).argsort()
    offers = offers.only(order)
    queries = offers.queries.long()
    counts = queries.bincount()
    starts = counts.cumsum(0) - counts
    return offers, torch.arange(len(queries), device=queries.device) - starts[queries]
