"""A manifest computed, call by call: the executable form of the specification.

It reads nothing but the manifest and the named tensors, and computes in float64; after every call the result is
rounded to the type that the manifest states for it, so that half-precision models round where they did.

What the bodies of control flow may take together is bounded (`MOST`), so that a trip count of 2**62 ends in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.errors import LayoutError, UsageError, WexportError, WorkError
from wexport.layers.complete import KINDS
from wexport.layers.step import Items, Step
from wexport.words import shape_text

Array = NDArray[Any]
Tensors = Callable[[str], Array]
# Calls in bodies, each run of a body being one more; 10,000 elements of what a run makes count as a call, too. Minutes
# of work: more than a thousand times what a decoder of a few hundred turns takes.
MOST = 10_000_000
_PER_CALL = 10_000
# what arrays of shapes, types or numbers that a layer does not take lead to
_HALF = {"float16", "bfloat16"}
_INTEGERS = {name: np.dtype(name) for name in ("bool", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))}


def evaluate(
    manifest: Mapping[str, Any],
    tensor: Tensors,
    inputs: Mapping[str, Array],
    progress: Callable[[int], None] = lambda calls: None,
) -> dict[str, Array]:
    """Every value of the model for these inputs, by its name.

    Args:
        manifest: its content.
        tensor: gives a tensor by its name, as numbers.
        inputs: an array for each of the manifest's inputs, the batch first; one that nothing reads may be absent.
        progress: called with the number of calls that were computed.

    Raises:
        UsageError: an input is missing, the model has a layer that cannot be computed (all are named), or computing
            one of them failed.
        WorkError: the bodies of its control flow take more than `MOST` calls.
    """
    used = needed(manifest)
    if missing := [name for name in manifest["inputs"] if name in used and name not in inputs]:
        raise UsageError(f"the model needs inputs {', '.join(missing)}; given were {', '.join(inputs) or 'none'}")
    if reasons := unsupported(manifest):
        raise UsageError("this model cannot be computed: " + "; ".join(reasons))
    machine = _Machine(manifest, tensor)
    values: dict[str, Any] = {n: _number(np.asarray(inputs[n])) for n in manifest["inputs"] if n in inputs}
    with np.errstate(all="ignore"):  # what overflows is infinite, as in the framework
        for call in manifest["calls"]:
            machine.run([call], values)
            progress(1)
    return values


def needed(manifest: Mapping[str, Any]) -> set[str]:
    """The values that a call reads, in a body too, or that are outputs."""
    found = {item["value"] for item in manifest["outputs"].values()}
    for call in every_call(manifest["calls"]):
        given = [*call["args"].values(), *(o for body in call.get("bodies", {}).values() for o in body["outputs"])]
        found.update(arg for a in given for arg in (a if isinstance(a, list) else [a]) if isinstance(arg, str))
    return found


class _Machine:
    """A manifest that runs: its layers with the tensors that each of them has."""

    def __init__(self, manifest: Mapping[str, Any], tensor: Tensors) -> None:
        self.manifest, self.tensor, self.left = manifest, tensor, MOST
        self.own: dict[str, dict[str, tuple[str, str, bool]]] = {}  # by layer and short name: tensor, axes, transposed
        for name, entry in manifest["tensors"].items():
            if entry["layer"] is not None:
                self.own.setdefault(entry["layer"], {})[name[len(entry["layer"]) + 1 :]] = (name, entry["axes"], False)
        for name, alias in manifest["aliases"].items():
            found = (alias["tensor"], alias["axes"], alias["transposed"])
            self.own.setdefault(alias["layer"], {})[name[len(alias["layer"]) + 1 :]] = found

    def run(self, calls: Sequence[Mapping[str, Any]], values: dict[str, Any]) -> None:
        """Compute calls; what they give joins the values."""
        for call in calls:
            layer = self.manifest["layers"][call["layer"]]
            half = next((o["dtype"] for o in call["out"] if o["dtype"] in _HALF), None)
            args = {role: self.argument(arg, values, half) for role, arg in call["args"].items()}
            try:
                found = self.computed(call, self.tensors(call["layer"], half), args, values)
            except Exception as error:  # whatever NumPy, a room or a layout makes of what does not fit together
                if isinstance(error, MemoryError | WexportError) and not isinstance(error, LayoutError):
                    raise
                raise UsageError(_failure(call["layer"], layer["kind"], args, error)) from error
            for out in call["out"]:
                if out["value"] is not None:
                    result = found.get(out["role"])
                    if result is None:
                        raise UsageError(f"{call['layer']}: computing {layer['kind']} gives no {out['role']!r}")
                    values[out["value"]] = _held(result, out["dtype"])

    def computed(
        self,
        call: Mapping[str, Any],
        tensors: Mapping[str, tuple[str, Array]],
        args: dict[str, Any],
        values: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What a call gives, by role, before it is rounded to the stated types."""
        layer = self.manifest["layers"][call["layer"]]
        return _computed(layer, tensors, args, call["out"], self.bodies(call, values))

    def tensors(self, layer: str, half: str | None) -> dict[str, tuple[str, Array]]:
        """A layer's tensors, with their axes."""
        found = {}
        for short, (name, axes, transposed) in self.own.get(layer, {}).items():
            data = self.elements(name)
            whole = data.dtype.kind in "iub"  # integers that stand for numbers: no half type could hold them all
            data = _rounded(data if data.dtype.kind == "c" else data.astype(np.float64), None if whole else half)
            found[short] = (axes, data.T if transposed else data)
        return found

    def elements(self, name: str) -> Array:
        """A tensor's elements; floats of types that the bundle has no word for, from the bytes that stand for them."""
        found = np.asarray(self.tensor(name))
        stored = self.manifest["tensors"][name].get("stored_as")
        return found if stored is None or not dtypes.is_float(stored) else dtypes.widen(found, stored)

    def bodies(self, call: Mapping[str, Any], values: Mapping[str, Any]) -> Callable[[str, Sequence[Any]], list[Any]]:
        """Runs one of a call's bodies on inputs; it sees the values outside."""
        held: dict[str, list[str]] = {}  # by body, the values that its calls give

        def run(label: str, inputs: Sequence[Any]) -> list[Any]:
            body = call["bodies"][label]
            if label not in held:
                outs = [out["value"] for inner in body["calls"] for out in inner["out"]]
                held[label] = [value for value in outs if value is not None]
            inner = {**values, **dict(zip(body["inputs"], inputs, strict=True))}
            self.run(body["calls"], inner)
            self.left -= 1 + len(body["calls"]) + _elements(inner, held[label]) // _PER_CALL
            if self.left < 0:
                raise WorkError(_endless(call["layer"]))
            return [self.argument(o, inner, None) for o in body["outputs"]]

        return run

    def argument(self, arg: Any, values: Mapping[str, Any], half: str | None) -> Any:
        """What an argument stands for."""
        if isinstance(arg, str):
            if arg not in values:
                raise UsageError(
                    f"nothing gives the value {arg!r} that a call reads; the bundle is damaged: export again"
                )
            return _rounded(values[arg], half)
        if isinstance(arg, list):
            return tuple(self.argument(a, values, half) for a in arg)
        if not isinstance(arg, Mapping):
            return None
        if "tensor" in arg:
            found = self.elements(arg["tensor"])
            return found if found.dtype.kind in "iubc" else _rounded(found.astype(np.float64), half)
        value = arg["const"]
        if isinstance(value, str) or (isinstance(value, bool) and "shape" not in arg):
            return value  # a setting, not an array
        return np.asarray(value, np.float64 if "float" in arg["dtype"] else _INTEGERS.get(arg["dtype"]))


def unsupported(manifest: Mapping[str, Any]) -> list[str]:
    """Why a model cannot be computed: every layer in the way, with its kind and the reason."""
    calls = list(every_call(manifest["calls"]))
    found = [r for name in dict.fromkeys(call["layer"] for call in calls) if (r := _obstacle(manifest, name))]
    found += [
        f"{call['layer']} reads an array ({role}) that no bundle can hold"
        for call in calls
        for role, arg in call["args"].items()
        if isinstance(arg, Mapping) and "tensor" in arg and arg["tensor"] not in manifest["tensors"]
    ]
    given = {*manifest["inputs"], *(out["value"] for call in manifest["calls"] for out in call["out"])}
    lost = [name for name, item in manifest["outputs"].items() if item["value"] not in given]
    if lost or not manifest["outputs"]:
        what = f"nothing gives its output {lost[0]}" if lost else "no outputs are known"
        found.append(f"{what}: the source does not tell its graph (was --architecture left out?)")
    return list(dict.fromkeys(found))


def _obstacle(manifest: Mapping[str, Any], name: str) -> str | None:
    layer = manifest["layers"].get(name)
    if layer is None:
        return f"{name} is called, but is no layer of the manifest"
    kind = KINDS.get(layer["kind"])
    unknown = [v["source"] for v in layer.values() if isinstance(v, dict) and v.get("name") == "unknown"]
    if kind is None or kind.computes is None:
        what = "is no layer that wexport knows" if layer["kind"] == "unknown" else "has no evaluator"
        why = f": {layer['reason']}" if layer.get("reason") else ""
        return f"{name} ({layer['class'] or layer['kind']}) {what}{why}"
    if unknown:
        return f"{name} has an unknown activation {unknown[0]!r}"
    if layer.get("vocabulary", ()) is None:
        return f"{name} has a vocabulary that the source does not hold"
    return None


def every_call(calls: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Calls, and those in their bodies."""
    for call in calls:
        yield call
        for body in call.get("bodies", {}).values():
            yield from every_call(body["calls"])


def _failure(layer: str, kind: str, args: Mapping[str, Any], error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    if not reason or isinstance(error, LookupError | AssertionError):
        reason = f"{type(error).__name__} {reason}".rstrip()
    given = ", ".join(f"{role} {_shapes(arg)}" for role, arg in args.items() if arg is not None) or "no arguments"
    return f"{layer}: computing this {kind} failed for {given}: {reason}; the inputs may not fit the model"


def _shapes(arg: Any) -> str:
    if isinstance(arg, tuple):
        return f"[{', '.join(map(_shapes, arg))}]"
    return shape_text(arg.shape) if isinstance(arg, np.ndarray) else repr(arg)


def _computed(
    layer: Mapping[str, Any], tensors: Any, args: dict[str, Any], out: Any, run: Callable[..., list[Any]]
) -> dict[str, Any]:
    compute = KINDS[layer["kind"]].computes
    assert compute is not None
    steps = layer.get("time_distributed", 0)
    shape = None
    if steps:
        first = args["x"][0] if isinstance(args["x"], tuple) else args["x"]
        shape = first.shape[: steps + 1]
        args = {role: _folded(a, steps) for role, a in args.items()}
    result = compute(Step(layer, tensors, args, out, kind=layer["kind"], run=run))
    found = result if isinstance(result, dict) else {"y": result}
    if shape is None:
        return found
    return {role: None if v is None else v.reshape(*shape, *v.shape[1:]) for role, v in found.items()}


def _folded(arg: Any, steps: int) -> Any:
    """An argument with the steps of TimeDistributed taken into the batch."""
    if isinstance(arg, tuple):
        return tuple(_folded(a, steps) for a in arg)
    if not isinstance(arg, np.ndarray) or arg.ndim <= steps:
        return arg
    return arg.reshape(-1, *arg.shape[steps + 1 :])


def _elements(values: Mapping[str, Any], names: Sequence[str]) -> int:
    """How many elements these values have; of a sequence, the items count, too."""
    found = 0
    for name in names:
        value = values[name]
        found += len(value) + sum(item.size for item in value) if type(value) is Items else value.size
    return found


def _endless(layer: str) -> str:
    return (
        f"{layer}: its bodies do not come to an end: {MOST:,} calls were computed in bodies of the model, and no "
        "more are; see whether its trip count and condition are right, or give inputs that take fewer turns"
    )


def _number(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _rounded(x: Any, dtype: str | None) -> Any:
    """Floats rounded to a half type, and kept in float64."""
    if dtype is None or not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return x
    return _typed(x, dtype)


def _held(result: Any, dtype: str | None) -> Any:
    """A result of its type; a sequence is several."""
    if isinstance(result, tuple):
        return Items(_typed(np.asarray(item), dtype) for item in result)
    return _typed(np.asarray(result), dtype)


def _typed(x: Array, dtype: str | None) -> Array:
    if dtype is None or x.dtype.kind not in "fiub":
        return x
    if dtypes.is_float(dtype):
        return x.astype(np.float64) if dtype == "float64" else x.astype(dtypes.numpy_dtype(dtype)).astype(np.float64)
    return x.astype(dtypes.numpy_dtype(dtype)) if dtype == "bool" or dtype.startswith(("int", "uint")) else x
