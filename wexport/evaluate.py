"""A manifest computed, call by call: the executable form of the specification.

It reads nothing but the manifest and the named tensors, and computes in float64; after every call the result is
rounded to the type that the manifest states for it, so that half-precision models round where they did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.errors import UsageError
from wexport.layers import KINDS
from wexport.layers.step import Step

Array = NDArray[Any]
Tensors = Callable[[str], Array]
_HALF = {"float16", "bfloat16"}


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
    own: dict[str, dict[str, str]] = {}
    for name, entry in manifest["tensors"].items():
        own.setdefault(entry["layer"], {})[name[len(entry["layer"]) + 1 :]] = name
    values: dict[str, Any] = {name: _number(np.asarray(inputs[name])) for name in manifest["inputs"]}
    for call in manifest["calls"]:
        layer = manifest["layers"][call["layer"]]
        half = next((o["dtype"] for o in call["out"] if o["dtype"] in _HALF), None)
        tensors = {
            short: (manifest["tensors"][full]["axes"], _rounded(np.asarray(tensor(full), np.float64), half))
            for short, full in own.get(call["layer"], {}).items()
        }
        args = {role: _argument(arg, values, half) for role, arg in call["args"].items()}
        found = _computed(layer, tensors, args, call["out"])
        for out in call["out"]:
            if out["value"] is not None:
                result = found.get(out["role"])
                if result is None:
                    raise UsageError(f"{call['layer']}: computing {layer['kind']} gives no {out['role']!r}")
                values[out["value"]] = _typed(np.asarray(result), out["dtype"])
    return values


def unsupported(manifest: Mapping[str, Any]) -> list[str]:
    """Why a model cannot be computed: every layer in the way, with its kind and the reason."""
    found = []
    for name in dict.fromkeys(call["layer"] for call in manifest["calls"]):
        layer = manifest["layers"][name]
        kind = KINDS.get(layer["kind"])
        unknown = [v["source"] for v in layer.values() if isinstance(v, dict) and v.get("name") == "unknown"]
        if kind is None or kind.computes is None:
            what = "is no layer that wexport knows" if layer["kind"] == "unknown" else "has no evaluator"
            found.append(f"{name} ({layer['class'] or layer['kind']}) {what}")
        elif unknown:
            found.append(f"{name} has an unknown activation {unknown[0]!r}")
        elif layer.get("vocabulary", ()) is None:
            found.append(f"{name} has a vocabulary that the source does not hold")
    return found


def _computed(layer: Mapping[str, Any], tensors: Any, args: dict[str, Any], out: Any) -> dict[str, Any]:
    compute = KINDS[layer["kind"]].computes
    assert compute is not None
    steps = layer.get("time_distributed", 0)
    shape = None
    if steps:
        first = args["x"][0] if isinstance(args["x"], tuple) else args["x"]
        shape = first.shape[: steps + 1]
        args = {role: _folded(a, steps) for role, a in args.items()}
    result = compute(Step(layer, tensors, args, out, kind=layer["kind"]))
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


def _argument(arg: Any, values: Mapping[str, Any], half: str | None) -> Any:
    if isinstance(arg, str):
        return _rounded(values[arg], half)
    if isinstance(arg, list):
        return tuple(_argument(a, values, half) for a in arg)
    if isinstance(arg, Mapping):
        value = arg["const"]
        return (
            value
            if isinstance(value, bool | str)
            else np.asarray(value, np.float64 if "float" in arg["dtype"] else None)
        )
    return None


def _number(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _rounded(x: Any, dtype: str | None) -> Any:
    """Floats rounded to a half type, and kept in float64."""
    if dtype is None or not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return x
    return _typed(x, dtype)


def _typed(x: Array, dtype: str | None) -> Array:
    if dtype is None or x.dtype.kind not in "fiub":
        return x
    if dtype == "bfloat16":
        import ml_dtypes

        return x.astype(ml_dtypes.bfloat16).astype(np.float64)
    if dtype.startswith("float"):
        return x.astype(dtype).astype(np.float64) if dtype != "float64" else x.astype(np.float64)
    return x.astype(dtype) if dtype in {"bool", "int32", "int64", "uint8", "int8", "int16"} else x
