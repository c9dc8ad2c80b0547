"""Values that are views of what the file stores: slices, joins and turns of arrays, followed without reading any.

A `Virtual` is a box of elements, tiled by `Tile`s: each is a box in it that holds a view of one stored array. The
moves are ONNX' shape operations; one that cannot be said exactly gives None, and the value is then computed by the
model, never guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from wexport.layout import Piece, Rule
from wexport.model import Array
from wexport.view import View, c_strides

_Run = tuple[str, int, int]  # an axis, its size and its stride


@dataclass(frozen=True, slots=True)
class Tile:
    """A box at `start`, and the array whose view fills it."""

    start: tuple[int, ...]
    array: str
    view: View


@dataclass(frozen=True, slots=True)
class Virtual:
    """A value's shape, type and tiles, which cover it without overlap."""

    shape: tuple[int, ...]
    dtype: str
    tiles: tuple[Tile, ...]

    @staticmethod
    def of(array: Array) -> Virtual:
        """All of a stored array."""
        return Virtual(array.shape, array.dtype, (Tile((0,) * len(array.shape), array.key, View.whole(array.shape)),))

    @property
    def arrays(self) -> tuple[str, ...]:
        """The keys of the arrays that it shows."""
        return tuple(dict.fromkeys(t.array for t in self.tiles))

    @property
    def whole(self) -> str | None:
        """The key of the array that it is, as it is stored."""
        tile = self.tiles[0] if len(self.tiles) == 1 else None
        return tile.array if tile is not None and tile.view == View.whole(self.shape) else None


def transpose(x: Virtual, order: Sequence[int]) -> Virtual:
    """Reorder the axes."""
    tiles = (Tile(tuple(t.start[i] for i in order), t.array, t.view.permute(tuple(order))) for t in x.tiles)
    return Virtual(tuple(x.shape[i] for i in order), x.dtype, tuple(tiles))


def cut(x: Virtual, axis: int, start: int, count: int, step: int = 1) -> Virtual | None:
    """Every `step`th position of an axis, `count` of them; a negative step runs backwards."""
    if step != 1 and len(x.tiles) != 1:
        return None
    tiles = []
    for tile in x.tiles:
        if step == 1:
            low = max(start, tile.start[axis])
            high = min(start + count, tile.start[axis] + tile.view.shape[axis])
            if low >= high:
                continue
            view = tile.view.narrow(axis, low - tile.start[axis], high - low)
            tiles.append(Tile(_set(tile.start, axis, low - start), tile.array, view))
        else:
            view = tile.view.unfold(axis, start - tile.start[axis], (count,), (step,))
            tiles.append(Tile(tile.start, tile.array, view))
    return Virtual(_set(x.shape, axis, count), x.dtype, tuple(tiles))


def take(x: Virtual, axis: int, indices: Sequence[int]) -> Virtual | None:
    """Positions of an axis, each at most once."""
    n = x.shape[axis]
    places = [i % n if -n <= i < n else n for i in indices]
    if n in places or len(set(places)) < len(places):
        return None
    parts = [cut(x, axis, i, 1) for i in places]
    return concat([p for p in parts if p is not None], axis)


def concat(parts: Sequence[Virtual], axis: int) -> Virtual | None:
    """Side by side along an axis; neighbours that continue each other are one tile again."""
    if not parts or len({(*p.shape[:axis], *p.shape[axis + 1 :], p.dtype) for p in parts}) != 1:
        return None
    tiles: list[Tile] = []
    offset = 0
    for part in parts:
        for tile in part.tiles:
            moved = replace(tile, start=_set(tile.start, axis, tile.start[axis] + offset))
            joined = _joined(tiles[-1], moved, axis) if tiles else None
            if joined is not None:
                tiles[-1] = joined
            else:
                tiles.append(moved)
        offset += part.shape[axis]
    return Virtual(_set(parts[0].shape, axis, offset), parts[0].dtype, tuple(tiles))


def _joined(a: Tile, b: Tile, axis: int) -> Tile | None:
    n = a.view.shape[axis]
    same = a.array == b.array and a.view.strides == b.view.strides and a.view.of == b.view.of
    same = same and _set(a.view.shape, axis, 0) == _set(b.view.shape, axis, 0)
    if not same or b.start != _set(a.start, axis, a.start[axis] + n):
        return None
    if b.view.offset != a.view.offset + n * a.view.strides[axis]:
        return None
    return replace(a, view=replace(a.view, shape=_set(a.view.shape, axis, n + b.view.shape[axis])))


def reshape(x: Virtual, shape: Sequence[int]) -> Virtual | None:
    """The same elements in C order under another shape, where every tile stays a box with strides."""
    new = tuple(shape)
    if math.prod(new) != math.prod(x.shape) or not math.prod(new):
        return None
    groups = _groups(x.shape, new)
    tiles = []
    for tile in x.tiles:
        start: list[int] = []
        sizes: list[int] = []
        strides: list[int] = []
        for (a, b), (c, d) in groups:
            merged = _merged(tile, x.shape, a, b)
            split = None if merged is None else _split(*merged, new[c:d])
            if split is None:
                return None
            start += split[0]
            sizes += split[1]
            strides += split[2]
        tiles.append(Tile(tuple(start), tile.array, View(tuple(sizes), tuple(strides), tile.view.offset, tile.view.of)))
    return Virtual(new, x.dtype, tuple(tiles))


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Runs of old and new axes that hold the same elements."""
    found = []
    a = c = 0
    while a < len(old) or c < len(new):
        b, d = min(a + 1, len(old)), min(c + 1, len(new))
        while math.prod(old[a:b]) != math.prod(new[c:d]):
            if math.prod(old[a:b]) < math.prod(new[c:d]):
                b += 1
            else:
                d += 1
        found.append(((a, b), (c, d)))
        a, c = b, d
    return found


def _merged(tile: Tile, shape: tuple[int, ...], a: int, b: int) -> tuple[int, int, int] | None:
    """A tile's axes a to b as one: start, size, stride; all but the slowest must be full and follow each other."""
    start, size, stride, n = 0, 1, 1, 1  # of what is merged so far, from the fastest axis on
    for i in reversed(range(a, b)):
        first, count, step = tile.start[i], tile.view.shape[i], tile.view.strides[i]
        if shape[i] == 1:
            continue
        if n == 1:
            start, size, stride, n = first, count, step, shape[i]
            continue
        if size == n and (count == 1 or step == stride * n):
            start, size, n = first * n, count * n, n * shape[i]
        elif count == 1 and size < n:
            start, n = first * n + start, n * shape[i]
        else:
            return None
    return start, size, stride


def _split(start: int, size: int, stride: int, new: tuple[int, ...]) -> tuple[list[int], list[int], list[int]] | None:
    """A run as a box of several axes."""
    starts, sizes, strides = [], [], []
    for n, step in zip(new, c_strides(new), strict=True):
        first = start // step
        if size >= step:
            if start % step or size % step:
                return None
            count = size // step
        else:
            count = 1
            if start % step + size > step:
                return None
        if first + count > n and n > 1:
            return None
        starts.append(first if n > 1 else 0)
        sizes.append(count if n > 1 else 1)
        strides.append(stride * step)
        if count > 1 or n == 1:
            start, size = (start, size) if n == 1 else (0, step)
        else:
            start -= first * step
            size = min(size, step)
    return starts, sizes, strides


def _set(items: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*items[:axis], value, *items[axis + 1 :])


# -- a rule for the value, said of what is stored ----------------------------------------------------------------------


def place(x: Virtual, view: View) -> tuple[str, View] | None:
    """Where a part of the value, in C order of its elements, lies in the one array that holds it."""
    if view.of is not None:
        return None
    steps = c_strides(x.shape)
    corner = []
    rest = view.offset
    for step in steps:
        corner.append(rest // step)
        rest %= step
    axes: list[tuple[int, int]] = []  # for each of the view's axes: the value's axis, and the step along it
    ends = list(corner)
    for n, stride in zip(view.shape, view.strides, strict=True):
        if n == 1:
            axes.append((-1, 0))
            continue
        axis = next((i for i, s in enumerate(steps) if x.shape[i] > 1 and stride >= s and stride % s == 0), -1)
        if axis < 0:
            return None
        axes.append((axis, stride // steps[axis]))
        ends[axis] += (n - 1) * (stride // steps[axis])
    for tile in x.tiles:
        inside = zip(corner, ends, tile.start, tile.view.shape, strict=True)
        if all(s <= low and high < s + n for low, high, s, n in inside):
            offset = tile.view.offset
            offset += sum((c - s) * t for c, s, t in zip(corner, tile.start, tile.view.strides, strict=True))
            strides = tuple(0 if a < 0 else step * tile.view.strides[a] for a, step in axes)
            return tile.array, View(view.shape, strides, offset, tile.view.of)
    return None


def restated(pieces: Sequence[tuple[Piece, View]], rule: Rule, shape: tuple[int, ...]) -> Rule | None:
    """The rule of a stored array of this shape that gives these tensors, each at its view; None if there is none.

    The pieces are of one rule; they must be all of the array, with each element in one of them.
    """
    first, view = pieces[0]
    if view.of is not None or any(
        (p.axes, v.shape, v.strides) != (first.axes, view.shape, view.strides) for p, v in pieces
    ):
        return None
    at = {a: label for a, label in first.at.items() if all(p.at[a] == label for p, _ in pieces)}
    named = [a for a in first.at if a not in at]
    axes = _label_axes([(p.at, v.offset) for p, v in pieces], named)
    if axes is None:
        return None
    words = first.axes.replace("(", " ").replace(")", " ").split()
    runs = [*axes, *((w, n, s) for w, n, s in zip(words, view.shape, view.strides, strict=True))]
    runs, split = _cut_up(runs, shape)
    layout = _written(runs, shape)
    if layout is None or any(word not in words for word in split):
        return None
    template, _, kept = rule.target.partition(":")
    for word, parts in split.items():
        kept = re.sub(rf"\b{word}\b", parts if re.search(rf"\([^)]*\b{word}\b", kept) else f"({parts})", kept)
    if "bias" in at:  # no label, but which of two biases an array holds
        template = template.replace("{bias}", str(at.pop("bias")))
    labels = {a: _labels([(p.at, v.offset) for p, v in pieces], a) for a in named}
    sizes = {w: n for w, n, _ in runs if w not in labels}
    return Rule(layout, f"{template}:{kept}", labels, {a: str(label) for a, label in at.items()}, sizes)


def _labels(pieces: Sequence[tuple[Mapping[str, str | int], int]], axis: str) -> tuple[str, ...]:
    """An axis' labels in the order in which they are stored."""
    first: dict[str, int] = {}
    for at, offset in pieces:
        label = str(at[axis])
        first[label] = min(first.get(label, offset), offset)
    return tuple(sorted(first, key=lambda label: first[label]))


def _label_axes(
    pieces: Sequence[tuple[Mapping[str, str | int], int]], named: Sequence[str]
) -> list[tuple[str, int, int]] | None:
    """The named axes with their sizes and strides; None where the labels stand at no regular distance."""
    found = []
    base = min(offset for _, offset in pieces)
    if base:
        return None
    for axis in named:
        labels = _labels(pieces, axis)
        firsts = [min(o for at, o in pieces if str(at[axis]) == label) for label in labels]
        stride = firsts[1] - firsts[0]
        if firsts != [i * stride for i in range(len(labels))]:
            return None
        found.append((axis, len(labels), stride))
    order = {axis: _labels(pieces, axis) for axis in named}
    if len(pieces) != math.prod(n for _, n, _ in found):
        return None
    for at, offset in pieces:
        if offset != sum(order[a].index(str(at[a])) * s for a, _, s in found):
            return None
    return found


def _cut_up(runs: Sequence[_Run], shape: tuple[int, ...]) -> tuple[list[_Run], dict[str, str]]:
    """The axes with each that fills several of an array's dimensions cut into those; and, by axis, its parts."""
    borders = [math.prod(shape[i:]) for i in range(len(shape), -1, -1)]
    found: list[_Run] = []
    split: dict[str, str] = {}
    for word, size, stride in runs:
        cuts = sorted({stride, size * stride, *(b for b in borders if stride < b < size * stride)}, reverse=True)
        if len(cuts) < 3 or any(a % b for a, b in pairwise(cuts)):
            found.append((word, size, stride))
            continue
        parts = [(f"{word}_{i}", a // b, b) for i, (a, b) in enumerate(pairwise(cuts))]
        found += parts
        split[word] = " ".join(name for name, _, _ in parts)
    return found, split


def _written(runs: Sequence[_Run], shape: tuple[int, ...]) -> str | None:
    """The layout string of an array whose dimensions these axes fill, each with its size and stride."""
    left = sorted((r for r in runs if r[1] > 1), key=lambda r: r[2])
    ones = [r[0] for r in runs if r[1] == 1]
    groups: list[str] = []
    step = 1
    for n in reversed(shape):
        words: list[str] = []
        room = n
        while room > 1:
            if not left or left[0][2] != step or room % left[0][1]:
                return None
            word, size, _ = left.pop(0)
            words.insert(0, word)
            step *= size
            room //= size
        if not words and ones:
            words = [ones.pop()]
        groups.insert(0, words[0] if len(words) == 1 else f"({' '.join(words)})" if words else "1")
    if left:
        return None
    if ones:  # axes of length one that no dimension has: with the first one
        groups = [f"({' '.join(ones)})"] if not groups else [f"({' '.join(ones)} {groups[0].strip('()')})", *groups[1:]]
    return " ".join(groups)
