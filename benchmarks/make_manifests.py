"""Write manifests of many tensors, without any data: LSTM layers, or dense ones, in a row.

    python benchmarks/make_manifests.py FOLDER

Each model in three states: `NAME.yaml`; `NAME-two.yaml`, in which two tensors have moved; `NAME-all.yaml`, in which all
have. Checksums, statistics and sketches are made up; a comparison of manifests does not see the difference.
"""

from __future__ import annotations

import base64
import hashlib
import random
import struct
import sys
from pathlib import Path
from typing import Any

from wexport.manifest import dump

GATES = ("input", "forget", "cell", "output")
UNITS = 8


def write(folder: Path, tensors: int = 10_000) -> dict[str, dict[str, Path]]:
    """Write the manifests; gives the files of each model by state: `one`, `two`, `all`."""
    found: dict[str, dict[str, Path]] = {}
    for name, layer in (("lstm", _lstm), ("dense", _dense)):
        model = _model(name, layer, tensors)
        found[name] = {}
        keys = list(model["tensors"])
        for state, moved in (("one", []), ("two", [keys[100], keys[-100]]), ("all", keys)):
            for key in moved:
                _values(model, key, state)
            found[name][state] = folder / (f"{name}.yaml" if state == "one" else f"{name}-{state}.yaml")
            found[name][state].write_bytes(dump(model))
    return found


def _model(name: str, layer: Any, tensors: int) -> dict[str, Any]:
    about = {
        "name": name, "framework": "keras", "framework_version": "2.15.0",
        "source": {"file": f"{name}.h5", "format": "keras-hdf5", "bytes": 1}, "parameters": 0, "fingerprint": "0" * 64,
    }  # fmt: skip
    ports: dict[str, Any] = {"inputs": {"x": {"shape": [None, UNITS], "dtype": "float32"}}, "outputs": {}}
    parts: dict[str, Any] = {key: {} for key in ("layers", "equations", "weights", "tensors", "aliases", "left_out")}
    model = {"model": about, **ports, **parts, "calls": [], "stats": {}, "sketches": {}}
    value = "x"
    while len(model["tensors"]) < tensors:
        number = len(model["layers"])
        value = layer(model, f"{name}_{number}", value)
    model["outputs"] = {value: {"value": value}}
    for key in model["tensors"]:
        _values(model, key, "one")
    return model


def _lstm(model: dict[str, Any], name: str, value: str) -> str:
    model["layers"][name] = {
        "kind": "lstm", "class": "LSTM", "units": UNITS, "activation": {"name": "tanh"},
        "recurrent_activation": {"name": "sigmoid"}, "return_sequences": True, "return_state": False,
        "go_backwards": False, "masked_output": "previous",
        "axes": {"x": ["batch", "length", "channel"], "y": ["batch", "length", "channel"]},
    }  # fmt: skip
    for role, axes in (("kernel", "in unit"), ("recurrent", "hidden unit"), ("bias", "unit")):
        first = axes.partition(" ")[0]
        source = f"(gate unit) {'' if role == 'bias' else first}"
        key = f"{name}/lstm_cell/{role}:0"
        model["weights"][key] = {
            "index": len(model["weights"]), "shape": [UNITS, 4 * UNITS][role == "bias" :], "dtype": "float32",
            "layout": source, "as": f"{{gate}}.{role}: {axes}", "sizes": {first: UNITS, "gate": 4, "unit": UNITS},
            "labels": {"gate": list(GATES)},
        }  # fmt: skip
        for gate in GATES:
            _tensor(model, f"{name}.{gate}.{role}", name, role, axes, key, {"gate": gate})
    return _call(model, name, value)


def _dense(model: dict[str, Any], name: str, value: str) -> str:
    model["layers"][name] = {"kind": "dense", "class": "Dense", "units": UNITS, "activation": {"name": "relu"}}
    for role, axes in (("kernel", "in out"), ("bias", "out")):
        key = f"{name}/{role}:0"
        model["weights"][key] = {
            "index": len(model["weights"]), "shape": [UNITS] * len(axes.split()), "dtype": "float32", "layout": axes,
            "as": f"{role}: {axes}", "sizes": dict.fromkeys(axes.split(), UNITS),
        }  # fmt: skip
        _tensor(model, f"{name}.{role}", name, role, axes, key, {})
    return _call(model, name, value)


def _tensor(model: dict[str, Any], name: str, layer: str, role: str, axes: str, key: str, at: dict[str, str]) -> None:
    model["tensors"][name] = {
        "dtype": "F32", "shape": [UNITS] * len(axes.split()), "axes": axes, "layer": layer, "role": role,
        "weight": key, "at": at,
    }  # fmt: skip


def _call(model: dict[str, Any], name: str, value: str) -> str:
    out = {"value": name, "role": "y", "shape": [None, UNITS], "dtype": "float32"}
    model["calls"].append({"layer": name, "args": {"x": value}, "out": [out]})
    model["equations"][name] = ["y = relu(x @ `kernel` + `bias`)"]
    return name


def _values(model: dict[str, Any], name: str, state: str) -> None:
    """What the data of a tensor would tell, in another state of the model."""
    digest = hashlib.sha256(f"{name} {state}".encode()).hexdigest()
    draw = random.Random(digest)
    sums = [draw.gauss(0, 1) for _ in range(64)]
    model["tensors"][name]["sha256"] = digest
    model["stats"][name] = {
        "min": -2.5 - draw.random(), "max": 2.5 + draw.random(), "mean": draw.random(), "std": 1.0 + draw.random(),
        "l2": 8.0 + draw.random(), "zeros": 0, "nonfinite": 0,
    }  # fmt: skip
    text = base64.b64encode(struct.pack("<64f", *sums)).decode("ascii")
    model["sketches"][name] = {"count64": text}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/make_manifests.py FOLDER")
    write(Path(sys.argv[1]))
