"""A weight's entry in the manifest, written and read: what the source stores, and the rule that takes it apart.

    {"shape": [6, 512], "dtype": "float32", "layout": "in (gate unit)", "as": "{gate}.kernel: in unit",
     "sizes": {"in": 6, "gate": 4, "unit": 128}, "labels": {"gate": ["input", "forget", "cell", "output"]}}

The entry is enough to find every tensor's elements in the array, and so to put them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from wexport import dtypes
from wexport.errors import BundleError, LayoutError
from wexport.layout import Flip, Leaf, Packed, Piece, Refold, Rule, Step, element_type, expand
from wexport.model import Json
from wexport.planning import Stored
from wexport.view import c_strides


def entry(stored: Stored) -> dict[str, Json]:
    """What the manifest says of an array, but for its place in the file."""
    rule = stored.rule
    found: dict[str, Json] = {"shape": list(stored.array.shape), "dtype": stored.array.dtype}
    if stored.copy_of is not None:
        return {**found, "copy_of": stored.copy_of}
    if stored.constant is not None:
        return {**found, "constant": stored.constant}
    found |= {"layout": rule.layout, "as": rule.target, "sizes": dict(stored.sizes)}
    if rule.labels:
        found["labels"] = {axis: list(labels) for axis, labels in rule.labels.items()}
    if rule.at:
        found["at"] = dict(rule.at)
    if stored.leaves:
        found["segments"] = {axis: _segments(leaves) for axis, leaves in stored.leaves.items()}
    if rule.steps:
        found["steps"] = [_step(step) for step in rule.steps]
    return found


def pieces(key: str, item: Mapping[str, Json]) -> list[Piece]:
    """The tensors that an entry says its array holds; none for a copy of another array, or a constant.

    Raises:
        BundleError: the entry makes no sense, or has a step that this program does not know.
    """
    if "copy_of" in item or "constant" in item:
        return []
    with _reading(key):
        rule = Rule(
            item["layout"],
            item["as"],
            {axis: tuple(labels) for axis, labels in item.get("labels", {}).items()},
            dict(item.get("at", {})),
            dict(item["sizes"]),
            _steps(item),
        )
        return expand(rule, tuple(item["shape"]), leaves(key, item))


def leaves(key: str, item: Mapping[str, Json]) -> dict[str, tuple[Leaf, ...]]:
    """The parts of each axis that is split.

    Raises:
        BundleError: the entry makes no sense.
    """
    with _reading(key):
        return {axis: _read_segments(axis, parts) for axis, parts in item.get("segments", {}).items()}


def tensor_type(item: Mapping[str, Json]) -> str:
    """The safetensors type of the tensors that an array is taken apart into."""
    return dtypes.code(element_type(item["dtype"], _steps(item)))


@contextmanager
def _reading(key: str) -> Iterator[None]:
    try:
        yield
    except (LayoutError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"weight {key!r}: its entry cannot be read: {error}; export again") from error


def _steps(item: Mapping[str, Json]) -> tuple[Step, ...]:
    return tuple(_read_step(step) for step in item.get("steps", []))


def _segments(leaves: Sequence[Leaf]) -> list[Json]:
    """The parts of an axis; a plain run that follows the parts before it needs no more than its size."""
    written = []
    start = 0
    for leaf in leaves:
        item: dict[str, Json] = {"from": leaf.label, "size": leaf.size}
        if len(leaf.axes) > 1 or not leaf.plain or leaf.start != start:
            item |= {"axes": list(leaf.axes), "sizes": list(leaf.sizes)}
            item |= {"strides": list(leaf.strides), "start": leaf.start}
        if leaf.features:
            item["features"] = list(leaf.features)
        written.append(item)
        start += leaf.size
    return written


def _read_segments(axis: str, parts: Any) -> tuple[Leaf, ...]:
    found = []
    start = 0
    for part in parts:
        sizes = tuple(part.get("sizes", [part["size"]]))
        found.append(
            Leaf(
                part["from"],
                tuple(part.get("axes", [axis])),
                sizes,
                tuple(part.get("strides", c_strides(sizes))),
                part.get("start", start),
                tuple(part["features"]) if part.get("features") else None,
            )
        )
        start += part["size"]
    return tuple(found)


def _step(step: Step) -> Json:
    if isinstance(step, Packed):
        return {"unpack": step.axis, "bits": step.bits, "signed": step.signed}
    return {"flip" if isinstance(step, Flip) else "refold": list(step.axes)}


def _read_step(step: Any) -> Step:
    if "flip" in step:
        return Flip(tuple(step["flip"]))
    if "refold" in step:
        return Refold(tuple(step["refold"]))
    if "unpack" in step and step.get("bits") in {2, 4, 6}:
        return Packed(step["unpack"], bool(step["signed"]), step["bits"])
    raise ValueError(f"the step {step} is not known; upgrade wexport")
