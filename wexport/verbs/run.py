"""A bundle computed: its outputs, and what chosen layers give, from the manifest and the tensors alone."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.bundle import Bundle, hint
from wexport.errors import UsageError
from wexport.evaluate import evaluate, unsupported
from wexport.names import Names, unique
from wexport.npz import Archive, write_npz
from wexport.output import new_file
from wexport.ports import checked, from_archive, items, plain, stated_types
from wexport.trust import trusting

Array = NDArray[Any]
Inputs = Mapping[str, Any] | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Result:
    """An array that a model gives: an output, or, with `layer`, a value of that layer.

    `type` is the one that the manifest states, where it states one; what NumPy has no type for is held in float32.
    """

    name: str
    layer: str | None
    type: str
    array: Array


def run(
    path: str | os.PathLike[str],
    inputs: Inputs,
    *,
    layers: str | Sequence[str] = (),
    progress: Callable[[int], None] = lambda calls: None,
) -> dict[str, Array]:
    """Compute a bundle: its outputs in the model's order by name, then what chosen layers give by the values' names.

    Nothing but the bundle is read. An output that is a sequence is several arrays, `name.0`, `name.1` ...; a value that
    is called like another value's output is `value.<name>`.

    Args:
        path: the bundle's folder.
        inputs: an array for each input, by name, or the path of a `.npz` file that holds them.
        layers: a glob, or several, of layers whose values to give, too.
        progress: called with the number of calls that were computed.

    Raises:
        UsageError: an input is missing, unknown or does not fit, a layer cannot be computed, or a glob means none.
        BundleError: it is no bundle, or a damaged one.
    """
    with Bundle(path) as bundle:
        return {found.name: found.array for found in results(bundle, inputs, layers, progress)}


def results(
    bundle: Bundle,
    inputs: Inputs,
    layers: str | Sequence[str] = (),
    progress: Callable[[int], None] = lambda calls: None,
) -> list[Result]:
    """The same of an open bundle, with types.

    Raises:
        UsageError, BundleError: as for `run`.
    """
    with trusting(bundle):
        manifest = bundle.manifest
        if reasons := unsupported(manifest):
            raise UsageError(f"{bundle.path}: cannot be computed: {'; '.join(reasons)}")
        wanted = _wanted(manifest, [layers] if isinstance(layers, str) else layers)
        if isinstance(inputs, Mapping):
            given = checked(manifest, inputs)
        else:
            with Archive(Path(inputs)) as archive:
                given = from_archive(manifest, archive)
        values = evaluate(manifest, lambda name: bundle[name], given, progress)
        return _results(manifest, values, wanted)


def _wanted(manifest: Mapping[str, Any], globs: Sequence[str]) -> list[tuple[str, str]]:
    """The values of the layers that globs mean, each with its layer."""
    called = dict.fromkeys(call["layer"] for call in manifest["calls"])
    meant: set[str] = set()
    for glob in globs:
        found = {glob} if glob in called else {name for name in called if fnmatch.fnmatchcase(name, glob)}
        if not found:
            raise UsageError(f"--layers {glob!r} means no layer that the model calls{hint(glob, called)}")
        meant |= found
    outs = [(call["layer"], out["value"]) for call in manifest["calls"] for out in call["out"]]
    return [(value, layer) for layer, value in outs if layer in meant and value is not None]


def _results(manifest: Mapping[str, Any], values: Mapping[str, Any], wanted: Iterable[tuple[str, str]]) -> list[Result]:
    types, taken = stated_types(manifest), Names()
    found = []

    def add(name: str, value: str, layer: str | None) -> None:
        for own, array in items(values[value], name):
            key = unique(own, taken)
            taken.add(key)
            held = plain(array, types[value])
            found.append(Result(key, layer, types[value] or held.dtype.name, held))

    outputs = {name: item["value"] for name, item in manifest["outputs"].items()}
    for name, value in outputs.items():
        add(name, value, None)
    for value, layer in wanted:
        if outputs.get(value) != value:
            add(f"value.{value}" if value in outputs else value, value, layer)
    return found


def save(found: Sequence[Result], path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write results to a `.npz` file, which appears whole or not at all.

    Raises:
        OutputError: there is a file already, or it cannot be written.
    """
    with new_file(Path(path), force) as file:
        write_npz(file, ((r.name, r.array.dtype, r.array.shape, [r.array]) for r in found))


def numbers(array: Array) -> dict[str, float | None]:
    """Smallest, largest and mean of an array's numbers; NaN where it holds one, None where there are none to tell."""
    if not array.size or array.dtype.kind not in "fiub":
        return {"min": None, "max": None, "mean": None}
    with np.errstate(all="ignore"):
        x = array.astype(np.float64)
        return {"min": float(x.min()), "max": float(x.max()), "mean": float(x.mean())}
