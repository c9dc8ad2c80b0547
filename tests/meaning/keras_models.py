"""Models that the installed Keras builds: random weights and inputs, every format that it writes, and the comparison
of what it computes with what is computed from the bundle alone.

Keras runs on JAX here; a model is compiled once, by `predict`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from checked_equations import checked
from rebuild import rebuilt
from went_back import same_file

import wexport
from wexport import dtypes
from wexport.evaluate import evaluate

os.environ["KERAS_BACKEND"] = "jax"
import h5py
import jax
import keras

jax.config.update("jax_disable_most_optimizations", True)  # what is compiled runs once
Array = np.ndarray[Any, Any]
BATCH = 3
SINCE = tuple(int(n) for n in keras.__version__.split(".")[:2])


@dataclass(frozen=True, slots=True)
class In:
    """An input of a model, without the batch: numbers; whole numbers below `below`; or truth values (`mask`)."""

    shape: tuple[int | None, ...]
    below: int = 0
    mask: bool = False
    padded: bool = False  # some steps are zeros
    positive: bool = False
    dtype: str = "float32"

    def tensor(self, batch: int | None = None) -> Any:
        """What a functional model begins with."""
        dtype = "bool" if self.mask else "int32" if self.below else self.dtype
        return keras.Input(batch_shape=(batch, *self.shape), dtype=dtype)

    def values(self, rng: np.random.Generator) -> Array:
        """Random ones; a dimension that is free is five long."""
        shape = (BATCH, *(n or 5 for n in self.shape))
        if self.mask:
            found = rng.random(shape) < 0.7
            found[..., 0] = True  # no row is masked whole
            return found
        if self.below:
            return rng.integers(0, self.below, shape).astype(np.int32)
        x = rng.normal(size=shape)
        x = np.abs(x) + 0.1 if self.positive else x
        if self.padded:
            x[rng.random(shape[:2]) < 0.4] = 0
        return x.astype(dtypes.numpy_dtype(self.dtype))


def unrandom(monkeypatch: Any) -> None:
    """Weights begin as zeros: each would be compiled for its own shape, only to be replaced."""
    zeros = keras.initializers.Zeros.__call__
    for initializer in (keras.initializers.VarianceScaling, keras.initializers.Orthogonal,
                        keras.initializers.RandomUniform, keras.initializers.RandomNormal):  # fmt: skip
        monkeypatch.setattr(initializer, "__call__", lambda self, shape, dtype=None, **_: zeros(self, shape, dtype))


def shake(model: Any, rng: np.random.Generator) -> None:
    """Random numbers for every weight of floats: no bias is zero, no statistic trivial, no variance below a half."""
    for variable in model.weights:
        if not keras.backend.is_float_dtype(variable.dtype) or variable.path.endswith(
            ("seed_generator_state", "_scale")
        ):
            continue
        name, shape = variable.path.rpartition("/")[2], tuple(variable.shape)
        if name in {"gamma", "scale", "moving_variance", "variance", "moving_stddev"}:
            found = rng.uniform(0.5, 1.5, shape)
        else:
            inner = max(int(np.prod(shape[:-1])), 1) if len(shape) > 1 else 4
            found = rng.normal(size=shape) / np.sqrt(inner)
        variable.assign(np.asarray(found, np.float32))
    settled(model)


def settled(model: Any) -> None:
    """Tell Normalization layers of their new weights: they compute with copies."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


# -- files -------------------------------------------------------------------------------------------------------------


def _legacy_weights(model: Any, path: Path) -> None:
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    ".keras": lambda model, path: model.save(path),
    ".h5": lambda model, path: model.save(path),
    ".weights.h5": lambda model, path: model.save_weights(path),
    ".weights_only.h5": _legacy_weights,
}


def files(model: Any, place: Path, endings: Sequence[str] = tuple(WRITERS)) -> Iterator[tuple[str, Path, Path | None]]:
    """The model in each format: its ending, the file, and the architecture beside it if the file has none."""
    architecture = place / "model.arch.json"
    architecture.write_text(model.to_json())
    for ending in endings:
        path = place / f"model{ending}"
        WRITERS[ending](model, path)
        yield ending, path, architecture if "weights" in ending else None


# -- comparing ---------------------------------------------------------------------------------------------------------

# As in test_outputs.py, where the reasons stand.
TOLERANCES = {"float32": 1e-5, "float16": 4 * 2.0**-11, "bfloat16": 4 * 2.0**-8}


def compare(model: Any, inputs: Sequence[Array], place: Path, endings: Sequence[str] = tuple(WRITERS)) -> list[Array]:
    """Save a model, export it, compute it from the bundle, and compare with what Keras predicts (returned).

    Raises:
        AssertionError: an output differs, or an array of the file does not come back from the bundle.
    """
    weights = [np.asarray(w) for w in model.get_weights()]
    wanted = keras.tree.flatten(model.predict(list(inputs) if len(inputs) > 1 else inputs[0], verbose=0))
    seen: set[str] = set()
    for ending, path, architecture in files(model, place, endings):
        out = place / f"bundle{ending}"
        wexport.export(path, out, architecture=architecture)
        with wexport.open(out) as bundle:
            covered(bundle, weights, ending)
            same_file(out, path, architecture)
            facts = json.dumps([bundle.manifest[k] for k in ("calls", "layers", "tensors", "aliases")], sort_keys=True)
            if facts in seen:
                continue  # the very same bundle as of another format
            seen.add(facts)
            same(bundle, inputs, wanted, ending)
    return wanted


def same(bundle: wexport.Bundle, inputs: Sequence[Array], wanted: Sequence[Array], ending: str = "") -> None:
    """What the bundle computes is what Keras predicted."""
    manifest = bundle.manifest
    named = dict(zip(manifest["inputs"], inputs, strict=True))
    with checked():
        values = evaluate(manifest, lambda name: bundle[name], named)
    found = [np.asarray(values[o["value"]]) for o in manifest["outputs"].values()]
    assert [f.shape for f in found] == [w.shape for w in wanted], ending
    types = {out["dtype"] for call in manifest["calls"] for out in call["out"]}
    allowed = max(TOLERANCES.get(t, 0.0) for t in {*types, "float32"})
    for name, f, w in zip(manifest["outputs"], found, wanted, strict=True):
        off = difference(f, w)
        assert off <= allowed, f"{ending}: {name} is off by {off:.2g}"


def difference(found: Array, wanted: Array) -> float:
    """The largest difference, relative to the largest number; the same infinities and NaNs count as none."""
    if wanted.dtype.kind in "US":
        return float((found.astype(str) != wanted.astype(str)).any())
    wanted = wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    assert np.array_equal(np.where(finite, 0, wanted), np.where(np.isfinite(found), 0, found), equal_nan=True)
    scale = max(np.abs(wanted[finite]).max(initial=0), 1e-30)
    return float(np.abs(found - wanted)[finite].max(initial=0) / scale)


def covered(bundle: wexport.Bundle, weights: Sequence[Array], ending: str) -> None:
    """Every array of the file comes back from the bundle, each element once; it is that of `get_weights()`."""
    indices = []
    for key, item in bundle.manifest["weights"].items():
        found = rebuilt(bundle, key)
        if item["index"] is not None:
            own = weights[item["index"]]
            assert (found.shape, found.tobytes()) == (own.shape, own.tobytes()), f"{ending}: {key}"
            indices += [item["index"]] if "copy_of" not in item else []
    assert sorted(indices) == sorted(set(indices)), ending
    missing = set(range(len(weights))) - set(indices)
    assert not missing, f"{ending}: of get_weights(), {sorted(missing)} are nowhere"


# -- tables ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A layer with some of its options: `make(**options)` gives what is called on the inputs.

    A key `a, b` gives both of them, from a pair; the option `inputs` replaces the inputs. The inputs have the channels
    last, and are turned around where the option `data_format` says so.
    """

    make: Callable[..., Any]
    inputs: tuple[In, ...]
    options: Mapping[str, Sequence[Any]]

    def apply(self, chosen: Mapping[str, Any]) -> tuple[list[In], list[Any], list[Any]]:
        """The inputs, as specified and as tensors, and the outputs."""
        options: dict[str, Any] = {}
        for key, value in chosen.items():
            names = key.split(", ")
            options.update(zip(names, value if len(names) > 1 else [value], strict=True))
        specs = list(options.pop("inputs", self.inputs))
        if options.get("data_format") == "channels_first":
            specs = [_channels_first(s) for s in specs]
        tensors = [s.tensor(BATCH if options.get("stateful") else None) for s in specs]
        found = self.make(**options)(tensors[0] if len(tensors) == 1 else tensors)
        return specs, tensors, keras.tree.flatten(found)

    def each(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """So many choices of options that each value of each of them is in one."""
        count = max([len(v) for v in self.options.values()], default=1)
        columns = {}
        for key, values in self.options.items():
            places = [i % len(values) for i in range(count)]
            columns[key] = [values[places[i]] for i in rng.permutation(count)]
        return [{key: column[i] for key, column in columns.items()} for i in range(count)]


def _channels_first(spec: In) -> In:
    steps, rest = spec.shape[:-1], spec.shape[-1]
    return In((rest, *steps), spec.below, spec.mask, spec.padded, spec.positive, spec.dtype)
