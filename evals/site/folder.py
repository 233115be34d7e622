"""A directory that is written into and never out of: no link inside is followed, every file comes whole."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...registry.errors import StorageError, printable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: How files begin that are not whole yet, and after how many seconds one is nobody's any more.
_PARTIAL, _LEFT_S = ".embreg-part-", 3600


class Folder:
    """An open directory; paths are relative to it, with ``/``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the directory against other writers: the second waits for the first, where locks are had."""
        with _told(self.path, ""):
            held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # without locks two writers only write some files twice
                fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)

    def names(self) -> list[str]:
        """Return what stands in the directory itself."""
        with _told(self.path, ""):
            return sorted(entry.name for entry in self.path.iterdir())

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes; None where there is none, or something else in its place."""
        try:
            with self._parent(path) as (parent, name):
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except (OSError, StorageError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, path: str) -> bytes | None:
        """Return a file; None where it cannot be read."""
        try:
            with self._parent(path) as (parent, name):
                opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                with os.fdopen(opened, "rb") as file:
                    return file.read()
        except (OSError, StorageError):
            return None

    def write(self, path: str, content: bytes) -> None:
        """Put a whole file in its place; folders on the way are made.

        Raises:
            StorageError: the disk refused, or a link or a file stands where a folder must be.
        """
        partial = f"{_PARTIAL}{secrets.token_hex(8)}"
        with _told(self.path, path), self._parent(path, make=True) as (parent, name):
            opened = os.open(
                partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=parent
            )
            try:
                with os.fdopen(opened, "wb") as file:
                    file.write(content)
                os.rename(partial, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(OSError):
                    os.unlink(partial, dir_fd=parent)
                raise

    def remove(self, path: str) -> bool:
        """Remove a file, and folders that are empty without it; return whether it was there."""
        try:
            with self._parent(path) as (parent, name):
                os.unlink(name, dir_fd=parent)
        except (OSError, StorageError):
            return False
        while path := path.rpartition("/")[0]:
            try:
                with self._parent(path) as (parent, name):
                    os.rmdir(name, dir_fd=parent)
            except (OSError, StorageError):
                break
        return True

    def tidy(self, folders: set[str]) -> None:
        """Remove what writers left half-written that died long ago."""
        for folder in folders:
            with (
                suppress(OSError, StorageError),
                self._parent(f"{folder}/x" if folder else "x") as (parent, _),
            ):
                for name in os.listdir(parent):  # noqa: PTH208 - of a descriptor
                    if name.startswith(_PARTIAL):
                        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                        if time.time() - found.st_mtime > _LEFT_S:
                            os.unlink(name, dir_fd=parent)

    @contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Yield the open folder that a path ends in, and its last name.

        Raises:
            StorageError: something else than a folder stands on the way.
        """
        *folders, name = path.split("/")
        # The directory itself may be reached by a link: its owner named it.
        opened = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for at, folder in enumerate(folders, 1):
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=opened)
                opened = self._step(opened, folder, "/".join(folders[:at]))
            yield opened, name
        finally:
            os.close(opened)

    def _step(self, opened: int, folder: str, path: str) -> int:
        """Return a folder of an open one, which is closed."""
        try:
            further = os.open(folder, _FOLDER, dir_fd=opened)
        except OSError as exc:
            if exc.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            where = printable(str(self.path / path))
            hint = "a site is written into folders of its own: move it away"
            raise StorageError(f"{where} is a link or a file", hint=hint) from exc
        os.close(opened)
        return further


@contextmanager
def _told(folder: Path, path: str) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as exc:
        where = printable(str(folder / path) if path else str(folder))
        raise StorageError(f"cannot write {where}: {exc.strerror}") from exc
