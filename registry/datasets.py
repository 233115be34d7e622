"""Test data from files: every format becomes the canonical Arrow rows of its kind.

Five kinds, by what their rows say:

- ``analogies``: a is to b as c is to one of the answers. Read from a Google file (``: section`` lines, then
  four words a line) or from a BATS folder (``FOLDER/CATEGORY/SECTION.txt``).
- ``pairs``: two words and how similar people find them.
- ``labels``: an id and its class.
- ``positives``: two ids that belong together.
- ``qrels``: which item answers which query, and how well (TREC, or BEIR with its header).

Queries of qrels, and the second ids of positives, may be no rows of the embedding that is measured: then the
rows carry the vectors of those ids (``with_vectors``).

Lines end at a line feed only, words at ASCII blanks only: words may hold U+0085 or U+00A0.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import InputError, UnknownChoice, UsageError, printable
from .tables import VECTOR, EmbeddingTable

#: The columns of each kind.
SCHEMAS: Final = {
    "analogies": pa.schema(
        [(name, pa.string()) for name in ("section", "group", "a", "b", "c")]
        + [("answers", pa.list_(pa.string()))]
    ),
    "pairs": pa.schema([("a", pa.string()), ("b", pa.string()), ("score", pa.float64())]),
    "labels": pa.schema([("id", pa.string()), ("label", pa.string())]),
    "positives": pa.schema([("a", pa.string()), ("b", pa.string())]),
    "qrels": pa.schema([("query", pa.string()), ("item", pa.string()), ("relevance", pa.int64())]),
}
#: What one row of a kind is called in a message.
_ROWS = {"analogies": "questions", "pairs": "scored pairs", "labels": "labelled ids",
         "positives": "pairs", "qrels": "judgements"}  # fmt: skip
#: What a first line that names its columns rather than holds a row says, column by column.
_HEADERS = {
    "labels": (
        frozenset({"id", "ids", "item", "key", "name", "token", "word"}),
        frozenset({"category", "class", "label", "tag", "target"}),
    ),
    "positives": (
        frozenset({"anchor", "id1", "id_a", "left", "query", "source"}),
        frozenset({"id2", "id_b", "item", "positive", "right", "target"}),
    ),
    "qrels": (
        frozenset({"qid", "query", "query-id", "query_id"}),
        frozenset({"corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "item"}),
        frozenset({"rel", "relevance", "score"}),
    ),
}
#: The ids whose vectors the rows of a kind may carry.
_CARRIED = {"qrels": "query", "positives": "b"}
_BLANKS = re.compile(r"[ \t\f\v]+")
#: How what is meant to be a number begins.
_NUMERIC = re.compile(r"[+-]?[.,]?[0-9]")
Row = tuple[Any, ...]


def parse(path: Path, kind: str, *, encoding: str = "utf-8") -> pa.Table:
    """Return the canonical rows of a file (or BATS folder) in file order, with ``SCHEMAS[kind]``.

    - analogies, Google: the group is ``syntactic`` where the section's name starts with ``gram``, else
      ``semantic``. BATS: questions are all ordered pairs of distinct lines of a file, b is the first
      answer of its line, all answers of d's line count; section = file stem, group = folder name.
    - pairs: word, word, score, separated by tabs (a doubled one is one), commas or blanks; further
      columns are ignored, as are lines that start with ``#`` and a first line without a score.
    - labels, positives: two columns, likewise; a first line such as ``id label`` is ignored.
    - qrels: ``query iteration item relevance`` (TREC), or ``query item relevance`` below a header such as
      ``query-id corpus-id score`` (BEIR); separated by tabs or blanks, in a ``.csv`` file by commas.

    Args:
        path: a file; for analogies also a folder.
        kind: a key of ``SCHEMAS``.
        encoding: of the text; a byte order mark is dropped.

    Raises:
        UnknownChoice: another kind.
        UsageError: another encoding than Python knows.
        InputError: the file cannot be read as that kind; the message names file, line and column.
    """
    if kind not in SCHEMAS:
        raise UnknownChoice("kind of dataset", kind, SCHEMAS)
    if path.is_dir():
        rows = list(_bats(_must_be_analogies(path, kind), encoding))
    else:
        rows = list(_PARSERS[kind](_lines(path, encoding)))
    if not rows:
        raise InputError(f"{_shown(path)}: no {_ROWS[kind]} in it")
    try:
        return to_table(rows, kind)
    except UnicodeEncodeError as exc:  # some encodings know halves of letters
        raise InputError(f"{_shown(path)}: holds what is no Unicode text ({exc.reason})") from exc


def to_table(rows: Iterable[Row], kind: str) -> pa.Table:
    """Return rows, each a tuple in the order of ``SCHEMAS[kind]``, as a table; at least one."""
    schema = SCHEMAS[kind]
    columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.table(columns, schema=schema)


def sections_of(path: Path, *, encoding: str = "utf-8") -> tuple[str, ...]:
    """Return the sections that a file (or BATS folder) of analogies names, with or without questions.

    Raises:
        InputError: the file cannot be read.
    """
    if path.is_dir():
        return tuple(file.stem for file in _bats_files(path))
    return tuple(_section(line) for line in _lines(path, encoding) if line.text.startswith(":"))


def counts(rows: pa.Table, kind: str) -> dict[str, dict[str, int]]:
    """Return how many rows there are of each group and section, label or relevance, in their order.

    Args:
        rows: as ``parse`` returns them.
        kind: a key of ``SCHEMAS``; pairs and positives are not of different kinds, and give nothing.
    """
    columns = {"analogies": ("group", "section"), "labels": ("label",), "qrels": ("relevance",)}
    return {
        name: {str(value): count for value, count in Counter(rows.column(name).to_pylist()).items()}
        for name in columns.get(kind, ())
    }


def first_rows(rows: pa.Table, count: int) -> list[dict[str, Any]]:
    """Return the first rows by column, without the vectors that they carry."""
    kept = [name for name in rows.column_names if name != VECTOR]
    found: list[dict[str, Any]] = rows.select(kept).slice(0, count).to_pylist()
    return found


def with_vectors(rows: pa.Table, kind: str, vectors: EmbeddingTable) -> pa.Table:
    """Return qrels or positives that carry vectors: of their queries, or of their second ids.

    They stand in a further column ``vector`` (list of float32), in the first row of each id; it is null in
    the other rows, and where ``vectors`` has no such id.

    Args:
        rows: as ``parse`` returns them.
        kind: ``qrels`` or ``positives``.
        vectors: where the ids are looked up.

    Raises:
        UsageError: another kind.
        InputError: no id has a vector, or one of them holds NaN or infinity.
    """
    if kind not in _CARRIED:
        raise UsageError(f"{kind} carry no vectors", hint=f"{' and '.join(_CARRIED)} do")
    ids = rows.column(_CARRIED[kind]).combine_chunks()
    distinct = pc.unique(ids)
    found = vectors.lookup(distinct)
    known = found[found >= 0]
    if not known.size:
        raise InputError(
            f"none of the {len(distinct):,} ids of the column '{_CARRIED[kind]}' has a vector",
            hint="the vectors must have the same ids",
        )
    taken = vectors.take(known).astype(np.float32)
    if not np.isfinite(taken).all():
        raise InputError("a vector holds NaN or infinity", hint="leave that row out")
    place = np.full(len(ids), -1, dtype=np.int64)
    place[pc.index_in(distinct, value_set=ids).to_numpy()[found >= 0]] = np.arange(len(known))
    offsets = np.arange(0, taken.size + 1, vectors.dim, dtype=np.int32)
    column = pa.ListArray.from_arrays(offsets, taken.ravel()).take(pa.array(place, mask=place < 0))
    return rows.append_column(pa.field(VECTOR, pa.list_(pa.float32())), column)


def vectors_in(rows: pa.Table, kind: str) -> EmbeddingTable | None:
    """Return the vectors that rows of a kind carry, by id; None where they carry none."""
    if VECTOR not in rows.column_names:
        return None
    carried = rows.filter(pc.is_valid(rows.column(VECTOR)))
    flat = carried.column(VECTOR).combine_chunks().flatten().to_numpy()
    ids = carried.column(_CARRIED[kind]).combine_chunks()
    return EmbeddingTable.from_arrays(ids, flat.reshape(len(ids), -1))


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is not blank, and where it stands (``number`` from 1)."""

    file: str
    number: int
    text: str

    def wrong(self, what: str, *, column: int | None = None, hint: str = "") -> InputError:
        place = f"line {self.number}" + (f", column {column}" if column else "")
        return InputError(f"{self.file}: {place}: {what}", hint=hint)

    def words(self) -> list[str]:
        return _BLANKS.split(self.text.strip(" \t\f\v"))

    def fields(self) -> list[str]:
        """Split at tabs, else at commas, else at blanks; a ``.csv`` file at commas first."""
        comma, tab = "," in self.text, "\t" in self.text
        if comma and (not tab or self.file.endswith(".csv")):
            return self._csv()
        if tab:
            return [f for f in (f.strip(" ") for f in self.text.split("\t")) if f]
        return self.words()

    def _csv(self) -> list[str]:
        try:
            return [f.strip(" ") for f in next(csv.reader([self.text], strict=True))]
        except csv.Error as exc:
            raise self.wrong(f"not CSV: {printable(str(exc))}") from exc


def _shown(path: Path) -> str:
    return printable(str(path))


def _must_be_analogies(path: Path, kind: str) -> Path:
    if kind != "analogies":
        raise InputError(f"{_shown(path)}: is a directory", hint=f"{kind} are read from one file")
    return path


def _lines(path: Path, encoding: str) -> list[_Line]:
    lines = _text(path, encoding).removeprefix("\ufeff").split("\n")
    shown = _shown(path)
    kept = [_Line(shown, i, text.rstrip("\r")) for i, text in enumerate(lines, 1) if text.strip()]
    if not kept:
        raise InputError(f"{shown}: the file is empty", hint="copy or download it again")
    return kept


def _text(path: Path, encoding: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise InputError(f"{_shown(path)}: no such file", hint="check the path") from exc
    except OSError as exc:
        raise InputError(f"{_shown(path)}: cannot be read: {exc.strerror}") from exc
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise InputError(
            f"{_shown(path)}: line {line}: byte 0x{data[exc.start]:02x} is not {exc.encoding}",
            hint=_readable(data),
        ) from exc
    except (LookupError, ValueError) as exc:
        raise UsageError(
            f"unknown encoding '{printable(encoding)}'", hint="such as utf-8, latin-1, utf-16"
        ) from exc


#: How files of gzip, bzip2, zstd, xz and zip begin.
_PACKED: Final = (b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"PK\3\4")


def _readable(data: bytes) -> str:
    """Return how bytes that are no text of the encoding asked for may be read."""
    if data.startswith(_PACKED):
        return "it is compressed: unpack it first"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "name the encoding of the file: --encoding utf-16"
    if b"\0" in data:
        return "it is no text: a dataset is a text file"
    return "name the encoding of the file: --encoding latin-1"


def _google(lines: list[_Line]) -> Iterator[Row]:
    section = ""
    for line in lines:
        if line.text.startswith(":"):
            section = _section(line)
            continue
        words = line.words()
        if len(words) != 4:
            raise line.wrong(f"{_count(words, 'word')} where an analogy has 4")
        if not section:
            raise line.wrong("a question before its section", hint="begin with a line ': NAME'")
        a, b, c, d = words
        yield section, "syntactic" if section.startswith("gram") else "semantic", a, b, c, [d]


def _section(line: _Line) -> str:
    name = line.text[1:].strip(" \t\f\v")
    if not name:
        raise line.wrong("a section without a name", hint="': NAME'")
    return name


def _bats_files(folder: Path) -> list[Path]:
    # Archives made on a Mac hold a hidden binary twin of every file.
    files = sorted(f for deep in ("[!.]*.txt", "[!.]*/[!.]*.txt") for f in folder.glob(deep))
    if not files:
        raise InputError(
            f"{_shown(folder)}: no .txt file in it or its folders",
            hint="a BATS folder holds CATEGORY/SECTION.txt",
        )
    return files


def _bats(folder: Path, encoding: str) -> Iterator[Row]:
    for file in _bats_files(folder):
        pairs = [_bats_pair(line) for line in _lines(file, encoding)]
        for i, (a, first) in enumerate(pairs):
            for j, (c, answers) in enumerate(pairs):
                if i != j:
                    yield file.stem, file.parent.name, a, first[0], c, answers


def _bats_pair(line: _Line) -> tuple[str, list[str]]:
    word, _, rest = _BLANKS.sub("\t", line.text.strip(" \t\f\v"), count=1).partition("\t")
    answers = [a for a in (a.strip(" \t") for a in rest.split("/")) if a]
    if not answers:
        raise line.wrong("a word without an answer", hint="WORD<TAB>ANSWER/ANSWER…")
    return word, answers


def _pairs(lines: list[_Line]) -> Iterator[Row]:
    rows = [line for line in lines if not line.text.startswith("#")]
    for line in rows[1:] if rows and _is_header(rows[0]) else rows:
        fields = _at_least(line, 3, "word, word, score")
        yield fields[0], fields[1], _score(line, fields[2])


def _is_header(line: _Line) -> bool:
    """Whether a first line names its columns: its third field is no number, nor meant as one (``8,5``)."""
    fields = line.fields()
    return len(fields) >= 3 and _number(fields[2]) is None and not _NUMERIC.match(fields[2])


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        return None


def _score(line: _Line, text: str) -> float:
    value = _number(text)
    if value is None or not math.isfinite(value):
        raise line.wrong(f"the score '{printable(text, 40)}' is not a number", column=3)
    return value


def _labels(lines: list[_Line]) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for line, (item, label) in _two_columns(lines, "labels", "id, label"):
        if item in seen:
            raise line.wrong(f"id '{printable(item)}' is already on line {seen[item]}", column=1)
        seen[item] = line.number
        yield item, label


def _positives(lines: list[_Line]) -> Iterator[Row]:
    for _, (a, b) in _two_columns(lines, "positives", "id, id"):
        yield a, b


def _two_columns(lines: list[_Line], kind: str, what: str) -> Iterator[tuple[_Line, tuple[str, str]]]:
    for line in lines[1:] if _names_columns(lines[0].fields(), kind) else lines:
        fields = _at_least(line, 2, what)
        if len(fields) > 2:
            raise line.wrong(f"{len(fields)} columns where 2 are needed: {what}")
        yield line, (fields[0], fields[1])


def _names_columns(fields: list[str], kind: str) -> bool:
    names = _HEADERS[kind]
    return len(fields) == len(names) and all(f.lower() in n for f, n in zip(fields, names, strict=True))


def _qrels(lines: list[_Line]) -> Iterator[Row]:
    beir = _names_columns(_judged(lines[0]), "qrels")
    columns = ("query, item, relevance" if beir else "query, iteration, item, relevance").split(", ")
    seen: dict[tuple[str, str], int] = {}
    for line in lines[1:] if beir else lines:
        fields = _judged(line)
        if len(fields) == 3 and not beir:
            hint = "judgements of three columns stand below a first line 'query-id corpus-id score'"
            raise line.wrong(f"3 columns where 4 are needed: {', '.join(columns)}", hint=hint)
        fields = _at_least(line, len(columns), ", ".join(columns), fields)[: len(columns)]
        query, item, grade = fields[0], fields[-2], fields[-1]
        if (query, item) in seen:
            raise line.wrong(
                f"'{printable(item)}' was already judged for '{printable(query)}' on line {seen[query, item]}"
            )
        seen[query, item] = line.number
        yield query, item, _grade(line, grade, len(columns))


def _judged(line: _Line) -> list[str]:
    """Split at tabs or blanks; at commas in a ``.csv`` file only, for ids of documents may hold them."""
    return line.fields() if "\t" in line.text or line.file.endswith(".csv") else line.words()


def _grade(line: _Line, text: str, column: int) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise line.wrong(f"the relevance '{printable(text, 40)}' is no whole number", column=column)
    return int(text)


def _at_least(line: _Line, count: int, what: str, fields: list[str] | None = None) -> list[str]:
    fields = line.fields() if fields is None else fields
    if len(fields) < count:
        raise line.wrong(f"{_count(fields, 'column')} where {count} are needed: {what}")
    for column, field in enumerate(fields[:count], 1):
        if not field:
            raise line.wrong("nothing in it", column=column)
    return fields


def _count(things: list[str], what: str) -> str:
    return f"{len(things)} {what}" + ("" if len(things) == 1 else "s")


_PARSERS: Final[dict[str, Callable[[list[_Line]], Iterator[Row]]]] = {
    "analogies": _google,
    "pairs": _pairs,
    "labels": _labels,
    "positives": _positives,
    "qrels": _qrels,
}
