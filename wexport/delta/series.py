"""A series of checkpoints: how far each layer and gate moved in each step, followed through renames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wexport.delta.change import Change
from wexport.delta.difference import Difference, comparable
from wexport.delta.models import GRAPH, VALUES
from wexport.delta.sums import parts_of

MOVED, SAME, RESHAPED, RETYPED, NEW, GONE, ABSENT = "moved", "same", "reshaped", "retyped", "new", "gone", "absent"
Parts = dict[str, None]  # of a layer; the empty one is all of it
Key = tuple[str, str]  # a layer, a part


@dataclass(frozen=True, slots=True)
class Cell:
    """What happened to a layer, or a part of it, in one step.

    It `moved`, by `change`; it is the `same`; a tensor of it was `reshaped`, or `retyped` from floats to integers or
    back, so that no length tells how far it moved; it came (`new`) or went (`gone`); or it is `absent` on both sides.
    """

    state: str
    change: Change | None = None

    @property
    def relative(self) -> float | None:
        """The relative change, if there is one."""
        return self.change.relative if self.change is not None and self.state == MOVED else None


_SAME, _RESHAPED, _RETYPED, _NEW, _GONE, _ABSENT = map(Cell, (SAME, RESHAPED, RETYPED, NEW, GONE, ABSENT))


@dataclass(frozen=True, slots=True)
class Counts:
    """What else differs in a step: `facts` but for values, by their words, and `notes` on what could not be compared.

    `unlike` are those that may be no more than another framework's way of writing the same.
    """

    facts: Mapping[str, int]
    unlike: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What a series needs of a Difference; neither a manifest nor a tensor's name is kept.

    `cells` are the layers and parts that differ, as the later side calls them; `layers` and `parts` say what became of
    the names of the earlier one, `old` and `new` which layers with tensors there are on each side.
    """

    counts: Counts
    layers: Mapping[str, str]
    parts: Mapping[Key, str]
    old: Mapping[str, Parts]
    new: Mapping[str, Parts]
    cells: Mapping[Key, Cell]


@dataclass(frozen=True, slots=True)
class Row:
    """A layer, or (with `part`) a gate, direction or source of it, through a series.

    `layer` is its newest name; `names` what each checkpoint calls the layer, None where it has none; `cells` has a cell
    for each step; `drift` is what the first and the last checkpoint alone tell.
    """

    layer: str
    part: str
    names: tuple[str | None, ...]
    cells: tuple[Cell, ...]
    drift: Cell

    @property
    def moves(self) -> bool:
        """Whether it ever moved, came or went."""
        return any(cell.state not in (SAME, ABSENT) for cell in self.cells)


def step_of(found: Difference, old: Mapping[str, Parts] | None = None) -> Step:
    """What a series needs of a difference; `old` are the layers of the earlier side, if they are known."""
    old = _layers(found.a.manifest) if old is None else old
    new = _layers(found.b.manifest)
    parts: dict[Key, str] = {}
    items_a, items_b = found.a.manifest["tensors"], found.b.manifest["tensors"]
    cells = {(group.layer, group.part): _cell(group.change) for group in found.groups}
    for pair in found.tensors:
        a, b = items_a.get(pair.a), items_b.get(pair.b)
        if a is None or b is None or not b["layer"]:
            continue
        other = None if _equal(a, b) or comparable(a, b) else _RETYPED if _form(a) == _form(b) else _RESHAPED
        if pair.a == pair.b and other is None:
            continue
        here = list(parts_of(found.b.manifest, b))
        if pair.a != pair.b:  # else its labels and source are called the same
            there = list(parts_of(found.a.manifest, a))
            parts.update(((b["layer"], one), two) for one, two in _alike(there, here))
        if other is not None:
            cells.update(((b["layer"], part), other) for part in ("", *here))
    facts = Counter(fact.what for fact in found.facts if fact.category not in (GRAPH, VALUES))
    unlike = sum(fact.category == GRAPH for fact in found.facts)
    names = {pair.a: pair.b for pair in found.layers if pair.a in old and pair.b in new}
    layers = {a: b for a, b in names.items() if a is not None and b is not None}
    said = {*found.a.warnings, *found.b.warnings}  # of a checkpoint, not of the step
    notes = tuple(note for note in found.notes if note not in said)
    return Step(Counts(dict(facts), unlike, notes), layers, parts, old, new, cells)


def _layers(manifest: Mapping[str, Any]) -> dict[str, Parts]:
    """The layers with tensors, and the parts of each."""
    found: dict[str, Parts] = {}
    for item in manifest["tensors"].values():
        if item["layer"] in manifest["layers"]:
            found.setdefault(item["layer"], {"": None}).update(dict.fromkeys(parts_of(manifest, item)))
    return found


def _cell(change: Change) -> Cell:
    still = change.moved == 0 and not change.estimated and not change.jumps
    return _SAME if still else Cell(MOVED, change)


def _equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return bool(a["sha256"] == b["sha256"] and a["dtype"] == b["dtype"])


def _form(item: Mapping[str, Any]) -> list[int]:
    return [n for n in item["shape"] if n != 1]


def _alike(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The parts of a tensor on both sides: its labels with its labels, its source with its source."""
    for is_source in (False, True):
        one, two = ([part for part in side if part.startswith("from.") == is_source] for side in (a, b))
        yield from zip(one, two, strict=False)


# -- through the steps -------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Track:
    """A layer as it is followed: its names so far, and the cells of its parts by their newest names."""

    names: list[str | None]
    parts: dict[str, list[Cell]] = field(default_factory=dict)

    def rename(self, names: Mapping[str, str]) -> None:
        """Call its parts as the later side does; what went long ago gives its name away."""
        found: dict[str, list[Cell]] = {}
        for part, cells in self.parts.items():
            name = names.get(part, part)
            other = found.get(name)
            found[name] = cells if other is None else [
                a if a.state != ABSENT else b for a, b in zip(cells, other, strict=True)
            ]  # fmt: skip
        self.parts = found

    def add(self, part: str, place: int, cell: Cell) -> None:
        """Note what happened to a part in a step; before it was first seen, it was absent."""
        self.parts.setdefault(part, [_ABSENT] * place).append(cell)

    def pad(self, length: int) -> None:
        """Note that whatever nothing was said of in a step is absent."""
        for cells in self.parts.values():
            cells += [_ABSENT] * (length - len(cells))


class Series:
    """The layers of a series, followed step by step."""

    def __init__(self) -> None:
        self.steps = 0
        self.tracks: list[_Track] = []  # in the model's order; what came stands behind what it stands behind there
        self._alive: dict[str, _Track] = {}
        self._ended: dict[str, _Track] = {}

    def add(self, step: Step) -> None:
        """Take the next step."""
        if not self.steps:
            self._alive = {name: _Track([name]) for name in step.old}
            self.tracks = list(self._alive.values())
        alive: dict[str, _Track] = {}
        for name, track in self._alive.items():
            self._follow(step, name, track, alive)
        self._arrive(step, alive)
        self.steps += 1
        for track in self.tracks:
            track.names += [None] * (self.steps + 1 - len(track.names))
            track.pad(self.steps)
        self._alive = alive

    def _follow(self, step: Step, name: str, track: _Track, alive: dict[str, _Track]) -> None:
        other = step.layers.get(name)
        if other is None:
            for part in step.old[name]:
                track.add(part, self.steps, _GONE)
            self._ended[name] = track
            return
        track.rename({part: step.parts.get((other, part), part) for part in track.parts})
        track.names.append(other)
        alive[other] = track
        for part, cell in _cells(step, name, other):
            track.add(part, self.steps, cell)

    def _arrive(self, step: Step, alive: dict[str, _Track]) -> None:
        """Layers that came; one that had gone, and is back under its name, goes on in its row."""
        before: _Track | None = None
        for name in step.new:
            track = alive.get(name)
            if track is None:
                track = self._ended.pop(name, None)
                if track is None:
                    track = _Track([None] * (self.steps + 1))
                    self.tracks.insert(0 if before is None else self.tracks.index(before) + 1, track)
                track.names.append(name)
                alive[name] = track
                for part in step.new[name]:
                    track.add(part, self.steps, _NEW)
            before = track

    def known(self) -> list[tuple[str, str]]:
        """What the layers of the first checkpoint are called in the last."""
        ends = ((track.names[0], track.names[-1]) for track in self.tracks)
        return [(a, b) for a, b in ends if a is not None and b is not None]

    def layers(self, drift: Step) -> Iterator[list[Row]]:
        """The rows of each layer: itself, then its parts; one that tells the same as the layer is left out."""
        for track in self.tracks:
            names = tuple(track.names)
            layer = next(name for name in reversed(names) if name is not None)
            ends = dict(_ends(track, drift))
            parts = sorted(track.parts, key=lambda part: (bool(part), part.startswith("from.")))
            if len(parts) == 2 and track.parts[parts[0]] == track.parts[parts[1]]:
                parts = parts[:1]
            yield [Row(layer, part, names, tuple(track.parts[part]), ends.get(part, _ABSENT)) for part in parts]


def _cells(step: Step, a: str, b: str) -> Iterator[tuple[str, Cell]]:
    """What happened to a layer and its parts from A to B, by B's names."""
    old = dict.fromkeys(step.parts.get((b, part), part) for part in step.old[a])
    for part in dict.fromkeys((*old, *step.new[b])):
        there = _GONE if part not in step.new[b] else _SAME if part in old else _NEW
        yield part, step.cells.get((b, part), there)


def _ends(track: _Track, drift: Step) -> Iterable[tuple[str, Cell]]:
    """What the first and the last checkpoint tell of a layer and its parts."""
    a, b = track.names[0], track.names[-1]
    if a is not None and b is not None and drift.layers.get(a) == b:
        return _cells(drift, a, b)
    state = SAME if a is not None and b is not None else GONE if a is not None else NEW if b is not None else ABSENT
    return [(part, Cell(state)) for part in track.parts]
