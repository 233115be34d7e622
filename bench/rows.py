"""The rows of the table by name: each public generator of a file ``rows_*.py``, in the order it stands there.

Such a function takes a folder that it may write to, and yields one ``Row`` or more.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .measure import Row

Rows = Callable[[Path], Iterator[Row]]


def _rows(module: ModuleType) -> dict[str, Rows]:
    own = {name: work for name, work in vars(module).items() if inspect.isgeneratorfunction(work)}
    return {name: work for name, work in own.items() if name[0] != "_" and work.__module__ == module.__name__}


_FILES = sorted(Path(__file__).parent.glob("rows_*.py"))
ROWS: dict[str, Rows] = {
    name: work for file in _FILES for name, work in _rows(import_module(f".{file.stem}", __package__)).items()
}
