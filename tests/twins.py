"""Small bundles made of arrays: models in two versions, of which the tests know what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.digest import Item
from wexport.model import Array
from wexport.storage import Bytes
from wexport.view import View
from wexport.write import write_bundle

Arrays = Mapping[str, NDArray[Any]]


def arrays(layers: int = 3, size: int = 8, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Kernels and biases, short binary fractions, of dense layers in a row: `d0.kernel`, `d0.bias`, `d1.kernel` ..."""
    random = np.random.default_rng(seed)
    found: dict[str, NDArray[Any]] = {}
    for i in range(layers):
        found[f"d{i}.kernel"] = _drawn(random, (size, size))
        found[f"d{i}.bias"] = _drawn(random, (size,))
    return found


def _drawn(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return (np.rint(random.normal(size=shape) * 64) / 64).astype("f4")


def described(tensors: Arrays, framework: str = "keras") -> dict[str, Any]:
    """The manifest of dense layers in a row, without what only the data tell."""
    layers = list(dict.fromkeys(name.partition(".")[0] for name in tensors))
    values = ["x", *layers]
    entries, weights = {}, {}
    for i, (name, array) in enumerate(tensors.items()):
        layer, _, role = name.partition(".")
        axes = {2: "in out", 1: "out"}.get(array.ndim, " ".join(f"a{k}" for k in range(array.ndim)))
        entries[name] = {
            "dtype": dtypes.code(array.dtype.name),
            "shape": list(array.shape), "axes": axes, "layer": layer, "role": role, "weight": name, "at": {},
        }  # fmt: skip
        sizes = dict(zip(axes.split(), array.shape, strict=True))
        weights[name] = {
            "index": i, "shape": list(array.shape), "dtype": array.dtype.name, "layout": axes, "as": f"{role}: {axes}",
            "sizes": sizes,
        }  # fmt: skip
    return {
        "model": {
            "name": "twin",
            "framework": framework,
            "framework_version": "1",
            "source": {"file": "twin.h5", "format": f"{framework}-file", "bytes": 1},
            "parameters": sum(array.size for array in tensors.values()),
        },
        "inputs": {"x": {"shape": [None, 8], "dtype": "float32"}},
        "outputs": {"y": {"value": layers[-1]}},
        "layers": {
            name: {"kind": "dense", "class": "Dense", "units": 8, "activation": {"name": "relu"}} for name in layers
        },
        "calls": [
            {
                "layer": name,
                "args": {"x": values[i]},
                "out": [{"value": name, "role": "y", "shape": [None, 8], "dtype": "float32"}],
            }
            for i, name in enumerate(layers)
        ],
        "equations": {},
        "weights": weights,
        "tensors": entries,
        "aliases": {},
        "left_out": {},
    }


def write(folder: Path, tensors: Arrays, manifest: Mapping[str, Any] | None = None, shard_size: int = 1 << 40) -> Path:
    """Write the bundle of these arrays, of dense layers in a row unless a manifest says otherwise."""
    folder.mkdir()
    about = manifest or described(tensors)
    items = [
        Item(
            name,
            about["tensors"][name]["dtype"],
            array.shape,
            Array(name, array.shape, array.dtype.name, Bytes(np.ascontiguousarray(array).tobytes())),
            View.whole(array.shape),
        )
        for name, array in tensors.items()
    ]
    write_bundle(folder, about, items, shard_size, lambda size: None)
    return folder


def manifest_of(bundle: Path, place: Path) -> Path:
    """A bundle's manifest, without its data, in a file of its own."""
    place.write_bytes((bundle / "manifest.yaml").read_bytes())
    return place


def edited(tensors: Arrays, changes: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays, some of them replaced."""
    return {name: np.asarray(changes.get(name, array)) for name, array in tensors.items()}


def without(tensors: Arrays, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The arrays, without some."""
    return {name: array for name, array in tensors.items() if name not in set(names)}
