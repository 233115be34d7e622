"""TOML that remembers its lines: ``tomllib`` tells where a text breaks, not where a value stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..registry.errors import ConfigError, did_you_mean, printable


class TomlSource:
    """The text of a TOML file, and errors that name a place in it.

    Raises:
        ConfigError: the bytes are not UTF-8; a byte order mark is allowed.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        try:
            self.text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as exc:
            line = data.count(b"\n", 0, exc.start) + 1
            raise self.error("not UTF-8 text", line) from exc
        self.lines = self.text.split("\n")

    def parse(self) -> dict[str, Any]:
        """Return the values.

        Raises:
            ConfigError: the text is not TOML; line and column are named.
        """
        import tomllib

        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as exc:
            what, at = str(exc), re.search(r" \(at line (\d+), column (\d+)\)$", str(exc))
            if at is None:
                raise self.error(what, len(self.lines)) from exc
            raise self.error(f"column {at[2]}: {what[: at.start()]}", int(at[1])) from exc

    def error(self, what: str, line: int | None, hint: str = "") -> ConfigError:
        """Return the error ``FILE: line N: what``."""
        place = f" line {line}:" if line else ""
        return ConfigError(f"{printable(str(self.path))}:{place} {what}", hint=hint)

    def line(self, table: str = "", nth: int = 0, key: str = "") -> int | None:
        """Return the line, from 1, of a key of the nth table of that name, or of its header.

        None where the text hides it (an inline table, say).
        """
        start = self._header(table, nth) if table else 0
        if start is None:
            return self._key(table.rpartition(".")[2], 0)
        return (self._key(key, start) if key else None) or start or None

    def _header(self, table: str, nth: int) -> int | None:
        dotted = r"\s*\.\s*".join(rf"[\"']?{re.escape(part)}[\"']?" for part in table.split(".", 1))
        header = re.compile(rf"\s*\[{{1,2}}\s*{dotted}\s*[\].]")
        found = [i for i, line in enumerate(self.lines, 1) if header.match(line)]
        heads = [i for i in found if not re.match(rf"\s*\[+\s*{dotted}\s*\.", self.lines[i - 1])]
        found = heads or found
        return found[nth] if nth < len(found) else None

    def _key(self, key: str, start: int) -> int | None:
        wanted = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
        for number, line in enumerate(self.lines[start:], start + 1):
            if wanted.match(line):
                return number
            if start and re.match(r"\s*\[\[?\s*[\w\"']", line):
                return None
        return None

    def known_keys(
        self,
        values: Mapping[str, Any],
        known: Iterable[str],
        what: str,
        table: str = "",
        nth: int = 0,
    ) -> None:
        """Check that every key of a table is known.

        Raises:
            ConfigError: one is not; the hint names a close one.
        """
        known = list(known)
        for key in values:
            if key not in known:
                line = self.line(table, nth, key) if table else self.line(key)
                hint = did_you_mean(key, known, f"one of: {', '.join(known)}")
                raise self.error(f"unknown {what} '{printable(key)}'", line, hint)


def shown(value: Any) -> str:
    """Return a value as it may stand in a message."""
    return f"'{printable(value, 60)}'" if isinstance(value, str) else printable(repr(value), 60)
