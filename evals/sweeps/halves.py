"""Rows in half precision, and products of them that bound scores from above.

A row x is rounded to h, and e = |x - h| is known exactly. By Cauchy and Schwarz

    |<q, x> - <h_q, h_x>| <= e_q |x| + |h_q| e_x,

so the rounding of a pair is itself an inner product of a few numbers of its rows. For ``dot`` and ``l2``,
whose rows differ in length, these numbers are columns of the rows: the product that comes out is an upper
bound of the score of its own pair, however long some other row may be. For cosine, whose rows are all as
long, the largest of them stands for each. The norms that l2 subtracts are columns too, each cut into pieces
from below; what is left of it after that is part of the bound.

Accumulation in float32, in whatever order, costs at most ``_ACCUMULATION`` for each term and unit of the
product of norms: four times the unit roundoff, as tensor cores align and truncate terms instead of rounding
(Fasi, Higham, Mikaitis & Pranesh 2021, Numerical behavior of NVIDIA tensor cores; Higham 2002, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...registry.errors import UsageError
from ...registry.vectors import split
from ..threads import in_threads
from .prepared import Prepared

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
Doubles = NDArray[np.float64]

#: Scores of a group, whose maximum tells whether it is opened; rows are padded to whole groups.
GROUP = 16
#: Rows rounded at a time.
_ROUNDED_ROWS = 1 << 14
_ACCUMULATION = 2.0**-22
#: Unit roundoff of float32 twice: rows in float32 were rounded already.
_PREPARED = 2.0**-23
#: Covers, relative to a score, the rounding of the float32 operations between a product and its bounds.
_FEW_ROUNDINGS = 2.0**-21
#: Covers everything that underflows; rows are at most 1 long.
_UNDERFLOW = 2.0**-100
#: Settings of torch hold for the process: one sweep at a time changes them.
_alone = RLock()


def whole_groups(rows: int) -> int:
    """Return the least multiple of ``GROUP`` that is not below."""
    return -(-rows // GROUP) * GROUP


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """How products are computed.

    Attributes:
        device: ``cpu`` or ``cuda``.
        half: ``bfloat16`` or ``float16``, what rows are rounded to.
        wide: whether products come out in float32; else they are rounded to ``half`` once more.
    """

    device: str
    half: str = "bfloat16"
    wide: bool = True

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows."""
        import torch

        return torch.bfloat16 if self.half == "bfloat16" else torch.float16

    @property
    def digits(self) -> int:
        """Binary digits of the rows."""
        return 8 if self.half == "bfloat16" else 11

    @property
    def relative(self) -> float:
        """How far a product can be off for its own size, on top of its bound."""
        output = 0.0 if self.wide else 2.0**-self.digits / (1 - 2.0**-self.digits)
        return output + _FEW_ROUNDINGS

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the products of rows ``(m, D)`` and ``(n, D)``, ``(m, n)``; inside of ``multiplying``."""
        import torch

        if not self.wide:
            return torch.mm(left, right.T)
        if self.device == "cpu":
            # Numbers of bfloat16 in float32: where the processor multiplies these faster, they lose nothing.
            return torch.mm(left.float(), right.float().T)
        return torch.mm(left, right.T, out_dtype=torch.float32)


@contextmanager
def multiplying(arithmetic: Arithmetic) -> Iterator[None]:
    """Have torch multiply as it should inside the block, on one thread for each that calls it.

    Raises:
        UsageError: the device has too little memory for what is done inside.
    """
    import torch

    backends: Any = torch.backends
    with _alone:
        cpu, cuda, threads = backends.mkldnn.matmul, backends.cuda.matmul, torch.get_num_threads()
        kept = cpu.fp32_precision
        sums = cuda.allow_fp16_reduced_precision_reduction, cuda.allow_bf16_reduced_precision_reduction
        try:
            torch.set_num_threads(1)
            cpu.fp32_precision = "bf16" if arithmetic.half == "bfloat16" else "ieee"
            cuda.allow_fp16_reduced_precision_reduction = cuda.allow_bf16_reduced_precision_reduction = False
            yield
        except torch.OutOfMemoryError as exc:
            hint = "--device cpu computes the same"
            raise UsageError("the CUDA device has too little memory left for these rows", hint=hint) from exc
        finally:
            torch.set_num_threads(threads)
            cpu.fp32_precision = kept
            cuda.allow_fp16_reduced_precision_reduction, cuda.allow_bf16_reduced_precision_reduction = sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Rows rounded to half precision, on their device.

    Attributes:
        made: the rows as they were.
        full: the same, float32 ``(n, D)``; on the device if there is room for them.
        rows: ``(N, W)``, as right factors; N is n in whole groups.
        errors: float32 ``(N, 3)`` or None, what the bound of a pair is made of: error, size and
            excess of a row.
        reach: float32 ``(n,)``, what a product of a row with any other must be raised by to be a bound.
        order: of the last columns in a left factor.
    """

    made: Prepared
    full: Tensor
    rows: Tensor
    errors: Tensor | None
    reach: Tensor
    order: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.made.rows)

    def left(self, part: slice) -> Tensor:
        """Return some rows, in whole groups, as left factors."""
        block = self.rows[part.start : whole_groups(part.stop)]
        if not self.order:
            return block
        columns = len(self.order)
        at = self.made.rows.shape[1] - 2 * (self.made.metric == "l2")
        block = block.clone()
        block[:, at : at + columns] = block[:, [at + i for i in self.order]]
        return block


def halved(x: Prepared, y: Prepared, arithmetic: Arithmetic, *, at_hand: bool) -> tuple[Halves, Halves]:
    """Return queries and base rounded alike; one object twice where they are one.

    Args:
        x: the queries.
        y: the base.
        arithmetic: what they are multiplied in.
        at_hand: whether the rows in float32 are to lie on the device too.
    """
    sides = (x,) if x is y else (x, y)
    rounded = [_Rounded(side, arithmetic, at_hand=at_hand) for side in sides]
    made = [one.against(rounded[-1 - i]) for i, one in enumerate(rounded)]
    return made[0], made[-1]


class _Rounded:
    """One side, before the other is known."""

    def __init__(self, made: Prepared, arithmetic: Arithmetic, *, at_hand: bool) -> None:
        import torch

        self.made, self.arithmetic, self.added = made, arithmetic, {"dot": 2, "l2": 8}.get(made.metric, 0)
        self.d = made.rows.shape[1] - 2 * (made.metric == "l2")
        wide = -(-(self.d + self.added) // 8) * 8
        self.rows = torch.zeros(
            (whole_groups(len(made.rows)), wide), dtype=arithmetic.dtype, device=arithmetic.device
        )
        self.full = torch.from_numpy(made.rows)
        if at_hand:
            self.full = self.full.to(arithmetic.device)
        lost = self._round()
        self.accumulation = (wide + 16) * _ACCUMULATION
        error = lost * (1 + 2.0**-30) + made.norms * _PREPARED + math.sqrt(self.d) * 2.0**-120
        self.size = made.norms + error
        self.error = error + 2 * self.accumulation * self.size

    def _round(self) -> Doubles:
        """Fill in the rows, and return how far each was moved."""
        import torch

        lost = np.empty(len(self.full))
        flushed = torch.finfo(torch.float32).tiny if self.arithmetic.half == "bfloat16" else 0.0

        def fill(part: slice) -> None:
            block = self.full[part, : self.d].to(self.rows.device)
            short = block.to(self.rows.dtype)
            # Processors may take denormals for zero.
            short[short.abs() < flushed] = 0
            self.rows[part, : self.d] = short
            away = torch.linalg.vector_norm(block.double() - short.double(), dim=1)
            lost[part] = away.cpu().numpy()

        each(fill, list(split(len(self.full), _ROUNDED_ROWS)), self.arithmetic.device)
        return lost

    def against(self, other: _Rounded) -> Halves:
        """Return the rows, to be multiplied with those of the other side."""
        import torch

        device, n = self.arithmetic.device, len(self.full)
        reach = np.full(n, _UNDERFLOW if self.arithmetic.wide else self._least)
        errors = None
        if self.added:
            errors = torch.from_numpy(self._add_columns().astype(np.float32)).to(device)
        else:
            reach += self.error * other.size.max(initial=0.0) + self.size * other.error.max(initial=0.0)
        reach *= 1 + 2.0**-20
        return Halves(
            made=self.made,
            full=self.full,
            rows=self.rows,
            errors=errors,
            reach=torch.from_numpy(reach.astype(np.float32)).to(device),
            order={0: (), 2: (1, 0), 8: (1, 0, 5, 6, 7, 2, 3, 4)}[self.added],
        )

    def _add_columns(self) -> Doubles:
        """Fill in the added columns; return error, size and excess of each row, ``(N, 3)``."""
        n, at = len(self.full), self.d
        padded = np.zeros((len(self.rows), 3))
        errors = padded[:n]
        errors[:, 0] = self._put(at, self._raised(self.error))
        errors[:, 1] = self._put(at + 1, self._raised(self.size))
        if self.added > 2:
            # Half of the squared norm, lowered by what accumulation can cost, in pieces from below.
            half = np.square(self.made.norms) / 2
            rest = half * (1 - 2 * self.accumulation)
            for i in range(3):
                rest += self._put(at + 2 + i, -self._lowered(rest))
            self.rows[:n, at + 5 : at + 8] = 1
            errors[:, 2] = rest + 2 * self.accumulation * half
        return padded * (1 + 2.0**-20)

    def _put(self, column: int, values: Doubles) -> Doubles:
        """Write a column, and return what it holds after rounding."""
        import torch

        written = torch.from_numpy(values).to(self.rows.dtype)
        self.rows[: len(values), column] = written.to(self.rows.device)
        return written.double().numpy()

    def _raised(self, values: Doubles) -> Doubles:
        """Return values that are not below the given ones after they are rounded to half precision."""
        return values * (1 + 2.0 ** (1 - self.arithmetic.digits)) + self._least

    def _lowered(self, values: Doubles) -> Doubles:
        lowered: Doubles = np.maximum(values * (1 - 2.0 ** (1 - self.arithmetic.digits)) - self._least, 0.0)
        return lowered

    @property
    def _least(self) -> float:
        """Above every rounding to a denormal number of half precision."""
        return 2.0**-120 if self.arithmetic.half == "bfloat16" else 2.0**-24


def each(work: Callable[[T], None], tasks: Sequence[T], device: str) -> None:
    """Do tasks: beside each other on processors, one after the other where a device does the work."""
    import torch

    def alone(task: T) -> None:
        torch.set_num_threads(1)
        work(task)

    if device == "cpu":
        in_threads(alone, tasks)
        return
    for task in tasks:
        work(task)
