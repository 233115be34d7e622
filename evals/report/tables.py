"""Tables of text that fit where they are shown: columns give way by their rank, numbers never.

Where not every column has room as it is, gaps shrink first. Then columns of text wrap between words; then
those that may be missed are left out, one by one, which a line below the table tells; then words are broken
after a sign of punctuation, and only at last anywhere. A column of numbers is never folded or left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import add

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from ...registry.errors import printable
from ..figures import number

Cell = str | int | float | bool | datetime | Text | None
#: Cells between columns, where there is room and where there is not.
_GAP, _NARROW = 3, 2
#: A word longer than this is none that a column is as wide as.
_LONGEST_WORD = 40
#: So many characters of a text are shown.
_MOST = 500
#: No column of text is narrower; and none is narrower than this while another column can be spared.
_LEAST, _READABLE = 4, 20
_WORDS = re.compile(r"\S+\s*|\s+")
_PIECES = re.compile(r"[^/_.,:;=@-]*[/_.,:;=@-]+\s*|[^/_.,:;=@-]+")


@dataclass(frozen=True)
class Column:
    """The heading of a column, and how it gives way.

    Attributes:
        right: cells stand right-aligned, and are never broken.
        point: their decimal points stand in line, where there is room for it.
        rigid: cells are never broken: times, digests.
        spare: the column may be left out where there is no room; the higher goes first.
    """

    heading: str
    right: bool = False
    point: bool = False
    rigid: bool = False
    spare: int = 0

    @classmethod
    def read(cls, text: str) -> Column:
        """Return a column from its heading: ``>right``, ``.point``, ``=rigid``; ``spare?``, ``sooner??``."""
        heading = text.rstrip("?")
        mark = heading[:1] if heading[:1] in (">", ".", "=") else ""
        return cls(
            heading=heading.removeprefix(mark),
            right=mark in (">", "."),
            point=mark == ".",
            rigid=mark != "",
            spare=len(text) - len(heading),
        )


class _Filled:
    """A column with its cells as text, measured."""

    def __init__(self, column: Column, texts: Sequence[str]) -> None:
        self.column = column
        self.heading = printable(column.heading)
        self.texts = texts
        self.widths = list(map(len, texts) if "".join(texts).isascii() else map(cell_len, texts))
        self.natural = max([_width(self.heading), *self.widths])

    @cached_property
    def readable(self) -> int:
        """How wide the column is as long as another one can be spared."""
        return max(self.by_words, min(self.natural, _READABLE))

    @cached_property
    def by_words(self) -> int:
        """How wide the column is where it wraps between words."""
        return self._least(_WORDS, _LONGEST_WORD)

    @cached_property
    def by_pieces(self) -> int:
        """How wide it is where words break after punctuation."""
        return self._least(_PIECES, _LONGEST_WORD // 2)

    def _least(self, parts: re.Pattern[str], most: int) -> int:
        cells = (
            max(map(_width, self.texts), default=0)
            if self.column.rigid
            else min(most, _longest(self.texts, parts))
        )
        return max(cells, min(most, _longest([self.heading], parts)))


class Table:
    """Rows under headings; what it looks like follows from the room there is.

    Args:
        columns: their headings, in short or in full.
        rows: numbers are grouped and shortened, times are given to the minute, ``True`` is ✓, ``None`` and
            ``False`` are empty, and texts are made safe to print.
    """

    def __init__(self, columns: Sequence[str | Column], rows: Iterable[Sequence[Cell]]) -> None:
        self._columns = [Column.read(c) if isinstance(c, str) else c for c in columns]
        cells = list(zip(*rows, strict=True)) or [() for _ in self._columns]
        self._texts = [_texts(column) for column in cells]
        self._styles = {
            (i, j): cell.style
            for j, column in enumerate(cells)
            for i, cell in enumerate(column)
            if isinstance(cell, Text)
        }

    @property
    def least(self) -> int:
        """The columns that it takes to break no word but after punctuation."""
        return _needed([f.by_pieces for f in self._filled(points=False) if not f.column.spare])

    @property
    def natural(self) -> int:
        """The columns that it takes to fold and leave out nothing."""
        filled = self._filled(points=False)
        return sum(f.natural for f in filled) + _GAP * (len(filled) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        filled, kept, widths, gap = self._layout(options.max_width)
        bold = Style(bold=True)
        for line in _lines([f.heading for f in filled], filled, widths):
            yield Segment(_joined(line, gap), bold)
            yield Segment.line()
        rule = "─" if options.encoding.startswith("utf") else "-"
        yield Segment(rule * (sum(widths) + gap * (len(widths) - 1)) + "\n")
        styles = {at: console.get_style(style) for at, style in self._styles.items() if style}
        folded = any(width < f.natural for width, f in zip(widths, filled, strict=True))
        if not folded and not styles:  # of thousands of versions, most of the time would go into single cells
            yield Segment(_whole(filled, widths, gap))
        else:
            yield from self._rows(filled, kept, widths, gap, styles)
        if left_out := [c.heading for j, c in enumerate(self._columns) if j not in kept]:
            told = f"not shown at this width: {', '.join(left_out)}"
            yield Text(told, style="dim")

    def _rows(
        self,
        filled: Sequence[_Filled],
        kept: Sequence[int],
        widths: Sequence[int],
        gap: int,
        styles: Mapping[tuple[int, int], Style],
    ) -> Iterator[Segment]:
        for i, row in enumerate(zip(*(f.texts for f in filled), strict=True)):
            own = [styles.get((i, j)) for j in kept]
            for line in _lines(row, filled, widths):
                yield from _styled(line, own, gap) if any(own) else (Segment(_joined(line, gap)),)
                yield Segment.line()

    def _filled(self, *, points: bool) -> list[_Filled]:
        return [
            _Filled(column, _pointed(own) if points and column.point else own)
            for column, own in zip(self._columns, self._texts, strict=True)
        ]

    def _layout(self, room: int) -> tuple[list[_Filled], list[int], list[int], int]:
        """Return the columns that are shown, their places, their widths, and the gap between them."""
        filled = self._filled(points=True)
        for points, gap in ((True, _GAP), (False, _GAP), (False, _NARROW)):
            filled = filled if points else self._filled(points=False)
            naturals = [f.natural for f in filled]
            if sum(naturals) + gap * (len(naturals) - 1) <= room:
                return filled, list(range(len(filled))), naturals, gap
        kept = list(range(len(filled)))
        while (
            _needed([filled[j].readable for j in kept]) > room
            and (spare := _first_to_go(filled, kept)) is not None
        ):
            kept.remove(spare)
        shown = [filled[j] for j in kept]
        return shown, kept, _shared(shown, room - _NARROW * (len(shown) - 1)), _NARROW


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a table in the style of every command; see ``Table``."""
    return Table(columns, rows)


def _texts(cells: Sequence[Cell]) -> Sequence[str]:
    """Return cells as texts that are safe to print."""
    texts = [cell for cell in cells if isinstance(cell, str)]
    if len(texts) == len(cells) and max(map(len, texts), default=0) <= _MOST and "".join(texts).isprintable():
        return texts
    return [_text(cell) for cell in cells]


def _text(value: Cell) -> str:
    if isinstance(value, str):
        return printable(value, _MOST)
    if isinstance(value, Text):
        return value.plain
    if value is None or value is False:
        return ""
    if value is True:
        return "✓"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return number(value)


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _longest(texts: Iterable[str], parts: re.Pattern[str]) -> int:
    return max((_width(part.rstrip()) for text in texts for part in parts.findall(text)), default=0)


def _pointed(texts: Sequence[str]) -> list[str]:
    """Return numbers padded so that their decimal points stand in line; powers of ten stay as they are."""
    split = [text.partition(".") for text in texts]
    longest = max((len(decimals) for _, _, decimals in split if "e" not in decimals), default=0)
    room = longest + 1 if longest else 0
    return [
        text + " " * (room - len(point) - len(decimals)) if text and "e" not in decimals else text
        for text, (_, point, decimals) in zip(texts, split, strict=True)
    ]


def _needed(widths: Sequence[int]) -> int:
    return sum(widths) + _NARROW * (len(widths) - 1)


def _first_to_go(filled: Sequence[_Filled], kept: Sequence[int]) -> int | None:
    """Return the place of the column that is missed least: of the highest rank, the last."""
    spare = [j for j in kept if filled[j].column.spare]
    return max(spare, key=lambda j: (filled[j].column.spare, j), default=None)


def _shared(shown: Sequence[_Filled], room: int) -> list[int]:
    """Return widths: what each column cannot do without, and what is left to those that need it."""
    ways = ([f.readable for f in shown], [f.by_words for f in shown], [f.by_pieces for f in shown])
    floors = next((way for way in ways if sum(way) <= room), None) or _squeezed(shown, ways[-1], room)
    _helped(floors, [f.by_words for f in shown], room)
    return _grown(floors, [f.natural for f in shown], room - sum(floors))


def _helped(widths: list[int], wanted: Sequence[int], room: int) -> None:
    """Give columns the room to break no word, those first that need the least more."""
    for j in sorted(range(len(widths)), key=lambda j: wanted[j] - widths[j]):
        if sum(widths) - widths[j] + max(widths[j], wanted[j]) <= room:
            widths[j] = max(widths[j], wanted[j])


def _squeezed(shown: Sequence[_Filled], floors: list[int], room: int) -> list[int]:
    """Return widths where words have to be broken anywhere: columns of text share what the others leave."""
    soft = sum(not f.column.rigid for f in shown)
    rest = room - sum(floor for floor, f in zip(floors, shown, strict=True) if f.column.rigid)
    return [
        floor if f.column.rigid else max(_LEAST, min(floor, rest // soft))
        for floor, f in zip(floors, shown, strict=True)
    ]


def _grown(widths: list[int], naturals: Sequence[int], left: int) -> list[int]:
    while left > 0 and (needy := [j for j, width in enumerate(widths) if width < naturals[j]]):
        share = max(1, left // len(needy))
        for j in needy:
            more = min(share, naturals[j] - widths[j], left)
            widths[j] += more
            left -= more
    return widths


def _lines(row: Sequence[str], filled: Sequence[_Filled], widths: Sequence[int]) -> Iterator[list[str]]:
    """Yield the lines of a row, each cell padded to its column."""
    if all(_width(text) <= width for text, width in zip(row, widths, strict=True)):
        folded = [[text] for text in row]
    else:
        folded = [_wrapped(text, width) for text, width in zip(row, widths, strict=True)]
    for at in range(max(map(len, folded))):
        texts = [lines[at] if at < len(lines) else "" for lines in folded]
        yield [_padded(text, f, width) for text, f, width in zip(texts, filled, widths, strict=True)]


def _whole(filled: Sequence[_Filled], widths: Sequence[int], gap: int) -> str:
    """Return the lines of rows of which nothing is folded, padded column by column."""
    columns = []
    for f, width in zip(filled, widths, strict=True):
        blanks = [" " * (width - own) for own in f.widths]
        columns.append(map(add, blanks, f.texts) if f.column.right else map(add, f.texts, blanks))
    lines = map((" " * gap).join, zip(*columns, strict=True))
    return "".join(f"{line}\n" for line in map(str.rstrip, lines))


def _padded(text: str, filled: _Filled, width: int) -> str:
    blank = " " * (width - _width(text))
    return blank + text if filled.column.right else text + blank


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text: broken between words, a longer word after punctuation, else anywhere."""
    if _width(text) <= width:
        return [text]
    lines, line = [], ""
    for part in _parts(text, width):
        if line and _width(line) + _width(part.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += part
    return [*lines, line.rstrip()]


def _parts(text: str, width: int) -> Iterator[str]:
    for word in _WORDS.findall(text):
        if _width(word.rstrip()) <= width:
            yield word
            continue
        for piece in _PIECES.findall(word):
            yield from [piece] if _width(piece.rstrip()) <= width else chop_cells(piece, width)


def _joined(line: Sequence[str], gap: int) -> str:
    return (" " * gap).join(line).rstrip()


def _styled(line: Sequence[str], styles: Sequence[Style | None], gap: int) -> Iterator[Segment]:
    last = max(j for j, text in enumerate(line) if text.strip())
    for j, (text, style) in enumerate(zip(line[: last + 1], styles, strict=False)):
        yield Segment(text.rstrip() if j == last else text, style)
        yield Segment("" if j == last else " " * gap)
