"""Pieces worked on beside each other come out as if one thread had done them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from embreg.registry.errors import InputError
from embreg.registry.formats import open_source
from embreg.registry.formats.ahead import ahead


def slowly(piece: int) -> int:
    time.sleep(random.Random(piece).random() / 200)
    if piece < 0:
        raise InputError(f"piece {piece}")
    return piece * piece


def test_results_come_in_order():
    assert list(ahead(slowly, iter(range(40)))) == [i * i for i in range(40)]
    assert list(ahead(slowly, iter(()))) == []


def test_what_goes_wrong_comes_in_its_turn():
    found = []
    with pytest.raises(InputError, match="piece -1"):
        found += ahead(slowly, iter([1, 2, 3, -1, 5, -2]))
    seen = ahead(slowly, iter([1, 2, 3, -1, 5, -2]))
    assert [next(seen) for _ in range(3)] == [1, 4, 9]
    with pytest.raises(InputError, match="piece -1"):
        next(seen)


def test_a_file_that_ends_in_an_error_gives_all_before_it_first():
    def pieces() -> Iterator[int]:
        yield from range(5)
        raise InputError("the file is cut off")

    found = []
    with pytest.raises(InputError, match="cut off"):
        found.extend(ahead(slowly, pieces()))
    assert found == [0, 1, 4, 9, 16]


def test_no_more_is_read_than_is_needed_and_no_thread_is_left():
    before, read = threading.active_count(), []

    def pieces() -> Iterator[int]:
        for i in range(1000):
            read.append(i)
            yield i

    results = ahead(slowly, pieces())
    next(results)
    results.close()
    assert len(read) < 20
    assert threading.active_count() == before


def test_the_first_of_two_wrong_lines_is_named(tmp_path: Path):
    """Far apart in the file: in pieces that are parsed at the same time."""
    path = tmp_path / "x.txt"
    lines = [f"{i:060} 1.5 2.5" for i in range(300_000)]
    lines[150_000], lines[290_000] = "wrong 1.5 x", "wrong 1.5"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"line 150001, column 3: 'x' is not a number"):
        for _ in open_source(path, format="glove").batches():
            pass
