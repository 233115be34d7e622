"""Blobs: named by their bytes, whole or not there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from embreg.registry.blobs import BlobStore
from embreg.registry.errors import CorruptBlob, StorageError


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    made = BlobStore(tmp_path)
    made.create()
    return made


def test_a_blob_is_named_by_its_bytes(store: BlobStore) -> None:
    blob = store.put([b"ab", memoryview(b"cd")])
    assert blob.digest == hashlib.sha256(b"abcd").hexdigest()
    assert (blob.nbytes, blob.written) == (4, True)
    assert store.read(blob.digest) == b"abcd"
    assert store.intact(blob.digest)
    assert list(store.staging()) == []


def test_the_same_bytes_are_not_written_twice(store: BlobStore) -> None:
    first = store.put([b"abcd"])
    path = store.path(first.digest)
    inode = path.stat().st_ino
    os.utime(path, (0, 0))
    again = store.put([b"abcd"])
    assert not again.written
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 0, "a blob that is referred to anew is young again"
    assert not store.put_file(lambda p: p.write_bytes(b"abcd") and None).written


@pytest.mark.parametrize("damage", [b"abcE", b"abc", b""])
def test_damage_is_noticed(store: BlobStore, damage: bytes) -> None:
    digest = store.put([b"abcd"]).digest
    store.path(digest).write_bytes(damage)
    assert not store.intact(digest)
    with pytest.raises(CorruptBlob, match="damaged"):
        store.read(digest)


def test_a_missing_blob_is_said_to_be_missing(store: BlobStore) -> None:
    with pytest.raises(CorruptBlob, match="missing"):
        store.path("0" * 64)


def test_a_writer_that_fails_leaves_nothing(store: BlobStore) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_file(fail)
    assert list(store.staging()) == []
    assert list(store.all()) == []


def test_a_disk_that_refuses_is_told_in_one_line(store: BlobStore) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"No space left on device.*nothing was registered"):
        store.put_file(fail)


def test_a_part_that_was_damaged_never_gives_numbers(registry, table) -> None:
    """A truncated Arrow file, and one with a flipped magic: reading says so."""
    registry.register("docs", table(1000))
    biggest = max((registry.root / "blobs").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    data = biggest.read_bytes()
    for broken in (data[: len(data) // 2], b"X" * 8 + data[8:-8] + b"X" * 8, b""):
        biggest.write_bytes(broken)
        with pytest.raises(CorruptBlob, match="is damaged"):
            registry.table("docs").vectors.sum()
