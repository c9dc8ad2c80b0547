"""What `diff` gives, as text for people, as JSON for programs, and as Markdown for a pull request."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wexport.delta.change import change_json
from wexport.delta.difference import Difference
from wexport.delta.outline import Line, equal_text, headline, names, origins, structure, verdict
from wexport.delta.side import stated
from wexport.delta.table import Row, rows, table_cells, top_lines
from wexport.names import printable
from wexport.trust import trusting
from wexport.words import count

if TYPE_CHECKING:
    from wexport.verbs.diff import Verdict

_HEADS = ("relative", "max |change|", "cosine", "changed")
_DEEPEST = 2  # levels of mappings whose entries have lines of their own
_MOST = 40  # lines of a section
_COLOURS = {"+": "32", "-": "31", "~": "33", ">": "36", "": "1"}
_SHORT = 64  # a longer name does not widen its column


def coloured() -> bool:
    """Whether standard output is a terminal that wants colour."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def text(found: Verdict, everything: bool, colour: bool) -> str:
    """The difference for a terminal: a verdict, then sections, the largest change first."""
    with trusting(*stated(found.difference.a, found.difference.b)):
        return _text(found, everything, colour)


def _text(found: Verdict, everything: bool, colour: bool) -> str:
    paint = _paint if colour else lambda text, sign: text
    d = found.difference
    lines = [paint(f"{printable(str(d.a.path))} -> {printable(str(d.b.path))}: {verdict(d)}", "")]
    lines += [f"  {printable(counted)}"] if (counted := headline(d)) else []
    lines += _section("structure", structure(d, everything), everything, paint)
    lines += _section("names", names(d), everything, paint)
    lines += _values(d, everything, paint)
    if tops := top_lines(d):
        lines += ["", paint("moved most", ""), *(f"  {printable(line)}" for line in tops)]
    if places := origins(d):
        lines += ["", paint("provenance", ""), *(f"  {printable(line)}" for line in places)]
    lines += ["", equal_text(d), *(f"note: {printable(note)}" for note in d.notes)]
    lines += [paint(line, "-") for line in _gates(found)]
    return "\n".join(lines)


def _paint(text: str, sign: str) -> str:
    return f"\x1b[{_COLOURS[sign]}m{text}\x1b[0m"


def _section(head: str, lines: Sequence[Line], everything: bool, paint: Callable[[str, str], str]) -> list[str]:
    if not lines:
        return []
    shown = lines if everything else lines[:_MOST]
    width = max(len(printable(line.name)) for line in shown)
    width = min(width, _SHORT)
    found = ["", paint(head, "")]
    for line in shown:
        sign = "" if line.sign == ">" else f"{line.sign} "
        found.append(paint(f"  {sign}{printable(line.name):<{width}}  {printable(line.text)}".rstrip(), line.sign))
    if len(lines) > len(shown):
        found.append(f"  ... {len(lines) - len(shown):,} more; --all shows them")
    return found


def _values(d: Difference, everything: bool, paint: Callable[[str, str], str]) -> list[str]:
    table: list[tuple[str, tuple[str, ...]]] = []
    for row in rows(d, everything):
        if isinstance(row, Row):
            table.append((f"  {'  ' * row.depth}{printable(row.name)}", table_cells(row.change)))
        else:
            more = f"  ... {count(row, 'tensor')}" if row > 0 else f"... {count(-row, 'layer')}"
            table.append((f"  {more}: see --all", ("", "", "", "")))
    if not table:
        return []
    body = [("values", _HEADS), *table]
    wide = [max(len(line[i]) for _, line in body) for i in range(4)]
    keep = [i for i in range(4) if any(line[i] for _, line in table)]
    first = min(max(len(name) for name, numbers in body if any(numbers)), _SHORT)
    found = []
    for name, line in body:
        numbers = "".join(f"  {line[i]:>{wide[i]}}" for i in keep)
        found.append(f"{name:<{first}}{numbers}".rstrip())
    return ["", paint(found[0], ""), *found[1:]]


def _gates(found: Verdict) -> list[str]:
    if not found.gates:
        return []
    if not found.tripped:
        return [f"gates: {', '.join(found.gates)}: passed"]
    lines = []
    for trip in found.tripped[:_MOST]:
        what = trip.found if isinstance(trip.found, str) else f"{trip.found:.6g}"
        lines.append(f"gate {trip.gate} trips: {printable(trip.name)} ({what})")
    return lines + ([f"... and {len(found.tripped) - _MOST:,} more"] if len(found.tripped) > _MOST else [])


# -- programs ----------------------------------------------------------------------------------------------------------


def as_json(found: Verdict) -> dict[str, Any]:
    """The difference as `schemas/diff-1.schema.json` describes it."""
    d = found.difference
    return {
        "wexport_diff": 1,
        "a": _side(d.a),
        "b": _side(d.b),
        "verdict": verdict(d),
        "same": d.same,
        "same_weights": d.same_weights,
        "facts": [
            {
                "fact": fact.what,
                "category": fact.category,
                "a": fact.a,
                "b": fact.b,
                "detail": dict(fact.detail),
                "change": change_json(fact.change) if fact.change is not None else None,
            }
            for fact in d.facts
        ],
        "groups": [{"layer": g.layer, "part": g.part, "change": change_json(g.change)} for g in d.groups],
        "provenance": {key: list(pair) for key, pair in d.provenance.items()},
        "equal": dict(d.equal),
        "within_tolerance": d.within,
        "matches": {
            "layers": [{"a": pair.a, "b": pair.b, "how": pair.how} for pair in d.layers],
            "tensors": [{"a": pair.a, "b": pair.b, "how": pair.how} for pair in d.tensors],
        },
        "gates": {
            "asked": list(found.gates),
            "tripped": [{"gate": t.gate, "name": t.name, "found": _number(t.found)} for t in found.tripped],
        },
        "notes": list(d.notes),
    }


def _number(x: float | str) -> float | str:
    return str(x) if isinstance(x, float) and x in (float("inf"), float("-inf")) else x


def _side(side: Any) -> Mapping[str, Any]:
    about = side.manifest["model"]
    return {
        "path": str(side.path),
        "what": side.what,
        "name": about.get("name"),
        "framework": about.get("framework"),
        "framework_version": about.get("framework_version"),
        "format": about.get("source", {}).get("format"),
        "tensors": len(side.manifest["tensors"]),
        "layers": len(side.manifest["layers"]),
        "bytes_read": side.read,
    }


def json_text(found: Verdict) -> str:
    """The difference as JSON."""
    with trusting(*stated(found.difference.a, found.difference.b)):
        return _lined(as_json(found), 0)


def _lined(value: Any, depth: int) -> str:
    """JSON with an entry a line, no deeper than people read it; indented throughout, it takes ten times as long."""
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, Mapping) and value and depth < _DEEPEST:
        lines = (f"{inner}{_compact(key)}: {_lined(item, depth + 1)}" for key, item in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{outer}}}"
    if isinstance(value, list) and value and depth <= _DEEPEST:
        return "[\n" + ",\n".join(inner + _compact(item) for item in value) + f"\n{outer}]"
    return _compact(value)


_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


# -- pull requests -----------------------------------------------------------------------------------------------------


def markdown(found: Verdict, everything: bool) -> str:
    """The difference as Markdown, for a comment on a pull request."""
    with trusting(*stated(found.difference.a, found.difference.b)):
        return _markdown(found, everything)


def _markdown(found: Verdict, everything: bool) -> str:
    d = found.difference
    lines = [f"### {_code(str(d.a.path))} → {_code(str(d.b.path))}: {verdict(d)}"]
    lines += ["", _escaped(counted)] if (counted := headline(d)) else []
    for head, part in (("Structure", structure(d, everything)), ("Names", names(d))):
        if part:
            shown = part if everything else part[:_MOST]
            lines += ["", f"**{head}**", "", *(f"- {_bullet(line)}" for line in shown)]
            lines += [f"- … {len(part) - len(shown):,} more"] if len(part) > len(shown) else []
    table = list(rows(d, everything))
    if table:
        lines += ["", "| values | relative | max \\|change\\| | cosine | changed |", "| :-- | --: | --: | --: | --: |"]
        for row in table:
            if isinstance(row, Row):
                name = _code(row.name) if row.depth else f"**{_code(row.name)}**"
                lines.append(f"| {name} | {' | '.join(table_cells(row.change))} |")
            else:
                lines.append(f"| … {count(abs(row), 'tensor' if row > 0 else 'layer')} not shown | | | | |")
    if places := origins(d):
        lines += ["", f"Provenance: {'; '.join(map(_escaped, places))}"]
    lines += ["", equal_text(d), *(f"\n_{_escaped(note)}_" for note in d.notes)]
    lines += [f"\n**{_escaped(line)}**" for line in _gates(found)]
    return "\n".join(lines)


def _bullet(line: Line) -> str:
    word = {"+": "added ", "-": "removed "}.get(line.sign, "")
    left, arrow, right = line.name.partition(" -> ")
    name = f"{_code(left)} → {_code(right)}" if arrow else _code(line.name)
    return f"{word}{name}" + (f": {_escaped(line.text)}" if line.text else "")


def _code(text: str) -> str:
    """Text as code; a name from a file can neither end it nor the table's cell."""
    clean = printable(text).replace("`", "'").replace("|", "\\|")
    return f"`{clean}`"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|@" else c for c in printable(text))
