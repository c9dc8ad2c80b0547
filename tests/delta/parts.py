"""A bundle taken apart, to change one thing about it, and put together again: whole, with its own checksums."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import Bundle
from wexport.digest import Item
from wexport.model import Array
from wexport.storage import Bytes
from wexport.view import View
from wexport.write import write_bundle


@dataclass
class Parts:
    """A manifest, and the tensors that it describes."""

    manifest: dict[str, Any]
    tensors: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, folder: Path) -> Parts:
        with Bundle(folder) as bundle:
            return cls(copy.deepcopy(bundle.manifest), {name: bundle[name].copy() for name in bundle})

    def write(self, folder: Path) -> Path:
        entries = self.manifest["tensors"]
        entries = {name: entries[name] for name in self.tensors}
        items = []
        for name, array in self.tensors.items():
            entries[name] |= {"dtype": dtypes.code(array.dtype.name), "shape": list(array.shape)}
            data = Array(name, array.shape, array.dtype.name, Bytes(np.ascontiguousarray(array).tobytes()))
            items.append(Item(name, entries[name]["dtype"], array.shape, data, View.whole(array.shape)))
        order = sorted(items, key=lambda item: -dtypes.itemsize(dtypes.name_of(item.dtype) or ""))
        self.manifest["tensors"] = {item.name: entries[item.name] for item in order}
        folder.mkdir(parents=True)
        write_bundle(folder, self.manifest, order, 1 << 40, lambda size: None)
        return folder

    # -- one change each -----------------------------------------------------------------------------------------------

    def rename(self, names: dict[str, str]) -> None:
        """Call layers (or inputs, or outputs) otherwise, wherever they are named, all at once."""
        words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        word = re.compile(rf'(?<=["`.])({words})(?=["`.@:~])')

        def renamed(text: str) -> str:
            return word.sub(lambda match: names[match[1]], text)

        self.manifest = json.loads(renamed(json.dumps(self.manifest)))
        self.tensors = {renamed(f'"{name}"')[1:-1]: array for name, array in self.tensors.items()}

    def layer(self, name: str) -> dict[str, Any]:
        return self.manifest["layers"][name]

    def call(self, name: str) -> dict[str, Any]:
        return next(call for call in self.manifest["calls"] if call["layer"] == name)

    def insert_dense(self, name: str, after: str, kernel: NDArray[Any], bias: NDArray[Any]) -> None:
        """Put a layer behind another one; whoever read that reads this."""
        for call in self.manifest["calls"]:
            for role, arg in call["args"].items():
                read = [name if x == after else x for x in arg] if isinstance(arg, list) else arg
                call["args"][role] = name if arg == after else read
        i = next(i for i, call in enumerate(self.manifest["calls"]) if call["layer"] == after)
        out = {"value": name, "role": "y", "shape": [None, kernel.shape[1]], "dtype": "float32"}
        self.manifest["calls"].insert(i + 1, {"layer": name, "args": {"x": after}, "out": [out]})
        activation = {"name": "linear"}
        self.manifest["layers"][name] = {
            "kind": "dense", "class": "Dense", "units": kernel.shape[1], "activation": activation
        }  # fmt: skip
        for role, axes, array in (("kernel", "in out", kernel), ("bias", "out", bias)):
            self.add(f"{name}.{role}", array, axes, name, role)

    def add(self, name: str, array: NDArray[Any], axes: str, layer: str, role: str) -> None:
        """Add a tensor that an array of its own stores."""
        self.tensors[name] = array
        common = {"shape": list(array.shape), "dtype": array.dtype.name}
        sizes = dict(zip(axes.split(), array.shape, strict=True))
        self.manifest["weights"][name] = {
            "index": None,
            **common,
            "layout": axes,
            "as": f"{role}: {axes}",
            "sizes": sizes,
        }
        entry = {"dtype": "F32", "shape": common["shape"], "axes": axes, "layer": layer, "role": role}
        self.manifest["tensors"][name] = {**entry, "weight": name, "at": {}}

    def remove(self, name: str, source: str) -> None:
        """Take a layer out; whoever read it reads its source."""
        self.manifest["calls"] = [call for call in self.manifest["calls"] if call["layer"] != name]
        for call in self.manifest["calls"]:
            call["args"] = {r: source if a == name else a for r, a in call["args"].items()}
        del self.manifest["layers"][name]
        self.manifest["equations"].pop(name, None)
        for tensor in [t for t, item in self.manifest["tensors"].items() if item["layer"] == name]:
            self.manifest["weights"].pop(self.manifest["tensors"].pop(tensor)["weight"], None)
            del self.tensors[tensor]
