"""torch checkpoints, read only: a tensor, or a state dict of them; alone, or in shards behind an index file.

A checkpoint is a zip with a pickle inside. It is read by torch's restricted loading (``weights_only``),
which makes tensors and nothing else, and mapped, so that only the rows asked for come off the disk.
"""

from __future__ import annotations

import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, printable
from ..vectors import Vectors, split
from . import checkpoints
from .arrays import Encoding
from .base import COPY_AGAIN, Options, Source, bad, batch_rows, casting, reading
from .checkpoints import Tensor

if TYPE_CHECKING:
    import torch

#: How the format before torch 1.6 begins: a pickle of its magic number.
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_REMEDY = "in torch: torch.save(torch.load(OLD, map_location='cpu', weights_only=True), NEW)"
_RECORD = "/data.pkl"
_ZIP = (zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError, ValueError, LookupError)
#: What torch raises on damaged checkpoints, by the part of it that stumbles.
_DAMAGE = (
    *_ZIP, TypeError, AttributeError, AssertionError, ArithmeticError, ImportError, MemoryError,
)  # fmt: skip
#: Before it, restricted loading could be made to run code: CVE-2025-32434 and CVE-2026-24747.
_SAFE = "2.10"
_WORDS = {"float32": "F32", "float16": "F16", "float64": "F64", "bfloat16": "BF16"}
_NESTED = ("state_dict", "model_state_dict", "model")
_GLOBAL = re.compile(r"GLOBAL ([\w.]{1,100})")


def claims(path: Path, head: bytes) -> bool:
    """Return whether a zip that begins with ``head`` is a checkpoint, and not an archive of arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(_RECORD) for name in archive.namelist())
    except (OSError, EOFError, *_ZIP):
        # Damaged, but torch writes this record first.
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return name.endswith(_RECORD.encode())


def read(path: Path, options: Options) -> Source:
    """Open a checkpoint, or its ``.bin.index.json``; ``options.tensor`` names the table.

    A state dict may lie under ``state_dict``, ``model_state_dict`` or ``model``.
    """
    return checkpoints.read("torch", path, options, _listed, _blocks)


def _listed(path: Path) -> dict[str, Tensor]:
    loaded = _load(path)
    tensors = _tensors(loaded)
    if not tensors:
        what = f"holds a {printable(type(loaded).__name__, 40)} without tensors"
        raise bad(path, "", what, "a tensor, or a state dict: torch.save(model.state_dict(), NEW)")
    return {
        name: Tensor(
            name=name,
            path=path,
            shape=tuple(tensor.shape),
            dtype=_dtype(tensor),
            numbers=tensor,
            shares=_shares(tensor),
        )
        for name, tensor in tensors.items()
    }


def _load(path: Path) -> Any:
    import torch

    if torch.__version__ < _SAFE:
        raise bad(path, "", f"torch {torch.__version__} cannot load checkpoints safely",
                  f"pip install 'torch>={_SAFE}', or convert it to safetensors")  # fmt: skip
    _check_archive(path)
    with reading(path, *_DAMAGE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except _refusals() as exc:
            raise _refused(path, str(exc)) from exc


def _refusals() -> type[Exception]:
    from pickle import UnpicklingError  # noqa: TID251  nothing but the name of torch's refusal

    return UnpicklingError


def _refused(path: Path, message: str) -> InputError:
    """Return the error for torch's refusal; its own text advises to load the file without restriction."""
    found = _GLOBAL.search(message)
    if found is None:
        return bad(path, "", "truncated or damaged: its pickle is not one that torch writes", COPY_AGAIN)
    what = f"holds Python objects ({printable(found[1])}), which could run code: never loaded"
    return bad(
        path, "", what, "whoever trusts it saves its tensors alone: torch.save(model.state_dict(), NEW)"
    )


def _check_archive(path: Path) -> None:
    """Refuse what torch would load otherwise, or unpack to more than the file's own size."""
    with reading(path), path.open("rb") as file:
        head = file.read(len(LEGACY))
    if head == LEGACY:
        raise bad(path, "", "a torch checkpoint from before 1.6, not a zip: never loaded", LEGACY_REMEDY)
    if not head.startswith(b"PK"):
        raise bad(path, "", "not a torch checkpoint: no zip file", "name the file's format with --format")
    with reading(path, *_ZIP), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if not any(name.endswith(_RECORD) for name in names):
        raise bad(path, "", "a zip file without data.pkl, not a torch checkpoint", "an .npz? --format npz")
    if any(name.endswith("/constants.pkl") for name in names):
        raise bad(path, "", "TorchScript, which is code: never loaded",
                  "in torch: torch.save(torch.jit.load(OLD).state_dict(), NEW)")  # fmt: skip
    if any(e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size for e in entries):
        raise bad(path, "", "a compressed zip, which torch does not write", "save it again with torch.save")


def _tensors(loaded: Any) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, torch.Tensor):
        return {"tensor": loaded}
    if not isinstance(loaded, Mapping):
        return {}
    inner = next((loaded[key] for key in _NESTED if isinstance(loaded.get(key), Mapping)), loaded)
    return {key: x for key, x in inner.items() if isinstance(key, str) and isinstance(x, torch.Tensor)}


def _dtype(tensor: torch.Tensor) -> str:
    import torch

    name = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return f"a {str(tensor.layout).removeprefix('torch.')} tensor of {name} on {tensor.device.type}"
    return _WORDS.get(name, name)


def _shares(tensor: torch.Tensor) -> tuple[Any, ...] | None:
    """Return what two names of the same numbers have in common; None where there are no numbers."""
    if _dtype(tensor) not in _WORDS.values() or not tensor.data_ptr():
        return None
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _check_storage(tensor: Tensor) -> None:
    """Refuse rows that are repetitions of fewer numbers: a small file could promise any number of them."""
    x: torch.Tensor = tensor.numbers
    if x.numel() * x.element_size() > x.untyped_storage().nbytes():
        raise bad(tensor.path, tensor.place, "expanded: its rows repeat the same numbers",
                  "save it again after .contiguous()")  # fmt: skip


def _blocks(tensor: Tensor, encoding: Encoding) -> Iterator[Vectors]:
    _check_storage(tensor)
    return _rows(tensor, encoding)


def _rows(tensor: Tensor, encoding: Encoding) -> Iterator[Vectors]:
    n, d = tensor.shape
    x: torch.Tensor = tensor.numbers.detach()
    with reading(tensor.path, *_DAMAGE), casting():
        for part in split(n, batch_rows(d * x.element_size())):
            block = x[part.start : part.stop].resolve_neg()
            # numpy has no bfloat16. A copy in any case: the receiver may keep it, and the map must go.
            block = block.float() if encoding.bfloat16 else block
            yield np.array(block.numpy(), dtype=encoding.kept, order="C")
