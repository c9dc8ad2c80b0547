"""Models that the installed Keras builds, saves and predicts with: their bundles compute the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_models import SINCE, WRITERS, In, compare, covered, keras, same, shake, unrandom
from keras_operations import QUANTIZED, REFUSED
from keras_rows import ROWS
from keras_topologies import random_model
from went_back import edited_file

import wexport
from wexport.errors import UsageError
from wexport.evaluate import evaluate

# Keras' own: its variables have an __array__ of NumPy 1; masks that a layer does not know, and layers without kernels,
# are meant
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer '.*' .of type .*. was passed an input with a mask:UserWarning"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match the expected structure:UserWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _fast() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        unrandom(patch)
        yield


def check(name: str, choices: list[dict[str, Any]], place: Path, seed: int = 0) -> None:
    """A model of a row's layer, once for each of these choices of options, all side by side."""
    keras.backend.clear_session(free_memory=False)
    rng = np.random.default_rng(seed)
    parts = [ROWS[name].apply(chosen) for chosen in choices]
    outputs = [y for _, _, found in parts for y in found]
    used = {id(x) for y in outputs for x in keras.utils.get_source_inputs(y)}
    pairs = [(x, spec) for specs, tensors, _ in parts for x, spec in zip(tensors, specs, strict=True) if id(x) in used]
    model = keras.Model([x for x, _ in pairs], outputs)
    shake(model, rng)
    compare(model, [spec.values(rng) for _, spec in pairs], place)


@pytest.mark.parametrize("name", ROWS)
def test_each_option_of_each_layer(name: str, tmp_path: Path) -> None:
    check(name, ROWS[name].each(np.random.default_rng(1)), tmp_path)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantized(mode: str, tmp_path: Path) -> None:
    keras.backend.clear_session(free_memory=False)
    rng = np.random.default_rng(2)
    inputs = {name: spec.tensor() for name, (_, spec) in QUANTIZED.items()}
    model = keras.Model(list(inputs.values()), keras.tree.flatten([QUANTIZED[n][0]()(x) for n, x in inputs.items()]))
    shake(model, rng)
    model.quantize(mode)
    # until 3.14 int4 was packed otherwise: .h5 does not tell the lengths of its axes, .weights.h5 not the version
    old = mode == "int4" and SINCE < (3, 14)
    endings = [e for e in WRITERS if not old or e not in {".h5", ".weights.h5"}]
    compare(model, [spec.values(rng) for _, spec in QUANTIZED.values()], tmp_path, endings)


@pytest.mark.parametrize("call", REFUSED, ids=lambda f: f.__code__.co_names[1])
def test_what_is_not_known_is_said(call: Callable[..., Any], tmp_path: Path) -> None:
    spec = In((4, 6))
    x = spec.tensor()
    keras.Model(x, call(x)).save(tmp_path / "model.keras")
    wexport.export(tmp_path / "model.keras", tmp_path / "out")
    with wexport.open(tmp_path / "out") as bundle, pytest.raises(UsageError, match="is no layer that wexport knows"):
        evaluate(bundle.manifest, lambda name: bundle[name], {n: np.ones((2, 4, 6)) for n in bundle.manifest["inputs"]})


@settings(max_examples=max(settings.default.max_examples // 20, 1))
@given(st.data())
def test_layers_with_any_options(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(ROWS)))
    chosen = data.draw(st.fixed_dictionaries({k: st.sampled_from(v) for k, v in ROWS[name].options.items()}))
    with tempfile.TemporaryDirectory() as place:
        check(name, [chosen], Path(place), data.draw(st.integers(0, 99)))


@settings(max_examples=max(settings.default.max_examples // 20, 1))
@given(st.data())
def test_graphs(data: st.DataObject) -> None:
    keras.backend.clear_session(free_memory=False)
    model, specs = random_model(data.draw)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shake(model, rng)
    with tempfile.TemporaryDirectory() as place:
        inputs = [s.values(rng) for s in specs]
        compare(model, inputs, Path(place))
        loaded(Path(place), inputs)


def loaded(place: Path, inputs: list[Any]) -> None:
    """Keras finds edited tensors in the file that they were put into, and predicts what the bundle computes of them."""
    with edited_file(place / "bundle.keras", place / "model.keras") as (bundle, new):
        model = keras.saving.load_model(new, compile=False)
        weights = [np.asarray(w) for w in model.get_weights()]
        covered(bundle, weights, ".keras")
        wanted = keras.tree.flatten(model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0))
        same(bundle, inputs, wanted, "edited .keras")
