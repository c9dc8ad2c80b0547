"""What the verbs give, as text for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from textwrap import indent
from typing import TYPE_CHECKING, Any

from wexport.names import printable
from wexport.picture import bars
from wexport.words import argument as _argument
from wexport.words import attribute as _attribute
from wexport.words import count as _count
from wexport.words import kind_of as _kind_of
from wexport.words import named as _named
from wexport.words import number as _number
from wexport.words import origin as _origin
from wexport.words import port as _port
from wexport.words import shape_text

if TYPE_CHECKING:  # a verb need not load the others
    from wexport.planning import Plan
    from wexport.subject import Subject
    from wexport.verbs.explain import Explanation
    from wexport.verbs.restore import Restored
    from wexport.verbs.run import Result
    from wexport.verbs.show import Numbers
    from wexport.verbs.update import Updated
    from wexport.verbs.verify import Verification

_FIRST = 20  # differences that are shown
_STATS = ("min", "max", "mean", "std", "l2", "zeros", "nonfinite")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def _table(rows: Iterable[Sequence[str]], headers: Sequence[str] = (), right: Sequence[int] = ()) -> str:
    from tabulate import tabulate

    body = [[printable(cell) for cell in row] for row in rows]
    columns = len(body[0]) if body else len(headers)
    align = ["right" if i in right else "left" for i in range(columns)]
    text = tabulate(body, headers, tablefmt="plain", disable_numparse=True, colalign=align if body else None)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _bytes(n: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} bytes"


# -- export ------------------------------------------------------------------------------------------------------------


def exported(plan: Plan, out: str, golden: Mapping[str, int] | None = None) -> str:
    """What was written, in a few lines."""
    found = _export_numbers(plan)
    constants = len(plan.model.constants)
    arrays = _count(found["weights"], "array")
    lines = [
        f"{out}: {_count(found['tensors'], 'tensor')}, {_count(found['parameters'], 'parameter')}, "
        f"{_bytes(found['bytes'])}, from {arrays} of {_origin(plan.model.framework, plan.model.framework_version)}"
        + (f", and {_count(constants, 'constant')}" if constants else ""),
        *_left_out(Counter(item.reason for item in plan.left_out)),
        *([_golden_line(golden)] if golden is not None else []),
    ]
    return printable_lines(lines)


def _golden_line(golden: Mapping[str, int]) -> str:
    counts = [_count(golden[word], word[:-1]) for word in ("inputs", "values", "outputs")]
    return f"golden: {', '.join(counts)}, {_bytes(golden['bytes'])}"


def exported_json(plan: Plan, out: str, golden: Mapping[str, int] | None = None) -> str:
    """What was written."""
    left = [{"name": item.key, "shape": list(item.shape), "reason": item.reason} for item in plan.left_out]
    found = {"out": out, **_export_numbers(plan), "left_out": left, "warnings": list(plan.warnings)}
    return _json(found if golden is None else {**found, "golden": dict(golden)})


def _export_numbers(plan: Plan) -> dict[str, int]:
    return {
        "tensors": len(plan.tensors),
        "parameters": sum(t.view.size for t in plan.tensors if t.layer is not None),
        "bytes": sum(t.nbytes for t in plan.tensors),
        "weights": len(plan.weights) - len(plan.model.constants),
    }


def _left_out(reasons: Mapping[str, int]) -> list[str]:
    return [f"left out: {_count(n, 'array')} ({reason})" for reason, n in reasons.items()]


def printable_lines(lines: Iterable[str]) -> str:
    """Lines whose text may come from a file."""
    return "\n".join(printable(line) for line in lines)


# -- show --------------------------------------------------------------------------------------------------------------


def listing(subject: Subject, names: Sequence[str]) -> str:
    """A model's head and a line for each tensor."""
    manifest = subject.manifest
    model = manifest["model"]
    head = [
        f"{model['name']}: {_origin(model['framework'], model['framework_version'])}, {model['source']['format']}, "
        f"{_count(model['parameters'], 'parameter')} in {_count(len(names), 'tensor')}",
        *_ports("input", manifest["inputs"]),
        *_ports("output", _outputs(manifest)),
    ]
    rows = [[name, *_kind_of(subject.entry(name))] for name in names]
    left = _left_out(Counter(item["reason"] for item in manifest["left_out"].values()))
    parts = [printable_lines(head), _table(rows, ("tensor", "type", "shape", "axes")), printable_lines(left)]
    return "\n\n".join(part for part in parts if part)


def listing_json(subject: Subject, names: Sequence[str]) -> str:
    """The same, with each tensor's entry."""
    found = {key: subject.manifest[key] for key in ("model", "inputs", "outputs", "left_out")}
    tensors = {name: subject.entry(name) for name in names}
    return _json({**found, "tensors": tensors, "warnings": list(subject.warnings)})


def _ports(word: str, ports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"{word} {name} {_port(port)}".rstrip() for name, port in ports.items()]


def _values(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What is known of each value."""
    found = {name: dict(port) for name, port in manifest["inputs"].items()}
    return found | {out["value"]: out for call in manifest["calls"] for out in call["out"] if out["value"] is not None}


def _outputs(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    values = _values(manifest)
    return {name: values.get(item["value"], {}) for name, item in manifest["outputs"].items()}


def numbers(subject: Subject, found: Mapping[str, Numbers], plain: bool) -> str:
    """One tensor's numbers with a histogram, or a table of several tensors' numbers."""
    if len(found) == 1:
        ((name, one),) = found.items()
        return _tensor(subject, name, one, plain)
    rows = [
        [name, shape_text(subject.entry(name)["shape"]), *(_number(n.stats[key]) for key in _STATS)]
        for name, n in found.items()
    ]
    return _table(rows, ("tensor", "shape", *_STATS), right=range(2, 2 + len(_STATS)))


def _tensor(subject: Subject, name: str, found: Numbers, plain: bool) -> str:
    from wexport.verbs.explain import place

    item = subject.entry(name)
    dtype, shape, axes = _kind_of(item)
    rows = [[key, _number(found.stats[key])] for key in _STATS]
    where = place(subject, name)
    return "\n\n".join(
        part
        for part in (
            printable_lines([f"{name}  {dtype} {shape}  {axes}".rstrip(), *([where] if where else [])]),
            _table(rows, right=[1]),
            "\n".join(bars(found.edges, found.counts, plain=plain)),
        )
        if part
    )


def numbers_json(subject: Subject, found: Mapping[str, Numbers]) -> str:
    """Each tensor's entry, place, statistics and histogram."""
    from wexport.verbs.explain import place

    tensors = {}
    for name, n in found.items():
        histogram = {"edges": n.edges, "counts": n.counts}
        tensors[name] = {
            **subject.entry(name), "source": place(subject, name), "stats": dict(n.stats), "histogram": histogram,
        }  # fmt: skip
    return _json({"tensors": tensors, "warnings": list(subject.warnings)})


# -- explain -----------------------------------------------------------------------------------------------------------


def explanation(subject: Subject, found: Explanation) -> str:
    """A layer: what it is, what it is applied to, its equations, its tensors and where they come from."""
    values = _values(subject.manifest)
    head = [f"{found.layer}: {found.kind} ({found.class_name})" if found.class_name else f"{found.layer}: {found.kind}"]
    head += [f"  {key}: {_attribute(value)}" for key, value in found.attributes.items() if key != "reads"]
    parts = [printable_lines(head)]
    if found.calls:
        parts.append(printable_lines(["applied to", *(f"  {_applied(call, values)}" for call in found.calls)]))
    if found.equations:
        parts.append(printable_lines(["equations", *(f"  {line}" for line in found.equations)]))
    if found.parts:
        rows = [[p.short, p.dtype, shape_text(p.shape), p.axes, p.source or p.weight] for p in found.parts]
        parts.append("tensors\n" + indent(_table(rows), "  "))
    else:
        parts.append("no tensors")
    return "\n\n".join(parts)


def explanation_json(found: Explanation) -> str:
    """The same."""
    return _json(asdict(found))


def _applied(call: Mapping[str, Any], values: Mapping[str, Mapping[str, Any]]) -> str:
    args = [f"{role} = {_argument(arg, values)}" for role, arg in call["args"].items() if arg is not None]
    outs = [_named(out["value"], values) for out in call["out"] if out["value"] is not None]
    return f"{', '.join(args)} -> {', '.join(outs)}"


# -- verify ------------------------------------------------------------------------------------------------------------


def verified(found: Verification) -> str:
    """The proof, or the first of all that is wrong."""
    size = f"{_count(found.tensors, 'tensor')}, {_count(found.parameters, 'parameter')}, {_bytes(found.bytes)}"
    if not found.ok:
        wrong = _count(len(found.differences), "difference")
        lines = [f"  {text}" for text in found.differences[:_FIRST]]
        if rest := len(found.differences) - _FIRST:
            lines += [f"  ... and {rest:,} more; --json lists all"] if rest > 0 else []
        if any("checksum" in text for text in found.differences):
            lines.append("if the tensors were edited on purpose: wexport verify --update takes them over")
        return printable_lines([f"{found.path}: {wrong} in {size}", *lines])
    constants = f" and {_count(found.constants, 'constant')}" if found.constants else ""
    arrays = _count(found.weights, "weight") + constants
    lines = [
        f"{found.path}: good; {size}: the manifest fits the schema and the data, every checksum holds",
        f"{arrays} of the source: every element is in one tensor or said to be zero"
        + (f"; {_count(found.left_out, 'array')} left out" if found.left_out else ""),
    ]
    if found.model is not None:
        lines.append(f"{found.model}: {arrays} put together again, {_bytes(found.compared)}: equal, byte for byte")
    if found.golden:
        lines.append(
            f"{_count(found.golden, 'golden value')} computed again: equal, within the rounding of their types"
        )
    return printable_lines([*lines, f"fingerprint {found.fingerprint}"])


def verified_json(found: Verification) -> str:
    """The same."""
    return _json({"ok": found.ok, **asdict(found), "path": str(found.path), "model": found.model and str(found.model)})


def updated(found: Updated) -> str:
    """The tensors that were edited, with their statistics before and after."""
    if not found.changed:
        return printable_lines([f"{found.path}: {_count(found.tensors, 'tensor')}; none was edited"])
    head = f"{found.path}: {len(found.changed):,} of {_count(found.tensors, 'tensor')} edited; new checksums"
    keys = ("min", "max", "mean", "l2", "nonfinite")
    rows = []
    for name, (old, new) in found.changed.items():
        rows.append([name, *(f"{_number(old.get(k))} -> {_number(new[k])}" for k in keys)])
    table = _table(rows, ("tensor", *keys), right=range(1, 1 + len(keys)))
    return f"{printable(head)}\n\n{table}\n\nfingerprint {found.fingerprint}"


def updated_json(found: Updated) -> str:
    """The same."""
    changed = {name: {"before": old, "after": new} for name, (old, new) in found.changed.items()}
    about = {"path": str(found.path), "tensors": found.tensors, "fingerprint": found.fingerprint}
    return _json({**about, "changed": changed})


# -- restore -----------------------------------------------------------------------------------------------------------


def restored(found: Restored) -> str:
    """What was written, and which tensors the source has otherwise."""
    arrays = _count(found.weights, "weight")
    if found.model is None:
        return printable_lines([f"{found.path}: {arrays}, {_bytes(found.bytes)}"])
    constants = f" and {_count(found.constants, 'constant')}" if found.constants else ""
    head = f"{found.path}: {found.model} with {arrays}{constants} of the bundle, {_bytes(found.bytes)}"
    if not found.edited:
        return printable_lines([f"{head}; none differs"])
    lines = [f"{head}; {_count(len(found.edited), 'tensor')} edited:"]
    rows = [[name, _count(n, "element")] for name, n in found.edited.items()]
    return printable_lines(lines) + "\n" + indent(_table(rows), "  ")


def restored_json(found: Restored) -> str:
    """The same."""
    return _json({**asdict(found), "path": str(found.path), "model": found.model and str(found.model)})


# -- run ---------------------------------------------------------------------------------------------------------------

_FEW = 64  # elements that JSON shows


def computed(found: Sequence[Result], out: str | None) -> str:
    """A line for each array: its type, its shape, its numbers in short; and where the arrays are."""
    from wexport.verbs.run import numbers

    columns = ("min", "max", "mean")
    rows = []
    for one in found:
        stats = numbers(one.array)
        rows.append([one.name, one.type, shape_text(one.array.shape), *(_number(stats[key]) for key in columns)])
    text = _table(rows, ("name", "type", "shape", *columns), right=range(3, 6))
    return text if out is None else f"{text}\n\n{printable(out)}: {_count(len(found), 'array')}"


def computed_json(found: Sequence[Result], out: str | None) -> str:
    """The same, outputs and layers' values apart, with the elements of small arrays."""
    outputs = {one.name: _result(one) for one in found if one.layer is None}
    values = {one.name: {"layer": one.layer, **_result(one)} for one in found if one.layer is not None}
    return _json({"out": out, "outputs": outputs, "values": values})


def _result(one: Result) -> dict[str, Any]:
    from wexport.verbs.run import numbers

    entry = {"type": one.type, "shape": list(one.array.shape), **numbers(one.array)}
    if one.array.size <= _FEW:
        entry["values"] = one.array.tolist()
    return {key: _finite(value) for key, value in entry.items()}


def _finite(value: Any) -> Any:
    """What JSON has no number for, as a string; a complex number as a pair."""
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, complex):
        return [_finite(value.real), _finite(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if value != value else "inf" if value > 0 else "-inf"
    return value
