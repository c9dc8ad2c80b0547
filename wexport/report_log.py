"""What `log` gives, as text for people and as JSON for programs."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wexport.delta.change import change_json
from wexport.delta.origin import ESTIMATES
from wexport.delta.series import ABSENT, GONE, MOVED, NEW, RESHAPED, RETYPED, SAME, Cell, Counts, Row
from wexport.delta.table import cells as words_of
from wexport.delta.table import percent
from wexport.names import printable
from wexport.words import count

if TYPE_CHECKING:
    from wexport.verbs.log import Log

_STEPS = 8  # columns; of more steps, the first and the last ones are shown
_FIRST, _LAST = 2, 3
_LAYERS, _LINES = 20, 40  # of the table
_FEW = 12  # lines of what stands around it
_BARS = 40  # the longest course
_SHORT = 44  # a longer name does not widen its column
_EIGHTHS = "▁▂▃▄▅▆▇█"
_SIGNS = {ABSENT: " ", NEW: "+", GONE: "x", RESHAPED: "?", RETYPED: "?"}


def text(found: Log, everything: bool, plain: bool) -> str:
    """The log for a terminal: the checkpoints, a table of layers and gates by steps, what else changed.

    Args:
        found: the log.
        everything: show every row, not only those of the layers that moved most.
        plain: keep to ASCII.
    """
    steps, mark = len(found.steps), "..." if plain else "…"
    columns = _columns(steps)
    lines = [_head(found), *_checkpoints(found, columns, mark)]
    rows, hidden = (list(found.rows), "") if everything else _shown(found.rows)
    if rows:
        lines += ["", *_table(rows, steps, columns, plain, mark)]
        lines += [f"... {hidden} moved, too; --all shows them, --layers GLOB chooses"] if hidden else []
    around = [*_renamed(rows), *_structure(found), *_notes(found, rows, plain)]
    return "\n".join([*lines, *([""] if around else []), *around])


def _head(found: Log) -> str:
    some = f"{found.changed:,} of {count(found.layers, 'layer')} with tensors changed"
    layers = some if found.changed else "no layer with tensors changed"
    return f"{count(len(found.checkpoints), 'checkpoint')}, {count(len(found.steps), 'step')}: {layers}"


def _columns(steps: int) -> list[int | None]:
    """The steps that are shown, from 1; None stands for those between."""
    if steps <= _STEPS:
        return list(range(1, steps + 1))
    return [*range(1, _FIRST + 1), None, *range(steps - _LAST + 1, steps + 1)]


def _checkpoints(found: Log, columns: Sequence[int | None], mark: str) -> Iterator[str]:
    wide = len(f"step {len(found.steps)}")
    yield f"  {'start':<{wide}}  {printable(str(found.checkpoints[0].path))}"
    for step in columns:
        if step is None:
            yield f"  {mark}"
        else:
            yield f"  {f'step {step}':<{wide}}  {printable(str(found.checkpoints[step].path))}"


# -- the table ---------------------------------------------------------------------------------------------------------


def _shown(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """The layers that moved most, in the model's order, with their parts as far as there is room; what is left out."""
    layers: list[list[Row]] = []
    for row in rows:
        if not row.part:
            layers.append([])
        layers[-1].append(row)
    order = sorted(range(len(layers)), key=lambda i: -_largest(layers[i][0]))
    kept = dict.fromkeys(order[:_LAYERS], 1)
    room = _LINES - len(kept)
    for i in kept:
        if len(layers[i]) - 1 <= room:
            kept[i] = len(layers[i])
            room -= kept[i] - 1
    parts = sum(len(layers[i]) - n for i, n in kept.items())
    left = [(len(layers) - len(kept), "more layer"), (parts, "gate")]
    hidden = " and ".join(count(n, word) for n, word in left if n)
    return [row for i, n in sorted(kept.items()) for row in layers[i][:n]], hidden


def _largest(row: Row) -> float:
    """What layers are chosen by: what came, went or cannot be told is shown before all that moved."""
    others = [cell for cell in row.cells if cell.relative is None and cell.state not in (SAME, ABSENT)]
    return math.inf if others else max((cell.relative or 0.0 for cell in row.cells), default=0.0)


def _table(rows: Sequence[Row], steps: int, columns: Sequence[int | None], plain: bool, mark: str) -> Iterator[str]:
    ends = steps > 1
    bars = _bars(rows) if steps > 2 and not plain else None
    heads = [mark if step is None else str(step) for step in columns]
    heads[0] = f"step {heads[0]}"
    body = []
    for row in rows:
        line = [mark if step is None else _cell(row.cells[step - 1], plain) for step in columns]
        body.append([*line, _cell(row.drift, plain)] if ends else line)
    heads += ["in all"] if ends else []
    names = [f"  {printable(row.part)}" if row.part else printable(row.layer) for row in rows]
    first = min(max(map(len, names)), _SHORT)
    wide = [max(len(line[i]) for line in (heads, *body)) for i in range(len(heads))]
    drawn = ["course", *map(bars, rows)] if bars else [""] * (1 + len(rows))
    for name, line, course in zip(("", *names), (heads, *body), drawn, strict=True):
        numbers = [f"{cell:>{width}}" for cell, width in zip(line, wide, strict=True)]
        if bars:
            numbers.insert(len(columns), f"{course:<{max(map(len, drawn))}}")
        yield "  ".join((f"{name:<{first}}", *numbers)).rstrip()


def _cell(cell: Cell, plain: bool) -> str:
    if cell.change is None:
        return {SAME: "-" if plain else "·", ABSENT: ""}.get(cell.state, cell.state)
    return words_of(cell.change)[0] + ("!" if cell.change.jumps else "")


def _bars(rows: Sequence[Row]) -> Callable[[Row], str]:
    """What draws a row's course: a bar for each step, or for several where there are many; all rows on one scale."""
    low, high = _scale(rows)
    each = _each(len(rows[0].cells))

    def bar(cells: Sequence[Cell]) -> str:
        moved = [cell for cell in cells if cell.state == MOVED]
        sizes = [cell.relative for cell in moved if cell.relative is not None]
        if sizes:
            x = math.log(max(max(sizes), low) / low) / math.log(high / low) if high > low else 1.0
            return _EIGHTHS[min(int(x * len(_EIGHTHS)), len(_EIGHTHS) - 1)]
        if moved:
            return _EIGHTHS[-1] if any(c.change is not None and c.change.from_zero for c in moved) else "?"
        other = next((cell.state for cell in cells if cell.state not in (SAME, ABSENT)), cells[0].state)
        return _SIGNS.get(other, "·")

    return lambda row: "".join(bar(row.cells[i : i + each]) for i in range(0, len(row.cells), each))


def _each(steps: int) -> int:
    """How many steps share a bar."""
    return -(-steps // _BARS)


def _scale(rows: Sequence[Row]) -> tuple[float, float]:
    """The ends of the bars' scale: no less than two powers of ten, so that small differences look small."""
    sizes = [cell.relative for row in rows for cell in row.cells if cell.relative and math.isfinite(cell.relative)]
    high = max(sizes, default=1.0)
    return min(min(sizes, default=1.0), high / 100) or 5e-324, high


# -- around it ---------------------------------------------------------------------------------------------------------


def _renamed(rows: Sequence[Row]) -> list[str]:
    """What layers of the table were called before, and since when they no longer are."""
    lines = []
    for row in rows:
        known = [(i, name) for i, name in enumerate(row.names) if name is not None]
        changes = [(i, a, b) for (_, a), (i, b) in pairwise(known) if a != b]
        if changes and not row.part:
            words = [f"{printable(b)} since step {i}, {printable(a)} before" for i, a, b in changes]
            lines.append(f"renamed: {'; '.join(words)}")
    return _few(lines, "layer renamed")


def _structure(found: Log) -> list[str]:
    lines = []
    for i, step in enumerate(found.steps):
        if words := counted(step):
            paths = (printable(shlex.quote(str(side.path))) for side in found.checkpoints[i : i + 2])
            lines.append(f"step {i + 1}: {words}; see wexport diff {' '.join(paths)}")
    return _few(lines, "step")


def counted(step: Counts) -> str:
    """What else differs in a step: `1 layer added, 3 tensors renamed`."""
    words = []
    for what, n in step.facts.items():
        thing, _, way = what.partition(" ")
        things = thing if n == 1 else "aliases" if thing == "alias" else f"{thing}s"
        words.append(f"{n:,} {things} {way}")
    if step.unlike:
        words.append(f"{count(step.unlike, 'thing')} written otherwise by the other framework")
    return ", ".join(words)


def _notes(found: Log, rows: Sequence[Row], plain: bool) -> Iterator[str]:
    cells = [cell for row in rows for cell in (*row.cells, row.drift)]
    changes = [cell.change for cell in cells if cell.change is not None]
    if len(found.steps) > 2 and rows and not plain:
        low, high = _scale(rows)
        each = _each(len(found.steps))
        word = "each step" if each == 1 else f"the largest of {each} steps"
        yield f"course: a bar for {word}, by powers of ten from {percent(low)} to {percent(high)}"
    if any(change.estimated for change in changes):
        yield f"~ where there are no data: {ESTIMATES}"
    if any(change.relative is None and not change.from_zero for change in changes):
        yield "? is unavailable: without the data, a sketch and statistics of both sides are needed"
    if any(change.jumps for change in changes):
        yield "! NaN or infinite numbers came or went; how far the others moved"
    warnings = [warning for side in found.checkpoints for warning in side.warnings]
    notes: dict[str, list[int]] = {}
    for i, step in enumerate(found.steps):
        for note in step.notes:
            if ESTIMATES not in note:
                notes.setdefault(note, []).append(i + 1)
    lines = [f"note: {printable(warning)}" for warning in dict.fromkeys(warnings)]
    lines += [f"note: step{'s' * (len(at) > 1)} {_numbers(at)}: {printable(note)}" for note, at in notes.items()]
    yield from _few(lines, "note")


def _numbers(numbers: Sequence[int]) -> str:
    """Numbers in short: `1, 2, 4`, or how they begin and end."""
    if len(numbers) > 4:
        return f"{numbers[0]} to {numbers[-1]} ({len(numbers):,} of them)"
    return ", ".join(map(str, numbers))


def _few(lines: Sequence[str], word: str) -> list[str]:
    rest = len(lines) - _FEW
    return [*lines[:_FEW], *([f"... and {rest:,} more {word}{'s' * (rest > 1)}; --json lists all"] if rest > 0 else [])]


# -- programs ----------------------------------------------------------------------------------------------------------


def json_text(found: Log) -> str:
    """The log as JSON, as `schemas/log-1.schema.json` describes it."""
    return json.dumps(as_json(found), indent=2, ensure_ascii=False, allow_nan=False)


def as_json(found: Log) -> dict[str, Any]:
    """The same, as an object."""
    return {
        "wexport_log": 1,
        "checkpoints": [
            {**asdict(side), "path": str(side.path), "warnings": list(side.warnings)} for side in found.checkpoints
        ],
        "layers": found.layers,
        "changed": found.changed,
        "steps": [
            {"from": i, "to": i + 1, "facts": dict(step.facts), "unlike": step.unlike, "notes": list(step.notes)}
            for i, step in enumerate(found.steps)
        ],
        "rows": [
            {
                "layer": row.layer,
                "part": row.part,
                "names": list(row.names),
                "steps": [_cell_json(cell) for cell in row.cells],
                "in_all": _cell_json(row.drift),
            }
            for row in found.rows
        ],
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {"state": cell.state, "change": change_json(cell.change) if cell.change is not None else None}
