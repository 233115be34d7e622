"""A graph without rings, laid out in layers from left to right: where each box stands, and how edges run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Of a box and the space around it, in pixels.
HEIGHT, ACROSS, DOWN, LETTER = 34, 64, 12, 7.4
_MARGIN, _LEAST, _MOST = 8, 90, 260
_SWEEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A box to draw.

    Attributes:
        id: that edges name it by.
        label: what stands in it, safe to print.
        kind: a word for its style.
        state: ``stale`` and the like; may be empty.
        reason: of the state.
        path: of its page; may be empty.
    """

    id: str
    label: str
    kind: str
    state: str = ""
    reason: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An edge from one thing to another."""

    start: str
    end: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A thing at its place; ``text`` is as much of its label as there is room for."""

    thing: Thing
    text: str
    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A graph on a plane: boxes, the paths of the edges as SVG writes them, and the size of it all."""

    boxes: tuple[Box, ...]
    paths: tuple[str, ...]
    links: tuple[Link, ...]
    width: float
    height: float


def laid_out(things: Sequence[Thing], links: Sequence[Link]) -> Drawing:
    """Return a drawing of things, each to the right of all that lead to it."""
    known = {thing.id for thing in things}
    edges = [link for link in dict.fromkeys(links) if {link.start, link.end} <= known]
    layers = _ordered(_layers(things, edges), edges)
    boxes = _placed(layers)
    right = max((box.x + box.width for box in boxes.values()), default=0)
    below = max((box.y + HEIGHT for box in boxes.values()), default=0)
    return Drawing(
        boxes=tuple(boxes.values()),
        paths=tuple(_path(boxes[edge.start], boxes[edge.end]) for edge in edges),
        links=tuple(edges),
        width=round(right + _MARGIN),
        height=round(below + _MARGIN),
    )


def _layers(things: Sequence[Thing], edges: Sequence[Link]) -> list[list[Thing]]:
    """Return the things by the length of the longest way to them."""
    depth = {thing.id: 0 for thing in things}
    for _ in things:
        before = dict(depth)
        for edge in edges:
            depth[edge.end] = max(depth[edge.end], depth[edge.start] + 1)
        if depth == before:
            break
    # A ring, which nothing should hold, ends with the rounds.
    found: dict[int, list[Thing]] = {}
    for thing in things:
        found.setdefault(depth[thing.id], []).append(thing)
    return [found[layer] for layer in sorted(found)]


def _ordered(layers: list[list[Thing]], edges: Sequence[Link]) -> list[list[Thing]]:
    """Return the layers with each thing near the middle of what it is joined to, from both sides in turn."""
    into: dict[str, list[str]] = {}
    out: dict[str, list[str]] = {}
    for edge in edges:
        into.setdefault(edge.end, []).append(edge.start)
        out.setdefault(edge.start, []).append(edge.end)
    layers = [list(layer) for layer in layers]
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        for at in range(len(layers)) if forth else reversed(range(len(layers))):
            places = {thing.id: i for layer in layers for i, thing in enumerate(layer)}
            layers[at] = _by_middle(layers[at], into if forth else out, places)
    return layers


def _by_middle(layer: list[Thing], joined: Mapping[str, list[str]], places: Mapping[str, int]) -> list[Thing]:
    def middle(thing: Thing) -> float:
        others = joined.get(thing.id)
        return sum(places[other] for other in others) / len(others) if others else places[thing.id]

    return sorted(layer, key=middle)


def _placed(layers: list[list[Thing]]) -> dict[str, Box]:
    tallest = max(map(len, layers), default=0)
    boxes: dict[str, Box] = {}
    x = float(_MARGIN)
    for layer in layers:
        wanted = max(len(thing.label) for thing in layer) * LETTER + 20
        width = min(_MOST, max(_LEAST, wanted))
        y = _MARGIN + (tallest - len(layer)) * (HEIGHT + DOWN) / 2
        for thing in layer:
            text = _shortened(thing.label, width)
            boxes[thing.id] = Box(thing=thing, text=text, x=round(x, 1), y=round(y, 1), width=round(width, 1))
            y += HEIGHT + DOWN
        x += width + ACROSS
    return boxes


def _shortened(label: str, width: float) -> str:
    """Return a label with its middle left out: names differ at their ends, versions too."""
    room = int((width - 20) / LETTER)
    if len(label) <= room:
        return label
    return f"{label[: room // 2 - 1]}…{label[-(room - room // 2) :]}"


def _path(start: Box, end: Box) -> str:
    x, y = start.x + start.width, start.y + HEIGHT / 2
    to_x, to_y = end.x, end.y + HEIGHT / 2
    half = round((x + to_x) / 2, 1)
    return f"M{x:.1f} {y:.1f}C{half} {y:.1f} {half} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
