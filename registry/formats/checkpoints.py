"""What checkpoints of models share: which of their tensors is the table, and where its shard lies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import did_you_mean, printable
from ..vectors import Vectors
from . import ids, roles
from .arrays import BFLOAT16, Encoding
from .base import Options, Source, bad, check_shape, once
from .documents import document

INDEX = ".index.json"
_SHOWN = 8
#: By safetensors' names of dtypes.
_KEPT: Mapping[str, Encoding] = {
    "F32": Encoding.of(np.dtype("<f4")),
    "F16": Encoding.of(np.dtype("<f2")),
    "F64": Encoding.of(np.dtype("<f8")),
    "BF16": BFLOAT16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a checkpoint, as far as its header tells.

    Attributes:
        path: the file that holds it; a shard, where there is an index.
        dtype: ``F32``, ``F16``, ``BF16``, ``F64``, or any other word for what is not kept.
        numbers: where its numbers are, in the reader's own terms.
        shares: equal for tensors that are the same numbers under two names.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    dtype: str
    numbers: Any
    shares: Hashable = None

    @property
    def place(self) -> str:
        """Where an error about it is."""
        return f"tensor '{printable(self.name, 100)}'"


Lister = Callable[[Path], Mapping[str, Tensor]]
Blocks = Callable[[Tensor, Encoding], Iterator[Vectors]]


class Checkpoint:
    """The tensors behind a path: of one file, or of the shards that an ``….index.json`` names.

    Args:
        path: the checkpoint, or its index.
        listed: reads the headers of one file.
        blocks: reads the rows of a tensor.
    """

    def __init__(self, path: Path, listed: Lister, blocks: Blocks) -> None:
        self.path, self._listed, self._blocks = path, listed, blocks
        self._files: dict[Path, Mapping[str, Tensor]] = {}

    @property
    def sharded(self) -> bool:
        """Whether its tensors lie in files beside it."""
        return self.path.name.lower().endswith(INDEX)

    @cached_property
    def names(self) -> Collection[str]:
        """The names of its tensors."""
        return self._shards if self.sharded else self._file(self.path)

    @cached_property
    def _shards(self) -> Mapping[str, Path]:
        return _shards(self.path)

    def _file(self, path: Path) -> Mapping[str, Tensor]:
        if path not in self._files:
            self._files[path] = self._listed(path)
        return self._files[path]

    def tensor(self, name: str) -> Tensor:
        """Return one of its tensors; of the shards only the one that holds it is opened.

        Raises:
            InputError: there is none of that name, or its file cannot be read.
        """
        if name not in self.names:
            hint = did_you_mean(name, self.names, f"tensors: {_names(self.names)}")
            raise bad(self.path, "", f"no tensor '{printable(name, 100)}'", hint)
        file = self._shards[name] if self.sharded else self.path
        if name not in self._file(file):
            what = f"no tensor '{printable(name, 100)}', which {printable(self.path.name)} promises"
            raise bad(file, "", what, "the index and this file are of different checkpoints")
        return self._file(file)[name]

    def same(self, one: Tensor, other: Tensor) -> bool:
        """Whether two tensors hold the same numbers, bit by bit; both are read as far as they agree."""
        if one.shares is not None and one.shares == other.shares:
            return True
        like = (one.shape, one.dtype) == (other.shape, other.dtype)
        if not like or one.dtype not in _KEPT or len(one.shape) != 2:
            return False
        pairs = zip(self._blocks(one, kept(one)), self._blocks(other, kept(other)), strict=True)
        return all(np.array_equal(x.view(np.uint8), y.view(np.uint8)) for x, y in pairs)


def read(name: str, path: Path, options: Options, listed: Lister, blocks: Blocks) -> Source:
    """Open the table of a checkpoint of format ``name``; ``options.tensor`` names it.

    Raises:
        InputError: it cannot be found, or is no table of floats.
    """
    checkpoint = Checkpoint(path, listed, blocks)
    tensor = find(checkpoint, options.tensor)
    encoding = kept(tensor)
    n, d = check_shape(tensor.path, tensor.place, tensor.shape)
    rows = blocks(tensor, encoding)
    names = ids.names(path, options, n)
    said, told = roles.declared(checkpoint, tensor)
    if names.opened is None and not names.told:
        told += ("ids are row numbers: with --tokenizer FILE versions are compared by token",)
    return Source(
        path=path,
        format=name,
        dim=d,
        dtype=encoding.kept.name,
        rows=n,
        warnings=encoding.told + names.told + told,
        declares={**names.declares, **said},
        batches=once(lambda: names.batches(rows)),
    )


def find(checkpoint: Checkpoint, wanted: str | None) -> Tensor:
    """Return the tensor to read.

    Without ``wanted`` it is the only two-dimensional tensor of floats, else the only one whose name is that
    of an embedding table. Behind an index a name is looked for first, so that one shard is enough.

    Raises:
        InputError: there is none, or several; they are listed with their shapes.
    """
    if wanted is None and checkpoint.sharded:
        wanted = _named_as_table(checkpoint.names)
    if wanted is not None:
        return checkpoint.tensor(wanted)
    return _choose(checkpoint.path, {name: checkpoint.tensor(name) for name in checkpoint.names})


def kept(tensor: Tensor) -> Encoding:
    """Return how the numbers of a tensor are kept.

    Raises:
        InputError: it holds no floats of a known size.
    """
    if tensor.dtype not in _KEPT:
        raise bad(tensor.path, tensor.place, f"holds {printable(tensor.dtype, 60)}, not floats",
                  "F32, F16, BF16 and F64 are read: convert it, or name another with --tensor")  # fmt: skip
    return _KEPT[tensor.dtype]


def _choose(path: Path, tensors: Mapping[str, Tensor]) -> Tensor:
    flat = [t for t in tensors.values() if len(t.shape) == 2]
    # Where there are no floats at all, the reader of the tensor says what it is instead.
    tables = _distinct([t for t in flat if t.dtype in _KEPT] or flat)
    likely = [t for t in tables if roles.kind_of(t.name) == roles.INPUT]
    for candidates in (tables, likely):
        if len(candidates) == 1:
            return candidates[0]
    if not tables:
        raise bad(path, "", f"no two-dimensional tensor among its {len(tensors)}: {_names(tensors)}",
                  "one row per id")  # fmt: skip
    raise bad(path, "", f"several tensors could be the table: {_shapes(likely or tables)}",
              "name one with --tensor")  # fmt: skip


def _named_as_table(names: Iterable[str]) -> str | None:
    likely = [name for name in names if roles.kind_of(name) == roles.INPUT]
    return likely[0] if len(likely) == 1 else None


def _distinct(tensors: list[Tensor]) -> list[Tensor]:
    """Leave out what was there before under another name: tied embeddings are one table."""
    first: dict[Hashable, Tensor] = {}
    for tensor in tensors:
        first.setdefault(tensor.name if tensor.shares is None else (tensor.shares,), tensor)
    return list(first.values())


def _names(names: Collection[str]) -> str:
    return _cut([printable(name, 80) for name in names])


def _shapes(tensors: list[Tensor]) -> str:
    tallest = sorted(tensors, key=lambda t: -t.shape[0])
    return _cut([f"{printable(t.name, 80)} ({t.shape[0]} x {t.shape[1]})" for t in tallest])


def _cut(words: list[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _shards(path: Path) -> dict[str, Path]:
    """Return the file of every tensor, which lies beside the index."""
    found = document(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise bad(path, "", "no 'weight_map' of tensor names", "is this the index of a sharded checkpoint?")
    return {name: path.with_name(_file(path, name, file)) for name, file in found.items()}


def _file(path: Path, name: str, file: object) -> str:
    if not isinstance(file, str) or file in ("", ".", "..") or set(file) & set("/\\\0"):
        raise bad(path, f"tensor '{printable(name, 100)}'", f"its file is {printable(repr(file), 100)}",
                  "only files beside the index are read: it names them, without a folder")  # fmt: skip
    return file
