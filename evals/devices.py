"""Where neighbours are computed: on the processor, or on a CUDA device.

The choice is ``auto`` unless ``$EMBREG_DEVICE`` says another, or ``at_device`` surrounds the call: like
NumPy's ``errstate`` it holds for the calls inside. Answers do not depend on it, only the time they take.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ..registry.errors import UnknownChoice, UsageError

CHOICES = ("auto", "cpu", "cuda")
#: Multiplications that take a processor longer than torch and a device take to start.
_WORTH = 1 << 38
#: What drivers put here: without it, torch need not be loaded to find no device.
_DEVICES, _NAMES = Path("/dev"), ("nvidia[0-9]*", "dxg")
#: Bytes that stay free beside the rows, for tiles of scores and what is opened of them.
_SPARE = 6 << 30

_device: ContextVar[str | None] = ContextVar("device", default=None)


@contextmanager
def at_device(name: str | None) -> Iterator[None]:
    """Compute neighbours on this device inside the block.

    Args:
        name: ``cpu``, ``cuda``, or ``auto``, which is cuda where there is one, the work is worth the start,
            and the rows fit; None is ``$EMBREG_DEVICE``, or auto where that is not set.

    Raises:
        UnknownChoice: another name.
        UsageError: cuda, and there is none.
    """
    token = _device.set(_default() if name is None else _usable(name))
    try:
        yield
    finally:
        _device.reset(token)


def device() -> str:
    """Return the choice in force: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UnknownChoice: ``$EMBREG_DEVICE`` is none of these.
        UsageError: it is cuda, and there is none.
    """
    return _device.get() or _default()


def device_for(products: int, numbers: int) -> str:
    """Return ``cpu`` or ``cuda`` for some work, by the choice in force.

    Args:
        products: multiplications that it takes.
        numbers: in the rows of both sides.

    Raises:
        UnknownChoice: ``$EMBREG_DEVICE`` is no choice.
        UsageError: it is cuda, and there is none.
    """
    chosen = device()
    if chosen != "auto":
        return chosen
    worth = products >= _WORTH and _may_have_cuda() and has_cuda()
    return "cuda" if worth and room() > 2 * numbers else "cpu"


def has_cuda() -> bool:
    """Return whether torch finds a CUDA device; it is loaded for that."""
    import torch

    return torch.cuda.is_available()


def room() -> int:
    """Return how many bytes of rows fit on the CUDA device, beside all else."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return max(0, free - _SPARE)


def _default() -> str:
    return _usable(os.environ.get("EMBREG_DEVICE") or "auto", "$EMBREG_DEVICE")


def _usable(name: str, what: str = "device") -> str:
    if name not in CHOICES:
        raise UnknownChoice(what, name, CHOICES)
    if name == "cuda" and not has_cuda():
        raise UsageError("torch finds no CUDA device here", hint="'auto' takes one where there is one")
    return name


def _may_have_cuda() -> bool:
    if "torch" in sys.modules or not sys.platform.startswith("linux"):
        return True
    return any(True for name in _NAMES for _ in _DEVICES.glob(name))
