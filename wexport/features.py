"""Features: what stands at each position of a value, as far as it can be followed back.

A value's index space is tiled by `Part`s; the batch is an axis like any other, and the first one where a value
starts. A part holds features of one source; along each axis of the value it has a `Run`: a start and the source's
axes (`Atom`) with their strides there. So a flattened convolution is a batch and one axis with three atoms, and two
concatenated inputs are two parts with one atom each. Shape movers are exact moves of runs; where one cannot be
expressed, the value becomes untraced and whatever reads it stays whole. Nothing is ever guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from wexport.layout import Leaf
from wexport.view import c_strides

Dim = int | None
NO_FEATURES = {"batch", "merged"}  # axes along which no features lie, or nobody knows which
SPATIAL = {0: (), 1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True, slots=True)
class Atom:
    """A run of a source's axis: elements `start + unit * i` of its `full`, for i below `size`.

    `order` is the axis' place in the source; `known` says whether a layer has proved what the axis is.
    """

    axis: str
    order: int
    size: Dim
    full: Dim
    start: int = 0
    unit: int = 1
    known: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Where a part lies along one axis of a value: a start, and atoms with their strides, slowest first."""

    start: int
    atoms: tuple[tuple[Atom, int], ...]

    def extent(self) -> Dim:
        """The number of positions between the first element and the one after the last."""
        total = 1
        for atom, stride in self.atoms:
            if atom.size is None:
                return None
            total += (atom.size - 1) * stride
        return total

    def covers(self, n: Dim) -> bool:
        """Whether the part stands at every position of an axis of length n."""
        if n is None:
            return self.start == 0 and len(self.atoms) == 1 and self.atoms[0][0].size is None
        if self.start or any(a.size is None for a, _ in self.atoms):
            return False
        return math.prod(a.size or 0 for a, _ in self.atoms) == n


@dataclass(frozen=True, slots=True)
class Part:
    """The positions of a value that hold features of one source.

    `taken` are the source's axes of which one position was taken, with where: they have no run any more.
    """

    source: str
    runs: tuple[Run, ...]
    taken: tuple[Atom, ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """The shape of a value, its type, and its parts; `parts` None is untraced.

    `shape` is None where not even the number of axes is known.
    """

    shape: tuple[Dim, ...] | None
    dtype: str | None = None
    parts: tuple[Part, ...] | None = None

    @property
    def rank(self) -> int:
        """The number of axes; -1 where it is not known."""
        return -1 if self.shape is None else len(self.shape)

    def untraced(self) -> Value:
        """The same value, followed no further."""
        return replace(self, parts=None)


def source(
    name: str, shape: Sequence[Dim] | None, dtype: str | None, channel: int | None = None, axes: Sequence[str] = ()
) -> Value:
    """A value that starts here: `[batch, ...]`, or with these `axes`.

    `channel` is its feature axis, where the layer it is of knows one.
    """
    if shape is None:
        return Value(None, dtype)
    names, known = _axes(len(shape), channel)
    names = tuple(axes) or names
    atoms = (Atom(a, i, n, n, known=known or a == "batch") for i, (a, n) in enumerate(zip(names, shape, strict=True)))
    return Value(tuple(shape), dtype, (Part(name, tuple(_whole(atom) for atom in atoms)),))


def _axes(rank: int, channel: int | None) -> tuple[tuple[str, ...], bool]:
    """Names for all axes of a value, the batch first, and whether they say what the others are."""
    names, known = axis_names(rank - 1, channel if channel is None or channel < 0 else channel - 1)
    return ("batch", *names)[:rank], known


def axis_names(rank: int, channel: int | None) -> tuple[tuple[str, ...], bool]:
    """Names for the axes behind the batch, and whether they say what the axes are."""
    if channel is None or rank - 1 not in SPATIAL:
        return tuple(f"axis_{i + 1}" for i in range(rank)), False
    names = list(SPATIAL[rank - 1])
    names.insert(channel % rank, "channel")
    return tuple(names), True


def _whole(atom: Atom) -> Run:
    return Run(0, () if atom.size == 1 else ((atom, 1),))


# -- moves: each gives a new value; untraced where it cannot be said exactly -------------------------------------------


def reshape(value: Value, shape: Sequence[Dim]) -> Value:
    """The same elements in C order under another shape, taken apart into as many blocks of axes as there are."""
    new = tuple(shape)
    if value.shape is None or value.parts is None:
        return Value(new, value.dtype)
    old = value.shape
    blocks = _blocks(old, new)
    parts = []
    for part in value.parts:
        runs: tuple[Run, ...] = ()
        for before, after in blocks:
            fitted = _fit(part.runs[before], old[before], new[after])
            if fitted is None:
                return Value(new, value.dtype)
            runs += fitted
        parts.append(replace(part, runs=runs))
    return Value(new, value.dtype, tuple(parts))


def _blocks(old: Sequence[Dim], new: Sequence[Dim]) -> list[tuple[slice, slice]]:
    """The axes before and after a reshape that hold the same elements, as finely as the lengths tell."""
    leading = _meets(old, new)
    i, j = leading[-1]
    trailing = [(len(old) - k, len(new) - m) for k, m in reversed(_meets(old[i:][::-1], new[j:][::-1]))]
    k, m = trailing[0]
    head, tail = _equal_ends(old[i:k], new[j:m])
    a, b, c, d = i + head, k - tail, j + head, m - tail
    # unknown lengths that look alike are the same if what lies between them agrees
    ends = [(a, c), (b, d)] if _size(old[a:b]) == _size(new[c:d]) is not None else []
    edges = dict.fromkeys([*leading, *ends, *trailing])
    return [(slice(a, b), slice(c, d)) for (a, c), (b, d) in pairwise(edges)]


def _equal_ends(old: Sequence[Dim], new: Sequence[Dim]) -> tuple[int, int]:
    """The numbers of leading and of trailing axes that are alike."""
    most = min(len(old), len(new))
    head = next((i for i in range(most) if old[i] != new[i]), most)
    most -= head
    return head, next((i for i in range(most) if old[-1 - i] != new[-1 - i]), most)


def _meets(old: Sequence[Dim], new: Sequence[Dim]) -> list[tuple[int, int]]:
    """The numbers of leading axes, before and after, that hold equally many elements; all of them known."""
    found, i, j = [(0, 0)], 0, 0
    before = after = 1
    while True:
        if before <= after and i < len(old) and (n := old[i]):
            before, i = before * n, i + 1
        elif before >= after and j < len(new) and (n := new[j]):
            after, j = after * n, j + 1
        else:
            return found
        if before == after:
            found.append((i, j))


def _size(dims: Sequence[Dim]) -> Dim:
    return None if None in dims else math.prod(_ints(dims))


def _fit(runs: tuple[Run, ...], old: Sequence[Dim], new: Sequence[Dim]) -> tuple[Run, ...] | None:
    """A part's runs along a block of axes that was reshaped; axes that cannot be followed have no names."""
    if old == new:
        return runs
    before, after = _size(old), _size(new)
    if before != after and None not in (before, after):
        return None
    fitted = _refit(runs, _ints(old), _ints(new)) if before and before == after else None
    if fitted is None and all(run.covers(n) for run, n in zip(runs, old, strict=True)):
        return tuple(_whole(Atom("merged", -1, n, n, known=True)) for n in new)
    return fitted


def _ints(dims: Sequence[Dim]) -> tuple[int, ...]:
    return tuple(n for n in dims if n is not None)


def _refit(runs: Sequence[Run], old: tuple[int, ...], new: tuple[int, ...]) -> tuple[Run, ...] | None:
    start, atoms = 0, []
    for run, step in zip(runs, c_strides(old), strict=True):
        start += run.start * step
        atoms += [(atom, stride * step) for atom, stride in run.atoms]
    fitted: list[list[tuple[Atom, int]]] = [[] for _ in new]
    starts = []
    for n, step in zip(new, c_strides(new), strict=True):
        starts.append(start // step % n if n else 0)
    for atom, stride in atoms:
        for axis, piece, inner in _place(atom, stride, new):
            if axis < 0:
                return None
            fitted[axis].append((piece, inner))
    result = []
    for n, first, found in zip(new, starts, fitted, strict=True):
        run = Run(first, tuple(sorted(found, key=lambda f: -f[1])))
        if first + (run.extent() or 0) > n:
            return None
        result.append(run)
    return tuple(result)


def _place(atom: Atom, stride: int, shape: tuple[int, ...]) -> list[tuple[int, Atom, int]]:
    """The axes of `shape` that an atom with a stride in C order lies in; axis -1 where it fits none."""
    steps = c_strides(shape)
    found = []
    left = atom
    for axis in reversed(range(len(shape))):
        step, n = steps[axis], shape[axis]
        if n == 1 or stride >= step * n or left.size in (None, 1):
            continue
        if stride % step:
            return [(-1, atom, 0)]
        size, room = left.size or 1, step * n // stride
        if size <= room:
            found.append((axis, left, stride // step))
            return found
        if step * n % stride or size % room:
            return [(-1, atom, 0)]
        if room > 1:
            found.append((axis, replace(left, size=room, start=0), stride // step))
        left = replace(left, size=size // room, unit=left.unit * room)
        stride *= room
    return found if left.size == 1 else [(-1, atom, 0)]


def transpose(value: Value, order: Sequence[int]) -> Value:
    """Reorder the axes."""
    if value.shape is None:
        return Value(None, value.dtype)
    shape = tuple(value.shape[i] for i in order)
    if value.parts is None:
        return Value(shape, value.dtype)
    parts = tuple(replace(p, runs=tuple(p.runs[i] for i in order)) for p in value.parts)
    return Value(shape, value.dtype, parts)


def concat(values: Sequence[Value], axis: int) -> Value:
    """Values side by side along an axis; their other axes agree, and a known length counts for all."""
    shapes = [v.shape or () for v in values]
    if len({len(s) for s in shapes}) != 1 or not all(shapes):
        return Value(None, values[0].dtype)
    place = axis % len(shapes[0])
    lengths = [s[place] for s in shapes]
    shape = [next((n for n in dims if n is not None), None) for dims in zip(*shapes, strict=True)]
    shape[place] = None if None in lengths else sum(n or 0 for n in lengths)
    full = [sized(v, shape) for v in values]
    if None in lengths or any(v.parts is None for v in full):
        return Value(tuple(shape), values[0].dtype)
    parts, offset = [], 0
    for value, n in zip(full, lengths, strict=True):
        for part in value.parts or ():
            run = part.runs[place]
            moved = replace(run, start=run.start + offset)
            parts.append(replace(part, runs=(*part.runs[:place], moved, *part.runs[place + 1 :])))
        offset += n or 0
    return Value(tuple(shape), values[0].dtype, tuple(parts))


def cut(value: Value, axis: int, start: int, stop: int) -> Value:
    """Positions start to stop of one axis, whose length is known."""
    if value.shape is None:
        return Value(None, value.dtype)
    place = axis % len(value.shape)
    shape = (*value.shape[:place], stop - start, *value.shape[place + 1 :])
    parts = []
    for part in value.parts or ():
        run = part.runs[place]
        low, high = max(start, run.start), min(stop, run.start + (run.extent() or 0))
        if low >= high:
            continue
        kept = _cut_run(run, low - run.start, high - run.start)
        if kept is None:
            return Value(shape, value.dtype)
        kept = replace(kept, start=low - start)
        taken = tuple(a for a, _ in kept.atoms if a.size == 1 and a.full != 1)
        runs = (*part.runs[:place], kept, *part.runs[place + 1 :])
        parts.append(Part(part.source, runs, part.taken + taken))
    return Value(shape, value.dtype, tuple(parts) if value.parts is not None else None)


def _cut_run(run: Run, low: int, high: int) -> Run | None:
    if low == 0 and high == run.extent():
        return run
    if not run.atoms:
        return run
    (atom, stride), rest = run.atoms[0], run.atoms[1:]
    inner = Run(0, rest).extent()
    if inner is None or inner > stride or low % stride or (high % stride and high % stride != inner):
        return None  # the cut goes through the faster atoms
    first, last = low // stride, -(-high // stride)
    part = replace(atom, start=atom.start + first * atom.unit, size=last - first)
    return Run(0, ((part, stride), *rest))


def new_axis(value: Value, axis: int, n: Dim = 1, name: str = "repeat") -> Value:
    """A further axis, along which the value repeats itself."""
    if value.shape is None:
        return Value(None, value.dtype)
    place = axis % (len(value.shape) + 1)
    shape = (*value.shape[:place], n, *value.shape[place:])
    run = _whole(Atom(name, -1, n, n, known=True))
    parts = value.parts and tuple(replace(p, runs=(*p.runs[:place], run, *p.runs[place:])) for p in value.parts)
    return Value(shape, value.dtype, parts)


def drop_axis(value: Value, axis: int) -> Value:
    """Without an axis over which every part extends (it is reduced, or it is looked at one by one)."""
    if value.shape is None:
        return Value(None, value.dtype)
    place = axis % len(value.shape)
    n = value.shape[place]
    shape = value.shape[:place] + value.shape[place + 1 :]
    if value.parts is None or not all(p.runs[place].covers(n) for p in value.parts):
        return Value(shape, value.dtype)
    return Value(
        shape,
        value.dtype,
        tuple(replace(p, runs=p.runs[:place] + p.runs[place + 1 :]) for p in value.parts),
    )


def resample(value: Value, sizes: Sequence[Dim], channel: int) -> Value:
    """A feature map with other spatial sizes (pooled, padded, cropped): its channels stay what they are."""
    if value.shape is None or value.rank != len(sizes) + 2:
        return Value(None, value.dtype)
    rank = len(value.shape)
    place = channel % rank
    names, known = _axes(rank, channel)
    shape = [value.shape[0], *sizes]
    shape.insert(place, value.shape[place])
    parts = []
    for part in value.parts or ():
        runs = []
        for axis in range(rank):
            run = part.runs[axis]
            if axis == 0:
                runs.append(run)
            elif axis == place:
                runs.append(_renamed(run, names[axis], axis, known))
            elif run.covers(value.shape[axis]):
                runs.append(_whole(Atom(names[axis], axis, shape[axis], shape[axis], known=known)))
            else:
                return Value(tuple(shape), value.dtype)
        parts.append(replace(part, runs=tuple(runs)))
    return Value(tuple(shape), value.dtype, tuple(parts) if value.parts is not None else None)


def _renamed(run: Run, name: str, order: int, known: bool) -> Run:
    if len(run.atoms) != 1 or run.atoms[0][0].known:
        return run
    return replace(run, atoms=((replace(run.atoms[0][0], axis=name, order=order, known=known), run.atoms[0][1]),))


def sized(value: Value, shape: Sequence[Dim]) -> Value:
    """The same value with lengths filled in that were not known."""
    filled = tuple(n if have is None else have for have, n in zip(value.shape or (), shape, strict=True))
    if filled == value.shape:
        return value
    parts = []
    for part in value.parts or ():
        runs = []
        for run, have, n in zip(part.runs, value.shape or (), filled, strict=True):
            if have is None and n is not None:
                if not run.covers(None):
                    return Value(filled, value.dtype)
                run = _whole(replace(run.atoms[0][0], size=n, full=n))
            runs.append(run)
        parts.append(replace(part, runs=tuple(runs)))
    return Value(filled, value.dtype, tuple(parts) if value.parts is not None else None)


# -- reading a kernel's rows -------------------------------------------------------------------------------------------


def leaves(value: Value, axis: int) -> tuple[Leaf, ...] | None:
    """The parts of a value's feature axis, in its order; None where they cannot be told.

    They can be told where every part extends over all the other axes, so that each position reads the same, and
    where neither the batch nor folded axes lie among them.
    """
    if not value.shape or value.parts is None:
        return None
    place = axis % len(value.shape)
    found = []
    for part in value.parts:
        others = (r.covers(n) for i, (r, n) in enumerate(zip(part.runs, value.shape, strict=True)) if i != place)
        leaf = _leaf(part, part.runs[place]) if all(others) else None
        if leaf is None:
            return None
        found.append(leaf)
    found.sort(key=lambda item: item[0].start)
    merged = _merge(found)
    if sum(leaf.size for leaf in merged) != value.shape[place]:
        return None
    return _numbered(merged)


def span(value: Value, order: int) -> tuple[str, int, int] | None:
    """The run of features along a source's axis (its place there) that a value holds: source, start, size.

    None where they are of several sources, or no run.
    """
    if value.parts is None or len(value.parts) != 1:
        return None
    part = value.parts[0]
    atoms = [a for run in part.runs for a, _ in run.atoms if a.order == order and a.size != 1]
    atoms.sort(key=lambda a: a.unit)
    size = 1
    for atom in atoms:
        if atom.size is None or atom.unit != size:
            return None
        size *= atom.size
    start = sum(a.start for a in (*atoms, *(t for t in part.taken if t.order == order)))
    return part.source, start, size


def _leaf(part: Part, run: Run) -> tuple[Leaf, Dim] | None:
    if any(a.size is None or a.axis in NO_FEATURES for a, _ in run.atoms):
        return None
    channels_last = sorted(run.atoms, key=lambda item: (item[0].axis == "channel", item[0].order, -item[0].unit))
    atoms = _joined(channels_last)
    sizes = tuple(a.size or 0 for a, _ in atoms)
    strides = tuple(s for _, s in atoms)
    by_stride = tuple(sorted(run.atoms, key=lambda item: -item[1]))
    dense = tuple(s for _, s in by_stride) == c_strides(tuple(a.size or 0 for a, _ in by_stride))
    features = _features([a for a, _ in atoms])
    full = atoms[0][0].full if len(atoms) == 1 else None
    if len(atoms) <= 1 or (dense and not all(a.known for a, _ in atoms)):
        size = math.prod(sizes)
        stride = strides[0] if len(atoms) == 1 else 1
        direction = next((a for a in part.taken if a.axis == "direction"), None)
        if direction is not None and features is None:  # directions are features, too
            i, n = direction.start, direction.full or 1
            features, full = (i * size, (i + 1) * size), n * size
        return Leaf(part.source, ("in",), (size,), (stride,), run.start, features), full
    names = [a.axis for a, _ in atoms]
    axes = tuple(n if names.count(n) == 1 else f"{n}_{names[:i].count(n) + 1}" for i, n in enumerate(names))
    return Leaf(part.source, axes, sizes, strides, run.start, features), full


def _joined(atoms: list[tuple[Atom, int]]) -> list[tuple[Atom, int]]:
    """Atoms that a reshape split and that lie together again, as one."""
    result: list[tuple[Atom, int]] = []
    for atom, stride in atoms:
        if result:
            outer, step = result[-1]
            inner = atom.size or 1
            if (
                (outer.axis, outer.order) == (atom.axis, atom.order)
                and outer.unit == atom.unit * inner
                and (step == stride * inner)
            ):
                result[-1] = (replace(atom, size=(outer.size or 1) * inner, start=outer.start), stride)
                continue
        result.append((atom, stride))
    return result


def _features(atoms: Sequence[Atom]) -> tuple[int, int] | None:
    """The run of the last axis' features, where some part of the source is missing."""
    partial = [a for a in atoms if a.full is not None and a.unit == 1 and (a.size or 0) < a.full]
    split = {a.axis for a in atoms if a.unit != 1}
    partial = [a for a in partial if a.axis not in split]
    if len(partial) != 1:
        return None
    return partial[0].start, partial[0].start + (partial[0].size or 0)


def _merge(found: list[tuple[Leaf, Dim]]) -> list[Leaf]:
    """Neighbours that continue each other's features are one again."""
    result: list[Leaf] = []
    ends: list[Dim] = []
    for leaf, full in found:
        last = result[-1] if result else None
        if (
            last is not None
            and last.label == leaf.label
            and last.plain
            and leaf.plain
            and last.axes == leaf.axes == ("in",)
            and last.features is not None
            and leaf.features is not None
            and last.features[1] == leaf.features[0]
            and last.start + last.size == leaf.start
        ):
            size = last.size + leaf.size
            features = (last.features[0], leaf.features[1])
            whole = features[0] == 0 and features[1] == ends[-1]
            result[-1] = replace(last, sizes=(size,), features=None if whole else features)
        else:
            result.append(leaf)
            ends.append(full)
    return result


def _numbered(found: list[Leaf]) -> tuple[Leaf, ...]:
    seen: dict[str, int] = {}
    result = []
    for leaf in found:
        seen[leaf.label] = seen.get(leaf.label, 0) + 1
        count = seen[leaf.label]
        result.append(leaf if count == 1 else replace(leaf, label=f"{leaf.label}~{count}"))
    return tuple(result)


def each(value: Value, function: Callable[[Value], Value]) -> Value:
    """A function of what stands at each position of the axis behind the batch, applied along it."""
    if value.shape is None or value.rank < 2:
        return Value(None, value.dtype)
    inner = function(drop_axis(value, 1))
    if inner.shape is None:
        return inner
    return new_axis(inner, 1, value.shape[1], "time")
