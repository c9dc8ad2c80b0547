"""A manifest as lines for line diffs: a fact a line, and every line says whose it is.

A layer's lines stand together, in the order of execution, its tensors by gate; nothing is aligned or numbered over
several lines, so that what changes one fact changes one line.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wexport.names import printable
from wexport.view import c_strides
from wexport.words import LONGEST, argument, by_gate, count, kind_of, number, origin, port, shape_text, whole_attribute

_STATS = ("l2", "mean", "std", "min", "max")
_RARE = ("zeros", "nonfinite")  # said where there are any
_DIGITS = 12  # of a checksum

Json = Any


def manifest_lines(manifest: Mapping[str, Json]) -> list[str]:
    """The lines of a manifest; a `name` that is null is left out, as are file names and sizes.

    What a manifest does not have yet (checksums, statistics) is left out, too.
    """
    sections = [
        list(_head(manifest)),
        *_layers(manifest),
        [f"left out: {count(n, 'array')} ({reason})" for reason, n in sorted(_reasons(manifest).items())],
    ]
    return apart(sections)


def apart(sections: Iterable[Sequence[str]]) -> list[str]:
    """Sections with an empty line between each two; what a file smuggles in is spelled out."""
    found: list[str] = []
    for section in sections:
        if section:
            found += ["", *map(_safe, section)] if found else map(_safe, section)
    return found


def tensor_line(manifest: Mapping[str, Json], name: str) -> str:
    """A tensor: its type, shape and axes, its statistics and its checksum."""
    item = manifest["tensors"][name]
    return with_digest(" ".join([name, *kind_of(item)]).rstrip(), item.get("sha256"), manifest["stats"].get(name))


def with_digest(text: str, sha256: str | None, stats: Mapping[str, Json] | None) -> str:
    """A line with a tensor's statistics and the beginning of its checksum, as far as they are known."""
    known = stats or {}
    words = [f"{key} {number(known[key])}" for key in _STATS if key in known]
    words += [f"{key} {number(known[key])}" for key in _RARE if known.get(key)]
    words += [f"sha256 {sha256[:_DIGITS]}"] if sha256 else []
    return "  ".join([text, " ".join(words)]) if words else text


def long_text(text: str) -> str:
    """A text that fits a line; one that is cut keeps its checksum, so that no change is lost."""
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: LONGEST - 10]} ... ({len(text):,} characters, sha256 {digest[:_DIGITS]})"


def _safe(line: str) -> str:
    return line if line.isascii() and line.isprintable() else printable(line)


# -- the model's head --------------------------------------------------------------------------------------------------


def _head(manifest: Mapping[str, Json]) -> Iterator[str]:
    model = manifest["model"]
    if model.get("name") is not None:
        yield f"model name: {model['name']}"
    yield f"model framework: {origin(model['framework'], model.get('framework_version'))}"
    yield f"model format: {model['source']['format']}"
    yield f"model parameters: {model['parameters']:,}"
    for name, found in manifest["inputs"].items():
        yield f"input {name} {port(found)}".rstrip()
    for name, item in manifest["outputs"].items():
        yield f"output {name}" + (f" = {item['value']}" if item["value"] != name else "")


def _reasons(manifest: Mapping[str, Json]) -> Counter[str]:
    return Counter(item["reason"] for item in manifest["left_out"].values())


# -- layers ------------------------------------------------------------------------------------------------------------


def _layers(manifest: Mapping[str, Json]) -> Iterator[list[str]]:
    """Every layer's lines; in the order of execution, those that are not called last."""
    applied: dict[str, list[str]] = {}
    for call, where in _calls(manifest["calls"], ""):
        applied.setdefault(call["layer"], []).extend(_call(call, where))
    tensors: dict[str | None, list[str]] = {}
    for name in by_gate(manifest, manifest["tensors"]):
        tensors.setdefault(manifest["tensors"][name]["layer"], []).append(tensor_line(manifest, name))
    for name, alias in manifest["aliases"].items():
        tensors.setdefault(alias["layer"], []).append(_alias(name, alias))
    constants = tensors.pop(None, [])
    for layer in dict.fromkeys([*applied, *manifest["layers"], *(name for name in tensors if name is not None)]):
        about = _about(layer, manifest["layers"].get(layer, {}))
        yield [*about, *applied.get(layer, []), *tensors.get(layer, [])]
    yield constants


def _about(layer: str, item: Mapping[str, Json]) -> Iterator[str]:
    """What a layer is."""
    class_name = item.get("class")
    yield f"{layer} kind: {item.get('kind')}" + (f" ({class_name})" if class_name else "")
    yield from _attributes(layer, {key: v for key, v in item.items() if key not in {"kind", "class", "reads"}})
    yield from _reads(layer, item.get("reads", []))


def _attributes(owner: str, found: Mapping[str, Json]) -> Iterator[str]:
    """A line for each attribute; those of a part of the layer (`backward`) with the part's name before theirs."""
    prefix = owner if owner.endswith(".") else f"{owner} "
    for key, value in found.items():
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, Mapping) and value and "name" not in value:
            yield from _attributes(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}: {long_text(whole_attribute(value))}"


def _reads(layer: str, parts: Sequence[Mapping[str, Json]]) -> Iterator[str]:
    """What each part of a kernel reads; where the order of the elements is not the plain one, it is said."""
    place = 0
    for part in parts:
        sizes, strides = part["sizes"], part["strides"]
        text = f"{layer} reads {part['from']}: {' '.join(part['axes'])} {shape_text(sizes)}"
        if list(strides) != list(c_strides(tuple(sizes))) or part["start"] != place:
            text += f", strides {shape_text(strides)} from {part['start']}"
        if part.get("features"):
            text += f", features {part['features'][0]} to {part['features'][1]}"
        yield text
        place += math.prod(sizes)


def _alias(name: str, alias: Mapping[str, Json]) -> str:
    return f"{name} is {alias['tensor']}" + (", transposed" if alias.get("transposed") else "")


# -- calls -------------------------------------------------------------------------------------------------------------


def _calls(calls: Iterable[Mapping[str, Json]], where: str) -> Iterator[tuple[Mapping[str, Json], str]]:
    """Calls, each followed by those in its bodies, and which body each is in."""
    for call in calls:
        yield call, where
        for label, body in call.get("bodies", {}).items():
            yield from _calls(body["calls"], f" (in {call['layer']} {label})")


def _call(call: Mapping[str, Json], where: str) -> Iterator[str]:
    """What a layer is applied to, and what comes out of it."""
    layer = call["layer"]
    args = (f"{role} = {long_text(argument(arg, {}))}" for role, arg in call["args"].items() if arg is not None)
    yield f"{layer} <- {', '.join(args)}".rstrip() + where
    for out in call["out"]:
        if out["value"] is None:
            continue
        name = "" if out["value"] == layer else f" {out['value']}"
        known = port(out)
        if name or known:
            yield f"{layer} -> {out['role']}{name} {known}".rstrip()
    for label, body in call.get("bodies", {}).items():
        ends = [", ".join(body["inputs"]), "->", ", ".join(argument(arg, {}) for arg in body["outputs"])]
        yield f"{layer} {label}: {' '.join(long_text(end) for end in ends if end)}"
