"""Content-addressed files: a blob is named by the sha256 of its bytes, written once, never changed.

A blob appears under its final name only when it is whole and on disk: staging -> fsync -> rename -> fsync of
the directory. A crash leaves a staging file or an unreferenced blob, nothing else.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CorruptBlob, StorageError

_READ = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A stored file: its sha256 (64 hex digits), its size in bytes, whether this call wrote it."""

    digest: str
    nbytes: int
    written: bool = True


def _fsync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class BlobStore:
    """The blobs of one registry, below ``root/blobs``; partial writes live in ``root/staging``."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._staging = root / "staging"

    def create(self) -> None:
        """Make the directories."""
        with _storage(self._blobs):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._staging.mkdir(parents=True, exist_ok=True)

    def _place(self, digest: str) -> Path:
        return self._blobs / digest[:2] / digest

    def put(self, chunks: Sequence[Any]) -> Blob:
        """Store the concatenation of some buffers; bytes that are there already are not written again.

        Raises:
            StorageError: the disk refused; nothing is left behind.
        """
        sha = hashlib.sha256()
        nbytes = 0
        for chunk in chunks:
            sha.update(chunk)
            nbytes += memoryview(chunk).nbytes
        digest = sha.hexdigest()
        if self._reuse(digest):
            return Blob(digest=digest, nbytes=nbytes, written=False)

        def write(path: Path) -> None:
            with path.open("wb", buffering=0) as file:
                for chunk in chunks:
                    view = memoryview(chunk).cast("B")
                    while view:
                        view = view[file.write(view) :]

        with self.staged() as path:
            write(path)
            self._publish(path, digest)
        return Blob(digest=digest, nbytes=nbytes)

    def put_file(self, write: Callable[[Path], None]) -> Blob:
        """Store the file that ``write`` makes at the path it is given, for writers that need a path.

        Raises:
            StorageError: the disk refused; nothing is left behind.
        """
        with self.staged() as path:
            write(path)
            digest, nbytes = hash_file(path), path.stat().st_size
            if self._reuse(digest):
                return Blob(digest=digest, nbytes=nbytes, written=False)
            self._publish(path, digest)
        return Blob(digest=digest, nbytes=nbytes)

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """Yield a fresh staging path; whatever is there at the end is removed."""
        path = self._staging / f"{os.getpid()}-{uuid.uuid4().hex}"
        with _storage(path):
            self._staging.mkdir(exist_ok=True)  # copies of a registry tend to lose empty directories
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def _reuse(self, digest: str) -> bool:
        """Whether the blob is there already and intact: a damaged one is written again, which mends it."""
        # A fresh time of change keeps a sweep, which spares young blobs, from taking one that an
        # unfinished publication is about to refer to.
        with _storage(self._blobs):
            try:
                os.utime(self._place(digest))
                return hash_file(self._place(digest)) == digest
            except FileNotFoundError:
                return False

    def _publish(self, staged: Path, digest: str) -> None:
        handle = os.open(staged, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        place = self._place(digest)
        if not place.parent.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            _fsync_directory(place.parent.parent)
        staged.replace(place)
        _fsync_directory(place.parent)

    def exists(self, digest: str) -> bool:
        """Whether the blob is there; its bytes are not looked at."""
        return self._place(digest).is_file()

    def path(self, digest: str) -> Path:
        """Return the file of a blob.

        Raises:
            CorruptBlob: it is not there.
        """
        place = self._place(digest)
        if not place.is_file():
            raise CorruptBlob(
                f"blob {digest[:12]} is missing",
                hint="run 'embreg verify' to see every damaged version",
            )
        return place

    def read(self, digest: str) -> bytes:
        """Return the bytes of a small blob, checked against their name.

        Raises:
            CorruptBlob: it is missing or damaged.
        """
        data = self.path(digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise CorruptBlob(
                f"blob {digest[:12]} is damaged",
                hint="run 'embreg verify' to see every damaged version",
            )
        return data

    def intact(self, digest: str) -> bool:
        """Whether the blob is there and its bytes still hash to its name."""
        place = self._place(digest)
        return place.is_file() and hash_file(place) == digest

    def all(self) -> Iterator[tuple[str, int, float]]:
        """Yield digest, size in bytes and age in seconds of every blob."""
        now = time.time()
        for place in self._blobs.glob("??/*"):
            with suppress(FileNotFoundError):
                stat = place.stat()
                yield place.name, stat.st_size, now - stat.st_mtime

    def staging(self) -> Iterator[tuple[Path, int, float]]:
        """Yield path, size in bytes and age in seconds of every staging file."""
        now = time.time()
        for path in self._staging.iterdir() if self._staging.is_dir() else ():
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield path, stat.st_size, now - stat.st_mtime

    def remove(self, digest: str) -> None:
        """Delete a blob; one that is gone already is fine."""
        with _storage(self._blobs):
            self._place(digest).unlink(missing_ok=True)


@contextmanager
def _storage(place: Path) -> Iterator[None]:
    """Translate what the operating system refuses into a StorageError that names the place."""
    try:
        yield
    except OSError as exc:
        if isinstance(exc, StorageError):
            raise
        raise StorageError(
            f"cannot write to {place.parent}: {exc.strerror or exc}",
            hint="nothing was registered; free some space or check permissions, then run it again",
        ) from exc
