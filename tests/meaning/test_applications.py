"""Image models as Keras ships them, with random weights: their bundles compute what Keras predicts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_models import compare, keras, settled, unrandom

# the model, its input's size, how much each kernel amplifies (swish and gates take away as much), a format
CASES: list[tuple[str, int, float, str]] = [
    ("MobileNetV2", 64, 1.6, ".keras"),
    ("MobileNetV2", 64, 1.6, ".h5"),
    ("ResNet50V2", 32, 1.6, ".keras"),
    ("DenseNet121", 32, 1.6, ".keras"),
    ("EfficientNetB0", 64, 2.5, ".keras"),
]
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
    "ignore:This model was compiled with a `weights=None`",
)


@pytest.fixture(scope="module", autouse=True)
def _fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        unrandom(patch)
        yield


def settle(model: Any, gain: float, rng: np.random.Generator) -> None:
    """Random weights under which activations neither vanish nor explode, whatever the depth."""
    for variable in model.weights:
        name, shape = variable.path.rpartition("/")[2], tuple(variable.shape)
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        if name in {"gamma", "moving_variance", "variance"}:
            found = rng.uniform(0.7, 1.4, shape)
        elif name == "kernel":
            inner = np.prod(shape[:-1]) if shape[-1] > 1 else np.prod(shape[:2])  # of a depthwise one, one channel
            gate = "_se_" in variable.path  # a steep one would amplify single precision's roundings
            found = rng.normal(size=shape) * np.sqrt((0.01 if gate else gain) / inner)
        else:
            found = 0.1 * rng.normal(size=shape)
        variable.assign(found.astype(np.float32))
    settled(model)


@pytest.mark.parametrize(("name", "size", "gain", "ending"), CASES)
def test_outputs(name: str, size: int, gain: float, ending: str, tmp_path: Path) -> None:
    keras.backend.clear_session(free_memory=False)
    rng = np.random.default_rng(3)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
    settle(model, gain, rng)
    x = rng.uniform(0, 255, (2, size, size, 3)) if name == "EfficientNetB0" else rng.normal(size=(2, size, size, 3))
    (wanted,) = compare(model, [x.astype(np.float32)], tmp_path, [ending])
    assert np.ptp(wanted, axis=0).max() > 0.05 * np.abs(wanted).max(), "the outputs depend on the inputs"
    assert 0.1 < np.abs(wanted).max() < 1e4
