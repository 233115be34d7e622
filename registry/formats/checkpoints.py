"""What checkpoints of models share: which of their tensors is the table, and where its shard lies."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, did_you_mean, printable
from .base import bad, target
from .documents import document

INDEX = ".index.json"
_SHOWN = 8
#: Names that the table of input tokens has in BERT, GPT-2, LLaMA, T5, BLOOM … and sentence encoders.
_LIKELY = re.compile(
    r"(?:embed_tokens|embed_in|word_embeddings|token_embedding|wte|tok_embeddings|shared|embeddings)\.weight"
)
#: By safetensors' names of dtypes: what is kept, and what is told.
_KEPT: Mapping[str, tuple[np.dtype[Any], tuple[str, ...]]] = {
    "F32": target(np.dtype(np.float32)),
    "F16": target(np.dtype(np.float16)),
    "F64": target(np.dtype(np.float64)),
    "BF16": (np.dtype(np.float32), ("bfloat16 values are kept as float32, each exactly",)),
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


def find(path: Path, wanted: str | None, listed: Lister) -> Tensor:
    """Return the tensor to read from a checkpoint, or through the index of a sharded one.

    Without ``wanted`` it is the only two-dimensional tensor of floats, else the only one whose name is
    that of an embedding table. Behind an index a name is looked for first, so that one shard is enough.

    Args:
        path: the checkpoint, or its ``….index.json``.
        wanted: name of the tensor.
        listed: reads the headers of one file.

    Raises:
        InputError: there is none, or several; they are listed with their shapes.
    """
    if not path.name.lower().endswith(INDEX):
        return _choose(path, listed(path), wanted)
    shards = _shards(path)
    name = wanted if wanted is not None else _named_as_table(shards)
    if name is None:
        parts = {shard: listed(shard) for shard in dict.fromkeys(shards.values())}
        return _choose(path, {key: _of_shard(path, key, parts[shards[key]], shards) for key in shards}, None)
    if name not in shards:
        raise _no_tensor(path, name, shards)
    return _of_shard(path, name, listed(shards[name]), shards)


def kept(tensor: Tensor) -> tuple[np.dtype[Any], tuple[str, ...]]:
    """Return the dtype that a tensor is kept as, and what to tell about the cast.

    Raises:
        InputError: it holds no floats of a known size.
    """
    if tensor.dtype not in _KEPT:
        raise bad(tensor.path, tensor.place, f"holds {printable(tensor.dtype, 60)}, not floats",
                  "F32, F16, BF16 and F64 are read: convert it, or name another with --tensor")  # fmt: skip
    return _KEPT[tensor.dtype]


def _choose(path: Path, tensors: Mapping[str, Tensor], wanted: str | None) -> Tensor:
    if wanted is not None:
        if wanted not in tensors:
            raise _no_tensor(path, wanted, tensors)
        return tensors[wanted]
    flat = [t for t in tensors.values() if len(t.shape) == 2]
    # Where there are no floats at all, the reader of the tensor says what it is instead.
    tables = _distinct([t for t in flat if t.dtype in _KEPT] or flat)
    likely = [t for t in tables if _LIKELY.fullmatch(_tail(t.name))]
    for candidates in (tables, likely):
        if len(candidates) == 1:
            return candidates[0]
    if not tables:
        raise bad(path, "", f"no two-dimensional tensor among its {len(tensors)}: {_names(tensors)}",
                  "one row per id")  # fmt: skip
    raise bad(path, "", f"several tensors could be the table: {_shapes(likely or tables)}",
              "name one with --tensor")  # fmt: skip


def _tail(name: str) -> str:
    """Return the last two parts of a dotted name."""
    return ".".join(name.split(".")[-2:])


def _named_as_table(names: Iterable[str]) -> str | None:
    likely = [name for name in names if _LIKELY.fullmatch(_tail(name))]
    return likely[0] if len(likely) == 1 else None


def _distinct(tensors: list[Tensor]) -> list[Tensor]:
    """Leave out what was there before under another name: tied embeddings are one table."""
    first: dict[Hashable, Tensor] = {}
    for tensor in tensors:
        first.setdefault(tensor.name if tensor.shares is None else (tensor.shares,), tensor)
    return list(first.values())


def _no_tensor(path: Path, wanted: str, names: Collection[str]) -> InputError:
    hint = did_you_mean(wanted, names, f"tensors: {_names(names)}")
    return bad(path, "", f"no tensor '{printable(wanted, 100)}'", hint)


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


def _of_shard(path: Path, name: str, tensors: Mapping[str, Tensor], shards: Mapping[str, Path]) -> Tensor:
    if name not in tensors:
        what = f"no tensor '{printable(name, 100)}', which {printable(path.name)} promises"
        raise bad(shards[name], "", what, "the index and this file are of different checkpoints")
    return tensors[name]
