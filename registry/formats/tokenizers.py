"""Tokens as the ids of a model's table: ``tokenizer.json``, ``vocab.json``, ``vocab.txt``.

A token's own number is its row. Tokens are kept as the tokenizer spells them (``Ġking``, ``##ing``,
``▁the``). Tables are often taller than their tokenizer, to round up their size: such rows, and numbers
that no token has, get the id ``<unused:ROW>``. Special tokens, placeholders that wait for a use, and such
rows are no words: they are marked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import InputError, printable
from ..vectors import split
from .base import bad, open_bytes, reading
from .documents import document

_MANY = 65536
_UNKNOWN = "[UNK]"
_SPELLED = re.compile(r"<unused:(0|[1-9][0-9]{0,17})>")
#: What vocabularies without further words call their special tokens.
_SPECIAL = frozenset(
    {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<|endoftext|>"}
)
_RESERVED = re.compile(
    r"\[unused[0-9]+\]|<unused[0-9]+>|<extra_id_[0-9]+>|<\|reserved_special_token_[0-9]+\|>"
)
_HINT = "an array of ids, a tokenizer.json, or a vocab.json of token: row"


_MARKED = pa.schema([pa.field("special", pa.bool_(), nullable=False)])


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one tokenizer, by row; ``special`` are the rows of those that are no words."""

    path: Path
    by_row: Mapping[int, str]
    special: frozenset[int]

    @property
    def end(self) -> int:
        """One more than the highest row that a token has."""
        return max(self.by_row) + 1

    def fitted(self, rows: int) -> tuple[str, ...]:
        """Return what to tell of a table with so many rows.

        Raises:
            InputError: a token lies beyond it, or is spelled like the id of an unused row.
        """
        count = len(self.by_row)
        if self.end > rows:
            last = printable(self.by_row[self.end - 1], 40)
            raise bad(self.path, "", f"{count:,} tokens, the last '{last}' in row {self.end - 1:,}, "
                      f"but the table has {rows:,} rows",
                      "name the tokenizer that the table was trained with")  # fmt: skip
        self._check_spelling(rows)
        told = []
        if rows > self.end:
            told.append(f"the table has {rows:,} rows, the tokenizer {count:,} tokens: "
                        f"{_rows(rows - self.end)} padding, with ids <unused:ROW>")  # fmt: skip
        if self.end > count:
            told.append(f"{_rows(self.end - count)} before the tokenizer's last without a token, "
                        "with ids <unused:ROW>")  # fmt: skip
        if marked := rows - count + len(self.special):
            told.append(f"{marked:,} special or padding {'row is' if marked == 1 else 'rows are'} marked "
                        "(attribute special): statistics leave them out")  # fmt: skip
        return tuple(told)

    def arrays(self, rows: int) -> Iterator[pa.Array]:
        """Yield the ids of so many rows."""
        for part in split(rows, _MANY):
            ids = [self.by_row.get(row, _unused(row)) for row in range(part.start, part.stop)]
            yield pa.array(ids, pa.large_string())

    def marks(self, start: int, stop: int) -> pa.RecordBatch:
        """Return the attribute ``special`` of some rows: whether they are special tokens, or padding."""
        marks = [row in self.special or row not in self.by_row for row in range(start, stop)]
        return pa.record_batch([pa.array(marks, pa.bool_())], schema=_MARKED)

    def _check_spelling(self, rows: int) -> None:
        for row, token in self.by_row.items():
            found = _SPELLED.fullmatch(token)
            other = int(found[1]) if found else row
            if other < rows and other not in self.by_row:
                raise _two_rows(self.path, token, row, other)


def from_json(path: Path) -> Tokens | None:
    """Return the tokens of a tokenizer's file; None where it begins as anything but a JSON object.

    Raises:
        InputError: it is an object, but no vocabulary; a row has two tokens, or a token two rows.
    """
    if not _is_object(path):
        return None
    found = document(path)
    model = found.get("model")
    if not (isinstance(model, dict) and "vocab" in model):
        return _tokens(path, _vocabulary(path, found), _SPECIAL)
    pairs, added = [*_vocabulary(path, model["vocab"])], [*_added(path, found.get("added_tokens"))]
    special = {token for token, _, marked in added if marked} | _unknown(model, pairs)
    return _tokens(path, [*pairs, *((token, row) for token, row, _ in added)], special)


def from_lines(path: Path, names: list[str]) -> Tokens:
    """Return the tokens of a ``vocab.txt``, whose line is their row.

    Raises:
        InputError: a token stands twice.
    """
    return _tokens(path, zip(names, range(len(names)), strict=True), _SPECIAL)


def is_wordpiece(names: Iterable[str]) -> bool:
    """Return whether lines are those of a WordPiece vocabulary: one is the unknown token."""
    return _UNKNOWN in names


def _is_object(path: Path) -> bool:
    with reading(path), open_bytes(path) as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _vocabulary(path: Path, vocab: Any) -> Iterator[tuple[str, int]]:
    """Yield token and row: of an object token to row, or of a Unigram model's [token, score] pairs."""
    if isinstance(vocab, dict):
        for token, row in vocab.items():
            yield token, _row(path, token, row)
    elif isinstance(vocab, list):
        for row, entry in enumerate(vocab):
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
                raise bad(path, f"entry {row} of the vocabulary", "not a [token, score]", _HINT)
            yield entry[0], row
    else:
        raise bad(path, "", "its vocabulary is neither an object nor an array", _HINT)


def _added(path: Path, added: Any) -> Iterator[tuple[str, int, bool]]:
    """Yield token, row, and whether it is special."""
    for at, entry in enumerate(added if isinstance(added, list) else []):
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise bad(path, f"added token {at}", "without 'content'", _HINT)
        yield entry["content"], _row(path, entry["content"], entry.get("id")), entry.get("special") is True


def _unknown(model: Mapping[str, Any], pairs: list[tuple[str, int]]) -> set[str]:
    """Return what a model calls its unknown token, by name or, in Unigram, by row."""
    token, row = model.get("unk_token"), model.get("unk_id")
    if type(row) is int and 0 <= row < len(pairs):
        return {pairs[row][0]}
    return {token} if isinstance(token, str) else set()


def _row(path: Path, token: str, row: Any) -> int:
    if type(row) is not int or row < 0:
        what = f"its row is {printable(repr(row), 40)}"
        raise bad(path, f"'{printable(token, 40)}'", what, _HINT)
    return row


def _tokens(path: Path, pairs: Iterable[tuple[str, int]], special: Collection[str]) -> Tokens:
    """Return the tokens by row; an added token may repeat one of the vocabulary with its row."""
    by_row: dict[int, str] = {}
    rows: dict[str, int] = {}
    for token, row in pairs:
        if by_row.setdefault(row, token) != token:
            raise bad(path, f"row {row}", f"both '{printable(by_row[row], 40)}' and '{printable(token, 40)}'",
                      "one token for each row")  # fmt: skip
        if rows.setdefault(token, row) != row:
            raise _two_rows(path, token, rows[token], row)
        if not token.isascii() and not _is_text(token):
            raise bad(path, f"row {row}", f"no text: '{printable(token, 40)}'", "half of a surrogate pair")
    if not by_row:
        raise bad(path, "", "a vocabulary without tokens", _HINT)
    marked = (row for token, row in rows.items() if token in special or _RESERVED.fullmatch(token))
    return Tokens(path, by_row, frozenset(marked))


def _is_text(token: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in token)


def _two_rows(path: Path, token: str, one: int, two: int) -> InputError:
    return bad(path, f"rows {one} and {two}", f"both are '{printable(token, 40)}'",
               "one row for each token")  # fmt: skip


def _unused(row: int) -> str:
    return f"<unused:{row}>"


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"
