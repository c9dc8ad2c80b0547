"""What inputs may hold: followed through a model's calls to the tables in which their numbers are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wexport.evaluate import every_call
from wexport.layers.lookups import MOVERS, Pool, pool

Manifest = Mapping[str, Any]


def reach(manifest: Manifest) -> dict[str, Pool]:
    """What each input may hold whose numbers are looked up in a table: the least that the tables on its ways have."""
    known = {name: port["shape"] for name, port in manifest["inputs"].items()}
    calls = list(every_call(manifest["calls"]))
    known |= {out["value"]: out["shape"] for call in calls for out in call["out"] if out["value"] is not None}
    carried = {name: {name} for name in manifest["inputs"]}  # the inputs of which a value holds elements
    found: dict[str, Pool] = {}
    for call in calls:
        layer = manifest["layers"][call["layer"]]

        def length(of: Any, axis: int, owner: str = call["layer"]) -> int | None:
            return _length(manifest, known, of, axis, owner)

        for role, arg in call["args"].items():
            values = [a for a in (arg if isinstance(arg, list) else [arg]) if isinstance(a, str)]
            inputs = {name for value in values for name in carried.get(value, ())}
            own = pool(layer, role, call["args"], length) if inputs else None
            if own is not None:
                for name in inputs:
                    found[name] = own if name not in found or len(own) < len(found[name]) else found[name]
            elif layer["kind"] in MOVERS:
                for out in call["out"]:
                    carried.setdefault(out["value"], set()).update(inputs)
    return found


def _length(manifest: Manifest, known: Mapping[str, Any], of: Any, axis: int, owner: str) -> int | None:
    """The length of an argument, or of a layer's own tensor, along an axis."""
    shape = known.get(of) if isinstance(of, str) else None
    if isinstance(of, str) and f"{owner}.{of}" in manifest["tensors"]:
        shape = manifest["tensors"][f"{owner}.{of}"]["shape"]
    if isinstance(of, Mapping):
        shape = manifest["tensors"][of["tensor"]]["shape"] if "tensor" in of else of.get("shape")
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    return shape[axis] if isinstance(shape[axis], int) else None
