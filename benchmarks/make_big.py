"""Write a large Keras model file, 438 MB, without Keras: two LSTM(2048) and three Dense over 48 features.

    python benchmarks/make_big.py OUT.h5

The file is laid out as tf.keras 2.15 writes `model.save("OUT.h5")`: `model_config` as JSON in an attribute, a group for
each layer that lists its weights in `weight_names` (tf_keras/saving/legacy/hdf5_format.py). One thing is left out, the
LSTMs' `time_major`, which Keras 3 refuses; so both tf.keras and Keras 3 load the file.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import h5py
import numpy as np

FEATURES, UNITS, DENSE = 48, 2048, (8192, 5120, 8)

Weights = dict[str, tuple[int, ...]]
Layer = tuple[dict[str, Any], Weights]  # its entry in the model's config; its weights' names and shapes


def write(path: str) -> None:
    """Write the model to a new file; the numbers are random, always the same."""
    layers = _layers()
    configs = [_input(), *(config for config, _ in layers)]
    model = {"class_name": "Sequential", "config": {"name": "sequential", "layers": configs}}
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model).encode()
        group = file.create_group("model_weights")
        for place in (file, group):
            place.attrs.update(keras_version=b"2.15.0", backend=b"tensorflow")
        group.attrs["layer_names"] = [config["config"]["name"].encode() for config, _ in layers]
        for config, weights in layers:
            layer = group.create_group(config["config"]["name"])
            layer.attrs["weight_names"] = [name.encode() for name in weights]
            for name, shape in weights.items():
                layer[name] = random.normal(0, 0.02, shape).astype(np.float32)


def _layers() -> list[Layer]:
    found = [_lstm("lstm", "lstm_cell", FEATURES, True), _lstm("lstm_1", "lstm_cell_1", UNITS, False)]
    width = UNITS
    for i, units in enumerate(DENSE):
        found.append(_dense("dense" if i == 0 else f"dense_{i}", width, units))
        width = units
    return found


def _input() -> dict[str, Any]:
    config = {"batch_input_shape": [None, None, FEATURES], "dtype": "float32", "sparse": False, "ragged": False}
    return {"class_name": "InputLayer", "config": {**config, "name": "lstm_input"}}


def _lstm(name: str, cell: str, features: int, sequences: bool) -> Layer:
    config = {
        "name": name, "trainable": True, "return_sequences": sequences, "return_state": False,
        "go_backwards": False, "stateful": False, "unroll": False, "units": UNITS,
        "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "unit_forget_bias": True,
        "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 2,
    }  # fmt: skip
    path = f"{name}/{cell}"
    weights = {
        f"{path}/kernel:0": (features, 4 * UNITS),
        f"{path}/recurrent_kernel:0": (UNITS, 4 * UNITS),
        f"{path}/bias:0": (4 * UNITS,),
    }
    return {"class_name": "LSTM", "config": config}, weights


def _dense(name: str, features: int, units: int) -> Layer:
    config = {"name": name, "trainable": True, "units": units, "activation": "relu", "use_bias": True}
    weights = {f"{name}/kernel:0": (features, units), f"{name}/bias:0": (units,)}
    return {"class_name": "Dense", "config": config}, weights


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/make_big.py OUT.h5")
    write(sys.argv[1])
