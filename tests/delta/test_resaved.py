"""A model that a newer version of its framework saved again is the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cases import case

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras

import wexport


@pytest.mark.filterwarnings("ignore")  # Keras' own
@pytest.mark.parametrize(
    "model",
    [
        *("tf.keras-tf2.4/m0_seq.h5", "tf.keras-tf2.4/m5_einsum.h5", "tf.keras-tf2.15/m4_frozen_bn.h5"),
        *("keras3.0.5/m2_recurrent_ra1.keras", "keras3.0.5/m4_ops.keras", "keras3.0.5/m5_stackedcells.keras"),
    ],
)
def test_saved_again_by_a_newer_version(model: str, tmp_path: Path) -> None:
    old = case(model).path
    loaded = keras.saving.load_model(old, safe_mode=False, compile=False)
    loaded.save(tmp_path / "new.keras")
    found = wexport.diff(old, tmp_path / "new.keras").difference
    assert found.facts == ()
    assert {"version", "file"} <= set(found.provenance)


@pytest.mark.filterwarnings("ignore")
def test_what_a_newer_version_computes_otherwise(tmp_path: Path) -> None:
    """Keras 3.15 gives zeros where a mask leaves nothing, 3.0 did not: the same file's model is another one."""
    old = case("keras3.0.5/m0_activations.h5").path
    keras.saving.load_model(old, compile=False).save(tmp_path / "new.keras")
    (fact,) = wexport.diff(old, tmp_path / "new.keras").difference.facts
    assert (fact.what, fact.b, fact.detail["attribute"]) == ("attribute changed", "softmax", "all_masked")
