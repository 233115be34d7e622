"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..registry.errors import StorageError, printable

_MODE = 0o666


def save(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a pipe or a device is written to as it is.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except OSError as exc:
        raise refused(path, exc) from exc


def _replace(path: Path, data: bytes) -> None:
    """Put a new file in the place of another: who reads meanwhile sees the one or the other."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(path.stat().st_mode & 0o7777 if path.exists() else _MODE & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refused(path: Path, exc: OSError) -> StorageError:
    """Return what to say of a file that the system would not write."""
    hint = "a file is in the way" if isinstance(exc, FileExistsError | NotADirectoryError) else ""
    return StorageError(f"cannot write {printable(str(path))}: {exc.strerror}", hint=hint)
