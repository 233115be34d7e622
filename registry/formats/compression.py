"""Compression by gzip, bzip2, zstd or xz: told by its first bytes when read, by the suffix when written.

Whatever is packed is inflated as a stream and in bounded memory, to its very end: several members are read
as one, and bytes after the last that are no member are damage, not something to pass over.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, cast

import pyarrow as pa

#: What an xz file may ask for; ``xz -9`` asks for 65 MiB. A zstd file may ask for 128 MiB at most.
XZ_MEMORY = 256 << 20
_PIECE = 1 << 16
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One compression.

    Attributes:
        suffix: of file names, lower case.
        magic: how packed bytes begin; 16 of them are enough to tell.
        unpack: the command that unpacks a file.
        reader: opens a packed file for reading; damage is an EOFError, an OSError without a number, or the
            library's own error.
        writer: opens a stream that packs into a file, which it leaves open; equal bytes give equal bytes.
    """

    name: str
    suffix: str
    magic: re.Pattern[bytes]
    unpack: str
    reader: Callable[[Path], BinaryIO]
    writer: Callable[[BinaryIO], Any]


class _Members(io.RawIOBase):
    """Packed members, one after the other, as the bytes they hold.

    ``bz2`` and ``lzma`` have such readers, but these take a damaged member for the end of the file.
    """

    def __init__(self, file: BinaryIO, decompressor: Callable[[], Any]) -> None:
        self._file, self._new = file, decompressor
        self._member = decompressor()
        self._begun = False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill some of ``buffer``; 0 at the end."""
        while True:
            piece = self._piece()
            if piece is None:
                return 0
            data = self._member.decompress(piece, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _piece(self) -> bytes | None:
        """Return what the member needs next, perhaps nothing; None where the last one has ended."""
        if self._member.eof:
            rest = self._member.unused_data or self._file.read(_PIECE)
            # xz pads with zeros.
            while rest and not rest.strip(b"\0"):
                rest = self._file.read(_PIECE)
            if not rest:
                return None
            self._member = self._new()
            return cast(bytes, rest.lstrip(b"\0"))
        if not self._member.needs_input:
            return b""
        piece = self._file.read(_PIECE)
        if not piece:
            raise EOFError("it ends inside a member")
        return piece


def _read_gzip(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb"))


def _read_bzip2(path: Path) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Members(path.open("rb"), bz2.BZ2Decompressor), _BUFFER))


def _read_xz(path: Path) -> BinaryIO:
    def member() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    return cast(BinaryIO, io.BufferedReader(_Members(path.open("rb"), member), _BUFFER))


def _read_zstd(path: Path) -> BinaryIO:
    file = pa.input_stream(path.open("rb"), compression="zstd")
    return cast(BinaryIO, io.BufferedReader(file, _BUFFER))


class _Kept:
    """A file for Arrow to write to and to close, without closing it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.flush = file.write, file.flush

    def close(self) -> None: ...


def _write_gzip(file: BinaryIO) -> Any:
    # Neither time nor name.
    return gzip.GzipFile("", mode="wb", compresslevel=6, fileobj=file, mtime=0)


def _write_xz(file: BinaryIO) -> Any:
    # Floats in text gain little from the slower presets.
    return lzma.LZMAFile(file, "wb", preset=1)


def _write_zstd(file: BinaryIO) -> Any:
    return pa.CompressedOutputStream(pa.PythonFile(_Kept(file), mode="w"), "zstd")


CODECS = MappingProxyType(
    {
        codec.suffix: codec
        for codec in (
            # A safetensors file may begin with the same two bytes, or three, but then has a brace here.
            Codec(name="gzip", suffix=".gz", magic=re.compile(rb"\x1f\x8b\x08(?!.{5}\{)", re.DOTALL),
                  unpack="gunzip", reader=_read_gzip, writer=_write_gzip),
            Codec(name="bzip2", suffix=".bz2", magic=re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
                  unpack="bunzip2", reader=_read_bzip2, writer=lambda file: bz2.BZ2File(file, "wb")),
            Codec(name="zstd", suffix=".zst",
                  magic=re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
                  unpack="unzstd", reader=_read_zstd, writer=_write_zstd),
            Codec(name="xz", suffix=".xz", magic=re.compile(rb"\xfd7zXZ\x00"), unpack="unxz",
                  reader=_read_xz, writer=_write_xz),
        )
    }
)  # fmt: skip


def codec_of(path: Path) -> Codec | None:
    """Return what a file is packed with, told by its first bytes; None where it is not."""
    with path.open("rb") as file:
        head = file.read(16)
    return next((codec for codec in CODECS.values() if codec.magic.match(head)), None)


def bare(path: Path) -> tuple[Path, Codec | None]:
    """Return a file's name without the suffix of a compression, and which one that suffix names."""
    codec = CODECS.get(path.suffix.lower())
    return (path.with_suffix(""), codec) if codec else (path, None)


@contextmanager
def packed(file: BinaryIO, dest: Path) -> Iterator[BinaryIO]:
    """Yield ``file``, through the compression that the suffix of ``dest`` names, if it names one."""
    _, codec = bare(dest)
    if codec is None:
        yield file
        return
    with codec.writer(file) as squeezed:
        yield squeezed
