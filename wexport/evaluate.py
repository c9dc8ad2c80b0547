"""A manifest computed, call by call: the executable form of the specification.

It reads nothing but the manifest and the named tensors, and computes in float64; after every call the result is
rounded to the type that the manifest states for it, so that half-precision models round where they did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.errors import UsageError
from wexport.layers.complete import KINDS
from wexport.layers.step import Items, Step

Array = NDArray[Any]
Tensors = Callable[[str], Array]
# what arrays of shapes, types or numbers that a layer does not take lead to
_MISFITS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError)
_HALF = {"float16", "bfloat16"}
_INTEGERS = {name: np.dtype(name) for name in ("bool", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))}


def evaluate(manifest: Mapping[str, Any], tensor: Tensors, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every value of the model for these inputs, by its name.

    Args:
        manifest: its content.
        tensor: gives a tensor by its name, as numbers.
        inputs: an array for each of the manifest's inputs, the batch first.

    Raises:
        UsageError: an input is missing, or the model has a layer that cannot be computed (all are named).
    """
    if missing := [name for name in manifest["inputs"] if name not in inputs]:
        raise UsageError(f"the model needs inputs {', '.join(missing)}; given were {', '.join(inputs) or 'none'}")
    if reasons := unsupported(manifest):
        raise UsageError("this model cannot be computed: " + "; ".join(reasons))
    machine = _Machine(manifest, tensor)
    values: dict[str, Any] = {name: _number(np.asarray(inputs[name])) for name in manifest["inputs"]}
    machine.run(manifest["calls"], values)
    return values


class _Machine:
    """A manifest that runs: its layers with the tensors that each of them has."""

    def __init__(self, manifest: Mapping[str, Any], tensor: Tensors) -> None:
        self.manifest, self.tensor = manifest, tensor
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
            own, run = self.tensors(call["layer"], half), self.bodies(call, values)
            try:
                found = _computed(layer, own, args, call["out"], run)
            except _MISFITS as error:
                what = " ".join(str(error).split()) or type(error).__name__
                raise UsageError(
                    f"{call['layer']}: {layer['kind']} cannot be computed of these inputs: {what}; give others, of the"
                    " shapes and types that the model takes"
                ) from error
            for out in call["out"]:
                if out["value"] is not None:
                    result = found.get(out["role"])
                    if result is None:
                        raise UsageError(f"{call['layer']}: computing {layer['kind']} gives no {out['role']!r}")
                    values[out["value"]] = _held(result, out["dtype"])

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

        def run(label: str, inputs: Sequence[Any]) -> list[Any]:
            body = call["bodies"][label]
            inner = {**values, **dict(zip(body["inputs"], inputs, strict=True))}
            self.run(body["calls"], inner)
            return [self.argument(o, inner, None) for o in body["outputs"]]

        return run

    def argument(self, arg: Any, values: Mapping[str, Any], half: str | None) -> Any:
        """What an argument stands for."""
        if isinstance(arg, str):
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
    found = []
    for name in dict.fromkeys(_layers(manifest["calls"])):
        layer = manifest["layers"][name]
        kind = KINDS.get(layer["kind"])
        unknown = [v["source"] for v in layer.values() if isinstance(v, dict) and v.get("name") == "unknown"]
        if kind is None or kind.computes is None:
            what = "is no layer that wexport knows" if layer["kind"] == "unknown" else "has no evaluator"
            why = f": {layer['reason']}" if layer.get("reason") else ""
            found.append(f"{name} ({layer['class'] or layer['kind']}) {what}{why}")
        elif unknown:
            found.append(f"{name} has an unknown activation {unknown[0]!r}")
        elif layer.get("vocabulary", ()) is None:
            found.append(f"{name} has a vocabulary that the source does not hold")
    return found


def _layers(calls: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for call in calls:
        yield call["layer"]
        for body in call.get("bodies", {}).values():
            yield from _layers(body["calls"])


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
