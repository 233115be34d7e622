"""A JSON array of strings, read as a stream: ids beside an array can be many."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ..errors import EmbregError, InputError, printable
from .base import COPY_AGAIN, bad, open_bytes, reading

_READ = 1 << 20
_MAX_ID = 16 << 20
_HINT = 'a JSON array of strings: ["the", "of"]'


def strings(path: Path) -> Iterator[str]:
    """Yield the strings of an array, in order.

    Raises:
        InputError: it is anything else; line and item are named.
    """
    with (
        reading(path),
        open_bytes(path) as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file,
    ):
        try:
            yield from _array(_Scanner(path, file))
        except UnicodeError as exc:
            if isinstance(exc, EmbregError):
                raise
            raise bad(path, "", f"not UTF-8 text: {printable(str(exc))}", COPY_AGAIN) from exc


def _array(scan: _Scanner) -> Iterator[str]:
    if scan.mark() != "[":
        raise scan.wrong("not a JSON array")
    scan.skip()
    if scan.mark() != "]":
        yield from scan.run()
        yield scan.string()
        while scan.mark() == ",":
            scan.skip()
            yield from scan.run()
            yield scan.string()
        if scan.mark() != "]":
            raise scan.wrong("expected ',' or ']'")
    scan.skip()
    if scan.mark():
        raise scan.wrong("text after the array")


class _Scanner:
    """A cursor over JSON text that is read piece by piece."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._text, self._at, self._line, self.item = "", 0, 1, 0
        self._fresh = False
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        piece = self._file.read(_READ)
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + piece, 0
        self._fresh = bool(piece)
        return self._fresh

    def mark(self) -> str:
        """Return the next character that is no blank, without passing it; empty at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in " \t\r\n":
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Pass one character."""
        self._at += 1

    def run(self) -> list[str]:
        """Return all strings of what was just read that a comma follows; empty where that is in doubt."""
        if not self._fresh:
            return []
        self._fresh = False
        end = self._text.rfind('",', self._at)
        try:
            values: list[str] = json.loads(f"[{self._text[self._at : end + 1]}]")
        except (ValueError, RecursionError):
            return []
        if not all(type(value) is str for value in values):
            return []
        self._at = end + 2 if values else self._at
        self.item += len(values)
        return values

    def string(self) -> str:
        """Return the string that starts here."""
        if self.mark() != '"':
            raise self.wrong("expected a string")
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
                self.item += 1
                return str(value)
            except json.JSONDecodeError as exc:
                if len(self._text) - self._at > _MAX_ID or not self._more():
                    raise self.wrong(f"no valid string: {exc.msg}") from exc

    def wrong(self, what: str) -> InputError:
        """Return the error for what stands here."""
        line = self._line + self._text.count("\n", 0, self._at)
        return bad(self._path, f"line {line}, item {self.item}", what, _HINT)
