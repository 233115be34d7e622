"""Content-addressed files: a blob is named by the sha256 of its bytes, written once, never changed.

A blob appears under its final name only when it is whole and on disk: staging -> fsync -> rename -> fsync of
the directory. A crash leaves a staging file or an unreferenced blob, nothing else.

No blob is opened unchecked. Small ones are hashed each time. Of a large one ``root/checked`` remembers which
file (inode, size, times of change) was found to have its digest: as long as the file is that one, it is not
hashed again; a file that was written to, cut, replaced, copied or restored is. What changes bytes behind the
file system's back is found by ``intact``, which always hashes: docs/adr/0007-checked-when-opened.md.
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
from typing import Any, NamedTuple, Self

from .errors import Conflict, CorruptBlob, StorageError

#: Blobs below this are hashed whenever they are opened: it takes less than a millisecond.
_SMALL = 1 << 20
_VERIFY = "run 'embreg verify' to see every damaged version"


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


class _Stamp(NamedTuple):
    """What no writing to a file, no replacing of it and no restoring leaves as it was."""

    inode: int
    nbytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        stat = path.stat()
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    def __str__(self) -> str:
        return " ".join(map(str, self))


class BlobStore:
    """The blobs of one registry, below ``root/blobs``; partial writes live in ``root/staging``.

    Ages are told by ``clock``, in seconds since the epoch.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._staging = root / "staging"
        self._checked = root / "checked"
        self._stamps: dict[str, _Stamp] = {}
        self._clock = clock

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
        """Yield a fresh staging path; whatever is there at the end is removed.

        Raises:
            Conflict: a sweep took it for what a process that died had left.
        """
        path = self._staging / f"{os.getpid()}-{uuid.uuid4().hex}"
        with _storage(path):
            self._staging.mkdir(exist_ok=True)  # copies of a registry tend to lose empty directories
            try:
                yield path
            except FileNotFoundError as exc:
                if str(exc.filename) != str(path):
                    raise
                raise Conflict(
                    "a sweep took what was being written; nothing was published", hint="run it again"
                ) from exc
            finally:
                path.unlink(missing_ok=True)

    def _reuse(self, digest: str) -> bool:
        """Whether the blob is there already and intact: a damaged one is written again, which mends it."""
        # A fresh time of change keeps a sweep, which spares young blobs, from taking one that an
        # unfinished publication is about to refer to.
        with _storage(self._blobs):
            try:
                os.utime(self._place(digest))
            except FileNotFoundError:
                return False
            try:
                return self.intact(digest)
            except CorruptBlob:  # it cannot be read: perhaps it can be replaced
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
        with suppress(FileNotFoundError):  # swept already: whoever publishes it will notice
            self._remember(digest, _Stamp.of(place))

    def exists(self, digest: str) -> bool:
        """Whether the blob is there; its bytes are not looked at."""
        return self._place(digest).is_file()

    def path(self, digest: str) -> Path:
        """Return the file of a blob, which has its bytes.

        Raises:
            CorruptBlob: it is not there, or it is damaged.
        """
        place = self._place(digest)
        try:
            stamp = _Stamp.of(place)
        except FileNotFoundError as exc:
            raise CorruptBlob(f"blob {digest[:12]} is missing", hint=_VERIFY) from exc
        except OSError as exc:
            raise _unreadable(digest, exc) from exc
        if not self._recalls(digest, stamp) and not self.intact(digest):
            raise CorruptBlob(f"blob {digest[:12]} is damaged", hint=_VERIFY)
        return place

    def read(self, digest: str) -> bytes:
        """Return the bytes of a small blob, checked against their name.

        Raises:
            CorruptBlob: it is missing or damaged.
        """
        try:
            data = self._place(digest).read_bytes()
        except FileNotFoundError as exc:
            raise CorruptBlob(f"blob {digest[:12]} is missing", hint=_VERIFY) from exc
        except OSError as exc:
            raise _unreadable(digest, exc) from exc
        if hashlib.sha256(data).hexdigest() != digest:
            raise CorruptBlob(f"blob {digest[:12]} is damaged", hint=_VERIFY)
        return data

    def intact(self, digest: str) -> bool:
        """Whether the blob is there and its bytes still hash to its name; all of them are read.

        Raises:
            CorruptBlob: the file cannot be read.
        """
        place = self._place(digest)
        try:
            before = _Stamp.of(place)
            good = hash_file(place) == digest
            same = _Stamp.of(place) == before
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise _unreadable(digest, exc) from exc
        if not good:
            self._forget(digest)
        elif same:
            self._remember(digest, before)
        return good

    def _recalls(self, digest: str, stamp: _Stamp) -> bool:
        """Whether this very file was found to have its digest."""
        if stamp.nbytes < _SMALL:
            return False
        if self._stamps.get(digest) == stamp:
            return True
        try:
            known = (self._checked / digest).read_bytes() == str(stamp).encode()
        except OSError:
            return False
        if known:
            self._stamps[digest] = stamp
        return known

    def _remember(self, digest: str, stamp: _Stamp) -> None:
        """Note that a file has its digest. Where that cannot be noted it is found out again, no more."""
        if stamp.nbytes < _SMALL:
            return
        self._stamps[digest] = stamp
        partial = self._checked / f"{digest}.{uuid.uuid4().hex}"
        try:
            self._checked.mkdir(exist_ok=True)
            partial.write_bytes(str(stamp).encode())
            partial.replace(self._checked / digest)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _forget(self, digest: str) -> None:
        self._stamps.pop(digest, None)
        with suppress(OSError):
            (self._checked / digest).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, int, float]]:
        """Yield digest, size in bytes and age in seconds of every blob."""
        now = self._clock()
        for place in self._blobs.glob("??/*"):
            with suppress(FileNotFoundError):
                stat = place.stat()
                yield place.name, stat.st_size, now - stat.st_mtime

    def staging(self) -> Iterator[tuple[Path, int, float]]:
        """Yield path, size in bytes and age in seconds of every staging file."""
        now = self._clock()
        for path in self._staging.iterdir() if self._staging.is_dir() else ():
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield path, stat.st_size, now - stat.st_mtime

    def remove(self, digest: str) -> None:
        """Delete a blob; one that is gone already is fine."""
        with _storage(self._blobs):
            self._place(digest).unlink(missing_ok=True)
        self._forget(digest)


def _unreadable(digest: str, exc: OSError) -> CorruptBlob:
    hint = "check the permissions of the registry's files and the health of the disk"
    return CorruptBlob(f"blob {digest[:12]} cannot be read: {exc.strerror or exc}", hint=hint)


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
