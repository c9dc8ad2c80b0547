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
@pytest.mark.parametrize("model", ["tf.keras-tf2.15/m4_frozen_bn.h5", "tf.keras-tf2.15/m0_activations.h5",
                                   "tf.keras-tf2.15/m5_norms.keras", "keras3.0.5/m2_recurrent_ra1.keras"])  # fmt: skip
def test_saved_again_by_a_newer_version(model: str, tmp_path: Path) -> None:
    old = case(model).path
    loaded = keras.saving.load_model(old, safe_mode=False, compile=False)
    loaded.save(tmp_path / "new.keras")
    found = wexport.diff(old, tmp_path / "new.keras").difference
    assert found.facts == ()
    assert {"version", "file"} <= set(found.provenance)
